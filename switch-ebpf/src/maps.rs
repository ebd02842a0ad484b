//! The maps, by the names in [`switch_abi::maps`]. The sizes here are small defaults: the agent overrides
//! them when it loads the object, and fills [`META`].

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, RingBuf},
};
use switch_abi::{
    DeviceRef, MAX_IFINDEX, MAX_TABLES, MISS_TABLES, Meta, NetworkEntry, PeerEntry, PortCounters,
    PortEntry, RuleCounters, RuleEntry, SwitchEntry, TunnelPeerKey, TunnelPortKey, TupleEntry,
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
/// Packets that matched no rule, in a row per CPU by [`switch_abi::miss_index`].
#[map]
pub static MISSES: Array<u64> = Array::with_max_entries(16 * MISS_TABLES, BPF_F_MMAPABLE);
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

/// Set by the agent when it loads the object: [`Meta::rules`].
#[unsafe(no_mangle)]
static RULE_STRIDE: u32 = 1024;
/// Set by the agent when it loads the object: [`Meta::ports`].
#[unsafe(no_mangle)]
static PORT_STRIDE: u32 = 64;
/// Set by the agent when it loads the object: entries of [`MISSES`] per CPU.
#[unsafe(no_mangle)]
static MISS_STRIDE: u32 = 16 * MISS_TABLES;
/// Set by the agent when it loads the object: [`Meta::bucket_mask`].
#[unsafe(no_mangle)]
static BUCKET_MASK: u32 = 1023;
/// Set by the agent when it loads the object: entries of the flow cache per CPU, a power of two; 0: none is used.
#[unsafe(no_mangle)]
static FLOW_CACHE: u32 = 1;

/// Row length of [`RULE_COUNTERS`].
#[inline(always)]
pub fn rule_stride() -> u32 {
    // SAFETY: a static; volatile, since it is not the compiler's value that counts.
    unsafe { core::ptr::read_volatile(&RULE_STRIDE) }
}

/// Row length of [`PORT_COUNTERS`].
#[inline(always)]
pub fn port_stride() -> u32 {
    // SAFETY: as in `rule_stride`.
    unsafe { core::ptr::read_volatile(&PORT_STRIDE) }
}

/// Row length of [`MISSES`].
#[inline(always)]
pub fn miss_stride() -> u32 {
    // SAFETY: as in `rule_stride`.
    unsafe { core::ptr::read_volatile(&MISS_STRIDE) }
}

/// Number of buckets less one.
#[inline(always)]
pub fn bucket_mask() -> u32 {
    // SAFETY: as in `rule_stride`.
    unsafe { core::ptr::read_volatile(&BUCKET_MASK) }
}

/// Entries of the flow cache per CPU; 0: it is not used.
#[inline(always)]
pub fn flow_cache() -> u32 {
    // SAFETY: as in `rule_stride`.
    unsafe { core::ptr::read_volatile(&FLOW_CACHE) }
}

/// Receiving side of the recirculation device. Not a constant: that device is made after the object is loaded.
#[inline(always)]
pub fn recirculation_ifindex() -> u32 {
    META.get(0)
        .map_or(0, |meta| load(&meta.recirculation_ifindex))
}

/// Atomically adds to a word; what it was before. (Rust has no atomics for this target yet.)
///
/// # Safety
/// `word` is a valid, aligned pointer.
#[inline(always)]
pub unsafe fn fetch_add(word: *mut i32, amount: u32) -> i32 {
    let mut value = amount as u64;
    // SAFETY: as the caller promises.
    unsafe {
        core::arch::asm!(
            "w3 = atomic_fetch_add((u32 *)(r2 + 0), w3)",
            in("r2") word,
            inlateout("r3") value,
            options(nostack),
        );
    }
    value as i32
}

/// A word that the agent may be storing at this moment.
#[inline(always)]
pub fn load<T: Copy>(word: &T) -> T {
    // SAFETY: a reference; volatile, so that it is read once and whole.
    unsafe { core::ptr::read_volatile(word) }
}
