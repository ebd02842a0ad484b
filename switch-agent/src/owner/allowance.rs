//! What switches may put into the event ring.
//!
//! The kernel programs take what an event costs from its switch's budget, and refuse it when there is none. Here it is given back: not before
//! the event has been read, so that no switch has more in the ring than its burst, whoever is slow; and not faster than its rate.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lime_core::{NetworkId, SwitchId};
use switch_abi::{EVENT_OUTPUT, EVENT_PACKET_IN, EVENT_WAITING, EventHeader, event_cost};
use tracing::debug;

use super::Owner;
use super::network::Network;
use crate::error::chain;

/// How often something is given back.
const PERIOD: Duration = Duration::from_millis(20);
const MICROS: u64 = 1_000_000;

type Key = (NetworkId, SwitchId);

/// What has been read and not given back.
#[derive(Debug)]
struct Owed {
    bytes: u64,
    /// What was due until then has been given back.
    until: Instant,
}

/// The switches that are owed something.
#[derive(Debug, Default)]
pub(super) struct Allowances {
    owed: BTreeMap<Key, Owed>,
    next: Option<Instant>,
}

impl Allowances {
    /// An event of a switch has been read.
    pub fn read(&mut self, key: Key, cost: u32, now: Instant) {
        let new = || Owed {
            bytes: 0,
            until: now,
        };
        let owed = self.owed.entry(key).or_insert_with(new);
        owed.bytes += u64::from(cost);
        self.next.get_or_insert(now + PERIOD);
    }

    /// Gives back what is due, at the rates (bytes a second, not 0) that `rate` knows.
    pub fn give_back(
        &mut self,
        now: Instant,
        rate: impl Fn(Key) -> u32,
        mut give: impl FnMut(Key, u32),
    ) {
        self.owed.retain(|&key, owed| {
            let rate = u64::from(rate(key).max(1));
            let waited = now.saturating_duration_since(owed.until);
            let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            let due = waited.saturating_mul(rate) / MICROS;
            let bytes = due.min(owed.bytes).min(u64::from(u32::MAX));
            owed.bytes -= bytes;
            // Not until now: what a division leaves is due the next time.
            owed.until += Duration::from_micros(bytes * MICROS / rate);
            give(key, bytes as u32);
            owed.bytes != 0
        });
        self.next = (!self.owed.is_empty()).then(|| now + PERIOD);
    }

    /// Waits until something is due. Safe to cancel.
    pub async fn due(&self) {
        match self.next {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }
}

impl Owner {
    /// An event has been taken from the ring.
    pub(super) fn event_was_read(&mut self, header: &EventHeader) {
        let key = (NetworkId(header.network), SwitchId(header.switch));
        let cost = event_cost(header.data_len);
        if header.kind == EVENT_WAITING {
            // It took room in the ring, and is nothing that the controller gets.
            if let Err(error) = self.datapath.give_back_events(key.0, key.1, cost) {
                debug!(network = %key.0, error = chain(&error), "nothing given back");
            }
        }
        if header.kind != EVENT_PACKET_IN && header.kind != EVENT_OUTPUT {
            return;
        }
        self.allowances.read(key, cost, Instant::now());
    }

    pub(super) fn give_back_events(&mut self) {
        let networks = &self.networks;
        let rate = |(network, switch)| {
            let desired = networks.get(&network).and_then(Network::desired);
            let settings = desired.and_then(|d| d.switches.get(&switch));
            settings.map(|s| s.packet_ins).unwrap_or_default().rate
        };
        let datapath = &self.datapath;
        self.allowances
            .give_back(Instant::now(), rate, |(network, switch), bytes| {
                if let Err(error) = datapath.give_back_events(network, switch, bytes) {
                    debug!(%network, %switch, error = chain(&error), "nothing given back");
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (NetworkId(1), SwitchId(2));

    #[test]
    fn what_was_read_is_given_back_at_the_rate_and_no_more_than_that() {
        let mut allowances = Allowances::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let give = |allowances: &mut Allowances, now, rate| {
            let mut given = 0;
            allowances.give_back(now, |_| rate, |_, bytes| given += bytes);
            given
        };
        allowances.read(KEY, 700, start);
        allowances.read(KEY, 800, at(5));
        assert_eq!(allowances.next, Some(at(20)));
        assert_eq!(give(&mut allowances, at(20), 30_001), 600);
        // What was lost in rounding comes later; all of it has come when it should have.
        assert_eq!(give(&mut allowances, at(49), 30_001), 870);
        assert_eq!(give(&mut allowances, at(1000), 30_001), 30);
        assert_eq!(allowances.next, None);
        // A time of nothing earns nothing.
        allowances.read(KEY, 9000, at(2000));
        assert_eq!(give(&mut allowances, at(2010), 30_000), 300);
    }
}
