//! Writing rules by the batch: what the rules of one have in common is worked out once, and where they go is fetched ahead.
//!
//! Where a rule goes is looked up in memory that no cache holds. So rules are made ready a few at a time, and what one of them needs is
//! fetched while others are worked on. Entries are stored past the caches: all of a few rules, and when these are complete, they are linked.

use std::mem::offset_of;

use lime_core::flow::Rule;
use lime_core::{Epoch, RuleId};
use switch_abi::{GROUP_TABLE, KEY_WORDS, NO_TABLE, RULE_LIVE, RULE_TELLS, RuleEntry, hash_key};

use super::chains::{Place, position};
use super::classifier::{Writer, no_space_for_rules};
use super::common::{ACTIONS_LINE, ActionLists, Shapes};
use super::compile::place_values;
use super::mapped::{Line, complete_lines, prefetch};
use super::parts::key_of;
use super::state::free_rule;
use super::{DatapathError, Result};

/// Rules that are made ready before the first of them is linked.
const AT_ONCE: usize = 32;

/// The cache line that the key begins with.
const KEY_LINE: usize = offset_of!(RuleEntry, key) / size_of::<Line>();

/// A rule that is to be written, visible from one epoch to another.
pub(crate) type NewRule<'r> = (RuleId, &'r Rule, Epoch, Option<Epoch>);

/// What is known of a batch while it is written.
#[derive(Default)]
struct Batch<'r> {
    shapes: Shapes<'r>,
    lists: ActionLists<'r>,
    ready: Vec<Prepared<'r>>,
    /// Rules that are linked.
    linked: usize,
}

/// A rule that is ready to be written and linked.
struct Prepared<'r> {
    new: NewRule<'r>,
    hash: u32,
    /// Index of what it has in common with others of its mask.
    shape: u32,
    /// Index of its actions.
    list: u32,
    /// Where its entry is; 0: nowhere yet.
    slot: u32,
    key: [u64; KEY_WORDS],
}

impl Writer<'_> {
    /// Writes and links rules: all of them or, after an error, none. Their tables must be published before they can be found.
    pub(crate) fn add_all<'r>(
        &mut self,
        rules: impl Iterator<Item = NewRule<'r>> + Clone,
    ) -> Result<()> {
        let mut batch = Batch::default();
        let mut rest = rules.clone();
        let mut group = Vec::with_capacity(AT_ONCE);
        let mut following = Vec::with_capacity(AT_ONCE);
        loop {
            std::mem::swap(&mut group, &mut following);
            following.clear();
            following.extend(rest.by_ref().take(AT_ONCE));
            prefetch_rules(&following);
            if group.is_empty() && following.is_empty() {
                self.count(&mut batch.shapes);
                return Ok(());
            }
            if let Err(e) = self.add_group(&mut batch, &group) {
                self.count(&mut batch.shapes);
                batch.lists.ports().for_each(|port| self.release_port(port));
                for (id, ..) in rules.take(batch.linked) {
                    self.remove(id);
                }
                return Err(e);
            }
        }
    }

    fn add_group<'r>(&mut self, batch: &mut Batch<'r>, group: &[NewRule<'r>]) -> Result<()> {
        if batch.shapes.are_many() {
            self.count(&mut batch.shapes);
            batch.shapes = Shapes::default();
        }
        if batch.lists.are_many() {
            batch.lists = ActionLists::default();
        }
        batch.ready.clear();
        for &new in group {
            self.prepare(batch, new)?;
        }
        let maps = &self.store.maps;
        for prepared in &batch.ready {
            let bucket = prepared.hash & self.store.bucket_mask;
            maps.rules.prefetch(maps.buckets.get(bucket, 0));
        }
        let linked = batch.linked;
        let done = self.write_and_link(batch);
        if done.is_err() {
            complete_lines();
            for prepared in &batch.ready[batch.linked - linked..] {
                self.give_back(prepared);
            }
        }
        done
    }

    fn write_and_link(&mut self, batch: &mut Batch<'_>) -> Result<()> {
        for i in 0..batch.ready.len() {
            self.write(batch, i)?;
        }
        complete_lines();
        for i in 0..batch.ready.len() {
            self.link(batch, i)?;
            batch.linked += 1;
        }
        Ok(())
    }

    /// Of a rule that is on no chain: no program can have seen it.
    fn give_back(&mut self, prepared: &Prepared<'_>) {
        if prepared.slot != 0 {
            let store = &mut self.store;
            self.network.rules.remove(prepared.new.0);
            free_rule(&store.maps, store.cpus, store.rule_stride, prepared.slot);
            store.pools.rules.give(prepared.slot);
        }
    }

    /// Everything about a rule that does not depend on others.
    fn prepare<'r>(&mut self, batch: &mut Batch<'r>, new: NewRule<'r>) -> Result<()> {
        let (id, rule, ..) = new;
        check(id, rule)?;
        let list = match batch.lists.find(rule) {
            Some(list) => list,
            None => batch.lists.add(rule, self.compile_actions(id, rule)?),
        };
        let (shape, key) = match batch.shapes.find(rule) {
            Some(shape) => (shape, place_values(&rule.matching)),
            None => {
                let (key, mask) = key_of(rule);
                (self.shape(&mut batch.shapes, rule, &mask)?, key)
            }
        };
        let common = batch.shapes.get(shape);
        let key = common.compact.compact(&key);
        let hash = hash_key(common.id, &common.compact, &key);
        self.store
            .maps
            .buckets
            .prefetch(hash & self.store.bucket_mask);
        batch.ready.push(Prepared {
            new,
            hash,
            shape,
            list,
            slot: 0,
            key,
        });
        Ok(())
    }

    /// Writes a rule's entry, which is complete after [`complete_lines`].
    fn write(&mut self, batch: &mut Batch<'_>, index: usize) -> Result<()> {
        let prepared = &mut batch.ready[index];
        let (id, rule, from, to) = prepared.new;
        let shape = batch.shapes.get(prepared.shape);
        let list = batch.lists.get(prepared.list);
        let limit = self.store.rule_stride - 1;
        let slot = self.store.take(
            |pools| &mut pools.rules,
            || no_space_for_rules("rules", limit),
        )?;
        let slot = slot.index;
        if !self.network.rules.insert(id, slot) {
            self.store.pools.rules.give(slot);
            return Err(DatapathError::invalid(
                format!("rule {id}"),
                "it is already there; a changed rule has another id",
            ));
        }
        prepared.slot = slot;
        let entry = RuleEntry {
            hash: prepared.hash,
            tuple: shape.id,
            valid_from: from.0,
            valid_to: to.map_or(0, |to| to.0),
            priority: rule.priority,
            table: shape.table,
            action_count: list.compiled.count,
            goto_table: rule.goto_table.unwrap_or(NO_TABLE),
            flags: list.compiled.flags,
            apply_count: list.compiled.apply,
            switch_slot: self.switch.slot,
            rule_id: id.0,
            cookie: rule.cookie,
            live: RULE_LIVE,
            idle_timeout: rule.idle_timeout.into(),
            meter: rule.meter.unwrap_or(0),
            ..RuleEntry::default()
        };
        if shape.table == GROUP_TABLE && list.compiled.flags & RULE_TELLS != 0 {
            self.group_tells();
        }
        let rules = &self.store.maps.rules;
        // Nobody looks at words of the key that its mask does not use, and at actions behind the last.
        let (key, _) = prepared.key.as_chunks();
        let (head, _) = entry.words().as_chunks();
        rules.write_lines(slot, 0, &head[..KEY_LINE]);
        let key_lines =
            (shape.compact.count as usize).div_ceil(size_of::<Line>() / size_of::<u64>());
        rules.write_lines(slot, KEY_LINE, &key[..key_lines]);
        rules.write_lines(slot, ACTIONS_LINE, &list.lines);
        Ok(())
    }

    /// Links a rule into its chain.
    fn link(&mut self, batch: &mut Batch<'_>, index: usize) -> Result<()> {
        let prepared = &batch.ready[index];
        let (slot, priority) = (prepared.slot, prepared.new.1.priority);
        let shape = batch.shapes.get_mut(prepared.shape);
        let bucket = prepared.hash & self.store.bucket_mask;
        let position = position(
            self.store,
            bucket,
            &Place {
                hash: prepared.hash,
                tuple: shape.id,
                key: &prepared.key[..shape.compact.count as usize],
                priority,
            },
        )?;
        let maps = &self.store.maps;
        let next_at = offset_of!(RuleEntry, next);
        if position.next != 0 {
            maps.rules.publish(slot, next_at, position.next);
        }
        match position.after {
            0 => maps.buckets.publish(bucket, 0, slot),
            after => maps.rules.publish(after, next_at, slot),
        }
        for &port in &batch.lists.get(prepared.list).ports {
            self.numbers.references[port as usize] += 1;
        }
        shape.count(priority);
        Ok(())
    }
}

/// Has the processor fetch what rules consist of.
fn prefetch_rules(rules: &[NewRule<'_>]) {
    for (_, rule, ..) in rules {
        for fields in rule.matching.fields().chunks(2) {
            prefetch(fields.as_ptr());
        }
        prefetch(rule.actions.as_ptr());
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
