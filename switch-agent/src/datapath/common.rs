//! What rules of a batch have in common: most are of few masks, and do one of few things with their packets.

use std::mem::offset_of;

use lime_core::flow::{Action, Match, Rule};
use switch_abi::{CompactMask, METER_TABLE, RuleEntry};

use super::compile::{Compiled, is_table_miss};
use super::mapped::Line;
use super::parts::table_of;
use super::state::Tuple;

/// The cache line that metadata and actions begin with.
pub(super) const ACTIONS_LINE: usize = offset_of!(RuleEntry, metadata) / size_of::<Line>();

/// Where the things that are remembered are looked for: each has one place in it.
const PLACES: usize = 128;
/// So many are remembered.
const MANY: usize = 256;

/// Rules of one mask in one table.
pub(super) struct Shape<'r> {
    /// One of them.
    rule: &'r Rule,
    pub(super) table: u8,
    /// Index of their tuple in the table.
    pub(super) tuple: usize,
    /// Id of that.
    pub(super) id: u32,
    pub(super) compact: CompactMask,
    /// How many of which priority have been linked since they were last counted: one priority after another.
    pub(super) linked: Vec<(u16, u32)>,
}

impl Shape<'_> {
    /// One more is linked.
    pub(super) fn count(&mut self, priority: u16) {
        match self.linked.last_mut() {
            Some((last, count)) if *last == priority => *count += 1,
            _ => self.linked.push((priority, 1)),
        }
    }
}

/// The masks of a batch.
pub(super) struct Shapes<'r> {
    shapes: Vec<Shape<'r>>,
    places: [u16; PLACES],
}

impl Default for Shapes<'_> {
    fn default() -> Self {
        Self {
            shapes: Vec::new(),
            places: [u16::MAX; PLACES],
        }
    }
}

impl<'r> Shapes<'r> {
    /// Index of the mask of an ordinary rule, if it is known.
    pub(super) fn find(&self, rule: &Rule) -> Option<u32> {
        let index = u32::from(self.places[place_of(rule)]);
        let shape = self.shapes.get(index as usize)?;
        let same = shape.rule.table == rule.table
            && rule.part.is_none()
            && same_mask(&shape.rule.matching, &rule.matching);
        same.then_some(index)
    }

    pub(super) fn add(&mut self, rule: &'r Rule, table: u8, index: usize, tuple: &Tuple) -> u32 {
        let at = self.shapes.len() as u32;
        if rule.part.is_none() {
            self.places[place_of(rule)] = at as u16;
        }
        self.shapes.push(Shape {
            rule,
            table,
            tuple: index,
            id: tuple.id,
            compact: tuple.compact,
            linked: Vec::new(),
        });
        at
    }

    pub(super) fn get(&self, index: u32) -> &Shape<'r> {
        &self.shapes[index as usize]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Shape<'r> {
        &mut self.shapes[index as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Shape<'r>> {
        self.shapes.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Shape<'r>> {
        self.shapes.iter_mut()
    }

    /// There are more than it is worth to remember.
    pub(super) fn are_many(&self) -> bool {
        self.shapes.len() > MANY
    }
}

fn place_of(rule: &Rule) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let fields = rule.matching.fields().iter();
    let hash = fields.fold(u64::from(rule.table), |hash, f| {
        let mask = f.mask as u64 ^ (f.mask >> 64) as u64;
        (hash ^ mask ^ (f.field as u64) << 48).wrapping_mul(FACTOR)
    });
    (hash >> 57) as usize
}

fn same_mask(a: &Match, b: &Match) -> bool {
    let (a, b) = (a.fields(), b.fields());
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.field == b.field && a.mask == b.mask)
}

/// What some rules do with their packets.
pub(super) struct ActionList<'r> {
    /// One of them.
    rule: &'r Rule,
    pub(super) compiled: Compiled,
    /// Of their entries, the lines from [`ACTIONS_LINE`] on that are in use.
    pub(super) lines: Vec<Line>,
    /// Slots of the ports that are named, as often as they are.
    pub(super) ports: Vec<u32>,
}

/// The actions of a batch.
pub(super) struct ActionLists<'r> {
    lists: Vec<ActionList<'r>>,
    places: [u16; PLACES],
}

impl Default for ActionLists<'_> {
    fn default() -> Self {
        Self {
            lists: Vec::new(),
            places: [u16::MAX; PLACES],
        }
    }
}

impl<'r> ActionLists<'r> {
    /// Index of the actions of an ordinary rule, if they are known.
    pub(super) fn find(&self, rule: &Rule) -> Option<u32> {
        let index = u32::from(self.places[port_of(rule)]);
        let list = self.lists.get(index as usize)?;
        same_actions(list.rule, rule).then_some(index)
    }

    pub(super) fn add(&mut self, rule: &'r Rule, compiled: Compiled) -> u32 {
        let index = self.lists.len() as u32;
        if rule.part.is_none() {
            self.places[port_of(rule)] = index as u16;
        }
        let actions = &compiled.actions[..compiled.count as usize];
        let ports = actions.iter().filter_map(switch_abi::Action::port_slot);
        self.lists.push(ActionList {
            rule,
            ports: ports.collect(),
            lines: lines_of(rule, &compiled),
            compiled,
        });
        index
    }

    pub(super) fn get(&self, index: u32) -> &ActionList<'r> {
        &self.lists[index as usize]
    }

    /// Slots of all ports that are named.
    pub(super) fn ports(&self) -> impl Iterator<Item = u32> {
        self.lists.iter().flat_map(|list| &list.ports).copied()
    }

    /// There are more than it is worth to remember.
    pub(super) fn are_many(&self) -> bool {
        self.lists.len() > MANY
    }
}

/// Most rules that do different things with their packets put them out by different ports.
fn port_of(rule: &Rule) -> usize {
    match rule.actions.last() {
        Some(Action::Output { port, .. }) => port.0 as usize % PLACES,
        _ => rule.actions.len() % PLACES,
    }
}

/// Whether two rules compile to the same actions: all that [`super::compile::compile_actions`] looks at is the same, and neither is a part of a group or a meter.
fn same_actions(a: &Rule, b: &Rule) -> bool {
    let others = |rule: &Rule| {
        let first_table = rule.table == 0;
        (
            rule.clear_actions,
            rule.write_metadata,
            rule.goto_table,
            first_table,
            is_table_miss(rule),
        )
    };
    a.part.is_none()
        && b.part.is_none()
        && a.actions == b.actions
        && a.write_actions == b.write_actions
        && others(a) == others(b)
}

/// From the metadata to the last action; of a meter to the end.
fn lines_of(rule: &Rule, compiled: &Compiled) -> Vec<Line> {
    let entry = RuleEntry {
        metadata: compiled.metadata,
        metadata_mask: compiled.metadata_mask,
        actions: compiled.actions,
        ..RuleEntry::default()
    };
    let used =
        offset_of!(RuleEntry, actions) + size_of::<switch_abi::Action>() * compiled.count as usize;
    let (lines, _) = entry.words().as_chunks();
    let end = match table_of(rule) {
        METER_TABLE => lines.len(),
        _ => used.div_ceil(size_of::<Line>()),
    };
    lines[ACTIONS_LINE..end].to_vec()
}
