//! Taking up what an earlier agent left in the maps: indices are rebuilt, and whatever it was in the middle of is undone.
//!
//! What is kept: networks, switches whose rules are complete, ports, peers, and rules of staged epochs. Everything is checked before it is
//! used as an index, so that a damaged map costs what is damaged and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::sync::atomic::Ordering;

use lime_core::{Epoch, HostId, NetworkId, PortId, RuleId, SwitchId};
use switch_abi::{
    CompactMask, DEVICE_UNDERLAY, MAX_TABLES, MAX_TUPLES, NetworkEntry, OUTER_IPV4_LEN,
    OUTER_IPV6_LEN, PEER_SELF, PORT_LOCAL, PORT_NONE, PeerHeader, PortEntry, RULE_LIVE, RuleEntry,
    SWITCH_LOADING, SWITCH_NONE, SWITCH_RELAY, SwitchEntry, TableRef, TunnelPortKey, hash_key,
};

use super::classifier::release_port_if_unused;
use super::peers::Peer;
use super::slots::{RunPool, SlotPool};
use super::state::{Network, Switch, Tuple, free_rule};
use super::{Adopted, AdoptedNetwork, Datapath, Result};

/// Which tuple of which table a tuple id stands for.
type TupleIndex = BTreeMap<u32, (SwitchId, u8, CompactMask)>;

impl Datapath {
    /// Rebuilds everything from the maps. Waits for a grace period.
    pub(crate) fn adopt(&mut self) -> Result<Adopted> {
        self.adopt_peers();
        let networks = self.adopt_networks();
        self.adopt_switches(&networks);
        self.adopt_ports(&networks)?;
        let tuples = self.adopt_tables();
        let kept = self.adopt_chains(&tuples);
        self.adopt_members(&networks)?;
        // The last agent may have died before it said so of its last change; and nothing is free before.
        for slot in 1..self.store.maps.networks.len() {
            self.store.bump_generation(slot);
        }
        self.reset_pools(&kept)?;
        self.release_unused_numbers();
        for id in self.switches.keys().copied().collect::<Vec<_>>() {
            let network = self.switches[&id].network;
            self.writer(network, id)?.publish()?;
        }
        self.store.reap()?;
        self.describe_adopted()
    }

    fn describe_adopted(&self) -> Result<Adopted> {
        let mut networks = Vec::new();
        for id in self.networks() {
            let instances = |switch: &SwitchId| {
                self.switches
                    .get(switch)
                    .is_some_and(|s| self.is_instance(s.slot))
            };
            networks.push(AdoptedNetwork {
                id,
                clock: self.clock(id)?,
                staged: self.staged(id)?,
                switches: self.switches(id)?.into_iter().filter(instances).collect(),
            });
        }
        Ok(Adopted { networks })
    }

    fn adopt_peers(&mut self) {
        for slot in PEER_SELF + 1..self.store.maps.peers.len() {
            let host = HostId(self.store.maps.peers.read(slot).host);
            if host.0 != 0 {
                let peer = Peer {
                    slot,
                    switched_at: None,
                };
                self.peers.entry(host).or_insert(peer);
            }
        }
        let own = self.store.maps.peers.read(PEER_SELF);
        self.own_source = source_of(&own.variants[(own.current & 1) as usize]);
    }

    /// Networks by slot.
    fn adopt_networks(&mut self) -> BTreeMap<u32, NetworkId> {
        let mut by_slot = BTreeMap::new();
        for slot in 1..self.store.maps.networks.len() {
            let entry = self.store.maps.networks.read(slot);
            let id = NetworkId(entry.id);
            if id.0 != 0 && !self.networks.contains_key(&id) {
                let mut network = Network::new(slot);
                network.refreshed = Epoch(entry.clock);
                self.networks.insert(id, network);
                by_slot.insert(slot, id);
            }
        }
        by_slot
    }

    fn adopt_switches(&mut self, networks: &BTreeMap<u32, NetworkId>) {
        let state_at = offset_of!(SwitchEntry, state);
        for slot in 1..self.store.maps.switches.len() {
            let entry = self.store.maps.switches.read(slot);
            let id = SwitchId(entry.id);
            let network = networks.get(&entry.network).copied();
            let known = id.0 != 0 && !self.switches.contains_key(&id);
            let Some(network) = network.filter(|_| known) else {
                if entry.state != SWITCH_NONE {
                    self.store
                        .maps
                        .switches
                        .publish(slot, state_at, SWITCH_NONE);
                }
                continue;
            };
            if entry.flags & SWITCH_LOADING != 0 {
                // Half a snapshot: the coordinator is told that there is no instance, and sends another.
                let state = match entry.relay_peer {
                    0 => SWITCH_NONE,
                    _ => SWITCH_RELAY,
                };
                let switches = &self.store.maps.switches;
                switches.publish(slot, state_at, state);
                let flags_at = offset_of!(SwitchEntry, flags);
                switches.publish(slot, flags_at, entry.flags & !SWITCH_LOADING);
            }
            // What the agent before read and had not given back yet.
            let budget_at = offset_of!(SwitchEntry, event_budget);
            let switches = &self.store.maps.switches;
            switches.publish(slot, budget_at, entry.event_burst);
            self.switches.insert(id, Switch::new(network, slot));
            if let Some(network) = self.networks.get_mut(&network) {
                network.switches.insert(id);
            }
        }
    }

    /// The switch in a slot, if it is one that was adopted.
    fn switch_at(&self, slot: u32) -> Option<SwitchId> {
        if slot == 0 || slot >= self.store.maps.switches.len() {
            return None;
        }
        let id = SwitchId(self.store.maps.switches.read(slot).id);
        let switch = self.switches.get(&id)?;
        (switch.slot == slot).then_some(id)
    }

    fn adopt_ports(&mut self, networks: &BTreeMap<u32, NetworkId>) -> Result<()> {
        let mut by_switch: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for slot in 1..self.store.port_stride {
            let entry = self.store.maps.ports.read(slot);
            if entry.port_no == 0 {
                continue;
            }
            let number = (entry.switch_slot, entry.port_no);
            let switch = self.switch_at(entry.switch_slot);
            let network = networks.get(&entry.network).copied();
            let belongs = switch.zip(network).filter(|(switch, network)| {
                self.switches
                    .get(switch)
                    .is_some_and(|s| s.network == *network)
            });
            let Some((switch, network)) = belongs else {
                let kind_at = offset_of!(PortEntry, kind);
                self.store.maps.ports.publish(slot, kind_at, PORT_NONE);
                continue;
            };
            if self.numbers.slots.contains_key(&number) {
                continue;
            }
            self.numbers.slots.insert(number, slot);
            let Some(state) = self.networks.get_mut(&network).filter(|_| entry.id != 0) else {
                continue;
            };
            state.ports.insert(PortId(entry.id), slot);
            by_switch.entry(entry.switch_slot).or_default().insert(slot);
            if let Some(switch) = self.switches.get_mut(&switch) {
                switch.port_count += 1;
            }
        }
        for switch_slot in 1..self.store.maps.switches.len() {
            let ports = by_switch.remove(&switch_slot).unwrap_or_default();
            self.adopt_port_list(switch_slot, &ports);
        }
        self.adopt_devices();
        self.adopt_tunnel_ports(networks)
    }

    /// Makes a switch's list hold exactly these ports; one that does already is left alone.
    fn adopt_port_list(&mut self, switch_slot: u32, ports: &BTreeSet<u32>) {
        let first_at = offset_of!(SwitchEntry, first_port);
        let mut listed = BTreeSet::new();
        let mut slot = self.store.maps.switches.get(switch_slot, first_at);
        while slot != 0 && ports.contains(&slot) && listed.insert(slot) {
            slot = self.store.maps.ports.get(slot, offset_of!(PortEntry, next));
        }
        if slot == 0 && listed == *ports {
            return;
        }
        self.store.maps.switches.publish(switch_slot, first_at, 0);
        for &port in ports {
            self.push_port(switch_slot, port);
        }
    }

    fn adopt_devices(&mut self) {
        let mut wanted = BTreeMap::new();
        for network in self.networks.values() {
            for &slot in network.ports.values() {
                let entry = self.store.maps.ports.read(slot);
                if entry.kind == PORT_LOCAL {
                    wanted.insert(entry.ifindex, slot);
                }
            }
        }
        for ifindex in 1..self.store.maps.devices.len() {
            let here = self.store.maps.devices.read(ifindex);
            let slot = wanted.get(&ifindex).copied().unwrap_or(0);
            if here != slot && here != DEVICE_UNDERLAY {
                self.store.maps.devices.publish(ifindex, 0, slot);
            }
        }
    }

    fn adopt_tunnel_ports(&mut self, networks: &BTreeMap<u32, NetworkId>) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for (&network_slot, id) in networks {
            for (&port, &slot) in &self.networks[id].ports {
                wanted.insert((network_slot, port.0), slot);
            }
        }
        let table = &mut self.store.maps.tunnel_ports;
        for (key, slot) in table.entries()? {
            match wanted.get(&(key.network, key.port)) {
                Some(&right) if right == slot => {
                    wanted.remove(&(key.network, key.port));
                }
                Some(_) => {}
                None => table.remove(&key)?,
            }
        }
        for ((network, port), slot) in wanted {
            table.insert(TunnelPortKey { network, port }, slot)?;
        }
        Ok(())
    }

    fn adopt_members(&mut self, networks: &BTreeMap<u32, NetworkId>) -> Result<()> {
        let table = &mut self.store.maps.tunnel_peers;
        for (key, slot) in table.entries()? {
            let network = networks.get(&slot);
            let vni_at = offset_of!(NetworkEntry, vni);
            match network {
                Some(id) if self.store.maps.networks.get(slot, vni_at) == key.vni => {
                    if Some(key.source) != self.own_source
                        && let Some(network) = self.networks.get_mut(id)
                    {
                        network.sources.insert(key.source);
                    }
                }
                _ => table.remove(&key)?,
            }
        }
        Ok(())
    }

    /// Reads the published runs. Words of switches that are not (completely) there are emptied.
    fn adopt_tables(&mut self) -> TupleIndex {
        let mut index = TupleIndex::new();
        let len = self.store.maps.tuples.len();
        for switch_slot in 0..self.store.maps.switches.len() {
            let switch = self
                .switch_at(switch_slot)
                .filter(|_| self.is_instance(switch_slot));
            for table in 0..MAX_TABLES as usize {
                let word = self
                    .store
                    .maps
                    .tables
                    .u64_at(Switch::table_word(switch_slot, table), 0);
                let run = TableRef::from_word(word.load(Ordering::Acquire));
                if run.count == 0 {
                    continue;
                }
                let sound = run.start != 0
                    && run.count <= MAX_TUPLES
                    && run
                        .start
                        .checked_add(run.count)
                        .is_some_and(|end| end <= len);
                let state = switch.and_then(|id| self.switches.get_mut(&id));
                let (Some(id), Some(state), true) = (switch, state, sound) else {
                    word.store(0, Ordering::Release);
                    continue;
                };
                let table_state = &mut state.tables[table];
                table_state.run = run;
                table_state.dirty = true;
                for i in run.start..run.start + run.count {
                    let entry = self.store.maps.tuples.read(i);
                    table_state.published.push((entry.max_priority, entry.id));
                    if entry.id != 0 && entry.id < len && !index.contains_key(&entry.id) {
                        let mask = entry.mask.expand();
                        let compact = CompactMask::new(&mask);
                        index.insert(entry.id, (id, table as u8, compact));
                        table_state.tuples.push(Tuple {
                            id: entry.id,
                            mask,
                            compact,
                            priorities: BTreeMap::new(),
                        });
                    }
                }
            }
        }
        index
    }

    /// Walks all chains, unlinks what is not to stay, and gives which slots hold rules.
    fn adopt_chains(&mut self, tuples: &TupleIndex) -> Vec<bool> {
        let next_at = offset_of!(RuleEntry, next);
        let mut kept = vec![false; self.store.rule_stride as usize];
        let mut seen = vec![false; self.store.rule_stride as usize];
        for bucket in 0..self.store.maps.buckets.len() {
            let mut before = 0;
            let mut slot = self.store.maps.buckets.get(bucket, 0);
            while slot != 0 {
                let broken = slot >= self.store.rule_stride || seen[slot as usize];
                let next = if broken {
                    0
                } else {
                    self.store.maps.rules.get(slot, next_at)
                };
                if !broken {
                    seen[slot as usize] = true;
                }
                if !broken && self.adopt_rule(bucket, slot, tuples) {
                    kept[slot as usize] = true;
                    before = slot;
                } else {
                    match before {
                        0 => self.store.maps.buckets.publish(bucket, 0, next),
                        before => self.store.maps.rules.publish(before, next_at, next),
                    }
                }
                slot = next;
            }
        }
        for network in self.networks.values_mut() {
            let base = network.refreshed.0.wrapping_sub(u32::MAX / 2);
            let ended = network.ended.make_contiguous();
            ended.sort_by_key(|(to, _)| to.0.wrapping_sub(base));
        }
        kept
    }

    /// Takes a linked rule into the indices, if it is complete and of a staged epoch.
    fn adopt_rule(&mut self, bucket: u32, slot: u32, tuples: &TupleIndex) -> bool {
        let entry = self.store.maps.rules.read(slot);
        let id = RuleId(entry.rule_id);
        let Some(&(switch_id, table, mask)) = tuples.get(&entry.tuple) else {
            return false;
        };
        let Some(switch) = self.switches.get_mut(&switch_id) else {
            return false;
        };
        let Some(network) = self.networks.get_mut(&switch.network) else {
            return false;
        };
        let staged_at = offset_of!(NetworkEntry, staged);
        let staged = Epoch(self.store.maps.networks.get(network.slot, staged_at));
        let whole = entry.live == RULE_LIVE
            && id.0 != 0
            && network.rules.get(id).is_none()
            && (entry.switch_slot, entry.table) == (switch.slot, table)
            && entry.hash == hash_key(entry.tuple, &mask, &entry.key)
            && entry.hash & self.store.bucket_mask == bucket
            && entry.apply_count <= entry.action_count
            && entry.action_count as usize <= entry.actions.len();
        let from = Epoch(entry.valid_from);
        if !whole || !from.le(staged) {
            return false;
        }
        let outputs: Vec<u32> = entry.actions[..entry.action_count as usize]
            .iter()
            .filter_map(switch_abi::Action::port_slot)
            .collect();
        let known = |&port: &u32| {
            port < self.store.port_stride && {
                let to = self.store.maps.ports.read(port);
                let number = (to.switch_slot, to.port_no);
                to.switch_slot == switch.slot && self.numbers.slots.get(&number) == Some(&port)
            }
        };
        if !outputs.iter().all(known) {
            tracing::warn!(rule = %id, switch = %switch_id, "dropped: it names a port slot that is not in use");
            return false;
        }
        let to = Epoch(entry.valid_to);
        if to != Epoch::ZERO && !to.le(staged) {
            let to_at = offset_of!(RuleEntry, valid_to);
            self.store.maps.rules.publish(slot, to_at, 0);
        } else if to != Epoch::ZERO {
            network.ended.push_back((to, slot));
        }
        let tuples = &mut switch.tables[table as usize].tuples;
        if let Some(tuple) = tuples.iter_mut().find(|t| t.id == entry.tuple) {
            *tuple.priorities.entry(entry.priority).or_default() += 1;
        }
        for port in outputs {
            self.numbers.references[port as usize] += 1;
        }
        network.refreshed = network.refreshed.min(from);
        network.rules.insert(id, slot)
    }

    /// Pools of what the indices do not name, once nobody can be at it any more.
    fn reset_pools(&mut self, kept: &[bool]) -> Result<()> {
        self.store.wait()?;
        let used = |slots: Vec<u32>| slots.into_iter().collect::<BTreeSet<u32>>();
        let networks = used(self.networks.values().map(|n| n.slot).collect());
        let switches = used(self.switches.values().map(|s| s.slot).collect());
        let peers = used(self.peers.values().map(|p| p.slot).collect());
        let ports = used(self.numbers.slots.values().copied().collect());
        let tables = || self.switches.values().flat_map(|s| &s.tables);
        let tuple_ids = used(
            tables()
                .flat_map(|t| t.tuples.iter().map(|t| t.id))
                .collect(),
        );
        let runs: Vec<_> = tables().map(|t| (t.run.start, t.run.count)).collect();

        let maps = &self.store.maps;
        for slot in (1..maps.networks.len()).filter(|slot| !networks.contains(slot)) {
            let generation = maps.networks.read(slot).generation;
            maps.networks.write(
                slot,
                &NetworkEntry {
                    generation,
                    ..NetworkEntry::default()
                },
            );
        }
        for slot in (1..maps.switches.len()).filter(|slot| !switches.contains(slot)) {
            maps.switches.write(slot, &SwitchEntry::default());
        }
        for slot in (1..maps.ports.len()).filter(|slot| !ports.contains(slot)) {
            maps.ports.write(slot, &PortEntry::default());
        }
        let live_at = offset_of!(RuleEntry, live);
        for slot in (1..maps.rules.len()).filter(|&slot| !kept[slot as usize]) {
            if maps.rules.get(slot, live_at) != 0 {
                free_rule(maps, self.store.cpus, self.store.rule_stride, slot);
            }
        }
        let pools = &mut self.store.pools;
        pools.networks = SlotPool::adopt(1, maps.networks.len(), |s| networks.contains(&s));
        pools.switches = SlotPool::adopt(1, maps.switches.len(), |s| switches.contains(&s));
        pools.ports = SlotPool::adopt(1, maps.ports.len(), |s| ports.contains(&s));
        pools.peers = SlotPool::adopt(2, maps.peers.len(), |s| peers.contains(&s));
        pools.rules = SlotPool::adopt(1, maps.rules.len(), |s| kept[s as usize]);
        pools.tuple_ids = SlotPool::adopt(1, maps.tuples.len(), |s| tuple_ids.contains(&s));
        pools.runs = RunPool::adopt(maps.tuples.len(), runs);
        Ok(())
    }

    fn release_unused_numbers(&mut self) {
        for slot in self.numbers.slots.values().copied().collect::<Vec<_>>() {
            release_port_if_unused(&mut self.store, &mut self.numbers, slot);
        }
    }
}

/// The outer source address of a header template.
fn source_of(header: &PeerHeader) -> Option<[u8; 16]> {
    let mut source = [0; 16];
    match header.len as usize {
        OUTER_IPV4_LEN => source[..4].copy_from_slice(&header.bytes[26..30]),
        OUTER_IPV6_LEN => source.copy_from_slice(&header.bytes[22..38]),
        _ => return None,
    }
    Some(source)
}
