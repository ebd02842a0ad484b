//! Rule 14: idle timeouts by promise. Rounds and votes are production code, and what stands on a new stream is too.
//!
//! There is no time here: that a rule is idle for a host means that it was not matched there since the round began. What was matched before
//! may be long ago.

use std::collections::BTreeSet;

use lime_core::HostId;
use lime_core::log::EntryKind;
use lime_core::promise::{Ended, PATIENCE, Round, standing};

use crate::coordinator::Waiter;
use crate::history::Told;
use crate::host::{After, Down, Matched, Up};
use crate::mutation::Mutation;
use crate::world::{Action, Setting, Step, Violation, World, host_id, switch_id};

/// Whether an entry takes the rule away, for whatever reason.
fn removes(rule: u8) -> impl Fn(&EntryKind) -> bool {
    let id = u64::from(rule) + 1;
    move |kind| matches!(kind, EntryKind::Update { remove, .. } if remove.iter().any(|r| r.id.0 == id))
}

// ---- the host's half ----

impl World {
    /// Whether a packet that would match the rule is to wait.
    pub(crate) fn waits(&self, setting: &Setting, h: u8, rule: u8) -> bool {
        let idle = setting.scenario.idle();
        self.hosts[h as usize].promised && idle.is_some_and(|(idle, _)| idle == rule)
    }

    pub(crate) fn asked(&mut self, setting: &Setting, h: u8, round: Round) {
        let host = &mut self.hosts[h as usize];
        host.promised = !setting.without(Mutation::NoPromise);
        host.asked = Some(round);
        host.after.push_back(After::Vote(round));
    }

    /// A grace period: whatever was looked up before the promise has been counted.
    pub(crate) fn may_vote(&self, setting: &Setting, h: u8) -> bool {
        let Some((idle, _)) = setting.scenario.idle() else {
            return true;
        };
        let mut in_hand = self.hosts[h as usize].in_hand.iter();
        setting.without(Mutation::VoteBeforeGrace)
            || !in_hand.any(|p| p.matched == Matched::Rule(idle))
    }

    pub(crate) fn votes(&mut self, setting: &Setting, h: u8, round: Round) {
        let host = &mut self.hosts[h as usize];
        let mut idle = false;
        if host.asked == Some(round) {
            host.asked = None;
            idle = !host.used;
            host.promised &= idle;
        }
        host.up.push_back(Up::Vote(round, idle));
        if idle && (self.promised_in < round) {
            self.promised_in = round;
            self.matched_since = false;
        }
        debug_assert!(!idle || host.promised || setting.without(Mutation::NoPromise));
    }

    pub(crate) fn stands(&mut self, setting: &Setting, h: u8, stands: bool) {
        let host = &mut self.hosts[h as usize];
        host.asked = None;
        if stands {
            host.promised |= !setting.without(Mutation::PromiseLostAtRestart);
        } else if !setting.without(Mutation::PromiseNotLifted) {
            host.promised = false;
        }
    }

    /// Packets that need not wait any more enter again, in their order.
    pub(crate) fn release_waiting(&mut self, setting: &Setting, h: u8) {
        let Some((idle, _)) = setting.scenario.idle() else {
            return;
        };
        let host = &mut self.hosts[h as usize];
        let clock = host.clock;
        let mut versions = host.rules.iter();
        let there = versions.any(|v| v.rule == idle && v.visible(clock));
        if host.promised && there {
            return;
        }
        for packet in std::mem::take(&mut host.waiting) {
            self.enter(setting, h, packet);
        }
    }

    pub(crate) fn idle_rule_matched(&mut self, h: u8) {
        self.hosts[h as usize].used = true;
        self.matched_since = true;
        self.broken |= self.removing;
    }

    /// In the end, no packet waits, and no promise is left that nobody needs.
    pub(crate) fn nobody_waits(&self) -> Step {
        if let Some(h) = self.hosts.iter().position(|h| !h.waiting.is_empty()) {
            return Err(Violation::Stuck(format!(
                "a packet waits at host {h} for a decision that never comes"
            )));
        }
        if !self.coordinator.rounds.is_empty() {
            return Err(Violation::Stuck("a round of votes never ends".to_owned()));
        }
        Ok(())
    }
}

// ---- the coordinator's half ----

impl World {
    /// Hosts where packets may match the switch's rules.
    fn voters(&self, switch: u8) -> BTreeSet<HostId> {
        let switch = self.coordinator.model.switches.get(&switch_id(switch));
        let instances = switch.iter().flat_map(|s| &s.instances);
        let active = instances.filter(|(_, state)| !state.is_learning());
        active.map(|(host, _)| *host).collect()
    }

    /// Whether the rule is there, seen from behind everything that is decided.
    fn is_there(&self, rule: u8) -> bool {
        let c = &self.coordinator;
        let removes = removes(rule);
        !c.log.iter().any(|e| removes(&e.kind)) && !c.sequencer.undone().any(removes)
    }

    pub(crate) fn idle_actions(&self, setting: &Setting, all: &mut Vec<Action>) {
        let Some((rule, command)) = setting.scenario.idle() else {
            return;
        };
        if !self.coordinator.rounds.is_empty() {
            all.push(Action::GiveUp);
            return;
        }
        let voters = self.voters(setting.scenario.rules[rule as usize].switch);
        let heard = |h: &HostId| self.hosts[(h.0 - 1) as usize].heard;
        let admits = self.coordinator.admits;
        // Each command is issued once: what was undone does not come again.
        let first = !self.history.controller.contains(&Told::Issued(command));
        let may = self.rounds > 0 && first && admits;
        if may && voters.iter().all(heard) && self.is_there(rule) {
            all.push(Action::Ask);
        }
    }

    pub(crate) fn ask(&mut self, setting: &Setting) {
        let Some((rule, _)) = setting.scenario.idle() else {
            return;
        };
        self.rounds -= 1;
        let switch = setting.scenario.rules[rule as usize].switch;
        let voters = self.voters(switch);
        let id = lime_core::RuleId(u64::from(rule) + 1);
        let rounds = &mut self.coordinator.rounds;
        let round = rounds.ask(switch_id(switch), [id], voters.clone(), 0);
        for host in &mut self.hosts {
            host.used = false;
        }
        for host in voters {
            self.tell((host.0 - 1) as u8, Down::Ask(round));
        }
    }

    pub(crate) fn voted(&mut self, setting: &Setting, h: u8, round: Round, idle: bool) -> Step {
        let Some((rule, _)) = setting.scenario.idle() else {
            return Ok(());
        };
        let id = lime_core::RuleId(u64::from(rule) + 1);
        let promised = idle.then_some(id);
        let rounds = &mut self.coordinator.rounds;
        let mut ended = rounds.vote(host_id(h), round, promised);
        if setting.without(Mutation::NotAllVotes) && idle {
            for other in 0..setting.scenario.hosts {
                ended = ended.or_else(|| rounds.vote(host_id(other), round, promised));
            }
        }
        match ended {
            Some(ended) => self.decide(setting, &ended),
            None => Ok(()),
        }
    }

    /// The host's stream has ended, or there is a new one.
    pub(crate) fn round_lost(&mut self, setting: &Setting, h: u8) {
        for ended in self.coordinator.rounds.gone(host_id(h)) {
            self.lift(setting, &ended);
        }
    }

    pub(crate) fn give_up(&mut self, setting: &Setting) {
        for ended in self.coordinator.rounds.overdue(PATIENCE) {
            self.lift(setting, &ended);
        }
    }

    fn lift(&mut self, setting: &Setting, ended: &Ended) {
        let decision = ended.decide(&BTreeSet::new(), false, |_| false);
        if !decision.lift.is_empty() {
            self.tell_lifted(setting, ended);
        }
    }

    fn tell_lifted(&mut self, setting: &Setting, ended: &Ended) {
        if setting.without(Mutation::PromiseNotLifted) {
            return;
        }
        for host in &ended.hosts {
            self.tell((host.0 - 1) as u8, Down::Lift);
        }
    }

    fn decide(&mut self, setting: &Setting, ended: &Ended) -> Step {
        let Some((rule, command)) = setting.scenario.idle() else {
            return Ok(());
        };
        let switch = setting.scenario.rules[rule as usize].switch;
        let mut voters = self.voters(switch);
        let mut may = !self.coordinator.sequencer.awaits_join(ended.switch);
        if setting.without(Mutation::JoinBesideRound) {
            voters.clear();
            may = true;
        }
        let decision = ended.decide(&voters, may, |_| self.is_there(rule));
        if !decision.lift.is_empty() {
            self.tell_lifted(setting, ended);
        }
        if decision.remove.is_empty() {
            return Ok(());
        }
        if self.matched_since {
            self.broken = true;
        }
        self.removing = true;
        self.history.tell(Told::Issued(command));
        let c = &mut self.coordinator;
        let ticket = c.sequencer.submit(setting.expire(rule));
        c.last = ticket;
        c.waiters.push((ticket, Waiter::Command(command)));
        self.controller.open |= 1 << command;
        Ok(())
    }

    /// A removal will not be: its promises are lifted.
    pub(crate) fn removal_undone(&mut self, setting: &Setting, kind: &EntryKind) {
        if standing([kind]).is_empty() || setting.without(Mutation::PromiseNotLifted) {
            return;
        }
        self.removing = false;
        for h in 0..self.hosts.len() as u8 {
            self.tell(h, Down::Lift);
        }
    }

    /// On a new stream.
    pub(crate) fn say_what_stands(&mut self, setting: &Setting, h: u8) {
        let Some((rule, _)) = setting.scenario.idle() else {
            return;
        };
        let standing = standing(self.coordinator.sequencer.undone());
        let stands = standing.contains(&lime_core::RuleId(u64::from(rule) + 1));
        self.tell(h, Down::Stands(stands));
    }
}
