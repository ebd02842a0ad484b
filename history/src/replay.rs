//! Replays updates, with the code that decides them in production: which rules, groups and meters there were from when to when.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use lime_core::flow::{
    FlowMod, Group, GroupMod, Match, Meter, MeterMod, Rule, RuleFilter, SwitchMod,
};
use lime_core::log::EntryKind;
use lime_core::model::RuleBook;
use lime_core::{RuleId, SwitchId};

use crate::record::{History, Removed, What};
use crate::tables::{Fate, Kept, Life, Tables};

type Identity = (SwitchId, u8, u16, Match);

fn identity(switch: SwitchId, rule: &Rule) -> Identity {
    (switch, rule.table, rule.priority, rule.matching.clone())
}

/// A rule that may be there, since this update may have happened.
#[derive(Clone, Copy)]
struct Ghost {
    life: usize,
    command: usize,
}

/// What an update changes; parts of groups and meters are not among the rules.
struct Change {
    added: Vec<(RuleId, Arc<Rule>)>,
    removed: Vec<(RuleId, Arc<Rule>)>,
    /// Came and went.
    passed: Vec<Arc<Rule>>,
    /// Groups or meters have changed.
    parts: bool,
}

pub(crate) struct Replay<'a> {
    fates: &'a BTreeMap<usize, Fate>,
    book: RuleBook,
    lives: Vec<Life>,
    /// Where in `lives` what is there now is.
    alive: HashMap<RuleId, usize>,
    /// What may be there beside, and what only may be.
    ghosts: HashMap<Identity, Vec<Ghost>>,
    groups: Keeping<Group>,
    meters: Keeping<Meter>,
    /// Switches that may have other rules than the book says.
    unsure: HashSet<SwitchId>,
    blind: HashMap<SwitchId, u32>,
    next_id: u64,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(fates: &'a BTreeMap<usize, Fate>) -> Self {
        Self {
            fates,
            book: RuleBook::default(),
            lives: Vec::new(),
            alive: HashMap::new(),
            ghosts: HashMap::new(),
            groups: Keeping::default(),
            meters: Keeping::default(),
            unsure: HashSet::new(),
            blind: HashMap::new(),
            next_id: 0,
        }
    }

    pub(crate) fn finish(self, tables: &mut Tables) {
        tables.lives = self.lives;
        tables.groups = self.groups.all;
        tables.meters = self.meters.all;
        tables.blind = self.blind;
    }

    /// Decides an update as a coordinator would; an error says why it would not.
    fn decide(&mut self, switch: SwitchId, mods: &[SwitchMod]) -> Result<EntryKind, String> {
        let next_id = &mut self.next_id;
        let new_id = || {
            *next_id += 1;
            RuleId(*next_id)
        };
        let decided = self.book.change(switch, mods.to_vec(), new_id, usize::MAX);
        decided.map_err(|e| e.to_string())
    }

    /// An update that has taken effect.
    pub(crate) fn apply(
        &mut self,
        version: u32,
        command: usize,
        history: &History,
    ) -> Result<(), String> {
        let (switch, What::Update(mods)) = (
            history.commands[command].switch,
            &history.commands[command].what,
        ) else {
            return Ok(());
        };
        let change = match self.decide(switch, mods) {
            Ok(kind) => changes(kind),
            Err(_) if self.unsure.contains(&switch) => {
                self.blind.entry(switch).or_insert(version);
                return Ok(());
            }
            Err(e) => return Err(format!("an update that was carried out cannot be: {e}")),
        };
        for (id, rule) in &change.removed {
            if let Some(life) = self.alive.remove(id) {
                self.lives[life].to = version;
            }
            self.lay(version, command, &identity(switch, rule));
        }
        self.lay_deleted(version, command, switch, mods);
        for rule in &change.passed {
            self.lay(version, command, &identity(switch, rule));
        }
        for (id, rule) in change.added {
            self.lay(version, command, &identity(switch, &rule));
            let life = self.born(id, switch, rule, version, false);
            self.alive.insert(id, life);
        }
        if change.parts {
            let groups = self.book.groups(switch).into_iter().flat_map(|g| g.iter());
            let groups = groups.map(|g| (g.id, g));
            self.groups.keep(version, switch, groups);
            let meters = self.book.meters(switch).into_iter().flat_map(|m| m.iter());
            let meters = meters.map(|m| (m.id, m));
            self.meters.keep(version, switch, meters);
        }
        Ok(())
    }

    /// A rule has timed out, of which a controller was told: until then it was there.
    pub(crate) fn time_out(&mut self, version: u32, switch: SwitchId, removed: &Removed) {
        let Removed {
            table,
            priority,
            matching,
            ..
        } = removed;
        let same = |rule: &Rule| {
            (rule.table, rule.priority, &rule.matching) == (*table, *priority, matching)
        };
        let rules = self.book.table(switch).into_iter().flat_map(|t| t.iter());
        let found = rules
            .filter(|(_, rule)| same(rule))
            .map(|(id, _)| id)
            .next();
        if let Some(id) = found {
            let reason = lime_core::flow::RemovedReason::IdleTimeout;
            self.book.expire(switch, [(id, reason)]);
            if let Some(life) = self.alive.remove(&id) {
                let life = &mut self.lives[life];
                (life.to, life.optional) = (version, false);
            }
        }
        let of = (switch, *table, *priority, matching.clone());
        for ghost in self.ghosts.remove(&of).into_iter().flatten() {
            self.lives[ghost.life].to = version;
        }
    }

    /// From now on it is known again whether a rule is there, unless what may have made it may happen yet.
    fn lay(&mut self, version: u32, command: usize, identity: &Identity) {
        let Some(ghosts) = self.ghosts.get_mut(identity) else {
            return;
        };
        ghosts.retain(|g| {
            let gone = self.fates[&g.command].is_before(&self.fates[&command]);
            if gone {
                self.lives[g.life].to = version;
            }
            !gone
        });
    }

    /// The same for all that a delete would remove.
    fn lay_deleted(&mut self, version: u32, command: usize, switch: SwitchId, mods: &[SwitchMod]) {
        for deletes in mods.iter().filter_map(Deletes::of) {
            let ghosts = self.ghosts.values().flatten();
            let lives = ghosts.map(|g| &self.lives[g.life]);
            let selected: Vec<Identity> = lives
                .filter(|l| l.switch == switch && deletes.selects(&l.rule))
                .map(|l| identity(switch, &l.rule))
                .collect();
            for of in selected {
                self.lay(version, command, &of);
            }
        }
    }

    /// An update that may have taken effect at this version or later.
    pub(crate) fn maybe(&mut self, version: u32, command: usize, history: &History) {
        let (switch, What::Update(mods)) = (
            history.commands[command].switch,
            &history.commands[command].what,
        ) else {
            return;
        };
        let unsure = !self.unsure.insert(switch);
        if !mods.iter().all(|m| matches!(m, SwitchMod::Rule(_))) {
            // Which of two groups a rule runs, and whether what comes is refused, is left open.
            self.blind.entry(switch).or_insert(version);
            return;
        }
        let kind = match self.decide(switch, mods) {
            Ok(kind) => kind,
            // It would have been refused; or not, if something else had been.
            Err(_) => {
                if unsure {
                    self.blind.entry(switch).or_insert(version);
                }
                return;
            }
        };
        self.book.undo(&kind);
        let change = changes(kind);
        for (id, rule) in change.removed {
            // As far as is known it goes on; it may just as well not.
            let Some(life) = self.alive.get(&id).copied() else {
                continue;
            };
            if !self.lives[life].optional {
                self.lives[life].to = version;
                let ghost = self.born(id, switch, rule, version, true);
                self.alive.insert(id, ghost);
            }
        }
        for (id, rule) in change.added {
            let key = identity(switch, &rule);
            let life = self.born(id, switch, rule, version, true);
            let ghost = Ghost { life, command };
            self.ghosts.entry(key).or_default().push(ghost);
        }
    }

    fn born(
        &mut self,
        id: RuleId,
        switch: SwitchId,
        rule: Arc<Rule>,
        from: u32,
        optional: bool,
    ) -> usize {
        let fades = rule.idle_timeout != 0 || rule.hard_timeout != 0;
        if fades {
            self.unsure.insert(switch);
        }
        self.lives.push(Life {
            id,
            switch,
            rule,
            from,
            to: u32::MAX,
            optional: optional || fades,
        });
        self.lives.len() - 1
    }
}

fn changes(kind: EntryKind) -> Change {
    let (add, remove, passed) = match kind {
        EntryKind::Update {
            add,
            remove,
            passed,
            ..
        } => (add, remove, passed),
        _ => Default::default(),
    };
    let added = add.into_iter().map(|a| (a.id, a.rule));
    let removed = remove.into_iter().map(|r| (r.id, r.rule));
    let (rules, parts): (Vec<_>, Vec<_>) = added.partition(|(_, r)| r.part.is_none());
    let (gone, old): (Vec<_>, Vec<_>) = removed.partition(|(_, r)| r.part.is_none());
    Change {
        added: rules,
        removed: gone,
        passed: passed.into_iter().map(|p| p.rule).collect(),
        parts: !parts.is_empty() || !old.is_empty(),
    }
}

/// Which rules a change deletes.
enum Deletes<'a> {
    Selected(&'a RuleFilter, bool),
    OfGroup(Option<u32>),
    OfMeter(Option<u32>),
}

impl<'a> Deletes<'a> {
    fn of(change: &'a SwitchMod) -> Option<Self> {
        match change {
            SwitchMod::Rule(FlowMod::Delete(filter)) => Some(Self::Selected(filter, false)),
            SwitchMod::Rule(FlowMod::DeleteStrict(filter)) => Some(Self::Selected(filter, true)),
            SwitchMod::Group(GroupMod::Delete(which)) => Some(Self::OfGroup(*which)),
            SwitchMod::Meter(MeterMod::Delete(which)) => Some(Self::OfMeter(*which)),
            _ => None,
        }
    }

    fn selects(&self, rule: &Rule) -> bool {
        match self {
            Self::Selected(filter, strict) => filter.selects(rule, *strict),
            Self::OfGroup(which) => rule.groups().any(|g| which.is_none_or(|w| w == g)),
            Self::OfMeter(which) => rule.meter.is_some_and(|m| which.is_none_or(|w| w == m)),
        }
    }
}

/// Things of switches with numbers, as they come and go.
struct Keeping<T> {
    all: Vec<Kept<T>>,
    /// Where in `all` what is there now is.
    now: HashMap<(SwitchId, u32), usize>,
}

impl<T> Default for Keeping<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            now: HashMap::new(),
        }
    }
}

impl<T: Clone + PartialEq> Keeping<T> {
    /// These are what a switch has from a version on.
    fn keep<'t>(
        &mut self,
        version: u32,
        switch: SwitchId,
        there: impl Iterator<Item = (u32, &'t T)>,
    ) where
        T: 't,
    {
        let there: HashMap<u32, &T> = there.collect();
        self.now.retain(|&(of, number), &mut at| {
            let kept = &mut self.all[at];
            let stays = of != switch || there.get(&number).is_some_and(|t| **t == kept.what);
            if !stays {
                kept.to = version;
            }
            stays
        });
        for (number, what) in there {
            self.now.entry((switch, number)).or_insert_with(|| {
                self.all.push(Kept {
                    switch,
                    what: what.clone(),
                    from: version,
                    to: u32::MAX,
                });
                self.all.len() - 1
            });
        }
    }
}
