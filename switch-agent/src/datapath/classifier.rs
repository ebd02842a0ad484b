//! Writing rules: tuples, the runs that tables point to, and ports by their numbers. How a batch of rules is written is in `batch`.
//!
//! A rule is complete before it is linked, and linked before its epoch can be reached, so a packet never sees half of one. Chains
//! are linked by single words; runs are never changed, a changed table gets a new one.

use std::mem::offset_of;

use lime_core::flow::Rule;
use lime_core::{PortNo, RuleId};
use switch_abi::{
    CompactMask, FlowKey, HashSteps, MAX_TUPLES, PORT_NONE, PortEntry, RuleEntry,
    SWITCH_GROUP_TELLS, SwitchEntry, TableRef, TupleEntry,
};

use super::chains::unlink;
use super::common::Shapes;
use super::compile::Compiled;
use super::index::IdMap;
use super::parts::{actions_of, ports_of, table_of};
use super::state::{Network, Store, Switch, Table, Tuple};
use super::{DatapathError, Result};

/// Ports by switch slot and port number, and how many rule actions name which port slot.
#[derive(Default)]
pub(crate) struct PortNumbers {
    pub(crate) slots: IdMap<(u32, u32), u32>,
    pub(crate) references: Vec<u32>,
}

/// Writes the rules of one switch.
pub(crate) struct Writer<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) numbers: &'a mut PortNumbers,
    pub(crate) network: &'a mut Network,
    pub(crate) switch: &'a mut Switch,
}

impl Writer<'_> {
    /// Compiles a rule's actions; ports that it names and that are not there get slots.
    pub(super) fn compile_actions(&mut self, id: RuleId, rule: &Rule) -> Result<Compiled> {
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

    /// Gives back slots of ports that only a rule that is not to be written names.
    fn release_outputs(&mut self, rule: &Rule) {
        for port in ports_of(rule) {
            if let Some(&slot) = self.numbers.slots.get(&(self.switch.slot, port.0)) {
                self.release_port(slot);
            }
        }
    }

    pub(super) fn release_port(&mut self, slot: u32) {
        release_port_if_unused(self.store, self.numbers, slot);
    }

    /// Marks the switch: a group's bucket may tell the controller.
    pub(super) fn group_tells(&self) {
        let at = offset_of!(SwitchEntry, flags);
        let switches = &self.store.maps.switches;
        let flags = switches.get(self.switch.slot, at) | SWITCH_GROUP_TELLS;
        switches.publish(self.switch.slot, at, flags);
    }

    /// Index of what the rules of this mask have in common, in the table of `rule`; a tuple is made if need be.
    pub(super) fn shape<'r>(
        &mut self,
        shapes: &mut Shapes<'r>,
        rule: &'r Rule,
        mask: &FlowKey,
    ) -> Result<u32> {
        let table = table_of(rule);
        let index = match self.find_tuple(table, mask) {
            Some(index) => index,
            None => self.new_tuple(shapes, table, mask)?,
        };
        let tuple = &self.switch.tables[table as usize].tuples[index];
        Ok(shapes.add(rule, table, index, tuple))
    }

    fn find_tuple(&self, table: u8, mask: &FlowKey) -> Option<usize> {
        let tuples = &self.switch.tables[table as usize].tuples;
        tuples.iter().position(|t| t.mask.words() == mask.words())
    }

    fn new_tuple(&mut self, shapes: &Shapes<'_>, table: u8, mask: &FlowKey) -> Result<usize> {
        let tuples = &self.switch.tables[table as usize].tuples;
        let taken = |(index, tuple): &(usize, &Tuple)| {
            let mut shapes = shapes.iter().filter(|s| s.table == table);
            !tuple.priorities.is_empty() || shapes.any(|s| s.tuple == *index)
        };
        if tuples.iter().enumerate().filter(taken).count() >= MAX_TUPLES as usize {
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

    /// Counts rules that have been linked.
    pub(super) fn count(&mut self, shapes: &mut Shapes<'_>) {
        for shape in shapes.iter_mut() {
            let table = &mut self.switch.tables[shape.table as usize];
            let tuple = &mut table.tuples[shape.tuple];
            for (priority, count) in shape.linked.drain(..) {
                table.dirty |= tuple.max_priority().is_none_or(|max| max < priority);
                *tuple.priorities.entry(priority).or_default() += count;
            }
        }
    }

    /// Unlinks a rule. Its slot is free after a grace period; its table is to be published again.
    pub(crate) fn remove(&mut self, id: RuleId) {
        let Some(slot) = self.network.rules.remove(id) else {
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
            .filter(|&(_, rule)| maps.rules.get(rule, at) == slot)
            .map(|(id, _)| id)
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

/// "There is no space" for something of which there is one pool per host.
pub(crate) fn no_space_for_rules(what: &str, limit: u32) -> DatapathError {
    DatapathError::no_space(
        what,
        u64::from(limit),
        "remove rules, or start the agent with larger limits",
    )
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
