//! Groups as hosts hold them: every group is some entries that are versioned, counted and staged as rules are.
//!
//! The *head* counts the group's packets and stays for the group's life. The *choices* say how a bucket is chosen. Each *bucket* has its
//! actions, and its counters. So a change of a group is one epoch for all rules that use it, and costs by its buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::parts::{Fate, Part, PartDelta, PartKey, Parts};
use super::{Action, Bucket, Group, GroupError, GroupMod, GroupType, Rule};
use crate::{PortNo, RuleId};

/// Most groups of one switch.
pub const MAX_GROUPS: usize = 1024;

/// Operations in one choice part.
pub const CHOICE_OPS: usize = 16;

/// Most choice parts of one group.
pub const MAX_CHOICES: usize = 8;

/// Most copies that a group makes of one packet, with the groups that it runs: what a flood may make too.
pub const MAX_COPIES: usize = 256;

/// A part of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupPart {
    /// The group.
    pub group: u32,
    /// Which part of it.
    pub what: GroupPiece,
}

/// Which part of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GroupPiece {
    /// Counts.
    Head,
    /// How a bucket is chosen.
    Choice(Choice),
    /// The bucket of this index; its actions are the rule's.
    Bucket(u16),
}

/// How a group chooses among its buckets, or as much of it as fits in one part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// Which of the parts this is, from 0.
    pub number: u8,
    /// How many there are.
    pub parts: u8,
    /// How the buckets are used.
    pub kind: GroupType,
    /// How many buckets there are, in all parts.
    pub buckets: u16,
    /// At most [`CHOICE_OPS`].
    pub ops: Vec<ChoiceOp>,
    /// The group as its controller has it, in part 0. Hosts do not get it.
    #[serde(default)]
    pub definition: Option<Box<Group>>,
}

/// One operation of a [`Choice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChoiceOp {
    /// The next bucket.
    Bucket {
        /// Its weight.
        weight: u16,
        /// When it is live.
        live: Live,
    },
    /// The bucket before is also live while this port is.
    Also(PortNo),
}

/// When a bucket is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Live {
    /// It watches nothing.
    Always,
    /// What it watches has nothing that could be live.
    Never,
    /// While this port is.
    Port(PortNo),
}

/// Why a change of groups is refused; nothing has changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GroupModError {
    /// OFPGMFC_INVALID_GROUP and others.
    #[error("group {id}: {error}")]
    Invalid {
        /// The group.
        id: u32,
        /// Why.
        error: GroupError,
    },
    /// OFPGMFC_GROUP_EXISTS.
    #[error("group {0} exists already: modify it, or delete it first")]
    Exists(u32),
    /// OFPGMFC_UNKNOWN_GROUP.
    #[error("group {0} does not exist: create it first")]
    Unknown(u32),
    /// A bucket names a group that is not there (OFPBAC_BAD_OUT_GROUP).
    #[error("group {id}: it uses group {used}, which does not exist: create that first")]
    UsesUnknown {
        /// The group.
        id: u32,
        /// What it uses.
        used: u32,
    },
    /// OFPGMFC_LOOP.
    #[error("group {0} would run itself, by way of the groups that its buckets use")]
    Loop(u32),
    /// OFPGMFC_CHAINED_GROUP.
    #[error("group {id} is used by group {by}: delete or change that first")]
    Chained {
        /// The group to be deleted.
        id: u32,
        /// Who uses it.
        by: u32,
    },
    /// OFPGMFC_OUT_OF_GROUPS.
    #[error("the switch would have {0} groups: at most {MAX_GROUPS} are allowed")]
    TooMany(usize),
    /// Chained groups that would flood the host.
    #[error(
        "group {id} would make {copies} copies of a packet, with the groups that its buckets run: at most {MAX_COPIES} are allowed"
    )]
    TooManyCopies {
        /// The group.
        id: u32,
        /// How many.
        copies: usize,
    },
    /// Too many ports are watched, directly or through groups.
    #[error(
        "group {id}: its buckets watch {ports} ports, counted once for each bucket, those of watched groups included: at most {} are allowed",
        MAX_CHOICES * CHOICE_OPS
    )]
    WatchesTooMuch {
        /// The group.
        id: u32,
        /// How many.
        ports: usize,
    },
}

/// Groups by number.
type Groups = BTreeMap<u32, Arc<Group>>;

/// Place of the first choice, and of the first bucket, among a group's parts.
const CHOICE: u16 = 1;
const BUCKET: u16 = CHOICE + MAX_CHOICES as u16;

impl GroupPart {
    /// Its place among the parts of its group.
    pub(super) fn place(&self) -> u16 {
        match &self.what {
            GroupPiece::Head => 0,
            GroupPiece::Choice(choice) => CHOICE + u16::from(choice.number),
            GroupPiece::Bucket(index) => BUCKET + index,
        }
    }
}

/// The groups of one switch, and the parts that they are made of.
#[derive(Clone, Debug, Default)]
pub struct GroupTable {
    groups: Groups,
    parts: Parts,
}

impl GroupTable {
    /// A group by its number.
    pub fn get(&self, id: u32) -> Option<&Group> {
        self.groups.get(&id).map(Arc::as_ref)
    }

    /// All groups, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().map(Arc::as_ref)
    }

    /// Whether there are no groups.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// All parts.
    pub fn parts(&self) -> impl Iterator<Item = (RuleId, &Arc<Rule>)> {
        self.parts.iter()
    }

    /// Whether this is one of the parts.
    pub fn part(&self, id: RuleId) -> bool {
        self.parts.contains(id)
    }

    /// The part that counts a group's packets.
    pub fn head(&self, group: u32) -> Option<RuleId> {
        self.parts.at((group, 0))
    }

    /// The part that counts a bucket's packets.
    pub fn bucket(&self, group: u32, index: usize) -> Option<RuleId> {
        let number = BUCKET + u16::try_from(index).ok()?;
        self.parts.at((group, number))
    }

    /// Ports whose state decides which bucket is used.
    pub fn watched(&self) -> BTreeSet<PortNo> {
        let choices = self
            .parts()
            .filter_map(|(_, rule)| match rule.part.as_deref() {
                Some(Part::Group(GroupPart {
                    what: GroupPiece::Choice(choice),
                    ..
                })) => Some(&choice.ops),
                _ => None,
            });
        let ports = choices.flatten().filter_map(|op| match op {
            ChoiceOp::Also(port)
            | ChoiceOp::Bucket {
                live: Live::Port(port),
                ..
            } => Some(*port),
            ChoiceOp::Bucket { .. } => None,
        });
        ports.collect()
    }

    /// Groups that run or watch this one.
    pub fn users(&self, id: u32) -> impl Iterator<Item = u32> + '_ {
        users(&self.groups, id)
    }

    /// Puts in a part under an id it already has: what a journal, a store or an undone change holds.
    pub fn insert(&mut self, id: RuleId, rule: Arc<Rule>) {
        let Some(Part::Group(part)) = rule.part.as_deref() else {
            return;
        };
        if let GroupPiece::Choice(Choice {
            definition: Some(group),
            ..
        }) = &part.what
        {
            self.groups
                .insert(part.group, Arc::new(group.as_ref().clone()));
        }
        self.parts.insert(id, rule);
    }

    /// Takes out a part, if it is the present one.
    pub fn remove(&mut self, id: RuleId, rule: &Rule) {
        if let Some((group, CHOICE)) = self.parts.remove(id, rule) {
            self.groups.remove(&group);
        }
    }

    /// Carries out changes, all or nothing.
    pub fn apply(
        &mut self,
        mods: Vec<GroupMod>,
        next_id: impl FnMut() -> RuleId,
    ) -> Result<PartDelta, GroupModError> {
        let mut groups = self.groups.clone();
        let mut deleted = BTreeSet::new();
        // What an explicit change makes anew, also where it is the same as before.
        let mut renewed = BTreeSet::new();
        for m in mods {
            one(&mut groups, m, &mut renewed, &mut deleted)?;
        }
        if groups.len() > MAX_GROUPS {
            return Err(GroupModError::TooMany(groups.len()));
        }
        let mut known = BTreeMap::new();
        for &id in groups.keys() {
            let copies = copies(&groups, id, &mut known);
            if copies > MAX_COPIES {
                return Err(GroupModError::TooManyCopies { id, copies });
            }
        }
        let mut wanted = Vec::new();
        for group in groups.values() {
            wanted.extend(parts_of(group, &groups)?);
        }
        let fate = |(group, place): PartKey| match place >= BUCKET && renewed.contains(&group) {
            true => Fate::BeginsAnew,
            false => Fate::Stays,
        };
        let delta = self.parts.renew(wanted, deleted, fate, next_id);
        self.groups = groups;
        Ok(delta)
    }
}

fn users(groups: &Groups, id: u32) -> impl Iterator<Item = u32> + '_ {
    let uses = move |group: &Group| group.buckets.iter().any(|b| b.groups().any(|g| g == id));
    groups.values().filter(move |g| uses(g)).map(|g| g.id)
}

fn one(
    groups: &mut Groups,
    change: GroupMod,
    renewed: &mut BTreeSet<u32>,
    deleted: &mut BTreeSet<u32>,
) -> Result<(), GroupModError> {
    let group = match change {
        GroupMod::Add(group) => {
            if groups.contains_key(&group.id) {
                return Err(GroupModError::Exists(group.id));
            }
            group
        }
        GroupMod::Modify(group) => {
            if !groups.contains_key(&group.id) {
                return Err(GroupModError::Unknown(group.id));
            }
            renewed.insert(group.id);
            group
        }
        GroupMod::Delete(None) => {
            deleted.extend(groups.keys());
            groups.clear();
            return Ok(());
        }
        GroupMod::Delete(Some(id)) => {
            if groups.contains_key(&id) {
                if let Some(by) = users(groups, id).find(|&by| by != id) {
                    return Err(GroupModError::Chained { id, by });
                }
                groups.remove(&id);
                deleted.insert(id);
            }
            return Ok(());
        }
    };
    let id = group.id;
    group
        .check()
        .map_err(|error| GroupModError::Invalid { id, error })?;
    for used in group.buckets.iter().flat_map(|b| b.groups()) {
        if used == id {
            return Err(GroupModError::Loop(id));
        }
        if !groups.contains_key(&used) {
            return Err(GroupModError::UsesUnknown { id, used });
        }
    }
    groups.insert(id, Arc::new(group));
    if reaches_itself(groups, id) {
        return Err(GroupModError::Loop(id));
    }
    Ok(())
}

/// Whether a way along the groups that buckets run or watch leads from a group back to it.
fn reaches_itself(groups: &Groups, id: u32) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![id];
    while let Some(at) = open.pop() {
        let Some(group) = groups.get(&at) else {
            continue;
        };
        for next in group.buckets.iter().flat_map(|b| b.groups()) {
            if next == id {
                return true;
            }
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    false
}

/// The ports of which one must be live for the bucket to be; `None`: it always is.
fn watched_ports(bucket: &Bucket, groups: &Groups) -> Option<BTreeSet<PortNo>> {
    let mut ports = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![bucket];
    while let Some(bucket) = open.pop() {
        if bucket.watch_port.is_none() && bucket.watch_group.is_none() {
            return None;
        }
        ports.extend(bucket.watch_port);
        if let Some(id) = bucket.watch_group.filter(|id| seen.insert(*id)) {
            open.extend(groups.get(&id).iter().flat_map(|g| &g.buckets));
        }
    }
    Some(ports)
}

/// How many copies a group makes of a packet at most, groups that its buckets run included. There are no loops.
fn copies(groups: &Groups, id: u32, known: &mut BTreeMap<u32, usize>) -> usize {
    if let Some(&n) = known.get(&id) {
        return n;
    }
    let Some(group) = groups.get(&id) else {
        return 0;
    };
    let buckets = group.buckets.iter().map(|bucket| {
        let of = bucket.actions.iter().map(|a| match a {
            Action::Group(inner) => copies(groups, *inner, known),
            Action::Output { .. } => 1,
            _ => 0,
        });
        // One that puts out nothing is a copy all the same.
        of.fold(0, usize::saturating_add).max(1)
    });
    let n = match group.kind {
        GroupType::All => buckets.fold(0, usize::saturating_add),
        _ => buckets.max().unwrap_or(0),
    };
    known.insert(id, n);
    n
}

fn parts_of(group: &Group, groups: &Groups) -> Result<Vec<Rule>, GroupModError> {
    let mut ops = Vec::new();
    for bucket in &group.buckets {
        let mut more = BTreeSet::new();
        let live = match watched_ports(bucket, groups) {
            None => Live::Always,
            Some(mut ports) => match ports.pop_first() {
                None => Live::Never,
                Some(first) => {
                    more = ports;
                    Live::Port(first)
                }
            },
        };
        ops.push(ChoiceOp::Bucket {
            weight: bucket.weight,
            live,
        });
        ops.extend(more.into_iter().map(ChoiceOp::Also));
    }
    if ops.len() > MAX_CHOICES * CHOICE_OPS {
        return Err(GroupModError::WatchesTooMuch {
            id: group.id,
            ports: ops.len(),
        });
    }
    let rule = |what, actions| {
        let group = group.id;
        Part::Group(GroupPart { group, what }).entry(actions)
    };
    let mut rules = vec![rule(GroupPiece::Head, Vec::new())];
    let chunks: Vec<&[ChoiceOp]> = match ops.is_empty() {
        true => vec![&[]],
        false => ops.chunks(CHOICE_OPS).collect(),
    };
    for (number, chunk) in chunks.iter().enumerate() {
        // Both are at most MAX_CHOICES, and there are at most MAX_BUCKETS buckets.
        let choice = Choice {
            number: number as u8,
            parts: chunks.len() as u8,
            kind: group.kind,
            buckets: group.buckets.len() as u16,
            ops: chunk.to_vec(),
            definition: (number == 0).then(|| Box::new(group.clone())),
        };
        rules.push(rule(GroupPiece::Choice(choice), Vec::new()));
    }
    for (index, bucket) in group.buckets.iter().enumerate() {
        rules.push(rule(
            GroupPiece::Bucket(index as u16),
            bucket.actions.clone(),
        ));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests;
