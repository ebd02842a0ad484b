//! Merging of counters: one switch's, out of what its instances count and have counted.
//!
//! This is the cheaper mode of rule 13: a reply sums current values. It is exact when traffic is at rest, and never goes back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{HostId, PortId, RuleId};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Counted {
    /// Packets and bytes of a rule.
    Rule(RuleId),
    /// Packets and bytes that came in by a port.
    PortRx(PortId),
    /// Packets and bytes that went out by a port.
    PortTx(PortId),
    /// Packets that were dropped at a port, for all reasons.
    PortDrops(PortId),
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Count {
    fn plus(self, other: Count) -> Count {
        Count {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn max(self, other: Count) -> Count {
        Count {
            packets: self.packets.max(other.packets),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// Which of a rule's versions a host counts: a rule that takes another's place goes on with its counts under an id of its own, and hosts
/// may still have both. 0 for what has no versions.
pub type Version = u64;

#[derive(Clone, Debug, Default)]
struct Slot {
    /// Of hosts that count no more.
    finals: Count,
    /// Last heard of those that do.
    live: BTreeMap<(HostId, Version), Count>,
    /// What the controller has read.
    floor: Count,
}

/// The counters of one network.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    slots: BTreeMap<Counted, Slot>,
}

impl Counters {
    /// Takes what the store kept: finals and floors.
    pub fn restore(&mut self, what: Counted, finals: Count, floor: Count) {
        let slot = self.slots.entry(what).or_default();
        slot.finals = finals;
        slot.floor = floor;
    }

    /// A host's current value.
    pub fn observe(&mut self, host: HostId, what: Counted, version: Version, value: Count) {
        let slot = self.slots.entry(what).or_default();
        let live = slot.live.entry((host, version)).or_default();
        // Replies of one host may be taken in another order than they were sent.
        *live = live.max(value);
    }

    /// A host's last value: it counts this no more. Returns the finals to be stored.
    pub fn finish(
        &mut self,
        host: HostId,
        what: Counted,
        version: Version,
        value: Option<Count>,
    ) -> Count {
        let slot = self.slots.entry(what).or_default();
        let last = slot.live.remove(&(host, version)).unwrap_or_default();
        slot.finals = slot.finals.plus(last.max(value.unwrap_or_default()));
        slot.finals
    }

    /// A version counts no more, on any host: what was last heard is final. Returns the merged value.
    pub fn end(&mut self, what: Counted, version: Version) -> Count {
        let slot = self.slots.entry(what).or_default();
        let mut finals = slot.finals;
        slot.live.retain(|(_, v), last| {
            let ended = *v == version;
            if ended {
                finals = finals.plus(*last);
            }
            !ended
        });
        slot.finals = finals;
        self.read(what)
    }

    /// What a host has been heard to count of these: all that is to be finished when it has lost them.
    pub fn live_on(&self, host: HostId) -> Vec<(Counted, Version)> {
        let slots = self.slots.iter();
        let live = slots.flat_map(|(c, s)| s.live.keys().map(move |(h, v)| (*h, *c, *v)));
        live.filter(|(h, ..)| *h == host)
            .map(|(_, c, v)| (c, v))
            .collect()
    }

    /// The merged value, for a reply. Never less than in an earlier reply.
    pub fn read(&mut self, what: Counted) -> Count {
        let slot = self.slots.entry(what).or_default();
        let sum = slot.live.values().fold(slot.finals, |a, &b| a.plus(b));
        let value = sum.max(slot.floor);
        debug_assert!(
            slot.floor.packets <= value.packets && slot.floor.bytes <= value.bytes,
            "merged counters never go back"
        );
        slot.floor = value;
        value
    }

    /// Finals and floor, for the store.
    pub fn kept(&self, what: Counted) -> (Count, Count) {
        let slot = self.slots.get(&what);
        slot.map_or_else(Default::default, |s| (s.finals, s.floor))
    }

    /// The rule or port is gone.
    pub fn forget(&mut self, what: Counted) {
        self.slots.remove(&what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(n: u64) -> Count {
        Count {
            packets: n,
            bytes: 10 * n,
        }
    }

    #[test]
    fn invariant_counter_never_goes_back() {
        let (a, b, rule) = (HostId(1), HostId(2), Counted::Rule(RuleId(7)));
        let mut counters = Counters::default();
        counters.observe(a, rule, 7, count(5));
        counters.observe(b, rule, 7, count(3));
        assert_eq!(counters.read(rule), count(8));
        // An older reply comes late.
        counters.observe(a, rule, 7, count(4));
        assert_eq!(counters.read(rule), count(8));
        assert_eq!(counters.finish(a, rule, 7, Some(count(6))), count(6));
        assert_eq!(counters.read(rule), count(9));
        // The host comes back and counts from zero.
        counters.observe(a, rule, 7, count(1));
        assert_eq!(counters.read(rule), count(10));
        let mut restarted = Counters::default();
        let (finals, floor) = counters.kept(rule);
        restarted.restore(rule, finals, floor);
        assert_eq!(restarted.read(rule), count(10));
        restarted.observe(a, rule, 7, count(2));
        restarted.observe(b, rule, 7, count(3));
        assert_eq!(restarted.read(rule), count(11));
    }

    #[test]
    fn a_rule_in_anothers_place_goes_on_with_its_counts() {
        let (a, b, rule) = (HostId(1), HostId(2), Counted::Rule(RuleId(7)));
        let mut counters = Counters::default();
        counters.observe(a, rule, 7, count(5));
        counters.observe(b, rule, 7, count(3));
        counters.observe(a, rule, 8, count(1));
        assert_eq!(counters.read(rule), count(9));
        // The older one's last value comes with its end.
        counters.observe(b, rule, 7, count(4));
        assert_eq!(counters.end(rule, 7), count(10));
        assert_eq!(counters.kept(rule).0, count(9));
        counters.observe(a, rule, 8, count(2));
        assert_eq!(counters.read(rule), count(11));
    }
}
