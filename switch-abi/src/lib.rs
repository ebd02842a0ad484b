//! Every type that crosses the boundary between LIME's kernel programs and its agent: map entries,
//! the tunnel option, event-ring records, drop reasons.
//!
//! All maps that hold tables are mmap-able `BPF_MAP_TYPE_ARRAY`s. The kernel programs read them
//! through the (inlined) array lookup; the agent writes them with plain stores. Three rules keep that
//! sound:
//!
//! - an entry is complete before the one aligned word that publishes it is stored (release);
//! - an entry is reused only after a grace period, when no running program can still see it;
//! - slot 0 of every array is never used, so that a zero index means "none".
//!
//! Entries carry the ids that the coordinator knows them by, so that a restarted agent can rebuild
//! its indices from the pinned maps alone.
#![cfg_attr(not(feature = "user"), no_std)]

mod action;
mod entries;
mod event;
mod group;
mod hash;
mod key;
mod meter;
mod reason;
mod tunnel;

pub use action::*;
pub use entries::*;
pub use event::*;
pub use group::*;
pub use hash::*;
pub use key::*;
pub use meter::*;
pub use reason::*;
pub use tunnel::*;

/// Version of everything in this crate. Written to [`Meta`] in the pinned maps; an agent that finds
/// another version there must not adopt them.
pub const ABI_VERSION: u32 = 7;

/// Names of the maps in the kernel object. Pinned under the same names.
pub mod maps {
    /// `ARRAY` of what the programs remember of flows, a row for each CPU. The agent gives it its size and nothing else.
    pub const CACHE: &str = "CACHE";
    /// `ARRAY` of room for [`crate::EVENT_WAITING`] and [`crate::EVENT_OUTPUT`], an element for each CPU. The agent gives it its size and nothing else.
    pub const WHOLE: &str = "WHOLE";
    /// `ARRAY` of one [`crate::Meta`].
    pub const META: &str = "META";
    /// mmap-able `ARRAY` of [`crate::NetworkEntry`], by network slot.
    pub const NETWORKS: &str = "NETWORKS";
    /// mmap-able `ARRAY` of [`crate::SwitchEntry`], by switch slot.
    pub const SWITCHES: &str = "SWITCHES";
    /// mmap-able `ARRAY` of `u64` [`crate::TableRef`] words, by `switch slot * MAX_TABLES + table`.
    pub const TABLES: &str = "TABLES";
    /// mmap-able `ARRAY` of [`crate::TupleEntry`]: the runs that table words point to.
    pub const TUPLES: &str = "TUPLES";
    /// mmap-able `ARRAY` of `u32` rule slots (0: empty), by `hash & Meta::bucket_mask`.
    pub const BUCKETS: &str = "BUCKETS";
    /// mmap-able `ARRAY` of [`crate::RuleEntry`], by rule slot.
    pub const RULES: &str = "RULES";
    /// mmap-able `ARRAY` of [`crate::RuleCounters`], by `cpu * Meta::rules + rule slot`.
    pub const RULE_COUNTERS: &str = "RULE_COUNTERS";
    /// mmap-able `ARRAY` of [`crate::PortEntry`], by port slot.
    pub const PORTS: &str = "PORTS";
    /// mmap-able `ARRAY` of [`crate::PortCounters`], by `cpu * Meta::ports + port slot`. Slot 0 takes
    /// the drops of frames that belong to no port (underlay).
    pub const PORT_COUNTERS: &str = "PORT_COUNTERS";
    /// mmap-able `ARRAY` of `u64`, by `cpu * entries / Meta::cpus + `[`crate::miss_index`]: packets that matched no rule of a table.
    pub const MISSES: &str = "MISSES";
    /// mmap-able `ARRAY` of `u32` [`crate::DeviceRef`] words, by ifindex.
    pub const DEVICES: &str = "DEVICES";
    /// mmap-able `ARRAY` of [`crate::PeerEntry`], by peer slot.
    pub const PEERS: &str = "PEERS";
    /// `HASH` from [`crate::TunnelPeerKey`] to `u32` network slot: who may send us frames of which network.
    pub const TUNNEL_PEERS: &str = "TUNNEL_PEERS";
    /// `HASH` from [`crate::TunnelPortKey`] to `u32` port slot.
    pub const TUNNEL_PORTS: &str = "TUNNEL_PORTS";
    /// `RINGBUF` of [`crate::EventHeader`] plus packet bytes.
    pub const EVENTS: &str = "EVENTS";
}

/// Names of the programs in the kernel object.
pub mod programs {
    /// XDP on a switch port.
    pub const XDP_PORT: &str = "lime_xdp_port";
    /// XDP on an underlay device (tunnel receive).
    pub const XDP_UNDERLAY: &str = "lime_xdp_underlay";
    /// TC ingress on a switch port.
    pub const TC_PORT: &str = "lime_tc_port";
    /// TC ingress on an underlay device, and on the recirculation device.
    pub const TC_UNDERLAY: &str = "lime_tc_underlay";
}
