//! Versions of the tables: which rules there were at each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lime_core::flow::{Group, Meter, Rule};
use lime_core::{Epoch, RuleId, SwitchId};

use crate::record::{Answer, History, Nanos, Told, What};
use crate::replay::Replay;

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
}

/// A group or a meter, for as long as it was as it is here.
#[derive(Clone, Debug)]
pub(crate) struct Kept<T> {
    pub(crate) switch: SwitchId,
    pub(crate) what: T,
    /// First version that has it so.
    pub(crate) from: u32,
    /// First version that does not.
    pub(crate) to: u32,
}

/// What made a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// A rule timed out; of one epoch this comes first, as an update of it would have made way for the rule, or removed it.
    Timeout {
        switch: SwitchId,
        /// In [`History::removed`].
        rule: usize,
    },
    /// An update.
    Command(usize),
}

/// A change that has taken effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effective {
    pub(crate) by: By,
    pub(crate) version: u32,
    pub(crate) issued: Nanos,
    pub(crate) answered: Nanos,
}

/// All versions.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) lives: Vec<Life>,
    pub(crate) groups: Vec<Kept<Group>>,
    pub(crate) meters: Vec<Kept<Meter>>,
    /// Switches of which nothing is known from a version on.
    pub(crate) blind: HashMap<SwitchId, u32>,
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
pub(crate) struct Fate {
    issued: Nanos,
    answered: Nanos,
    answer: Answer,
    /// The channel, if that is FIFO.
    fifo: Option<usize>,
}

impl Fate {
    /// Whether it can only have happened before the other, if it did.
    pub(crate) fn is_before(&self, other: &Fate) -> bool {
        let same = self.fifo.is_some() && self.fifo == other.fifo;
        self.answered < other.issued || same && self.issued < other.issued
    }
}

impl Tables {
    /// Replays all updates. An error says what of the history cannot be.
    pub(crate) fn new(history: &History) -> Result<Self, String> {
        let fates = fates(history);
        let mut tables = Self::default();
        let mut done: Vec<(Epoch, By, Nanos, Nanos)> = timeouts(history);
        let mut uncertain: Vec<(Nanos, usize)> = Vec::new();
        for (&command, fate) in &fates {
            match (&history.commands[command].what, fate.answer) {
                (What::Update(_), Answer::Updated(epoch)) => {
                    done.push((epoch, By::Command(command), fate.issued, fate.answered));
                }
                (What::Update(_), Answer::Lost | Answer::Done) => {
                    uncertain.push((fate.issued, command));
                }
                _ => {}
            }
        }
        // Those of one epoch are one after the other, too: packets are never handled between them, but packet-outs may be.
        done.sort_unstable_by_key(|&(epoch, by, issued, _)| {
            (epoch.0, matches!(by, By::Command(_)), issued, by)
        });
        in_order(&done, &fates)?;
        uncertain.sort_unstable();
        for &(epoch, by, issued, answered) in &done {
            tables.epochs.push(epoch);
            let version = tables.epochs.len() as u32;
            if let By::Command(command) = by {
                tables.of.insert(command, version);
            }
            tables.effective.push(Effective {
                by,
                version,
                issued,
                answered,
            });
        }
        tables.index();
        // What may have happened, may have at the lowest version possible.
        let least = |command: usize| {
            let before = tables.of.iter();
            let before = before.filter(|(c, _)| fates[*c].is_before(&fates[&command]));
            before.map(|(_, version)| *version).max().unwrap_or(0)
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
                replay.maybe(version, command, history);
            }
            match next.map(|e| (e.version, e.by)) {
                Some((version, By::Command(command))) => replay.apply(version, command, history)?,
                Some((version, By::Timeout { switch, rule })) => {
                    replay.time_out(version, switch, &history.removed[rule]);
                }
                None => {}
            }
        }
        replay.finish(&mut tables);
        Ok(tables)
    }

    /// The first and the last version of an epoch; none: it changed nothing that is known.
    pub(crate) fn of_epoch(&self, epoch: Epoch) -> Option<(u32, u32)> {
        let first = self.epochs.partition_point(|e| e.0 < epoch.0) as u32;
        let last = self.epochs.partition_point(|e| e.0 <= epoch.0) as u32;
        (first < last).then_some((first + 1, last))
    }

    fn index(&mut self) {
        let answered = |e: &Effective| match e.by {
            By::Command(command) => Some((e.answered, e.version, command)),
            // Nobody was answered.
            By::Timeout { .. } => None,
        };
        let mut by_answer: Vec<_> = self.effective.iter().filter_map(answered).collect();
        by_answer.sort_unstable();
        let mut most = (0, usize::MAX);
        for (at, version, command) in by_answer {
            if version > most.0 {
                most = (version, command);
            }
            self.answered.push((at, most.0, most.1));
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

/// Rules that timed out and whose end is told, each once.
fn timeouts(history: &History) -> Vec<(Epoch, By, Nanos, Nanos)> {
    let mut found: Vec<(Epoch, By, Nanos, Nanos)> = Vec::new();
    for (_, told) in history.channels.iter().flat_map(|c| &c.seen) {
        let &Told::Removed {
            switch,
            rule,
            epoch,
        } = told
        else {
            continue;
        };
        let removed = &history.removed[rule];
        let known = found.iter().any(|(e, by, ..)| {
            matches!(by, By::Timeout { switch: s, rule: r }
                if (e, *s) == (&epoch, switch) && history.removed[*r] == *removed)
        });
        if removed.timed_out && !known {
            // Nobody asked for it, so that it may have been at any time.
            found.push((epoch, By::Timeout { switch, rule }, 0, Nanos::MAX));
        }
    }
    found
}

/// Updates of one channel take effect in the order in which they were given.
fn in_order(
    done: &[(Epoch, By, Nanos, Nanos)],
    fates: &BTreeMap<usize, Fate>,
) -> Result<(), String> {
    let mut last: HashMap<usize, (Nanos, usize)> = HashMap::new();
    for &(epoch, by, issued, _) in done {
        let By::Command(command) = by else { continue };
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
                Told::Event { .. } | Told::Removed { .. } => {}
            }
        }
    }
    fates
}
