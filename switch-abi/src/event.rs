//! Records in the event ring.

/// [`EventHeader::kind`]: a packet for the controller.
pub const EVENT_PACKET_IN: u16 = 1;
/// [`EventHeader::kind`]: a packet that was dropped because it does not fit where it was to go; [`EventHeader::reason`] is the largest L3
/// packet that does, bytes. Its sender is to be told (RFC 1191, RFC 8201). `rule_slot` is the port slot that it came in by.
pub const EVENT_TOO_BIG: u16 = 2;

/// [`EventHeader::kind`]: a packet that would have matched a rule with [`crate::RULE_PROMISED`], whole and as it came in: nothing was done with it
/// and nothing counted. It is to enter again when the rule has gone or may be matched. What the header then says:
///
/// | field | of the tunnel frame that it enters by again |
/// | --- | --- |
/// | `table` | [`crate::TUNNEL_PROCESS`] or [`crate::TUNNEL_GROUP`] |
/// | `in_port` | the port's id |
/// | `cookie` | [`crate::TunnelOption::argument`], and above its 32 bits the UDP source port; 0: any |
/// | `hops` | [`crate::TunnelOption::bucket`] |
/// | `version` | the clock, for [`crate::TUNNEL_GROUP`] |
///
/// `rule_slot` and `rule_id` are the promised rule's; `reason` is the payload of a segment, if it is to be segmented, else 0.
pub const EVENT_WAITING: u16 = 3;

/// Bytes of the packet in an [`EVENT_WAITING`] or an [`EVENT_OUTPUT`] at most: what a local stack leaves to be segmented, with its headers and a tag.
pub const EVENT_WHOLE_MAX: usize = 65_600;

/// Bytes of the packet in an [`EVENT_TOO_BIG`]: what an ICMPv6 error may quote (RFC 4443, 2.4), and Ethernet with tags.
pub const TOO_BIG_DATA: u32 = 1280;

/// No rule: reserved. (Packet-ins without a matching rule do not happen: a table without a miss entry drops.)
pub const EVENT_REASON_NO_MATCH: u32 = 0;
/// The rule's action list says so.
pub const EVENT_REASON_ACTION: u32 = 1;
/// An action found a TTL that runs out, and the switch has [`crate::SWITCH_INVALID_TTL`].
pub const EVENT_REASON_INVALID_TTL: u32 = 2;

/// [`EventHeader::kind`]: an output that waits until the coordinator has all packet-ins of the same packet (consistency rule 5): the tunnel
/// frame that the agent then sends. `table` is its kind, `hops` its hops, `reason` the port's id, `in_port` its argument, `rule_slot` its
/// bucket, and `rule_id` its queue ([`crate::TunnelOption`]). `cookie` is the payload of a segment, if the packet is to be segmented, else 0.
pub const EVENT_OUTPUT: u16 = 5;
/// [`EventHeader::kind`]: a run of the programs has said all about its packet, the one that [`EventHeader::hold`] names.
pub const EVENT_HELD: u16 = 4;

/// [`EventHeader::hold`]: the programs' own name; without it, one that the agent gave to a packet of which it has sent a copy to a group.
pub const HOLD_RUN: u32 = 1 << 31;
/// Bits of [`EventHeader::hold`] below the CPU's number that count the packets of that CPU.
pub const HOLD_BITS: u32 = 20;

/// Bytes of the packet that other events carry at most.
pub const EVENT_DATA_MAX: usize = 9216;

/// What precedes the packet's bytes in the event ring.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventHeader {
    /// [`EVENT_PACKET_IN`] ...
    pub kind: u16,
    /// Table of the rule.
    pub table: u8,
    /// Tunnel hops left, of an [`EVENT_OUTPUT`]; more in [`EVENT_WAITING`]; else zero.
    pub hops: u8,
    /// [`EVENT_REASON_ACTION`] ...
    pub reason: u32,
    /// [`crate::NetworkEntry::id`].
    pub network: u32,
    /// [`crate::SwitchEntry::id`].
    pub switch: u32,
    /// The clock that the packet was processed at.
    pub version: u32,
    /// Ingress port number within the switch.
    pub in_port: u32,
    /// Slot of the rule.
    pub rule_slot: u32,
    /// The packet's outputs wait (consistency rule 5): a name of the packet, the same in all records about it until [`EVENT_HELD`]; else 0.
    pub hold: u32,
    /// [`crate::RuleEntry::rule_id`].
    pub rule_id: u64,
    /// [`crate::RuleEntry::cookie`].
    pub cookie: u64,
    /// Length of the whole packet, bytes.
    pub total_len: u32,
    /// Length of the data that follows, bytes.
    pub data_len: u32,
}

const _: () = assert!(size_of::<EventHeader>() == 56);

/// What an event with `data_len` bytes of packet takes of its switch's budget ([`crate::SwitchEntry::event_budget`]): about what it takes of
/// the ring, whose own header is 8 bytes.
#[inline(always)]
pub const fn event_cost(data_len: u32) -> u32 {
    size_of::<EventHeader>() as u32 + 8 + data_len
}
