//! What makes a packet this packet, and what of it a switch looks at.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Tells packets apart. Those that are alike in all that is kept from sender to receiver have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub u64);

/// Payloads of UDP that begin with this and eight more bytes are told apart by those alone: switches may change their headers.
pub const MARK: &[u8; 8] = b"lime-mrk";

/// How much of a payload counts.
const PAYLOAD: usize = 64;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// A packet, as far as histories are about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which.
    pub id: PacketId,
    /// Its headers, as those of a packet without payload: with lengths to match, and without checksums and identification. Packets of one
    /// flow have the same.
    pub shape: Vec<u8>,
}

impl Packet {
    /// Reads a frame, of which [`Packet::SNAP`] bytes are enough. None: it is neither UDP nor an echo request or reply, or it is a fragment.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let mut at = 12;
        while matches!(frame.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
            at += 4;
        }
        let ethertype = u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
        let ip = at + 2;
        let (addresses, protocol, l4) = match ethertype {
            0x0800 => {
                let header = frame.get(ip..ip + 20)?;
                let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
                if header[0] != 0x45 || fragment {
                    return None;
                }
                (ip + 12..ip + 20, header[9], ip + 20)
            }
            0x86dd => {
                let header = frame.get(ip..ip + 40)?;
                (ip + 8..ip + 40, header[6], ip + 40)
            }
            _ => return None,
        };
        let header = frame.get(l4..l4 + 8)?;
        let mut hash = DefaultHasher::new();
        match protocol {
            UDP => {
                let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
                let payload = frame.get(l4 + 8..l4 + length.clamp(8, 8 + PAYLOAD))?;
                match payload
                    .strip_prefix(MARK)
                    .and_then(<[u8]>::first_chunk::<8>)
                {
                    Some(mark) => mark.hash(&mut hash),
                    None => {
                        (&frame[addresses], &header[..6], payload).hash(&mut hash);
                    }
                }
            }
            ICMP if matches!(header[0], 0 | 8) => {
                (&frame[addresses], header[0], &header[4..]).hash(&mut hash);
            }
            ICMP6 if matches!(header[0], 128 | 129) => {
                (&frame[addresses], header[0], &header[4..]).hash(&mut hash);
            }
            _ => return None,
        }
        Some(Self {
            id: PacketId(hash.finish()),
            shape: shape(frame, ip, l4, protocol),
        })
    }

    /// Bytes of a frame that [`Packet::read`] needs.
    pub const SNAP: u32 = 14 + 8 + 40 + 8 + PAYLOAD as u32;
}

fn shape(frame: &[u8], ip: usize, l4: usize, protocol: u8) -> Vec<u8> {
    let mut shape = frame[..l4 + 8].to_vec();
    if l4 - ip == 20 {
        shape[ip + 2..ip + 4].copy_from_slice(&28u16.to_be_bytes());
        shape[ip + 4..ip + 8].fill(0);
        shape[ip + 10..ip + 12].fill(0);
    } else {
        shape[ip + 4..ip + 6].copy_from_slice(&8u16.to_be_bytes());
    }
    if protocol == UDP {
        shape[l4 + 4..].copy_from_slice(&[0, 8, 0, 0]);
    } else {
        shape[l4 + 2..].fill(0);
    }
    shape
}
