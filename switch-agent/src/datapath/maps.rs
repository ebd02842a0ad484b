//! All maps of the data path under their types, whether they are pinned in the kernel or (in tests) in ordinary memory.

use std::collections::HashMap;
use std::hash::Hash;

use aya::Pod;
use aya::maps::{Array, HashMap as KernelHash, MapData, MapError};
use switch_abi::{
    ABI_VERSION, DeviceRef, MAX_IFINDEX, MAX_TABLES, MISS_TABLES, Meta, NetworkEntry, PeerEntry,
    PortCounters, PortEntry, RuleCounters, RuleEntry, SwitchEntry, TunnelPeerKey, TunnelPortKey,
    TupleEntry,
};

use super::mapped::MappedArray;
use super::{DatapathError, Limits, Result};

/// Most rules that [`Limits::rules`] may ask for: the counters of all CPUs must stay below 2^32 entries.
const MAX_RULES: u32 = 1 << 24;

/// Rules per mask that there is room for, over all tables of all switches: a rule may take 512 bytes and 32 per CPU in all.
const RULES_PER_MASK: u32 = 16;

/// Entries of every map, from the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) cpus: u32,
    pub(crate) networks: u32,
    pub(crate) switches: u32,
    pub(crate) tables: u32,
    pub(crate) tuples: u32,
    pub(crate) buckets: u32,
    pub(crate) rules: u32,
    pub(crate) rule_counters: u32,
    pub(crate) ports: u32,
    pub(crate) port_counters: u32,
    pub(crate) misses: u32,
    pub(crate) devices: u32,
    pub(crate) peers: u32,
    pub(crate) tunnel_peers: u32,
    pub(crate) tunnel_ports: u32,
}

impl Sizes {
    /// Checks the limits and gives the sizes; slot 0 comes on top of every limit.
    pub(crate) fn of(limits: &Limits, cpus: u32) -> Result<Self> {
        let in_range = |what: &str, value: u32, max: u32| {
            if (1..=max).contains(&value) {
                Ok(value)
            } else {
                Err(DatapathError::invalid(
                    format!("the limit of {value} {what}"),
                    format!("it is 1 to {max}"),
                ))
            }
        };
        let rules = in_range("rules", limits.rules, MAX_RULES)? + 1;
        let ports = in_range("ports", limits.ports, 1 << 20)? + 1;
        let switches = in_range("switches", limits.switches, 1 << 16)? + 1;
        let networks = in_range("networks", limits.networks, 1 << 16)? + 1;
        // Slots 0 and 1 (this host itself) come on top.
        let peers = in_range("peers", limits.peers, 1 << 16)? + 2;
        if !limits.event_ring_bytes.is_power_of_two() || limits.event_ring_bytes < 4096 {
            return Err(DatapathError::invalid(
                format!("an event ring of {} bytes", limits.event_ring_bytes),
                "it is a power of two of at least 4096",
            ));
        }
        let flows = limits.flow_cache;
        if flows != 0 && !flows.is_power_of_two() || flows > 1 << 20 {
            return Err(DatapathError::invalid(
                format!("a cache of {flows} flows"),
                "it is a power of two of at most 1048576, or 0",
            ));
        }
        let rule_counters = rules.checked_mul(cpus);
        let port_counters = ports.checked_mul(cpus);
        let misses = (switches * MISS_TABLES).checked_mul(cpus);
        let (Some(rule_counters), Some(port_counters), Some(misses)) =
            (rule_counters, port_counters, misses)
        else {
            return Err(DatapathError::invalid(
                format!("the limit of {} rules", limits.rules),
                format!("counters for {cpus} CPUs would not fit one map"),
            ));
        };
        Ok(Self {
            cpus,
            networks,
            switches,
            tables: switches * MAX_TABLES,
            tuples: (rules / RULES_PER_MASK).clamp(4096, 1 << 20),
            buckets: (rules * 2).next_power_of_two(),
            rules,
            rule_counters,
            ports,
            port_counters,
            misses,
            devices: MAX_IFINDEX + 1,
            peers,
            tunnel_peers: peers * 16,
            tunnel_ports: ports,
        })
    }

    /// Whether these sizes, of pinned maps, go with each other and with META. How big a map is for which limit may change between versions.
    pub(crate) fn fit(&self, meta: &Meta) -> bool {
        let times = |a: u32, b: u32| a.checked_mul(b);
        let enough = [
            self.networks,
            self.switches,
            self.tuples,
            self.rules,
            self.ports,
        ];
        self.cpus != 0
            && enough.iter().all(|&entries| entries > 1)
            && self.peers > 2
            && (self.rules, self.ports, self.switches) == (meta.rules, meta.ports, meta.switches)
            && self.buckets.is_power_of_two()
            && self.buckets - 1 == meta.bucket_mask
            && Some(self.tables) == times(self.switches, MAX_TABLES)
            && Some(self.rule_counters) == times(self.rules, self.cpus)
            && Some(self.port_counters) == times(self.ports, self.cpus)
            && Some(self.misses) == times(self.switches * MISS_TABLES, self.cpus)
            && self.devices == MAX_IFINDEX + 1
    }

    /// What goes into the META map.
    pub(crate) fn meta(&self) -> Meta {
        Meta {
            abi_version: ABI_VERSION,
            cpus: self.cpus,
            rules: self.rules,
            ports: self.ports,
            bucket_mask: self.buckets - 1,
            recirculation_ifindex: 0,
            switches: self.switches,
            pad: 0,
        }
    }
}

/// All maps that hold state, mapped.
pub(crate) struct Maps {
    pub(crate) meta: MetaMap,
    pub(crate) networks: MappedArray<NetworkEntry>,
    pub(crate) switches: MappedArray<SwitchEntry>,
    pub(crate) tables: MappedArray<u64>,
    pub(crate) tuples: MappedArray<TupleEntry>,
    pub(crate) buckets: MappedArray<u32>,
    pub(crate) rules: MappedArray<RuleEntry>,
    pub(crate) rule_counters: MappedArray<RuleCounters>,
    pub(crate) ports: MappedArray<PortEntry>,
    pub(crate) port_counters: MappedArray<PortCounters>,
    pub(crate) misses: MappedArray<u64>,
    pub(crate) devices: MappedArray<DeviceRef>,
    pub(crate) peers: MappedArray<PeerEntry>,
    pub(crate) tunnel_peers: HashTable<TunnelPeerKey>,
    pub(crate) tunnel_ports: HashTable<TunnelPortKey>,
}

impl Maps {
    /// Ordinary memory in place of kernel maps.
    pub(crate) fn in_memory(sizes: &Sizes) -> Self {
        Self {
            meta: MetaMap::Memory(sizes.meta()),
            networks: MappedArray::heap(sizes.networks),
            switches: MappedArray::heap(sizes.switches),
            tables: MappedArray::heap(sizes.tables),
            tuples: MappedArray::heap(sizes.tuples),
            buckets: MappedArray::heap(sizes.buckets),
            rules: MappedArray::heap(sizes.rules),
            rule_counters: MappedArray::heap(sizes.rule_counters),
            ports: MappedArray::heap(sizes.ports),
            port_counters: MappedArray::heap(sizes.port_counters),
            misses: MappedArray::heap(sizes.misses),
            devices: MappedArray::heap(sizes.devices),
            peers: MappedArray::heap(sizes.peers),
            tunnel_peers: HashTable::Memory {
                entries: HashMap::new(),
                limit: sizes.tunnel_peers,
            },
            tunnel_ports: HashTable::Memory {
                entries: HashMap::new(),
                limit: sizes.tunnel_ports,
            },
        }
    }
}

/// The META map.
pub(crate) enum MetaMap {
    Kernel(Array<MapData, Meta>),
    Memory(Meta),
}

impl MetaMap {
    pub(crate) fn get(&self) -> Result<Meta> {
        match self {
            Self::Kernel(map) => map
                .get(&0, 0)
                .map_err(|e| DatapathError::kernel("read the META map", e)),
            Self::Memory(meta) => Ok(*meta),
        }
    }

    pub(crate) fn set(&mut self, meta: Meta) -> Result<()> {
        match self {
            Self::Kernel(map) => map
                .set(0, meta, 0)
                .map_err(|e| DatapathError::kernel("write the META map", e)),
            Self::Memory(here) => {
                *here = meta;
                Ok(())
            }
        }
    }
}

/// A hash map from `K` to a slot.
pub(crate) enum HashTable<K: Pod> {
    Kernel(KernelHash<MapData, K, u32>),
    Memory {
        entries: HashMap<K, u32>,
        limit: u32,
    },
}

impl<K: Pod + Eq + Hash> HashTable<K> {
    pub(crate) fn insert(&mut self, key: K, slot: u32) -> Result<()> {
        let full = |limit: u64| {
            DatapathError::no_space(
                "tunnel endpoints",
                limit,
                "start the agent with larger limits",
            )
        };
        match self {
            Self::Kernel(map) => map.insert(key, slot, 0).map_err(|e| match os_error(&e) {
                Some(libc::E2BIG) => full(map_limit(map)),
                _ => DatapathError::kernel("write a tunnel map", e),
            }),
            Self::Memory { entries, limit } => {
                if entries.len() >= *limit as usize && !entries.contains_key(&key) {
                    return Err(full(u64::from(*limit)));
                }
                entries.insert(key, slot);
                Ok(())
            }
        }
    }

    /// Takes a key out; one that is not there is fine.
    pub(crate) fn remove(&mut self, key: &K) -> Result<()> {
        match self {
            Self::Kernel(map) => match map.remove(key) {
                Err(e) if os_error(&e) != Some(libc::ENOENT) => {
                    Err(DatapathError::kernel("write a tunnel map", e))
                }
                _ => Ok(()),
            },
            Self::Memory { entries, .. } => {
                entries.remove(key);
                Ok(())
            }
        }
    }

    pub(crate) fn entries(&self) -> Result<Vec<(K, u32)>> {
        match self {
            Self::Kernel(map) => map
                .iter()
                .collect::<Result<_, MapError>>()
                .map_err(|e| DatapathError::kernel("read a tunnel map", e)),
            Self::Memory { entries, .. } => Ok(entries.iter().map(|(k, v)| (*k, *v)).collect()),
        }
    }
}

fn map_limit<K: Pod>(map: &KernelHash<MapData, K, u32>) -> u64 {
    use aya::maps::IterableMap;
    IterableMap::map(map)
        .info()
        .map_or(0, |info| u64::from(info.max_entries()))
}

fn os_error(error: &MapError) -> Option<i32> {
    match error {
        MapError::KeyNotFound | MapError::ElementNotFound => Some(libc::ENOENT),
        MapError::SyscallError(e) => e.io_error.raw_os_error(),
        _ => None,
    }
}
