//! Parts: what hosts hold of groups and meters. They are versioned, counted and staged as rules are, but are in no table that rules can
//! be in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{GroupPart, MeterPart, Rule};
use crate::RuleId;

/// What an entry is a part of, instead of a rule in a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A group.
    Group(GroupPart),
    /// A meter.
    Meter(MeterPart),
}

impl Part {
    /// The entry that is this part, with the actions of a bucket.
    pub(super) fn entry(self, actions: Vec<super::Action>) -> Rule {
        Rule {
            actions,
            part: Some(Box::new(self)),
            ..Rule::default()
        }
    }

    fn key(&self) -> PartKey {
        match self {
            Part::Group(part) => (part.group, part.place()),
            Part::Meter(part) => (part.meter, part.place()),
        }
    }
}

/// Where a part is within a switch: the number of its group or meter, and its place there.
pub(super) type PartKey = (u32, u16);

/// What a change of groups or meters does to the parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartDelta {
    /// New parts.
    pub added: Vec<(RuleId, Arc<Rule>)>,
    /// Parts that go.
    pub removed: Vec<(RuleId, Arc<Rule>)>,
    /// Of the new ones, those that go on with the counts and the age of one that goes.
    pub continued: BTreeMap<RuleId, RuleId>,
    /// Groups, or meters, that are gone: so are the rules that use them.
    pub deleted: BTreeSet<u32>,
}

/// The parts of all groups, or of all meters, of one switch.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    parts: BTreeMap<PartKey, (RuleId, Arc<Rule>)>,
    ids: BTreeSet<RuleId>,
}

/// What becomes of a part that a change leaves where it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays, if it is as it was; else there is a new one.
    Stays,
    /// It stays, if it is as it was; else a new one goes on with its counts.
    Continues,
    /// There is a new one in any case.
    BeginsAnew,
}

impl Parts {
    pub(super) fn iter(&self) -> impl Iterator<Item = (RuleId, &Arc<Rule>)> {
        self.parts.values().map(|(id, rule)| (*id, rule))
    }

    pub(super) fn contains(&self, id: RuleId) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn at(&self, key: PartKey) -> Option<RuleId> {
        self.parts.get(&key).map(|(id, _)| *id)
    }

    /// Puts in a part under an id it already has.
    pub(super) fn insert(&mut self, id: RuleId, rule: Arc<Rule>) {
        let Some(part) = &rule.part else { return };
        let before = self.parts.insert(part.key(), (id, Arc::clone(&rule)));
        self.ids.insert(id);
        if let Some((before, _)) = before.filter(|(before, _)| *before != id) {
            self.ids.remove(&before);
        }
    }

    /// Takes out a part, if it is the present one; where it was.
    pub(super) fn remove(&mut self, id: RuleId, rule: &Rule) -> Option<PartKey> {
        let key = rule.part.as_ref()?.key();
        if self.at(key) != Some(id) {
            return None;
        }
        self.parts.remove(&key);
        self.ids.remove(&id);
        Some(key)
    }

    /// Makes the parts those that are wanted. `deleted` begin anew as a whole, should they be there again.
    pub(super) fn renew(
        &mut self,
        wanted: impl IntoIterator<Item = Rule>,
        deleted: BTreeSet<u32>,
        fate: impl Fn(PartKey) -> Fate,
        mut next_id: impl FnMut() -> RuleId,
    ) -> PartDelta {
        let mut delta = PartDelta {
            deleted,
            ..PartDelta::default()
        };
        let keyed = wanted.into_iter();
        let keyed = keyed.filter_map(|rule| Some((rule.part.as_ref()?.key(), rule)));
        let mut wanted: BTreeMap<PartKey, Rule> = keyed.collect();
        let mut parts = BTreeMap::new();
        let mut heirs = BTreeMap::new();
        for (key, (id, rule)) in &self.parts {
            let fate = match delta.deleted.contains(&key.0) {
                true => Fate::BeginsAnew,
                false => fate(*key),
            };
            if fate != Fate::BeginsAnew && wanted.get(key) == Some(rule) {
                wanted.remove(key);
                parts.insert(*key, (*id, Arc::clone(rule)));
                continue;
            }
            if fate == Fate::Continues {
                heirs.insert(*key, *id);
            }
            delta.removed.push((*id, Arc::clone(rule)));
        }
        for (key, rule) in wanted {
            let (id, rule) = (next_id(), Arc::new(rule));
            if let Some(before) = heirs.get(&key) {
                delta.continued.insert(id, *before);
            }
            delta.added.push((id, Arc::clone(&rule)));
            parts.insert(key, (id, rule));
        }
        self.ids = parts.values().map(|(id, _)| *id).collect();
        self.parts = parts;
        delta
    }
}
