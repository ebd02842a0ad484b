//! The rules of one switch as its controller sees them: OpenFlow 1.3.5, 5.2 and 6.4.
//!
//! Pure bookkeeping: which rules there are, and what an update adds and removes. Epochs, instances and counters are others' job.
//! A hash index over (table, priority, match) makes adds and strict deletes independent of the number of rules; a non-strict delete
//! looks at every rule of its table.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use thiserror::Error;

use super::{ALL_TABLES, FlowMod, Match, Modify, Rule, RuleFilter, TABLES, ofctl};
use crate::RuleId;

/// The rules of one switch.
#[derive(Clone, Debug, Default)]
pub struct FlowTable {
    /// In table order, then by priority (highest first), then by age.
    ordered: BTreeMap<Place, Arc<Rule>>,
    by_id: HashMap<RuleId, Arc<Rule>>,
    by_identity: HashMap<Identity, RuleId>,
}

type Place = (u8, Reverse<u16>, RuleId);

/// A rule, compared by what makes two rules the same one: table, priority and match (OpenFlow 1.3.5, 6.4).
#[derive(Clone, Debug)]
struct Identity(Arc<Rule>);

impl Identity {
    fn key(&self) -> (u8, u16, &Match) {
        (self.0.table, self.0.priority, &self.0.matching)
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// What an update does to the rules, on the whole: a rule that it both adds and removes is in neither list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// New rules, by id.
    pub added: BTreeMap<RuleId, Added>,
    /// Rules that went, by id.
    pub removed: BTreeMap<RuleId, Arc<Rule>>,
}

/// A new rule of a [`Delta`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The rule of the same table, priority and match that made way for it. Its counters go on in the new one unless the controller
    /// asked otherwise (OpenFlow 1.3.5, 6.4, OFPFF_RESET_COUNTS); its duration does not.
    pub replaces: Option<RuleId>,
    /// Its counters begin at zero all the same.
    pub reset_counts: bool,
    /// It is that rule with other instructions: it goes on with its duration too.
    pub modified: bool,
}

impl Delta {
    /// Whether the update changes nothing.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// Returns the rule of before the update whose place the removed one had: itself, or what it had replaced in this update.
    fn remove(&mut self, id: RuleId, rule: Arc<Rule>) -> Option<RuleId> {
        match self.added.remove(&id) {
            Some(added) => added.replaces,
            None => {
                self.removed.insert(id, rule);
                Some(id)
            }
        }
    }
}

/// Why an update is refused; nothing has changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UpdateError {
    /// There would be too many rules.
    #[error(transparent)]
    Full(#[from] TableFull),
    /// OpenFlow 1.3.5, 6.4: OFPFMFC_OVERLAP.
    #[error(
        "mods[{index}]: the rule overlaps one of the same table and priority ({}), and check_overlap was asked for",
        ofctl::format_rule(.rule)
    )]
    Overlap {
        /// Which change, counted from 0.
        index: usize,
        /// The rule that is there.
        rule: Arc<Rule>,
    },
}

/// The update would leave more rules than allowed; nothing has changed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the switch would have {rules} rules: at most {limit} are allowed; delete some first")]
pub struct TableFull {
    /// Rules there would be.
    pub rules: usize,
    /// The limit.
    pub limit: usize,
}

impl FlowTable {
    /// No rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// A rule by its id.
    pub fn get(&self, id: RuleId) -> Option<&Arc<Rule>> {
        self.by_id.get(&id)
    }

    /// All rules: by table, then priority (highest first), then age.
    pub fn iter(&self) -> impl Iterator<Item = (RuleId, &Arc<Rule>)> {
        self.ordered.iter().map(|(&(_, _, id), rule)| (id, rule))
    }

    /// The rules of one table, in the order of [`Self::iter`].
    pub fn table(&self, table: u8) -> impl Iterator<Item = (RuleId, &Arc<Rule>)> {
        let first = (table, Reverse(u16::MAX), RuleId(0));
        let last = (table, Reverse(0), RuleId(u64::MAX));
        self.ordered
            .range(first..=last)
            .map(|(&(_, _, id), rule)| (id, rule))
    }

    /// Carries out an update, all or nothing. `next_id` gives each added rule its id, never one that was used before; ids grow.
    /// At most `limit` rules may be left at the end.
    pub fn apply(
        &mut self,
        mods: impl IntoIterator<Item = FlowMod>,
        limit: usize,
        mut next_id: impl FnMut() -> RuleId,
    ) -> Result<Delta, UpdateError> {
        let mut delta = Delta::default();
        for (index, m) in mods.into_iter().enumerate() {
            match m {
                FlowMod::Add(rule) => self.add(rule, next_id(), false, &mut delta),
                FlowMod::AddWith(rule, flags) => {
                    if flags.check_overlap
                        && let Some(rule) = self.overlapping(&rule)
                    {
                        self.revert(delta);
                        return Err(UpdateError::Overlap { index, rule });
                    }
                    self.add(rule, next_id(), flags.reset_counts, &mut delta);
                }
                FlowMod::Modify(modify) => self.modify(&modify, &mut next_id, &mut delta),
                FlowMod::Delete(filter) => self.delete(&filter, &mut delta),
                FlowMod::DeleteStrict(filter) => self.delete_strict(&filter, &mut delta),
            }
        }
        let rules = self.len();
        if rules > limit {
            self.revert(delta);
            return Err(TableFull { rules, limit }.into());
        }
        Ok(delta)
    }

    /// Takes back an update; nothing else may have changed since.
    pub fn revert(&mut self, delta: Delta) {
        for id in delta.added.into_keys() {
            self.take(id);
        }
        for (id, rule) in delta.removed {
            self.put(id, rule);
        }
    }

    /// Puts a rule in under an id it already has: what a journal or a snapshot holds. Returns the rule that made way.
    pub fn insert(&mut self, id: RuleId, rule: Arc<Rule>) -> Option<(RuleId, Arc<Rule>)> {
        let old = self.by_identity.get(&Identity(rule.clone())).copied();
        let old = old.and_then(|old| Some((old, self.take(old)?)));
        self.put(id, rule);
        old
    }

    /// The rules that a filter selects, priority apart.
    pub fn selected_by(&self, filter: &RuleFilter) -> impl Iterator<Item = RuleId> {
        self.selected(filter).into_iter()
    }

    /// Removes one rule, one that has timed out for instance.
    pub fn remove(&mut self, id: RuleId) -> Option<Arc<Rule>> {
        self.take(id)
    }

    /// Puts each rule in its own place, under another id: as if it were modified to what it is.
    pub fn renew(&mut self, mut next_id: impl FnMut() -> RuleId) -> Delta {
        let mut delta = Delta::default();
        let all: Vec<RuleId> = self.by_id.keys().copied().collect();
        for id in all {
            if let Some(rule) = self.by_id.get(&id).map(|r| r.as_ref().clone()) {
                self.replace(rule, next_id(), false, true, &mut delta);
            }
        }
        delta
    }

    fn add(&mut self, rule: Rule, id: RuleId, reset_counts: bool, delta: &mut Delta) {
        self.replace(rule, id, reset_counts, false, delta);
    }

    fn replace(
        &mut self,
        rule: Rule,
        id: RuleId,
        reset_counts: bool,
        modified: bool,
        delta: &mut Delta,
    ) {
        let rule = Arc::new(rule);
        let (mut resets, mut same) = (reset_counts, modified);
        let replaces = self.insert(id, rule.clone()).and_then(|(old, old_rule)| {
            // What an earlier change of this update began anew does not go on with what was before.
            if let Some(earlier) = delta.added.get(&old) {
                resets |= earlier.reset_counts;
                same &= earlier.modified;
            }
            delta.remove(old, old_rule)
        });
        let added = Added {
            rule,
            replaces,
            reset_counts: resets,
            modified: same && replaces.is_some(),
        };
        delta.added.insert(id, added);
    }

    /// A rule of the same table and priority that some packet could match as well.
    fn overlapping(&self, rule: &Rule) -> Option<Arc<Rule>> {
        let first = (rule.table, Reverse(rule.priority), RuleId(0));
        let last = (rule.table, Reverse(rule.priority), RuleId(u64::MAX));
        let mut peers = self.ordered.range(first..=last).map(|(_, peer)| peer);
        peers.find(|p| p.matching.overlaps(&rule.matching)).cloned()
    }

    fn modify(&mut self, modify: &Modify, next_id: &mut impl FnMut() -> RuleId, delta: &mut Delta) {
        let filter = modify.filter();
        let ids = if modify.strict {
            self.selected_strictly(&filter)
        } else {
            self.selected(&filter)
        };
        for id in ids {
            let Some(old) = self.by_id.get(&id) else {
                continue;
            };
            let new = modify.applied_to(old);
            if new != **old || modify.reset_counts {
                self.replace(new, next_id(), modify.reset_counts, true, delta);
            }
        }
    }

    fn selected(&self, filter: &RuleFilter) -> Vec<RuleId> {
        let chosen = |rules: &mut dyn Iterator<Item = (RuleId, &Arc<Rule>)>| -> Vec<RuleId> {
            rules
                .filter(|(_, rule)| filter.selects(rule, false))
                .map(|(id, _)| id)
                .collect()
        };
        if filter.table == ALL_TABLES {
            chosen(&mut self.iter())
        } else {
            chosen(&mut self.table(filter.table))
        }
    }

    fn delete(&mut self, filter: &RuleFilter, delta: &mut Delta) {
        for id in self.selected(filter) {
            self.drop_rule(id, delta);
        }
    }

    fn delete_strict(&mut self, filter: &RuleFilter, delta: &mut Delta) {
        for id in self.selected_strictly(filter) {
            self.drop_rule(id, delta);
        }
    }

    fn selected_strictly(&self, filter: &RuleFilter) -> Vec<RuleId> {
        let mut ids = Vec::new();
        let tables = match filter.table {
            ALL_TABLES => 0..TABLES,
            table => table..table.saturating_add(1),
        };
        for table in tables {
            let identity = Identity(Arc::new(Rule {
                table,
                priority: filter.priority,
                matching: filter.matching.clone(),
                ..Rule::default()
            }));
            let Some(&id) = self.by_identity.get(&identity) else {
                continue;
            };
            if self
                .by_id
                .get(&id)
                .is_some_and(|rule| filter.selects(rule, true))
            {
                ids.push(id);
            }
        }
        ids
    }

    fn drop_rule(&mut self, id: RuleId, delta: &mut Delta) {
        if let Some(rule) = self.take(id) {
            delta.remove(id, rule);
        }
    }

    fn put(&mut self, id: RuleId, rule: Arc<Rule>) {
        self.ordered
            .insert((rule.table, Reverse(rule.priority), id), rule.clone());
        self.by_identity.insert(Identity(rule.clone()), id);
        self.by_id.insert(id, rule);
    }

    fn take(&mut self, id: RuleId) -> Option<Arc<Rule>> {
        let rule = self.by_id.remove(&id)?;
        self.ordered
            .remove(&(rule.table, Reverse(rule.priority), id));
        self.by_identity.remove(&Identity(rule.clone()));
        Some(rule)
    }
}

#[cfg(test)]
mod tests;
