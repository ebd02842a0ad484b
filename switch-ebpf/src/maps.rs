//! The maps, by the names in [`switch_abi::maps`]. The sizes here are small defaults: the agent overrides
//! them when it loads the object, and fills [`META`].

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, RingBuf},
};
use switch_abi::{
    DeviceRef, MAX_IFINDEX, MAX_TABLES, Meta, NetworkEntry, PeerEntry, PortCounters, PortEntry,
    RuleCounters, RuleEntry, SwitchEntry, TunnelPeerKey, TunnelPortKey, TupleEntry,
};

#[map]
pub static META: Array<Meta> = Array::with_max_entries(1, 0);
#[map]
pub static NETWORKS: Array<NetworkEntry> = Array::with_max_entries(16, BPF_F_MMAPABLE);
#[map]
pub static SWITCHES: Array<SwitchEntry> = Array::with_max_entries(16, BPF_F_MMAPABLE);
#[map]
pub static TABLES: Array<u64> = Array::with_max_entries(16 * MAX_TABLES, BPF_F_MMAPABLE);
#[map]
pub static TUPLES: Array<TupleEntry> = Array::with_max_entries(256, BPF_F_MMAPABLE);
#[map]
pub static BUCKETS: Array<u32> = Array::with_max_entries(1024, BPF_F_MMAPABLE);
#[map]
pub static RULES: Array<RuleEntry> = Array::with_max_entries(1024, BPF_F_MMAPABLE);
#[map]
pub static RULE_COUNTERS: Array<RuleCounters> = Array::with_max_entries(1024, BPF_F_MMAPABLE);
#[map]
pub static PORTS: Array<PortEntry> = Array::with_max_entries(64, BPF_F_MMAPABLE);
#[map]
pub static PORT_COUNTERS: Array<PortCounters> = Array::with_max_entries(64, BPF_F_MMAPABLE);
#[map]
pub static DEVICES: Array<DeviceRef> = Array::with_max_entries(MAX_IFINDEX + 1, BPF_F_MMAPABLE);
#[map]
pub static PEERS: Array<PeerEntry> = Array::with_max_entries(64, BPF_F_MMAPABLE);
#[map]
pub static TUNNEL_PEERS: HashMap<TunnelPeerKey, u32> = HashMap::with_max_entries(1024, 0);
#[map]
pub static TUNNEL_PORTS: HashMap<TunnelPortKey, u32> = HashMap::with_max_entries(1024, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
