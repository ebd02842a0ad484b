//! Versions of the tables: which rules there were at each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lime_core::flow::{Delta, FlowMod, FlowTable, Match, Rule};
use lime_core::{Epoch, RuleId, SwitchId};

use crate::record::{Answer, History, Nanos, Told, What};

/// A rule, for as long as it was there.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) id: RuleId,
    pub(crate) switch: SwitchId,
    pub(crate) rule: Arc<Rule>,
    /// First version that has it.
    pub(crate) from: u32,
    /// First version that does not; `u32::MAX`: it stays.
    pub(crate) to: u32,
    /// Nobody knows whether it was there.
    pub(crate) optional: bool,
    /// What it does with a packet cannot be told from the packet.
    pub(crate) opaque: bool,
}

/// An update that has taken effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effective {
    pub(crate) command: usize,
    pub(crate) version: u32,
    pub(crate) issued: Nanos,
    pub(crate) answered: Nanos,
}

/// All versions.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) lives: Vec<Life>,
    /// Epoch of each version from 1 on.
    pub(crate) epochs: Vec<Epoch>,
    /// By version.
    pub(crate) effective: Vec<Effective>,
    /// Version of each command that has one.
    pub(crate) of: HashMap<usize, u32>,
    /// By time of the answer: the highest version that had been answered by then, and the command that was.
    answered: Vec<(Nanos, u32, usize)>,
    /// By time of issue, from the last on: the lowest version that was issued then or later.
    issued: Vec<(Nanos, u32)>,
}

/// When, and in which order, a command was issued and answered.
#[derive(Clone, Copy)]
struct Fate {
    issued: Nanos,
    answered: Nanos,
    answer: Answer,
    /// The channel, if that is FIFO.
    fifo: Option<usize>,
}

impl Fate {
    /// Whether it can only have happened before the other, if it did.
    fn is_before(&self, other: &Fate) -> bool {
        let same = self.fifo.is_some() && self.fifo == other.fifo;
        self.answered < other.issued || same && self.issued < other.issued
    }
}

impl Tables {
    /// Replays all updates. An error says what of the history cannot be.
    pub(crate) fn new(history: &History) -> Result<Self, String> {
        let fates = fates(history);
        let mut tables = Self::default();
        let mut done: Vec<(Epoch, Nanos, usize)> = Vec::new();
        let mut uncertain: Vec<(Nanos, usize)> = Vec::new();
        for (&command, fate) in &fates {
            match (&history.commands[command].what, fate.answer) {
                (What::Update(_), Answer::Updated(epoch)) => {
                    done.push((epoch, fate.issued, command));
                }
                (What::Update(_), Answer::Lost | Answer::Done) => {
                    uncertain.push((fate.issued, command));
                }
                _ => {}
            }
        }
        done.sort_unstable_by_key(|d| (d.0.0, d.1, d.2));
        in_order(&done, &fates)?;
        uncertain.sort_unstable();
        for &(epoch, issued, command) in &done {
            // Updates that share an epoch are one after the other, too: packets are never handled between them, but packet-outs may be.
            tables.epochs.push(epoch);
            let version = tables.epochs.len() as u32;
            tables.of.insert(command, version);
            tables.effective.push(Effective {
                command,
                version,
                issued,
                answered: fates[&command].answered,
            });
        }
        tables.index();
        // What may have happened, may have at the lowest version possible.
        let least = |command: usize| {
            let before = tables.effective.iter();
            let before = before.filter(|e| fates[&e.command].is_before(&fates[&command]));
            before.map(|e| e.version).max().unwrap_or(0)
        };
        let mut waiting: Vec<(u32, usize)> = uncertain
            .iter()
            .map(|&(_, command)| (least(command), command))
            .collect();
        waiting.sort_by_key(|w| w.0);
        let mut replay = Replay::new(&fates);
        let mut waiting = waiting.into_iter().peekable();
        for i in 0..=tables.effective.len() {
            let next = tables.effective.get(i);
            let before = next.map_or(u32::MAX, |e| e.version);
            while let Some((version, command)) = waiting.next_if(|w| w.0 < before) {
                replay.maybe(version, command, history)?;
            }
            if let Some(e) = next {
                replay.apply(e.version, e.command, history)?;
            }
        }
        tables.lives = replay.lives;
        Ok(tables)
    }

    fn index(&mut self) {
        let mut by_answer: Vec<&Effective> = self.effective.iter().collect();
        by_answer.sort_by_key(|e| e.answered);
        let mut most = (0, usize::MAX);
        for e in by_answer {
            if e.version > most.0 {
                most = (e.version, e.command);
            }
            self.answered.push((e.answered, most.0, most.1));
        }
        let mut by_issue: Vec<&Effective> = self.effective.iter().collect();
        by_issue.sort_by_key(|e| e.issued);
        let mut least = u32::MAX;
        for e in by_issue.into_iter().rev() {
            least = least.min(e.version);
            self.issued.push((e.issued, least));
        }
    }

    /// How many versions there are besides the first.
    pub(crate) fn last(&self) -> u32 {
        self.epochs.len() as u32
    }

    /// The highest version whose update had been answered by then, and the update.
    pub(crate) fn answered_before(&self, at: Nanos) -> (u32, usize) {
        let n = self.answered.partition_point(|a| a.0 < at);
        n.checked_sub(1).map_or((0, usize::MAX), |i| {
            (self.answered[i].1, self.answered[i].2)
        })
    }

    /// The highest version that there can have been by then: behind it are updates that nobody had given yet.
    pub(crate) fn possible_at(&self, at: Nanos) -> u32 {
        let n = self.issued.partition_point(|i| i.0 > at);
        let least = n.checked_sub(1).map_or(u32::MAX, |i| self.issued[i].1);
        self.last().min(least.saturating_sub(1))
    }
}

/// Updates of one channel take effect in the order in which they were given.
fn in_order(done: &[(Epoch, Nanos, usize)], fates: &BTreeMap<usize, Fate>) -> Result<(), String> {
    let mut last: HashMap<usize, (Nanos, usize)> = HashMap::new();
    for &(epoch, issued, command) in done {
        let Some(channel) = fates[&command].fifo else {
            continue;
        };
        if let Some((before, other)) = last.insert(channel, (issued, command))
            && before > issued
        {
            return Err(format!(
                "command {command} took effect with epoch {epoch}, behind command {other} of the same channel, which was given after it"
            ));
        }
    }
    Ok(())
}

/// What became of each command.
fn fates(history: &History) -> BTreeMap<usize, Fate> {
    let mut fates = BTreeMap::new();
    for (n, channel) in history.channels.iter().enumerate() {
        for &(at, told) in &channel.seen {
            match told {
                Told::Issued(command) => {
                    let fate = Fate {
                        issued: at,
                        answered: Nanos::MAX,
                        answer: Answer::Lost,
                        fifo: channel.fifo.then_some(n),
                    };
                    fates.insert(command, fate);
                }
                Told::Answered(command, answer) => {
                    if let Some(fate) = fates.get_mut(&command) {
                        (fate.answered, fate.answer) = (at, answer);
                    }
                }
                Told::Event { .. } => {}
            }
        }
    }
    fates
}

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

struct Replay<'a> {
    fates: &'a BTreeMap<usize, Fate>,
    tables: HashMap<SwitchId, FlowTable>,
    lives: Vec<Life>,
    /// Where in `lives` what is there now is.
    alive: HashMap<RuleId, usize>,
    /// What may be there beside, and what only may be.
    ghosts: HashMap<Identity, Vec<Ghost>>,
    next_id: u64,
}

impl<'a> Replay<'a> {
    fn new(fates: &'a BTreeMap<usize, Fate>) -> Self {
        Self {
            fates,
            tables: HashMap::new(),
            lives: Vec::new(),
            alive: HashMap::new(),
            ghosts: HashMap::new(),
            next_id: 0,
        }
    }

    fn delta(&mut self, command: usize, history: &History, keep: bool) -> Result<Delta, String> {
        let command = &history.commands[command];
        let What::Update(mods) = &command.what else {
            return Ok(Delta::default());
        };
        let table = self.tables.entry(command.switch).or_default();
        let next_id = &mut self.next_id;
        let new_id = || {
            *next_id += 1;
            RuleId(*next_id)
        };
        let delta = table
            .apply(mods.iter().cloned(), usize::MAX, new_id)
            .map_err(|e| format!("an update that was carried out cannot be: {e}"))?;
        if !keep {
            table.revert(delta.clone());
        }
        Ok(delta)
    }

    fn apply(&mut self, version: u32, command: usize, history: &History) -> Result<(), String> {
        let switch = history.commands[command].switch;
        let delta = self.delta(command, history, true)?;
        for (id, rule) in &delta.removed {
            if let Some(life) = self.alive.remove(id) {
                self.lives[life].to = version;
            }
            self.lay(version, command, &identity(switch, rule));
        }
        if let What::Update(mods) = &history.commands[command].what {
            self.lay_deleted(version, command, switch, mods);
        }
        for (id, added) in delta.added {
            self.lay(version, command, &identity(switch, &added.rule));
            let life = self.born(id, switch, added.rule, version, false);
            self.alive.insert(id, life);
        }
        Ok(())
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
    fn lay_deleted(&mut self, version: u32, command: usize, switch: SwitchId, mods: &[FlowMod]) {
        for m in mods {
            let (filter, strict) = match m {
                FlowMod::Delete(filter) => (filter, false),
                FlowMod::DeleteStrict(filter) => (filter, true),
                _ => continue,
            };
            let ghosts = self.ghosts.values().flatten();
            let lives = ghosts.map(|g| &self.lives[g.life]);
            let selected: Vec<Identity> = lives
                .filter(|l| l.switch == switch && filter.selects(&l.rule, strict))
                .map(|l| identity(switch, &l.rule))
                .collect();
            for of in selected {
                self.lay(version, command, &of);
            }
        }
    }

    /// An update that may have taken effect at this version or later.
    fn maybe(&mut self, version: u32, command: usize, history: &History) -> Result<(), String> {
        let switch = history.commands[command].switch;
        let delta = self.delta(command, history, false)?;
        for (id, rule) in delta.removed {
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
        for (id, added) in delta.added {
            let key = identity(switch, &added.rule);
            let life = self.born(id, switch, added.rule, version, true);
            let ghost = Ghost { life, command };
            self.ghosts.entry(key).or_default().push(ghost);
        }
        Ok(())
    }

    fn born(
        &mut self,
        id: RuleId,
        switch: SwitchId,
        rule: Arc<Rule>,
        from: u32,
        optional: bool,
    ) -> usize {
        let opaque = rule.groups().next().is_some() || rule.meter.is_some();
        let fades = rule.idle_timeout != 0 || rule.hard_timeout != 0 || opaque;
        self.lives.push(Life {
            id,
            switch,
            rule,
            from,
            to: u32::MAX,
            optional: optional || fades,
            opaque,
        });
        self.lives.len() - 1
    }
}
