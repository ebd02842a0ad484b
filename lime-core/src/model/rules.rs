//! The rules of a network's switches, with what is on its way: what a snapshot needs is what was visible at its epoch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::flow::{
    Action, Delta, FlowMod, FlowTable, GroupMod, GroupModError, GroupTable, MeterMod,
    MeterModError, MeterTable, Part, PartDelta, RemovedReason, Rule, UpdateError,
};
use crate::log::{Added, Entry, EntryKind, Removed};
use crate::{Epoch, RuleId, SwitchId};

/// The rules of all switches of one network.
///
/// The tables are ahead of the log: they have every submitted change, so that the next one is decided on top of it.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    switches: BTreeMap<SwitchId, Rules>,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    table: FlowTable,
    groups: GroupTable,
    meters: MeterTable,
    /// Since when each rule is visible; none: its entry has no epoch yet.
    from: HashMap<RuleId, Epoch>,
    /// Rules that are gone from the table by entries that may still fail, or that have no epoch yet.
    leaving: BTreeMap<RuleId, Leaving>,
    /// Where the counts of rules began that took another's place and go on counting.
    counts: HashMap<RuleId, RuleId>,
    /// For each beginning of counts that is not its own rule's: the newest rule that goes on with them.
    heirs: HashMap<RuleId, RuleId>,
    /// Rules that are gone from the table, and that hosts may still count: where their counts are kept.
    ending: HashMap<RuleId, RuleId>,
}

#[derive(Clone, Debug)]
struct Leaving {
    rule: Arc<Rule>,
    from: Option<Epoch>,
    to: Option<Epoch>,
}

/// A rule of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRule {
    /// Its id.
    pub id: RuleId,
    /// The rule, groups not expanded.
    pub rule: Arc<Rule>,
    /// Since when it is visible.
    pub from: Epoch,
}

impl Rules {
    /// A rule has gone from the table: what is to be kept of it until that is settled.
    fn leave(&mut self, id: RuleId, rule: Arc<Rule>) -> Removed {
        let mut removed = Removed::new(id, rule, self.from.remove(&id));
        removed.counts = self.counts.remove(&id);
        self.ending.insert(id, removed.counted_as());
        let leaving = Leaving {
            rule: Arc::clone(&removed.rule),
            from: removed.from,
            to: None,
        };
        self.leaving.insert(id, leaving);
        removed
    }

    /// A rule goes on with the counts of another, which is about to leave; where they are kept.
    fn inherit(&mut self, id: RuleId, old: RuleId) -> RuleId {
        let counts = self.counts.get(&old).copied().unwrap_or(old);
        self.counts.insert(id, counts);
        self.heirs.insert(counts, id);
        counts
    }

    /// What the table has decided, as an entry.
    fn decided(&mut self, switch: SwitchId, delta: Delta) -> EntryKind {
        let mut replaced = HashMap::new();
        let mut add = Vec::with_capacity(delta.added.len());
        for (id, a) in delta.added {
            let mut added = Added::new(id, a.rule);
            if let Some(old) = a.replaces {
                replaced.insert(old, !a.reset_counts);
                added.continues = a.modified.then_some(old);
                if !a.reset_counts {
                    added.counts = Some(self.inherit(id, old));
                }
            }
            add.push(added);
        }
        let mut remove = Vec::with_capacity(delta.removed.len());
        for (id, rule) in delta.removed {
            let mut removed = self.leave(id, rule);
            match replaced.get(&id) {
                Some(&goes_on) => removed.goes_on = goes_on,
                None => removed.why = Some(RemovedReason::Delete),
            }
            remove.push(removed);
        }
        EntryKind::Update {
            switch,
            add,
            remove,
            passed: Vec::new(),
        }
    }

    /// The rule never was, so it does not go on with these counts.
    fn disinherit(&mut self, counts: RuleId, id: RuleId) {
        if self.heirs.get(&counts) == Some(&id) {
            self.heirs.remove(&counts);
        }
    }
}

impl RuleBook {
    /// Puts in a rule that the store holds.
    pub fn restore(
        &mut self,
        switch: SwitchId,
        id: RuleId,
        rule: Arc<Rule>,
        from: Epoch,
        counts: Option<RuleId>,
    ) {
        let rules = self.switches.entry(switch).or_default();
        rules.put(id, rule);
        rules.from.insert(id, from);
        if let Some(counts) = counts {
            rules.counts.insert(id, counts);
            rules.heirs.insert(counts, id);
        }
    }

    /// Puts in what an entry of the store's log removes, and what not all hosts have acknowledged. Call it for the entries in their order,
    /// after [`restore`](Self::restore).
    pub fn restore_ending(&mut self, kind: &EntryKind) {
        let EntryKind::Update {
            switch,
            remove,
            passed,
            ..
        } = kind
        else {
            return;
        };
        let rules = self.switches.entry(*switch).or_default();
        for removed in remove.iter().chain(passed) {
            let counts = removed.counted_as();
            rules.ending.insert(removed.id, counts);
            let heir = rules.heirs.get(&counts);
            if heir.is_none_or(|heir| !rules.has(*heir)) {
                rules.heirs.insert(counts, removed.id);
            }
        }
    }

    /// Where the counts of a rule are kept, if hosts may count it: present, or gone and not yet [settled](Self::settle).
    pub fn counted_as(&self, switch: SwitchId, id: RuleId) -> Option<RuleId> {
        let rules = self.switches.get(&switch)?;
        match rules.has(id) {
            true => Some(rules.counts.get(&id).copied().unwrap_or(id)),
            false => rules.ending.get(&id).copied(),
        }
    }

    /// The table of a switch, ahead of the log.
    pub fn table(&self, switch: SwitchId) -> Option<&FlowTable> {
        self.switches.get(&switch).map(|r| &r.table)
    }

    /// The newest rule that goes on with the counts of this one.
    pub fn heir(&self, switch: SwitchId, id: RuleId) -> Option<RuleId> {
        let counts = self.counted_as(switch, id)?;
        self.switches.get(&switch)?.heirs.get(&counts).copied()
    }

    /// The groups of a switch, ahead of the log.
    pub fn groups(&self, switch: SwitchId) -> Option<&GroupTable> {
        self.switches.get(&switch).map(|r| &r.groups)
    }

    /// The meters of a switch, ahead of the log.
    pub fn meters(&self, switch: SwitchId) -> Option<&MeterTable> {
        self.switches.get(&switch).map(|r| &r.meters)
    }

    /// A group that these actions run and that is not there.
    pub fn missing_group<'a>(
        &self,
        switch: SwitchId,
        mut actions: impl Iterator<Item = &'a Action>,
    ) -> Option<u32> {
        let groups = self.groups(switch);
        actions.find_map(|a| match a {
            Action::Group(id) if groups.is_none_or(|g| g.get(*id).is_none()) => Some(*id),
            _ => None,
        })
    }

    /// Number of rules of a switch.
    pub fn len(&self, switch: SwitchId) -> usize {
        self.table(switch).map_or(0, FlowTable::len)
    }

    /// Decides a request, all or nothing. The result is to be submitted to the sequencer, or [undone](Self::undo).
    pub fn apply(
        &mut self,
        switch: SwitchId,
        mods: Vec<FlowMod>,
        next_id: impl FnMut() -> RuleId,
        limit: usize,
    ) -> Result<EntryKind, UpdateError> {
        let rules = self.switches.entry(switch).or_default();
        let delta = rules.table.apply(mods, limit, next_id)?;
        Ok(rules.decided(switch, delta))
    }

    /// Rule 13: a cut of the counters. Each rule goes on as another version of itself, so what hosts have counted of the one before is what
    /// was counted before this entry: they report it before they acknowledge the entry. The result is to be submitted as that of
    /// [`apply`](Self::apply).
    pub fn cut(&mut self, switch: SwitchId, next_id: impl FnMut() -> RuleId) -> EntryKind {
        let rules = self.switches.entry(switch).or_default();
        let delta = rules.table.renew(next_id);
        rules.decided(switch, delta)
    }

    /// Takes rules out that have timed out, or lost their group; those that are not there are left out. None: no rule is left of them.
    /// The result is to be submitted as that of [`apply`](Self::apply).
    pub fn expire(
        &mut self,
        switch: SwitchId,
        ids: impl IntoIterator<Item = (RuleId, RemovedReason)>,
    ) -> Option<EntryKind> {
        let rules = self.switches.get_mut(&switch)?;
        let mut remove = Vec::new();
        for (id, why) in ids {
            if let Some(rule) = rules.table.remove(id) {
                let mut removed = rules.leave(id, rule);
                removed.why = Some(why);
                remove.push(removed);
            }
        }
        (!remove.is_empty()).then_some(EntryKind::Update {
            switch,
            add: Vec::new(),
            remove,
            passed: Vec::new(),
        })
    }

    /// All members have acknowledged the entry: what it removed counts no more. Gives the counts that end with it.
    pub fn settle(&mut self, kind: &EntryKind) -> Vec<RuleId> {
        let EntryKind::Update {
            switch,
            remove,
            passed,
            ..
        } = kind
        else {
            return Vec::new();
        };
        let Some(rules) = self.switches.get_mut(switch) else {
            return Vec::new();
        };
        let mut over = Vec::new();
        for removed in remove.iter().chain(passed) {
            rules.ending.remove(&removed.id);
            let counts = removed.counted_as();
            if rules.heirs.get(&counts).copied().unwrap_or(counts) == removed.id {
                rules.heirs.remove(&counts);
                over.push(counts);
            }
        }
        over
    }

    /// Decides a change of groups as [`Self::apply`] does one of rules. Rules that run a deleted group go with it.
    pub fn apply_groups(
        &mut self,
        switch: SwitchId,
        mods: Vec<GroupMod>,
        next_id: impl FnMut() -> RuleId,
    ) -> Result<EntryKind, GroupModError> {
        let rules = self.switches.entry(switch).or_default();
        let delta = rules.groups.apply(mods, next_id)?;
        let why = RemovedReason::GroupDelete;
        let uses = |rule: &Rule, deleted: u32| rule.groups().any(|g| g == deleted);
        Ok(rules.apply_parts(switch, delta, why, uses))
    }

    /// Decides a change of meters as [`Self::apply`] does one of rules. Rules that use a deleted meter go with it.
    pub fn apply_meters(
        &mut self,
        switch: SwitchId,
        mods: Vec<MeterMod>,
        next_id: impl FnMut() -> RuleId,
    ) -> Result<EntryKind, MeterModError> {
        let rules = self.switches.entry(switch).or_default();
        let delta = rules.meters.apply(mods, next_id)?;
        // OpenFlow 1.3 has no reason of its own for it.
        let why = RemovedReason::Delete;
        let uses = |rule: &Rule, deleted: u32| rule.meter == Some(deleted);
        Ok(rules.apply_parts(switch, delta, why, uses))
    }

    /// The entry has got its epoch.
    pub fn sealed(&mut self, entry: &Entry) {
        let EntryKind::Update {
            switch,
            add,
            remove,
            ..
        } = &entry.kind
        else {
            return;
        };
        let rules = self.switches.entry(*switch).or_default();
        for added in add {
            if let Some(leaving) = rules.leaving.get_mut(&added.id) {
                // A request behind this entry removes it again.
                leaving.from = Some(entry.epoch);
            } else {
                rules.from.insert(added.id, entry.epoch);
            }
        }
        for removed in remove {
            if let Some(leaving) = rules.leaving.get_mut(&removed.id) {
                leaving.to = Some(entry.epoch);
            }
        }
    }

    /// Everything up to here is activated: it cannot fail any more, and no snapshot goes back behind it. `idle`: no change waits for
    /// its epoch.
    pub fn settled(&mut self, upto: Epoch, idle: bool) {
        for rules in self.switches.values_mut() {
            // Without an epoch though nothing waits: it came and went within one entry, and was never anywhere.
            rules
                .leaving
                .retain(|_, l| l.to.map_or(!idle, |to| !to.le(upto)));
        }
    }

    /// Takes back a change; later ones must have been taken back before.
    pub fn undo(&mut self, kind: &EntryKind) {
        let EntryKind::Update {
            switch,
            add,
            remove,
            passed,
        } = kind
        else {
            return;
        };
        let rules = self.switches.entry(*switch).or_default();
        for added in add {
            rules.take(added.id, &added.rule);
            rules.from.remove(&added.id);
            rules.counts.remove(&added.id);
            rules.disinherit(added.counts.unwrap_or(added.id), added.id);
        }
        for passed in passed {
            rules.ending.remove(&passed.id);
            rules.disinherit(passed.counted_as(), passed.id);
        }
        for removed in remove {
            rules.ending.remove(&removed.id);
            if let Some(counts) = removed.counts {
                rules.counts.insert(removed.id, counts);
                rules.heirs.insert(counts, removed.id);
            }
            let leaving = rules.leaving.remove(&removed.id);
            rules.put(removed.id, Arc::clone(&removed.rule));
            // After a restart the journal may not know it: any epoch before now is as good.
            let from = leaving.and_then(|l| l.from).or(removed.from);
            rules.from.insert(removed.id, from.unwrap_or(Epoch::ZERO));
        }
    }

    /// What of a switch is visible at `at`, which is activated or later.
    pub fn snapshot(&self, switch: SwitchId, at: Epoch) -> Vec<SnapshotRule> {
        let Some(rules) = self.switches.get(&switch) else {
            return Vec::new();
        };
        let present = rules.all().filter_map(|(id, rule)| {
            let from = *rules.from.get(&id)?;
            let rule = Arc::clone(rule);
            from.le(at).then_some(SnapshotRule { id, rule, from })
        });
        let leaving = rules.leaving.iter().filter_map(|(&id, l)| {
            let from = l.from?;
            let visible = from.le(at) && l.to.is_none_or(|to| at.lt(to));
            let rule = Arc::clone(&l.rule);
            visible.then_some(SnapshotRule { id, rule, from })
        });
        present.chain(leaving).collect()
    }

    /// The switch is gone. Returns its rules' ids, each with what its counts are kept as.
    pub fn forget(&mut self, switch: SwitchId) -> Vec<(RuleId, RuleId)> {
        let rules = self.switches.remove(&switch).unwrap_or_default();
        let present = rules.all().map(|(id, _)| {
            let counts = rules.counts.get(&id).copied();
            (id, counts.unwrap_or(id))
        });
        let ending = rules.ending.iter().map(|(id, counts)| (*id, *counts));
        present.chain(ending).collect()
    }
}

impl Rules {
    /// Rules, and parts of groups and meters.
    fn all(&self) -> impl Iterator<Item = (RuleId, &Arc<Rule>)> {
        let parts = self.groups.parts().chain(self.meters.parts());
        self.table.iter().chain(parts)
    }

    fn put(&mut self, id: RuleId, rule: Arc<Rule>) {
        match rule.part.as_deref() {
            None => drop(self.table.insert(id, rule)),
            Some(Part::Group(_)) => self.groups.insert(id, rule),
            Some(Part::Meter(_)) => self.meters.insert(id, rule),
        }
    }

    fn take(&mut self, id: RuleId, rule: &Rule) {
        match rule.part.as_deref() {
            None => drop(self.table.remove(id)),
            Some(Part::Group(_)) => self.groups.remove(id, rule),
            Some(Part::Meter(_)) => self.meters.remove(id, rule),
        }
    }

    /// Whether this is one of its rules, or a part of a group or a meter.
    fn has(&self, id: RuleId) -> bool {
        self.table.get(id).is_some() || self.groups.part(id) || self.meters.part(id)
    }

    /// A change of groups or meters, and of the rules that use those that are deleted.
    fn apply_parts(
        &mut self,
        switch: SwitchId,
        delta: PartDelta,
        why: RemovedReason,
        uses: impl Fn(&Rule, u32) -> bool,
    ) -> EntryKind {
        let mut add = Vec::with_capacity(delta.added.len());
        for (id, rule) in delta.added {
            let mut added = Added::new(id, rule);
            if let Some(&old) = delta.continued.get(&id) {
                added.continues = Some(old);
                added.counts = Some(self.inherit(id, old));
            }
            add.push(added);
        }
        let continued: BTreeSet<RuleId> = delta.continued.into_values().collect();
        let mut remove = Vec::new();
        for (id, rule) in delta.removed {
            let mut removed = self.leave(id, rule);
            removed.goes_on = continued.contains(&id);
            remove.push(removed);
        }
        if !delta.deleted.is_empty() {
            let users = self.table.iter();
            let users = users.filter(|(_, rule)| delta.deleted.iter().any(|d| uses(rule, *d)));
            let users: Vec<RuleId> = users.map(|(id, _)| id).collect();
            for id in users {
                if let Some(rule) = self.table.remove(id) {
                    let mut removed = self.leave(id, rule);
                    removed.why = Some(why);
                    remove.push(removed);
                }
            }
        }
        EntryKind::Update {
            switch,
            add,
            remove,
            passed: Vec::new(),
        }
    }
}
