//! Writing rules: bucket chains, tuples and the runs that tables point to.
//!
//! A rule is complete before it is linked, and linked before its epoch can be reached, so a packet never sees half of one. Chains
//! are linked by single words; runs are never changed, a changed table gets a new one.

use std::mem::offset_of;

use lime_core::flow::Rule;
use lime_core::{Epoch, PortNo, RuleId};
use switch_abi::{
    CompactMask, FlowKey, GROUP_TABLE, HashSteps, MAX_METER_BANDS, MAX_TUPLES, NO_TABLE, PORT_NONE,
    PortEntry, RULE_LIVE, RuleCounters, RuleEntry, TableRef, TupleEntry, hash_key,
};

use super::chains::{position, unlink};
use super::compile::Compiled;
use super::index::IdMap;
use super::mapped::prefetch;
use super::parts::{actions_of, key_of, ports_of, table_of};
use super::state::{Network, Store, Switch, Table, Tuple};
use super::{DatapathError, Result};

/// Ports by switch slot and port number, and how many rule actions name which port slot.
#[derive(Default)]
pub(crate) struct PortNumbers {
    pub(crate) slots: IdMap<(u32, u32), u32>,
    pub(crate) references: Vec<u32>,
}

/// A rule that is ready to be linked: all of its entry but the slot and what follows it in its chain.
struct Prepared {
    entry: RuleEntry,
    /// Index of its tuple in its table.
    tuple: usize,
}

/// Writes the rules of one switch.
pub(crate) struct Writer<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) numbers: &'a mut PortNumbers,
    pub(crate) network: &'a mut Network,
    pub(crate) switch: &'a mut Switch,
}

impl Writer<'_> {
    /// Writes and links rules: all of them or, after an error, none. Their tables must be published before they can be found.
    ///
    /// Where a rule goes is looked up in memory that no cache holds. So rules are made ready a few at a time, and what one of them needs is
    /// fetched while others are worked on.
    pub(crate) fn add_all<'r>(
        &mut self,
        mut rules: impl Iterator<Item = (RuleId, &'r Rule, Epoch, Option<Epoch>)>,
    ) -> Result<Vec<RuleId>> {
        const AT_ONCE: usize = 32;
        let mut added = Vec::with_capacity(rules.size_hint().0);
        let mut group = Vec::with_capacity(AT_ONCE);
        let mut ready = Vec::with_capacity(AT_ONCE);
        loop {
            group.clear();
            group.extend(rules.by_ref().take(AT_ONCE));
            if group.is_empty() {
                return Ok(added);
            }
            for (_, rule, _, _) in &group {
                prefetch(rule.matching.fields().as_ptr());
                prefetch(rule.actions.as_ptr());
            }
            ready.clear();
            let mut result = group.iter().try_for_each(|&(id, rule, from, to)| {
                ready.push(self.prepare(id, rule, from, to)?);
                Ok(())
            });
            self.prefetch_chains(&ready);
            let mut linked = 0;
            if result.is_ok() {
                result = ready.iter().try_for_each(|prepared| {
                    self.link(prepared)?;
                    linked += 1;
                    Ok(())
                });
            }
            added.extend(ready[..linked].iter().map(|p| RuleId(p.entry.rule_id)));
            if let Err(e) = result {
                for prepared in &ready[linked..] {
                    self.release_unused_ports(&prepared.entry);
                }
                for id in added {
                    self.remove(id);
                }
                return Err(e);
            }
        }
    }

    /// Everything about a rule that does not depend on others.
    fn prepare(
        &mut self,
        id: RuleId,
        rule: &Rule,
        from: Epoch,
        to: Option<Epoch>,
    ) -> Result<Prepared> {
        check(id, rule)?;
        let (key, mask) = key_of(rule);
        let compiled = self.compile_actions(id, rule)?;
        let table = table_of(rule);
        let tuple = match self.tuple(table, &mask) {
            Ok(tuple) => tuple,
            Err(e) => {
                self.release_outputs(rule);
                return Err(e);
            }
        };
        let state = &self.switch.tables[table as usize].tuples[tuple];
        let key = state.compact.compact(&key);
        let hash = hash_key(state.id, &state.compact, &key);
        let buckets = &self.store.maps.buckets;
        buckets.prefetch(hash & self.store.bucket_mask);
        let entry = RuleEntry {
            hash,
            tuple: state.id,
            next: 0,
            valid_from: from.0,
            valid_to: to.map_or(0, |to| to.0),
            priority: rule.priority,
            table,
            action_count: compiled.count,
            goto_table: rule.goto_table.unwrap_or(NO_TABLE),
            flags: compiled.flags,
            pad0: 0,
            apply_count: compiled.apply,
            switch_slot: self.switch.slot,
            rule_id: id.0,
            cookie: rule.cookie,
            live: RULE_LIVE,
            idle_timeout: rule.idle_timeout.into(),
            meter: rule.meter.unwrap_or(0),
            pad: 0,
            key,
            metadata: compiled.metadata,
            metadata_mask: compiled.metadata_mask,
            times: [0; MAX_METER_BANDS],
            actions: compiled.actions,
        };
        Ok(Prepared { entry, tuple })
    }

    /// Has the processor fetch the first rules of the chains that rules go into.
    fn prefetch_chains(&self, ready: &[Prepared]) {
        let maps = &self.store.maps;
        for prepared in ready {
            let bucket = prepared.entry.hash & self.store.bucket_mask;
            maps.rules.prefetch(maps.buckets.get(bucket, 0));
        }
    }

    fn compile_actions(&mut self, id: RuleId, rule: &Rule) -> Result<Compiled> {
        let compiled = actions_of(rule, |port| self.port_slot(port));
        compiled.map_err(|e| {
            self.release_outputs(rule);
            match e {
                DatapathError::Invalid { what, why } => {
                    DatapathError::invalid(format!("rule {id}: {what}"), why)
                }
                DatapathError::Unsupported { what, why } => {
                    DatapathError::unsupported(format!("rule {id}: {what}"), why)
                }
                e => e,
            }
        })
    }

    /// The slot of a port number; reserved where there is no such port yet.
    fn port_slot(&mut self, port: PortNo) -> Result<u32> {
        if let Some(&slot) = self.numbers.slots.get(&(self.switch.slot, port.0)) {
            return Ok(slot);
        }
        let slot = take_port(self.store)?;
        let entry = PortEntry {
            network: self.network.slot,
            switch_slot: self.switch.slot,
            port_no: port.0,
            kind: PORT_NONE,
            ..PortEntry::default()
        };
        self.store.maps.ports.write(slot, &entry);
        self.numbers.slots.insert((self.switch.slot, port.0), slot);
        Ok(slot)
    }

    fn release_unused_ports(&mut self, entry: &RuleEntry) {
        for slot in outputs(entry) {
            self.release_port(slot);
        }
    }

    /// The same for a rule that was not compiled to its end.
    fn release_outputs(&mut self, rule: &Rule) {
        for port in ports_of(rule) {
            if let Some(&slot) = self.numbers.slots.get(&(self.switch.slot, port.0)) {
                self.release_port(slot);
            }
        }
    }

    fn release_port(&mut self, slot: u32) {
        release_port_if_unused(self.store, self.numbers, slot);
    }

    /// Writes a rule and links it into its chain.
    fn link(&mut self, prepared: &Prepared) -> Result<()> {
        let Prepared { entry, tuple } = prepared;
        let id = RuleId(entry.rule_id);
        let bucket = entry.hash & self.store.bucket_mask;
        // Taking a slot may free others, but changes no chain.
        let position = position(self.store, bucket, entry)?;
        let limit = self.store.rule_stride - 1;
        let slot = self.store.take(
            |pools| &mut pools.rules,
            || no_space_for_rules("rules", limit),
        )?;
        if let Some(there) = self.network.rules.insert(id, slot.index) {
            self.network.rules.insert(id, there);
            // It was on no chain: no program can have seen it.
            self.store.pools.rules.give(slot.index);
            return Err(DatapathError::invalid(
                format!("rule {id}"),
                "it is already there; a changed rule has another id",
            ));
        }
        if !slot.fresh {
            zero_rule_counters(self.store, slot.index);
        }
        let slot = slot.index;
        let maps = &self.store.maps;
        // Nobody looks at actions beyond the last.
        let unused = size_of::<switch_abi::Action>()
            * (switch_abi::MAX_ACTIONS - entry.action_count as usize);
        maps.rules
            .write_front(slot, entry, size_of::<RuleEntry>() - unused);
        let next_at = offset_of!(RuleEntry, next);
        maps.rules.publish(slot, next_at, position.next);
        match position.after {
            0 => maps.buckets.publish(bucket, 0, slot),
            after => maps.rules.publish(after, next_at, slot),
        }
        for slot in outputs(entry) {
            self.numbers.references[slot as usize] += 1;
        }
        let table = &mut self.switch.tables[entry.table as usize];
        let tuple = &mut table.tuples[*tuple];
        if tuple.max_priority().is_none_or(|max| max < entry.priority) {
            table.dirty = true;
        }
        *tuple.priorities.entry(entry.priority).or_default() += 1;
        Ok(())
    }

    /// Index of the tuple with this mask, made if need be.
    fn tuple(&mut self, table: u8, mask: &FlowKey) -> Result<usize> {
        let state = &mut self.switch.tables[table as usize];
        // Rules of one mask tend to come together: the last tuple is tried first by searching from the end.
        if let Some(i) = state
            .tuples
            .iter()
            .rposition(|t| t.mask.words() == mask.words())
        {
            return Ok(i);
        }
        let in_use = state
            .tuples
            .iter()
            .filter(|t| !t.priorities.is_empty())
            .count();
        if in_use >= MAX_TUPLES as usize {
            return Err(DatapathError::no_space(
                format!("distinct masks in table {table}"),
                u64::from(MAX_TUPLES),
                "match the same set of fields in more rules, or use another table",
            ));
        }
        let limit = self.store.maps.tuples.len() - 1;
        let id = self
            .store
            .take(
                |pools| &mut pools.tuple_ids,
                || no_space_for_rules("masks of all tables", limit),
            )?
            .index;
        let state = &mut self.switch.tables[table as usize];
        state.tuples.push(Tuple {
            id,
            mask: *mask,
            compact: CompactMask::new(mask),
            priorities: Default::default(),
        });
        state.dirty = true;
        Ok(state.tuples.len() - 1)
    }

    /// Unlinks a rule. Its slot is free after a grace period; its table is to be published again.
    pub(crate) fn remove(&mut self, id: RuleId) {
        let Some(slot) = self.network.rules.remove(&id) else {
            return;
        };
        let entry = self.store.maps.rules.read(slot);
        unlink(self.store, slot, &entry);
        let table = &mut self.switch.tables[entry.table as usize];
        if let Some(tuple) = table.tuples.iter_mut().find(|t| t.id == entry.tuple) {
            let before = tuple.max_priority();
            if let Some(n) = tuple.priorities.get_mut(&entry.priority) {
                *n -= 1;
                if *n == 0 {
                    tuple.priorities.remove(&entry.priority);
                }
            }
            table.dirty |= before != tuple.max_priority();
        }
        for action in &entry.actions[..entry.action_count as usize] {
            if let Some(port) = action.port_slot() {
                let references = &mut self.numbers.references[port as usize];
                *references = references.saturating_sub(1);
                release_port_if_unused(self.store, self.numbers, port);
            }
        }
        self.store.limbo.rules.push(slot);
    }

    /// Publishes runs for all tables whose tuples have changed: all of them or, without space, none.
    pub(crate) fn publish(&mut self) -> Result<()> {
        let mut fresh = Vec::new();
        for index in 0..self.switch.tables.len() {
            let table = &self.switch.tables[index];
            if !table.dirty {
                continue;
            }
            let wanted = wanted_run(table);
            if wanted == table.published {
                continue;
            }
            let start = match wanted.len() as u32 {
                0 => Some(0),
                count => self.take_run(count)?,
            };
            let Some(start) = start else {
                for (_, run, _) in fresh {
                    give_run(self.store, run);
                }
                let limit = self.store.maps.tuples.len() - 1;
                return Err(no_space_for_rules("masks of all tables", limit));
            };
            let count = wanted.len() as u32;
            fresh.push((index, TableRef { start, count }, wanted));
        }
        for (index, run, wanted) in fresh {
            self.publish_table(index, run, wanted);
        }
        for table in &mut self.switch.tables {
            if table.dirty {
                table.dirty = false;
                let limbo = &mut self.store.limbo.tuple_ids;
                table.tuples.retain(|tuple| {
                    let used = !tuple.priorities.is_empty();
                    if !used {
                        limbo.push(tuple.id);
                    }
                    used
                });
            }
        }
        Ok(())
    }

    fn take_run(&mut self, count: u32) -> Result<Option<u32>> {
        if let Some(start) = self.store.pools.runs.take(count) {
            return Ok(Some(start));
        }
        self.store.reap()?;
        Ok(self.store.pools.runs.take(count))
    }

    fn publish_table(&mut self, index: usize, run: TableRef, wanted: Vec<(u32, u32)>) {
        let table = &mut self.switch.tables[index];
        let maps = &self.store.maps;
        let mut before = None;
        for (i, &(max_priority, id)) in wanted.iter().enumerate() {
            if let Some(tuple) = table.tuples.iter().find(|t| t.id == id) {
                let entry = TupleEntry {
                    max_priority,
                    id,
                    steps: HashSteps::new(before, &tuple.mask),
                    mask: tuple.compact,
                };
                maps.tuples.write(run.start + i as u32, &entry);
                before = Some(&tuple.mask);
            }
        }
        maps.tables
            .u64_at(Switch::table_word(self.switch.slot, index), 0)
            .store(run.to_word(), std::sync::atomic::Ordering::Release);
        let old = std::mem::replace(&mut table.run, run);
        table.published = wanted;
        if old.count != 0 {
            self.store.limbo.runs.push(old);
        }
    }

    /// Unlinks all rules of the switch and empties its tables.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let slot = self.switch.slot;
        let maps = &self.store.maps;
        let at = offset_of!(RuleEntry, switch_slot);
        let ids: Vec<RuleId> = self
            .network
            .rules
            .iter()
            .filter(|&(_, &rule)| maps.rules.get(rule, at) == slot)
            .map(|(&id, _)| id)
            .collect();
        for &id in &ids {
            self.remove(id);
        }
        let Writer { store, network, .. } = self;
        network
            .ended
            .retain(|&(_, rule)| store.maps.rules.get(rule, at) != slot);
        // Empty runs need no space.
        self.publish()
    }
}

fn check(id: RuleId, rule: &Rule) -> Result<()> {
    let invalid = |why: String| Err(DatapathError::invalid(format!("rule {id}"), why));
    if id.0 == 0 {
        return invalid("rule ids start at 1".into());
    }
    let last = GROUP_TABLE - 1;
    if rule.table > last {
        return invalid(format!("tables are 0 to {last}, not {}", rule.table));
    }
    match rule.goto_table {
        Some(to) if to > last || to <= rule.table => {
            invalid(format!("it goes on at table {to}, which is no later table"))
        }
        _ => Ok(()),
    }
}

/// The tuples of a table in the order in which they are searched: (highest priority, id).
fn wanted_run(table: &Table) -> Vec<(u32, u32)> {
    let mut run: Vec<(u32, u32)> = table
        .tuples
        .iter()
        .filter_map(|t| t.max_priority().map(|p| (u32::from(p), t.id)))
        .collect();
    run.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    run
}

fn give_run(store: &mut Store, run: TableRef) {
    if run.count != 0 {
        store.pools.runs.give(run.start, run.count);
    }
}

fn outputs(entry: &RuleEntry) -> impl Iterator<Item = u32> + '_ {
    entry.actions[..entry.action_count as usize]
        .iter()
        .filter_map(switch_abi::Action::port_slot)
}

/// "There is no space" for something of which there is one pool per host.
pub(crate) fn no_space_for_rules(what: &str, limit: u32) -> DatapathError {
    DatapathError::no_space(
        what,
        u64::from(limit),
        "remove rules, or start the agent with larger limits",
    )
}

fn zero_rule_counters(store: &Store, slot: u32) {
    for cpu in 0..store.cpus {
        store
            .maps
            .rule_counters
            .write(cpu * store.rule_stride + slot, &RuleCounters::default());
    }
}

/// A port slot with zero counters.
pub(crate) fn take_port(store: &mut Store) -> Result<u32> {
    let limit = store.port_stride - 1;
    let slot = store.take(
        |pools| &mut pools.ports,
        || {
            DatapathError::no_space(
                "ports",
                u64::from(limit),
                "remove ports, or start the agent with larger limits",
            )
        },
    )?;
    if !slot.fresh {
        for cpu in 0..store.cpus {
            let index = cpu * store.port_stride + slot.index;
            store
                .maps
                .port_counters
                .write(index, &switch_abi::PortCounters::default());
        }
    }
    Ok(slot.index)
}

/// Gives back a port slot that neither the coordinator nor a rule names any more.
pub(crate) fn release_port_if_unused(store: &mut Store, numbers: &mut PortNumbers, slot: u32) {
    if numbers.references[slot as usize] != 0 {
        return;
    }
    let entry = store.maps.ports.read(slot);
    let key = (entry.switch_slot, entry.port_no);
    if entry.id == 0 && numbers.slots.get(&key) == Some(&slot) {
        numbers.slots.remove(&key);
        // Until the slot is wiped after a grace period, a re-adoption must not take it for the number's.
        let port_no_at = offset_of!(PortEntry, port_no);
        store.maps.ports.publish(slot, port_no_at, 0);
        store.limbo.ports.push(slot);
    }
}
