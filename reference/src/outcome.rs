//! What became of a frame.

use std::collections::{BTreeMap, BTreeSet};

use lime_core::{Epoch, PortId, PortNo, RuleId, SwitchId};

/// Everything that one frame caused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Frames that left by ports, in order.
    pub sent: Vec<Sent>,
    /// Packets for the controller, in order.
    pub events: Vec<Event>,
    /// Rules, groups, buckets, meters and bands that counted.
    pub counts: BTreeMap<Counted, Count>,
    /// Ports that counted.
    pub ports: BTreeMap<PortId, PortCount>,
    /// Copies that went to another host or, beside other outputs, into a link.
    pub tunnelled: usize,
    /// How many VLAN tags the frames had that went to another host, or as copies into a link: the kernel's tunnel has limits there.
    pub tags_tunnelled: BTreeSet<usize>,
    /// Pushes and pops of MPLS and PBB headers.
    pub relabelled: usize,
    /// Action sets that were run.
    pub sets: usize,
    /// More than the kernel programs promise to follow, or so many copies by links in a circle that this is only a part.
    pub incomplete: bool,
}

impl Outcome {
    /// The counters of a port.
    pub(crate) fn port(&mut self, port: PortId) -> &mut PortCount {
        self.ports.entry(port).or_default()
    }

    /// Counts a packet.
    pub(crate) fn count(&mut self, what: Counted, frame: &[u8]) {
        self.counts.entry(what).or_default().add(frame);
    }

    pub(crate) fn drop(&mut self, port: PortId, reason: Drop) {
        *self.port(port).drops.entry(reason).or_default() += 1;
    }
}

/// A frame that left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    /// By which port.
    pub port: PortId,
    /// Its bytes.
    pub frame: Vec<u8>,
    /// By which queue of it; 0: none in particular.
    pub queue: u32,
}

/// What counts packets, and sends them to the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// A rule.
    Rule(RuleId),
    /// A group.
    Group(SwitchId, u32),
    /// A group's bucket, by its place.
    Bucket(SwitchId, u32, usize),
    /// A meter.
    Meter(SwitchId, u32),
    /// A meter's band, by its place: the packets that it was applied to.
    Band(SwitchId, u32, usize),
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the Ethernet header on.
    pub bytes: u64,
}

impl Count {
    pub(crate) fn add(&mut self, frame: &[u8]) {
        self.packets += 1;
        self.bytes += frame.len() as u64;
    }
}

/// A port's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortCount {
    /// Came in.
    pub received: Count,
    /// Handed to the device or to the link's other end. Frames to other hosts are counted there.
    pub sent: Count,
    /// Dropped.
    pub drops: BTreeMap<Drop, u64>,
}

/// Why a packet, or a copy of it, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drop {
    /// No rule matched: counted at the port by which the packet came into the switch, as all that are not about an output.
    TableMiss,
    /// The rules that matched in a switch output it nowhere.
    RuleDrop,
    /// No Ethernet header.
    Malformed,
    /// Output to a port that is down or does not exist: counted at that port.
    PortDown,
    /// Through too many switches: at the port where it would have gone on.
    HopLimit,
    /// Larger than the output port's MTU: counted at that port.
    TooBig,
    /// Output to the port it came in by.
    OutputToInPort,
    /// An action for a header that the packet does not have. The packet goes no further.
    BadSetField,
    /// A TTL that was to be decremented has run out. The packet goes no further.
    InvalidTtl,
    /// A group has no (live) bucket.
    NoBucket,
    /// There is no such group. (Where a group is deleted, so are the rules that run it.)
    GroupChanged,
    /// A band of a meter dropped it.
    Metered,
}

impl Drop {
    /// Its name in statistics.
    pub fn name(self) -> &'static str {
        match self {
            Drop::TableMiss => "table-miss",
            Drop::RuleDrop => "rule-drop",
            Drop::Malformed => "malformed",
            Drop::PortDown => "port-down",
            Drop::HopLimit => "hop-limit",
            Drop::TooBig => "too-big",
            Drop::OutputToInPort => "output-to-in-port",
            Drop::BadSetField => "bad-set-field",
            Drop::InvalidTtl => "invalid-ttl",
            Drop::NoBucket => "no-bucket",
            Drop::GroupChanged => "group-changed",
            Drop::Metered => "metered",
        }
    }
}

/// A packet for the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Switch that sent it.
    pub switch: SwitchId,
    /// Table of the rule, or of the rule that ran the bucket's group; 0 if that ran it on a copy of the packet.
    pub table: u8,
    /// The rule is the table-miss entry (OpenFlow 1.3.5, 5.4): priority 0, matches everything.
    pub miss: bool,
    /// Port by which the packet came into the switch.
    pub in_port: PortNo,
    /// The rule or bucket.
    pub by: Counted,
    /// The rule's cookie; -1 if the packet was sent from the action set or a bucket.
    pub cookie: u64,
    /// Clock that the packet was processed at.
    pub version: Epoch,
    /// Length of the whole packet.
    pub total_len: usize,
    /// Its beginning.
    pub data: Vec<u8>,
}
