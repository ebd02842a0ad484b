//! Rules that time out: rule 14. What is due is removed by an entry of the log; before an idle rule goes, all its instances have said
//! that nothing has matched it for long enough.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use lime_core::flow::RemovedReason;
use lime_core::log::MAX_PENDING;
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

    fn ask_whether_idle(&mut self, switch: SwitchId, ids: Vec<RuleId>) {
        let voters = self.voters(switch);
        if !voters.iter().all(|h| self.sessions.contains_key(h)) {
            self.put_off(&ids);
            return;
        }
        let network = self.model.id.0;
        let answers = voters.iter().filter_map(|host| {
            let session = self.sessions.get(host)?;
            let answer = session.request(|request_id| {
                Message::ReadCounters(v1::ReadCounters {
                    request_id,
                    network,
                    switch_id: switch.0,
                    rules: true,
                    rule_ids: ids.iter().map(|id| id.0).collect(),
                    devices: false,
                })
            });
            let host = *host;
            Some(async move { (host, answer.await) })
        });
        let answers = join_all(answers.collect::<Vec<_>>());
        self.later(answers, move |state, answers| {
            let mut heard = BTreeSet::new();
            for (host, answer) in answers {
                if let Ok(v1::Done {
                    error: None,
                    result: Some(v1::done::Result::Counters(counters)),
                    ..
                }) = answer
                {
                    state.observe(host, &counters);
                    heard.insert(host);
                }
            }
            // One that has joined meanwhile is asked too, in another round.
            if !state.voters(switch).is_subset(&heard) {
                state.put_off(&ids);
                return;
            }
            let now = state.shared.clock.now_ms();
            let idle = ids.into_iter();
            let idle = idle
                .filter(|id| state.timeouts.answered(*id, now))
                .collect();
            state.expire(switch, idle, RemovedReason::IdleTimeout);
        });
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
