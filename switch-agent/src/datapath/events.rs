//! The ring by which kernel programs hand packets to the agent.

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{Map, MapData, RingBuf};
use switch_abi::{EVENT_WHOLE_MAX, EventHeader, maps};

use super::pins::Pins;
use super::{DatapathError, Result};

const HEADER_LEN: usize = size_of::<EventHeader>();

/// Packets for the controller, in the order in which the programs put them in. Readable (`poll`, `epoll`) when there are any.
pub struct EventRing {
    ring: RingBuf<MapData>,
}

impl EventRing {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        let map = Map::RingBuf(pins.open(maps::EVENTS)?);
        let ring =
            RingBuf::try_from(map).map_err(|e| DatapathError::kernel("map the event ring", e))?;
        Ok(Self { ring })
    }

    /// Takes everything that is in the ring now, and gives how many records that were. A record that contradicts itself is skipped.
    ///
    /// A record that a program is still writing hides those behind it until it is complete.
    pub fn drain(&mut self, mut each: impl FnMut(&EventHeader, &[u8])) -> usize {
        let mut count = 0;
        while let Some(record) = self.ring.next() {
            count += 1;
            match parse(&record) {
                Some((header, data)) => each(&header, data),
                None => tracing::warn!(bytes = record.len(), "malformed record in the event ring"),
            }
        }
        count
    }
}

impl AsFd for EventRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for EventRing {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// Header and packet of one record.
fn parse(record: &[u8]) -> Option<(EventHeader, &[u8])> {
    let (head, data) = record.split_at_checked(HEADER_LEN)?;
    let word = |at: usize| -> Option<u32> {
        let bytes = head.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let double = |at: usize| -> Option<u64> {
        let bytes = head.get(at..at + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    let header = EventHeader {
        kind: u16::from_ne_bytes([head[0], head[1]]),
        table: head[offset_of!(EventHeader, table)],
        hops: head[offset_of!(EventHeader, hops)],
        reason: word(offset_of!(EventHeader, reason))?,
        network: word(offset_of!(EventHeader, network))?,
        switch: word(offset_of!(EventHeader, switch))?,
        version: word(offset_of!(EventHeader, version))?,
        in_port: word(offset_of!(EventHeader, in_port))?,
        rule_slot: word(offset_of!(EventHeader, rule_slot))?,
        hold: word(offset_of!(EventHeader, hold))?,
        rule_id: double(offset_of!(EventHeader, rule_id))?,
        cookie: double(offset_of!(EventHeader, cookie))?,
        total_len: word(offset_of!(EventHeader, total_len))?,
        data_len: word(offset_of!(EventHeader, data_len))?,
    };
    let length = header.data_len as usize;
    if length > EVENT_WHOLE_MAX {
        return None;
    }
    Some((header, data.get(..length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_lie_about_their_length_are_refused() {
        let mut record = vec![0u8; HEADER_LEN + 4];
        let at = offset_of!(EventHeader, data_len);
        assert!(parse(&record[..HEADER_LEN - 1]).is_none());
        record[at] = 4;
        assert_eq!(parse(&record).unwrap().1.len(), 4);
        record[at] = 5;
        assert!(parse(&record).is_none());
        record[at..at + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(parse(&record).is_none());
    }
}
