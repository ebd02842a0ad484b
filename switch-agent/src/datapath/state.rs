//! What the agent remembers beside the maps: indices by id, free slots, and what waits for a grace period.
//! All of it can be rebuilt from the maps (see `adopt`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lime_core::{Epoch, NetworkId, PortId, SwitchId};
use switch_abi::{
    CompactMask, FlowKey, MAX_TABLES, NetworkEntry, PortEntry, RuleCounters, RuleEntry,
    SwitchEntry, TableRef,
};

use super::maps::{Maps, Sizes};
use super::rule_index::RuleIndex;
use super::slots::{RunPool, Slot, SlotPool};
use super::{DatapathError, Result, grace_period};

/// One network.
pub(crate) struct Network {
    pub(crate) slot: u32,
    /// Slot of every rule version that is linked.
    pub(crate) rules: RuleIndex,
    /// Rule versions that end, by rising epoch.
    pub(crate) ended: VecDeque<(Epoch, u32)>,
    pub(crate) ports: BTreeMap<PortId, u32>,
    pub(crate) switches: BTreeSet<SwitchId>,
    /// Outer source addresses that frames are accepted from, without this host's own.
    pub(crate) sources: BTreeSet<[u8; 16]>,
    /// When the bounds of old rules were last brought forward (see `collect`).
    pub(crate) refreshed: Epoch,
}

impl Network {
    pub(crate) fn new(slot: u32) -> Self {
        Self {
            slot,
            rules: RuleIndex::default(),
            ended: VecDeque::new(),
            ports: BTreeMap::new(),
            switches: BTreeSet::new(),
            sources: BTreeSet::new(),
            refreshed: Epoch::ZERO,
        }
    }
}

/// One switch.
pub(crate) struct Switch {
    pub(crate) network: NetworkId,
    pub(crate) slot: u32,
    pub(crate) tables: Vec<Table>,
    /// The snapshot that is being written.
    pub(crate) loading: Option<Epoch>,
    /// Ports in its list.
    pub(crate) port_count: u32,
}

impl Switch {
    pub(crate) fn new(network: NetworkId, slot: u32) -> Self {
        Self {
            network,
            slot,
            tables: (0..MAX_TABLES).map(|_| Table::default()).collect(),
            loading: None,
            port_count: 0,
        }
    }

    /// Index of a table's word in TABLES.
    pub(crate) fn table_word(slot: u32, table: usize) -> u32 {
        slot * MAX_TABLES + table as u32
    }
}

/// One flow table of a switch.
#[derive(Default)]
pub(crate) struct Table {
    /// In no order; those without rules are dropped when the next run is published.
    pub(crate) tuples: Vec<Tuple>,
    /// What is published: the run, and (highest priority, id) of its tuples in order.
    pub(crate) run: TableRef,
    pub(crate) published: Vec<(u32, u32)>,
    /// The tuples may differ from what is published.
    pub(crate) dirty: bool,
}

/// The rules of one table that have one mask.
pub(crate) struct Tuple {
    pub(crate) id: u32,
    pub(crate) mask: FlowKey,
    /// As programs use it.
    pub(crate) compact: CompactMask,
    /// How many rules have which priority.
    pub(crate) priorities: BTreeMap<u16, u32>,
}

impl Tuple {
    pub(crate) fn max_priority(&self) -> Option<u16> {
        self.priorities.last_key_value().map(|(&p, _)| p)
    }
}

/// Free slots of every array.
pub(crate) struct Pools {
    pub(crate) networks: SlotPool,
    pub(crate) switches: SlotPool,
    pub(crate) ports: SlotPool,
    pub(crate) peers: SlotPool,
    pub(crate) rules: SlotPool,
    pub(crate) tuple_ids: SlotPool,
    pub(crate) runs: RunPool,
}

impl Pools {
    pub(crate) fn new(sizes: &Sizes) -> Self {
        Self {
            networks: SlotPool::new(1, sizes.networks),
            switches: SlotPool::new(1, sizes.switches),
            ports: SlotPool::new(1, sizes.ports),
            // Slot 1 is this host itself.
            peers: SlotPool::new(2, sizes.peers),
            rules: SlotPool::new(1, sizes.rules),
            tuple_ids: SlotPool::new(1, sizes.tuples),
            runs: RunPool::new(sizes.tuples),
        }
    }
}

/// What is unlinked and may still be seen by running programs.
#[derive(Default)]
pub(crate) struct Limbo {
    pub(crate) networks: Vec<u32>,
    pub(crate) switches: Vec<u32>,
    pub(crate) ports: Vec<u32>,
    pub(crate) peers: Vec<u32>,
    pub(crate) rules: Vec<u32>,
    pub(crate) tuple_ids: Vec<u32>,
    pub(crate) runs: Vec<TableRef>,
    /// Grace periods so far.
    pub(crate) graces: u64,
}

impl Limbo {
    fn is_empty(&self) -> bool {
        self.networks.is_empty()
            && self.switches.is_empty()
            && self.ports.is_empty()
            && self.peers.is_empty()
            && self.rules.is_empty()
            && self.tuple_ids.is_empty()
            && self.runs.is_empty()
    }
}

/// The maps with their free slots and what waits to become free.
pub(crate) struct Store {
    pub(crate) maps: Maps,
    pub(crate) pools: Pools,
    pub(crate) limbo: Limbo,
    pub(crate) cpus: u32,
    /// Strides of the counter arrays.
    pub(crate) rule_stride: u32,
    pub(crate) port_stride: u32,
    pub(crate) bucket_mask: u32,
    /// Programs may be running on these maps: grace periods are waited for.
    pub(crate) shared: bool,
}

impl Store {
    /// Waits for a grace period, whether or not there is anything to free, and frees what waited.
    pub(crate) fn wait(&mut self) -> Result<()> {
        if self.shared {
            grace_period().map_err(|e| DatapathError::kernel("wait for running programs", e))?;
        }
        self.limbo.graces += 1;
        let limbo = &mut self.limbo;
        // The next rules are then written one beside the other.
        limbo.rules.sort_unstable_by(|a, b| b.cmp(a));
        for slot in limbo.rules.drain(..) {
            free_rule(&self.maps, self.cpus, self.rule_stride, slot);
            self.pools.rules.give(slot);
        }
        for run in limbo.runs.drain(..) {
            self.pools.runs.give(run.start, run.count);
        }
        for id in limbo.tuple_ids.drain(..) {
            self.pools.tuple_ids.give(id);
        }
        for slot in limbo.ports.drain(..) {
            self.maps.ports.write(slot, &PortEntry::default());
            self.pools.ports.give(slot);
        }
        for slot in limbo.peers.drain(..) {
            self.pools.peers.give(slot);
        }
        for slot in limbo.switches.drain(..) {
            self.maps.switches.write(slot, &SwitchEntry::default());
            self.pools.switches.give(slot);
        }
        for slot in limbo.networks.drain(..) {
            let generation = self.maps.networks.read(slot).generation;
            let empty = NetworkEntry {
                generation,
                ..NetworkEntry::default()
            };
            self.maps.networks.write(slot, &empty);
            self.pools.networks.give(slot);
        }
        Ok(())
    }

    /// Frees what waits for a grace period, after waiting for one.
    pub(crate) fn reap(&mut self) -> Result<()> {
        if self.limbo.is_empty() {
            return Ok(());
        }
        self.wait()
    }

    /// A slot from one of the pools; where it is empty, what is in limbo is waited for.
    pub(crate) fn take(
        &mut self,
        pool: fn(&mut Pools) -> &mut SlotPool,
        full: impl Fn() -> DatapathError,
    ) -> Result<Slot> {
        if let Some(slot) = pool(&mut self.pools).take() {
            return Ok(slot);
        }
        self.reap()?;
        pool(&mut self.pools).take().ok_or_else(full)
    }

    /// Rule slots that are free or will be after a grace period.
    pub(crate) fn free_rules(&self) -> u32 {
        self.pools.rules.available() + self.limbo.rules.len() as u32
    }

    /// As [`Store::free_rules`], of ports.
    pub(crate) fn free_ports(&self) -> u32 {
        self.pools.ports.available() + self.limbo.ports.len() as u32
    }

    /// What programs have cached about the network is void from here on.
    pub(crate) fn bump_generation(&self, network_slot: u32) {
        let at = std::mem::offset_of!(NetworkEntry, generation);
        let generation = self.maps.networks.get(network_slot, at);
        self.maps
            .networks
            .publish(network_slot, at, generation.wrapping_add(1));
    }
}

/// Wipes what is left of a rule that no program can be at: the counters of a slot without one are zero.
pub(crate) fn free_rule(maps: &Maps, cpus: u32, stride: u32, slot: u32) {
    for cpu in 0..cpus {
        let counters = RuleCounters::default();
        maps.rule_counters.write(cpu * stride + slot, &counters);
    }
    maps.rules
        .publish(slot, std::mem::offset_of!(RuleEntry, live), 0);
}
