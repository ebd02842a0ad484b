//! Rules that time out: rule 14. What is due is removed by an entry of the log; before an idle rule goes, all its instances have promised
//! that nothing will match it any more. What is decided of that, and when promises stand, is [`lime_core::promise`]'s.

use std::collections::{BTreeMap, BTreeSet};

use lime_core::flow::RemovedReason;
use lime_core::log::{EntryKind, MAX_PENDING};
use lime_core::promise::{Ended, Round, standing};
use lime_core::timeouts::Due;
use lime_core::{HostId, RuleId, SwitchId};
use lime_proto::v1;
use v1::coordinator_message::Message;

use super::state::State;

/// Rules asked about in one message.
const ASKED: usize = 20_000;

impl State {
    /// Removes what has timed out, and asks about what may have.
    pub(super) fn check_timeouts(&mut self) {
        self.end_overdue_rounds();
        let now = self.shared.clock.now_ms();
        let mut hard: BTreeMap<SwitchId, Vec<RuleId>> = BTreeMap::new();
        let mut idle: BTreeMap<SwitchId, Vec<RuleId>> = BTreeMap::new();
        for due in self.timeouts.due(now) {
            match due {
                Due::Hard(switch, id) => hard.entry(switch).or_default().push(id),
                Due::Idle(switch, id) => idle.entry(switch).or_default().push(id),
            }
        }
        for (switch, ids) in hard {
            self.expire(switch, ids, RemovedReason::HardTimeout);
        }
        for (switch, ids) in idle {
            for ids in ids.chunks(ASKED) {
                self.ask_whether_idle(switch, ids.to_vec());
            }
        }
    }

    /// Takes rules out that have timed out, or lost what they used.
    pub fn expire(&mut self, switch: SwitchId, ids: Vec<RuleId>, why: RemovedReason) {
        if self.seq.pending() > MAX_PENDING {
            self.put_off(&ids);
            return;
        }
        let Some(mut kind) = self
            .rules
            .expire(switch, ids.into_iter().map(|id| (id, why)))
        else {
            return;
        };
        self.begin_lifetimes(&mut kind);
        self.submit(kind);
    }

    fn put_off(&mut self, ids: &[RuleId]) {
        let now = self.shared.clock.now_ms();
        for id in ids {
            self.timeouts.put_off(*id, now);
        }
    }

    /// Hosts where packets may match the switch's rules.
    fn voters(&self, switch: SwitchId) -> BTreeSet<HostId> {
        let switch = self.model.switches.get(&switch);
        let instances = switch.iter().flat_map(|s| &s.instances);
        let active = instances.filter(|(_, state)| !state.is_learning());
        active.map(|(host, _)| *host).collect()
    }

    /// Begins a round. Nobody waits for it: votes come when they come, and a round that is not complete in time is over.
    fn ask_whether_idle(&mut self, switch: SwitchId, ids: Vec<RuleId>) {
        let voters = self.voters(switch);
        if !voters.iter().all(|h| self.sessions.contains_key(h)) {
            self.put_off(&ids);
            return;
        }
        let now = self.shared.clock.now_ms();
        if voters.is_empty() {
            // Nobody processes its packets, so that nobody is to be asked.
            let idle = ids.into_iter();
            let idle = idle.filter(|id| self.timeouts.answered(*id, now)).collect();
            self.expire(switch, idle, RemovedReason::IdleTimeout);
            return;
        }
        let rules = ids.iter().copied();
        let round = self.rounds.ask(switch, rules, voters.clone(), now);
        for host in voters {
            self.send(
                host,
                Message::AskIdle(v1::AskIdle {
                    network: self.model.id.0,
                    round: round.0,
                    rule_ids: ids.iter().map(|id| id.0).collect(),
                }),
            );
        }
    }

    /// A host has voted.
    pub(super) fn voted(&mut self, host: HostId, vote: &v1::IdleVote) {
        self.observe_rules(host, &vote.used);
        self.observe_rules(host, &vote.promised);
        let promised = vote.promised.iter().map(|c| RuleId(c.rule_id));
        let Some(ended) = self.rounds.vote(host, Round(vote.round), promised) else {
            return;
        };
        let voters = self.voters(ended.switch);
        let may = self.seq.pending() <= MAX_PENDING && !self.seq.awaits_join(ended.switch);
        let now = self.shared.clock.now_ms();
        let timeouts = &mut self.timeouts;
        let decision = ended.decide(&voters, may, |id| timeouts.answered(id, now));
        self.put_off(&decision.stay);
        self.expire(ended.switch, decision.remove, RemovedReason::IdleTimeout);
        self.lift(ended.hosts, &decision.lift);
    }

    /// A host's stream has ended, or there is a new one: its rounds are over.
    pub(super) fn end_rounds_of(&mut self, host: HostId) {
        let ended = self.rounds.gone(host);
        self.end_undecided(ended);
    }

    fn end_overdue_rounds(&mut self) {
        let now = self.shared.clock.now_ms();
        let ended = self.rounds.overdue(now);
        self.end_undecided(ended);
    }

    fn end_undecided(&mut self, ended: Vec<Ended>) {
        for ended in ended {
            let decision = ended.decide(&BTreeSet::new(), false, |_| false);
            self.put_off(&decision.stay);
            self.lift(ended.hosts, &decision.lift);
        }
    }

    /// Rules stay of which these hosts may have promised that they will not match.
    fn lift(&self, hosts: impl IntoIterator<Item = HostId>, rules: &[RuleId]) {
        for host in hosts {
            for part in rules.chunks(ASKED) {
                self.send(
                    host,
                    Message::LiftPromises(v1::LiftPromises {
                        network: self.model.id.0,
                        rule_ids: part.iter().map(|id| id.0).collect(),
                    }),
                );
            }
        }
    }

    /// A change will not be: what was promised for it is lifted.
    pub(super) fn lift_promises_for(&self, kind: &EntryKind) {
        let lifted: Vec<RuleId> = standing([kind]).into_iter().collect();
        self.lift(self.sessions.keys().copied(), &lifted);
    }

    /// On a new stream: which promises stand, and that no other does.
    pub(super) fn say_what_stands(&self, host: HostId) {
        let rules: Vec<u64> = standing(self.seq.undone()).iter().map(|r| r.0).collect();
        let mut parts = rules.chunks(ASKED).peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let more = parts.peek().is_some();
            self.send(
                host,
                Message::StandingPromises(v1::StandingPromises {
                    network: self.model.id.0,
                    rule_ids: part.to_vec(),
                    more,
                }),
            );
            if !more {
                break;
            }
        }
    }

    /// A host has said when it last had a match of the rule.
    pub(super) fn note_use(&mut self, switch: SwitchId, rule: RuleId, idle_ms: Option<u64>) {
        let Some(idle) = idle_ms else { return };
        let at = self.shared.clock.now_ms().saturating_sub(idle);
        // What was matched before it was modified was used all the same.
        let rule = self.rules.heir(switch, rule).unwrap_or(rule);
        self.timeouts.used(rule, at);
    }
}
