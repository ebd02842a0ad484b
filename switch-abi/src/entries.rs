//! Map entries.

use crate::{Action, CompactMask, DROP_REASONS, HashSteps, KEY_WORDS, MAX_ACTIONS};

/// Room for tables per switch: those that rules can be in, then [`crate::GROUP_TABLE`] and [`crate::METER_TABLE`].
pub const MAX_TABLES: u32 = 64;
/// Tuples (distinct masks) per table.
pub const MAX_TUPLES: u32 = 64;
/// Rules that one bucket chain may hold.
pub const MAX_CHAIN: u32 = 64;
/// Ports of one switch that a flood may visit.
pub const MAX_FLOOD: u32 = 256;
/// Switches that a packet may pass on one host.
pub const MAX_SWITCH_HOPS: u32 = 8;
/// Largest ifindex that [`crate::maps::DEVICES`] covers.
pub const MAX_IFINDEX: u32 = 65535;

/// What the agent wrote when it created the maps.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// [`crate::ABI_VERSION`].
    pub abi_version: u32,
    /// CPUs that the counter arrays have room for.
    pub cpus: u32,
    /// Rule slots (stride of the rule counters).
    pub rules: u32,
    /// Port slots (stride of the port counters).
    pub ports: u32,
    /// Number of buckets, a power of two, less one.
    pub bucket_mask: u32,
    /// Ifindex of the recirculation device's receiving side.
    pub recirculation_ifindex: u32,
    /// Switch slots.
    pub switches: u32,
    /// Zero.
    pub pad: u32,
}

/// [`NetworkEntry::flags`]: clock tags are neither checked nor obeyed. For demonstrations only.
pub const NETWORK_UNTAGGED: u32 = 1;

/// One network on this host. `clock` and `staged` are serial numbers (RFC 1982, 32 bits); 0 is never an epoch.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkEntry {
    /// The coordinator's id; 0: free slot.
    pub id: u32,
    /// Geneve VNI, 24 bits.
    pub vni: u32,
    /// The version that packets are processed at. Raised by the agent (activate) and by the kernel (tunnel receive), never lowered.
    pub clock: u32,
    /// Highest epoch such that it and all before it are staged here.
    pub staged: u32,
    /// [`NETWORK_UNTAGGED`].
    pub flags: u32,
    /// Changes whenever the agent changes rules, switches or ports otherwise than by staging an epoch (a switch that goes, a
    /// snapshot, a port that moves), also over the reuse of this slot. What a program caches for a clock is valid only for this generation.
    pub generation: u32,
    /// Packets are processed here before this value of the kernel's tick counter only (consistency rule 17); 0: for ever.
    pub lease: u64,
    /// Zero.
    pub pad: [u32; 8],
}

/// [`SwitchEntry::state`]: free slot, or no instance here and no relay known.
pub const SWITCH_NONE: u32 = 0;
/// [`SwitchEntry::state`]: an instance on this host processes packets once `clock >= join_epoch`.
pub const SWITCH_ACTIVE: u32 = 1;
/// [`SwitchEntry::state`]: packets are tunnelled unprocessed to `relay_peer`.
pub const SWITCH_RELAY: u32 = 2;

/// [`SwitchEntry::flags`]: several instances: outputs of packets that the controller is told of are held (consistency rule 5).
pub const SWITCH_HOLD: u32 = 1;
/// [`SwitchEntry::flags`]: the agent's own mark: a snapshot is being written, the rules are not complete. Set only while the
/// instance does not process packets; kernel programs ignore it.
pub const SWITCH_LOADING: u32 = 2;
/// [`SwitchEntry::flags`]: packets whose TTL runs out go to the controller ([`crate::EVENT_REASON_INVALID_TTL`]); else they are dropped.
pub const SWITCH_INVALID_TTL: u32 = 4;
/// [`SwitchEntry::flags`]: a group's bucket has, or once had, a controller action.
pub const SWITCH_GROUP_TELLS: u32 = 8;

/// One virtual switch on this host.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct SwitchEntry {
    /// The coordinator's id; 0: free slot.
    pub id: u32,
    /// Network slot.
    pub network: u32,
    /// [`SWITCH_ACTIVE`] ...
    pub state: u32,
    /// An active instance processes only at clocks from here on; before, packets go to `relay_peer`.
    pub join_epoch: u32,
    /// From this epoch on, the instance relays again (retirement); 0: no such epoch.
    pub retire_epoch: u32,
    /// Peer slot that packets are relayed to; 0: none.
    pub relay_peer: u32,
    /// Slot of the first port in the switch's port list; 0: no ports.
    pub first_port: u32,
    /// [`SWITCH_HOLD`] ...
    pub flags: u32,
    /// Bytes ([`crate::event_cost`]) that the switch may still put into the event ring; signed: an event may take more than is left. The programs
    /// take from it, and the agent gives back what it has read, as fast as the switch's limit has it.
    pub event_budget: i32,
    /// The most that the budget is; 0: events of this switch are not limited.
    pub event_burst: u32,
    /// Peer slot that packets are tunnelled to unprocessed though the instance here is active: the primary of a strict update (consistency
    /// rule 20); 0: none.
    pub detour: u32,
    /// Epoch of that update. The agent's own: what has been activated ends the detour.
    pub detour_epoch: u32,
    /// Zero.
    pub pad: [u32; 4],
}

/// Tables of a switch in [`crate::maps::MISSES`]: those that rules can be in.
pub const MISS_TABLES: u32 = crate::GROUP_TABLE as u32;

/// Where packets are counted that matched no rule of a table, within the row of a CPU.
pub const fn miss_index(switch_slot: u32, table: u32) -> u32 {
    switch_slot * MISS_TABLES + (table & (MISS_TABLES - 1))
}

/// A table's word in [`crate::maps::TABLES`]: where its run of tuples starts and how many there are, published as one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableRef {
    /// Index of the first [`TupleEntry`].
    pub start: u32,
    /// Number of tuples; 0: empty table.
    pub count: u32,
}

impl TableRef {
    /// The word stored in the map.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        (self.start as u64) << 32 | self.count as u64
    }

    /// From the word stored in the map.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            start: (word >> 32) as u32,
            count: word as u32,
        }
    }
}

/// One mask of one table. A table's tuples lie in order of falling `max_priority`.
///
/// What a search reads of each comes first.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct TupleEntry {
    /// No rule in this tuple has a higher priority.
    pub max_priority: u32,
    /// Unique on this host among all tuples of all tables, never 0: goes into the hash, and into [`RuleEntry::tuple`].
    pub id: u32,
    /// From the hash of the tuple before in the table's run to that of this one.
    pub steps: HashSteps,
    /// Which bits of the key the tuple's rules compare.
    pub mask: CompactMask,
}

const _: () = assert!(size_of::<TupleEntry>() == 256);

/// [`RuleEntry::goto_table`]: none.
pub const NO_TABLE: u8 = 0xff;

/// [`RuleEntry::flags`]: XDP can run this rule's actions: any set-field, push and pop, then at most one output to one port.
pub const RULE_XDP: u8 = 1;
/// [`RuleEntry::flags`]: the actions, or what they write into the action set, send packets to the controller.
pub const RULE_TELLS: u8 = 2;

/// [`RuleEntry::flags`]: clear-actions: the action set is emptied before actions are written to it.
pub const RULE_CLEAR_ACTIONS: u8 = 4;

/// [`RuleEntry::flags`], of a group's bucket: it changes nothing of the packet, so that other buckets may run on the same one after it.
pub const RULE_PURE: u8 = 8;
/// [`RuleEntry::flags`]: the actions, or what they write into the action set, output packets. A group that comes last in a rule's actions, or
/// is in the set, is not counted: its buckets are.
pub const RULE_OUTPUTS: u8 = 64;
/// [`RuleEntry::flags`]: the actions give copies of the packet to groups, so that a walk through the tables does not see what those do.
pub const RULE_COPIES: u8 = 32;

/// [`RuleEntry::flags`]: this instance has promised not to match the rule (consistency rule 14): what would match it waits ([`crate::EVENT_WAITING`]).
/// Set and cleared by the agent while the rule is visible; the only one of the flags that changes.
pub const RULE_PROMISED: u8 = 16;

/// [`RuleEntry::live`]: the slot holds a rule.
pub const RULE_LIVE: u32 = 1;

/// One version of one rule. Chained into a bucket by `next`; rules of the same tuple and key lie in order of falling priority.
///
/// What a search reads comes first: the first cache line, and as much of the key as the mask uses.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleEntry {
    /// [`crate::hash_key`] of `tuple`, its mask, and `key`.
    pub hash: u32,
    /// [`TupleEntry::id`].
    pub tuple: u32,
    /// Next rule slot in the bucket's chain; 0: end.
    pub next: u32,
    /// First epoch at which the rule is visible.
    pub valid_from: u32,
    /// First epoch at which it no longer is; 0: none.
    pub valid_to: u32,
    /// Higher wins.
    pub priority: u16,
    /// Table of the rule.
    pub table: u8,
    /// Actions in use.
    pub action_count: u8,
    /// Table to continue at; [`NO_TABLE`]: none.
    pub goto_table: u8,
    /// [`RULE_XDP`] ...
    pub flags: u8,
    /// Zero.
    pub pad0: u8,
    /// How many of the actions are applied at once (apply-actions); the others are put into the packet's action set (write-actions).
    pub apply_count: u8,
    /// Switch slot.
    pub switch_slot: u32,
    /// The coordinator's id of the rule.
    pub rule_id: u64,
    /// The controller's cookie.
    pub cookie: u64,
    /// [`RULE_LIVE`], or 0: free slot. Written last when a rule is created, for re-adoption.
    pub live: u32,
    /// Seconds; 0: none. Of use to the agent only, which tells from the counters when a rule was last used.
    pub idle_timeout: u32,
    /// The meter that packets pass first; 0: none.
    pub meter: u32,
    /// Zero.
    pub pad: u32,
    /// Compact masked key: [`CompactMask::compact`].
    pub key: [u64; KEY_WORDS],
    /// Bits that write-metadata sets, within the mask.
    pub metadata: u64,
    /// Bits that write-metadata changes; 0: none.
    pub metadata_mask: u64,
    /// Compiled actions: the first three in the same cache line as the metadata.
    pub actions: [Action; MAX_ACTIONS],
    /// Of a meter's head, for each of its bands: [`crate::band_charge`]. The programs write it.
    pub times: [u64; crate::MAX_METER_BANDS],
}

const _: () = assert!(size_of::<RuleEntry>() == 512);
const _: () = assert!(core::mem::offset_of!(RuleEntry, rule_id) == 32);
const _: () = assert!(core::mem::offset_of!(RuleEntry, key) == 64);

impl RuleEntry {
    /// The entry as words.
    #[inline(always)]
    pub fn words(&self) -> &[u64; size_of::<Self>() / size_of::<u64>()] {
        // SAFETY: repr(C), align(64), without implicit padding (the sizes of the fields add up to 512); every bit pattern is a valid u64.
        unsafe { &*(self as *const Self).cast() }
    }
}

/// Packets and bytes that matched a rule, of one CPU. Only that CPU writes it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounters {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the Ethernet header on, without FCS.
    pub bytes: u64,
}

/// [`PortEntry::kind`]: free slot, or a port number that rules mention and that does not exist (yet).
pub const PORT_NONE: u32 = 0;
/// [`PortEntry::kind`]: a device of this host, `ifindex`.
pub const PORT_LOCAL: u32 = 1;
/// [`PortEntry::kind`]: on the host of `peer`.
pub const PORT_REMOTE: u32 = 2;
/// [`PortEntry::kind`]: one end of a link between switches; the other is port slot `link`.
pub const PORT_LINK: u32 = 3;

/// [`PortEntry::flags`]: administratively down or without carrier: outputs are dropped.
pub const PORT_DOWN: u32 = 1;
/// [`PortEntry::flags`]: floods leave it out.
pub const PORT_NO_FLOOD: u32 = 2;
/// [`PortEntry::flags`]: down on the host where it is, as the coordinator says. Outputs go there all the same; groups take it for dead.
pub const PORT_DEAD: u32 = 4;

/// One port of a virtual switch, wherever it is.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct PortEntry {
    /// The coordinator's id, unique within the network (in tunnel frames); 0: not known to the coordinator.
    pub id: u32,
    /// Network slot.
    pub network: u32,
    /// Switch slot.
    pub switch_slot: u32,
    /// Port number within the switch.
    pub port_no: u32,
    /// [`PORT_LOCAL`] ...
    pub kind: u32,
    /// Device, if local.
    pub ifindex: u32,
    /// Peer slot, if remote.
    pub peer: u32,
    /// Port slot of the other end, if a link.
    pub link: u32,
    /// Next port slot of the same switch; 0: end.
    pub next: u32,
    /// [`PORT_DOWN`] ...
    pub flags: u32,
    /// Largest L3 packet, bytes, also of a port that is on another host; 0: not known. Without meaning for links.
    pub mtu: u32,
    /// For one end of a link: [`PortEntry::id`] of the other, also while that does not exist (then `kind` is [`PORT_NONE`]). Of use to the agent only.
    pub link_id: u32,
    /// Zero.
    pub pad: [u32; 4],
}

/// Counters of one port, of one CPU. Only that CPU writes it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortCounters {
    /// Packets that came in, counted where they are processed (a relayed packet: at the instance that processes it).
    pub rx_packets: u64,
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Packets handed to the device (or to the link's other end).
    pub tx_packets: u64,
    /// Bytes handed to the device.
    pub tx_bytes: u64,
    /// Packets dropped, by [`crate::DropReason`].
    pub drops: [u64; DROP_REASONS],
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            drops: [0; DROP_REASONS],
        }
    }
}

/// A device's word in [`crate::maps::DEVICES`]: 0 none, [`DEVICE_UNDERLAY`], or the port slot.
pub type DeviceRef = u32;
/// The device carries tunnel frames.
pub const DEVICE_UNDERLAY: DeviceRef = u32::MAX;

/// Length of [`PeerHeader::bytes`].
pub const PEER_HEADER_MAX: usize = 64;

/// Outer Ethernet, IP and UDP headers towards a peer. Lengths and the IPv4 checksum are filled in per packet;
/// the IPv4 header's checksum field holds the checksum for a total length of 0.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct PeerHeader {
    /// Device to send by; 0: no next hop known.
    pub ifindex: u32,
    /// [`crate::OUTER_IPV4_LEN`] or [`crate::OUTER_IPV6_LEN`].
    pub len: u32,
    /// Largest L3 packet on that device, bytes.
    pub mtu: u32,
    /// Zero.
    pub pad: u32,
    /// The headers.
    pub bytes: [u8; PEER_HEADER_MAX],
}

impl Default for PeerHeader {
    fn default() -> Self {
        Self {
            ifindex: 0,
            len: 0,
            mtu: 0,
            pad: 0,
            bytes: [0; PEER_HEADER_MAX],
        }
    }
}

/// Another host's agent. The agent rewrites the variant that is not current, then switches `current`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerEntry {
    /// The coordinator's host id; 0: free slot.
    pub host: u32,
    /// Which variant is in force: 0 or 1.
    pub current: u32,
    /// Zero.
    pub pad: [u32; 2],
    /// The two variants.
    pub variants: [PeerHeader; 2],
}

/// The peer slot that stands for this host itself: its frames go to the recirculation device.
pub const PEER_SELF: u32 = 1;

/// Key of [`crate::maps::TUNNEL_PEERS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TunnelPeerKey {
    /// Outer source address; IPv4 in the first four bytes, rest zero.
    pub source: [u8; 16],
    /// VNI, host byte order.
    pub vni: u32,
}

/// Key of [`crate::maps::TUNNEL_PORTS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TunnelPortKey {
    /// Network slot.
    pub network: u32,
    /// [`PortEntry::id`].
    pub port: u32,
}

/// Whether `a` is at or before `b`, as serial numbers (RFC 1982, 32 bits).
#[inline(always)]
pub const fn serial_le(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) >= 0
}

/// Whether a rule with these bounds is visible at `clock`.
#[inline(always)]
pub const fn visible(valid_from: u32, valid_to: u32, clock: u32) -> bool {
    serial_le(valid_from, clock) && (valid_to == 0 || !serial_le(valid_to, clock))
}

#[cfg(feature = "user")]
mod pod {
    use super::*;

    macro_rules! pod {
        ($($t:ty),+) => { $(
            // SAFETY: repr(C), Copy, without implicit padding or pointers: any bytes are a value, any value is bytes.
            unsafe impl aya::Pod for $t {}
        )+ };
    }

    pod!(
        Meta,
        NetworkEntry,
        SwitchEntry,
        TupleEntry,
        RuleEntry,
        RuleCounters,
        PortEntry,
        PortCounters,
        PeerEntry,
        TunnelPeerKey,
        TunnelPortKey
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_wrap() {
        assert!(serial_le(1, 1) && serial_le(1, 2) && !serial_le(2, 1));
        assert!(serial_le(u32::MAX, 1) && !serial_le(1, u32::MAX));
    }

    #[test]
    fn a_rule_is_visible_from_its_first_epoch_until_before_its_last() {
        assert!(!visible(5, 7, 4) && visible(5, 7, 5) && visible(5, 7, 6) && !visible(5, 7, 7));
        assert!(visible(5, 0, u32::MAX / 4));
    }
}
