//! Merging of counters: one switch's, out of what its instances count and have counted.
//!
//! This is the cheaper mode of rule 13: a reply sums current values. It is exact when traffic is at rest, and never goes back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{HostId, PortId, RuleId, SwitchId};

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
    /// Something else of a port, in packets.
    Port(PortId, PortCounter),
    /// Packets and bytes that went out by a queue of a port.
    Queue(PortId, u32),
    /// Packets that found a queue of a port full.
    QueueDrops(PortId, u32),
    /// Packets and bytes of rules of a table that have ended.
    TableEnded(SwitchId, u8),
    /// Packets that matched no rule of a table.
    TableMisses(SwitchId, u8),
}

/// What is counted of a port beside its traffic (OpenFlow 1.3.5, 7.3.5.7, struct ofp_port_stats).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum PortCounter {
    /// Dropped on the way in, otherwise than by rules.
    RxDropped = 0,
    /// Dropped on the way out.
    TxDropped = 1,
    /// Received with errors.
    RxErrors = 2,
    /// Not sent for errors.
    TxErrors = 3,
    /// Frame alignment errors.
    RxFrameErrors = 4,
    /// Overruns.
    RxOverErrors = 5,
    /// Wrong checksums of frames.
    RxCrcErrors = 6,
    /// Collisions.
    Collisions = 7,
}

impl Counted {
    /// Whether it is something of this port.
    pub fn is_of_port(&self, id: PortId) -> bool {
        match *self {
            Counted::PortRx(port)
            | Counted::PortTx(port)
            | Counted::PortDrops(port)
            | Counted::Port(port, _)
            | Counted::Queue(port, _)
            | Counted::QueueDrops(port, _) => port == id,
            Counted::Rule(_) | Counted::TableEnded(..) | Counted::TableMisses(..) => false,
        }
    }

    /// Whether it is something of a table of this switch.
    pub fn is_of_tables(&self, id: SwitchId) -> bool {
        match *self {
            Counted::TableEnded(switch, _) | Counted::TableMisses(switch, _) => switch == id,
            _ => false,
        }
    }
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
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Count) -> Count {
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

impl Slot {
    fn sum(&self) -> Count {
        self.live.values().fold(self.finals, |a, &b| a.plus(b))
    }
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

    /// What has been counted elsewhere, and not by a host, counts here from now on.
    pub fn add(&mut self, what: Counted, count: Count) {
        let slot = self.slots.entry(what).or_default();
        slot.finals = slot.finals.plus(count);
    }

    /// Queues of a port of which anything has been heard, rising.
    pub fn queues(&self, port: PortId) -> impl Iterator<Item = u32> + '_ {
        let range = Counted::Queue(port, 0)..=Counted::Queue(port, u32::MAX);
        self.slots.range(range).filter_map(|(what, _)| match what {
            Counted::Queue(_, queue) => Some(*queue),
            _ => None,
        })
    }

    /// What there is of these.
    pub fn select(&self, wanted: impl Fn(&Counted) -> bool) -> Vec<Counted> {
        self.slots.keys().filter(|c| wanted(c)).copied().collect()
    }

    /// The merged value, for sums: it may be less than the next time.
    pub fn sum(&self, what: Counted) -> Count {
        self.slots.get(&what).map_or_else(Count::default, Slot::sum)
    }

    /// The merged value, for a reply. Never less than in an earlier reply.
    pub fn read(&mut self, what: Counted) -> Count {
        self.read_with(what, Count::default())
    }

    /// The same, with what is counted elsewhere now.
    pub fn read_with(&mut self, what: Counted, more: Count) -> Count {
        let slot = self.slots.entry(what).or_default();
        let value = slot.sum().plus(more).max(slot.floor);
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
