//! Idle timeouts by promise (rule 14): rounds of votes, and which promises stand.
//!
//! Before an idle rule goes, all instances of its switch are asked, in a *round*. An instance that has had no match of the rule for long enough
//! promises that there will be none until the decision is known, and says so; what would match waits. The rule goes, by an entry of the log,
//! only if all have promised. Otherwise those who have are told that the promise is lifted.
//!
//! A round ends without a decision when one of those that were asked is gone or does not answer, and when an instance has joined
//! meanwhile that was not asked. Once the removal is decided, the promises stand until it has taken effect or is void. What stands is what the log says,
//! and nothing else: [`standing`].

use std::collections::{BTreeMap, BTreeSet};

use crate::flow::RemovedReason;
use crate::log::EntryKind;
use crate::{HostId, RuleId, SwitchId};

/// How long a round waits for votes, milliseconds. Less than the shortest idle timeout: what an instance matched after another one's
/// promise of the same round was then matched too lately for it to promise too.
pub const PATIENCE: u64 = 900;
const _: () = assert!(PATIENCE < 1000, "an idle timeout is a second at least");

/// Names a round, within one life of the coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u64);

/// A round that is under way.
#[derive(Clone, Debug, Hash)]
struct Open {
    switch: SwitchId,
    hosts: BTreeSet<HostId>,
    missing: BTreeSet<HostId>,
    /// How many have promised.
    rules: BTreeMap<RuleId, usize>,
    until: u64,
}

/// The rounds of one network that are under way.
#[derive(Clone, Debug, Default, Hash)]
pub struct Rounds {
    last: Round,
    open: BTreeMap<Round, Open>,
}

/// A round that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Ended {
    /// The switch.
    pub switch: SwitchId,
    /// Those that were asked and are still to be reached.
    pub hosts: BTreeSet<HostId>,
    /// For each rule, whether all have promised, and whether anybody may have.
    rules: Vec<(RuleId, bool, bool)>,
}

/// What becomes of the rules of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// They go.
    pub remove: Vec<RuleId>,
    /// They stay, and are asked about again in time.
    pub stay: Vec<RuleId>,
    /// Of those that stay: to be told to the round's hosts, since some may have promised.
    pub lift: Vec<RuleId>,
}

impl Open {
    fn end(self, complete: bool) -> Ended {
        let all = self.hosts.len();
        let rules = self.rules.into_iter();
        let rules = rules.map(|(id, n)| (id, complete && n == all, !complete || n > 0));
        Ended {
            switch: self.switch,
            hosts: self.hosts,
            rules: rules.collect(),
        }
    }
}

impl Ended {
    /// Decides. `voters`: where packets may match the switch's rules now; `may`: nothing else speaks against a removal, which no join that
    /// is decided already may come before. `idle` says of each rule that all have promised whether it is there and its time has come.
    pub fn decide(
        &self,
        voters: &BTreeSet<HostId>,
        may: bool,
        mut idle: impl FnMut(RuleId) -> bool,
    ) -> Decision {
        let asked = may && voters.is_subset(&self.hosts);
        let mut decision = Decision::default();
        for &(id, unanimous, anybody) in &self.rules {
            // Asked in any case: that also sets when it is asked about again.
            if idle(id) && unanimous && asked {
                decision.remove.push(id);
                continue;
            }
            decision.stay.push(id);
            if anybody {
                decision.lift.push(id);
            }
        }
        decision
    }
}

impl Rounds {
    /// Asks these hosts about rules of a switch.
    pub fn ask(
        &mut self,
        switch: SwitchId,
        rules: impl IntoIterator<Item = RuleId>,
        hosts: BTreeSet<HostId>,
        now: u64,
    ) -> Round {
        self.last.0 += 1;
        let open = Open {
            switch,
            missing: hosts.clone(),
            hosts,
            rules: rules.into_iter().map(|id| (id, 0)).collect(),
            until: now.saturating_add(PATIENCE),
        };
        self.open.insert(self.last, open);
        self.last
    }

    /// A host has voted: it has promised these rules and no other of the round. The last vote ends the round.
    pub fn vote(
        &mut self,
        host: HostId,
        round: Round,
        promised: impl IntoIterator<Item = RuleId>,
    ) -> Option<Ended> {
        let open = self.open.get_mut(&round)?;
        if !open.missing.remove(&host) {
            return None;
        }
        // Said twice is not said by two.
        for id in promised.into_iter().collect::<BTreeSet<_>>() {
            if let Some(n) = open.rules.get_mut(&id) {
                *n += 1;
            }
        }
        if !open.missing.is_empty() {
            return None;
        }
        self.open.remove(&round).map(|open| open.end(true))
    }

    /// A host's stream has ended: so have the rounds that it was asked in, whether it has voted or not.
    pub fn gone(&mut self, host: HostId) -> Vec<Ended> {
        self.cancel(|open| open.hosts.contains(&host), Some(host))
    }

    /// Ends the rounds that have waited for too long.
    pub fn overdue(&mut self, now: u64) -> Vec<Ended> {
        self.cancel(|open| open.until <= now, None)
    }

    /// Whether no round is under way.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn cancel(&mut self, which: impl Fn(&Open) -> bool, without: Option<HostId>) -> Vec<Ended> {
        let ended = self.open.extract_if(.., |_, open| which(open));
        let ended = ended.map(|(_, mut open)| {
            if let Some(host) = without {
                open.hosts.remove(&host);
            }
            open.end(false)
        });
        ended.collect()
    }
}

/// The rules whose promises stand: their removal as idle is decided, and not in effect everywhere. `undone`: changes of which that is so.
pub fn standing<'a>(undone: impl IntoIterator<Item = &'a EntryKind>) -> BTreeSet<RuleId> {
    let removed = undone.into_iter().flat_map(|kind| match kind {
        EntryKind::Update { remove, .. } => remove.as_slice(),
        _ => &[],
    });
    removed
        .filter(|r| r.why == Some(RemovedReason::IdleTimeout))
        .map(|r| r.id)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::log::Removed;

    const SWITCH: SwitchId = SwitchId(1);
    const A: HostId = HostId(1);
    const B: HostId = HostId(2);
    const C: HostId = HostId(3);
    const R: RuleId = RuleId(5);
    const S: RuleId = RuleId(6);

    fn hosts<const N: usize>(hosts: [HostId; N]) -> BTreeSet<HostId> {
        hosts.into()
    }

    #[test]
    fn a_rule_goes_only_if_all_have_promised() {
        let mut rounds = Rounds::default();
        let round = rounds.ask(SWITCH, [R, S], hosts([A, B]), 0);
        assert_eq!(rounds.vote(A, round, [R, S]), None);
        assert_eq!(rounds.vote(A, round, [R, S]), None, "it has only one vote");
        let ended = rounds.vote(B, round, [R, R]).unwrap();
        let decision = ended.decide(&hosts([A, B]), true, |_| true);
        assert_eq!(decision.remove, [R]);
        assert_eq!((decision.stay, decision.lift), (vec![S], vec![S]));
        assert!(rounds.is_empty());
    }

    #[test]
    fn nobody_is_told_of_what_nobody_promised() {
        let mut rounds = Rounds::default();
        let round = rounds.ask(SWITCH, [R], hosts([A]), 0);
        let ended = rounds.vote(A, round, [S]).unwrap();
        let decision = ended.decide(&hosts([A]), true, |_| true);
        assert_eq!((decision.stay, decision.lift), (vec![R], vec![]));
    }

    #[test]
    fn a_host_that_joins_meanwhile_ends_a_round_without_a_decision() {
        let mut rounds = Rounds::default();
        let round = rounds.ask(SWITCH, [R], hosts([A]), 0);
        let ended = rounds.vote(A, round, [R]).unwrap();
        let decision = ended.decide(&hosts([A, C]), true, |_| true);
        assert_eq!((decision.stay, decision.lift), (vec![R], vec![R]));
        let decision = ended.decide(&hosts([A]), false, |_| true);
        assert_eq!(decision.remove, []);
        // One that has gone meanwhile has no say.
        assert_eq!(ended.decide(&hosts([]), true, |_| true).remove, [R]);
    }

    #[test]
    fn a_host_that_goes_ends_its_rounds_and_the_others_are_told() {
        let mut rounds = Rounds::default();
        let both = rounds.ask(SWITCH, [R, S], hosts([A, B]), 0);
        let other = rounds.ask(SWITCH, [S], hosts([B]), 0);
        assert_eq!(rounds.vote(A, both, [R]), None);
        let ended = rounds.gone(A);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].hosts, hosts([B]));
        // B's vote may be under way.
        let decision = ended[0].decide(&hosts([B]), true, |_| true);
        assert_eq!((decision.remove, decision.lift), (vec![], vec![R, S]));
        assert_eq!(rounds.vote(B, both, [R]), None, "of a round that is over");
        assert!(rounds.vote(B, other, [S]).is_some());
    }

    #[test]
    fn a_round_does_not_wait_for_ever() {
        let mut rounds = Rounds::default();
        rounds.ask(SWITCH, [R], hosts([A, B]), 100);
        assert_eq!(rounds.overdue(99 + PATIENCE), []);
        let ended = rounds.overdue(100 + PATIENCE);
        assert_eq!(ended[0].decide(&hosts([]), true, |_| true).lift, [R]);
        assert!(rounds.is_empty());
    }

    #[test]
    fn promises_stand_while_the_removal_is_on_its_way() {
        let removed = |id, why| Removed {
            why: Some(why),
            ..Removed::new(id, Arc::default(), None)
        };
        let update = |remove| EntryKind::Update {
            switch: SWITCH,
            add: Vec::new(),
            remove,
            passed: Vec::new(),
        };
        let log = [
            update(vec![
                removed(R, RemovedReason::IdleTimeout),
                removed(S, RemovedReason::Delete),
            ]),
            EntryKind::Void,
        ];
        assert_eq!(standing(&log), [R].into());
    }

    #[derive(Clone, Debug)]
    enum Happens {
        Ask(u64, u8),
        Vote(u32, u64, u8),
        Gone(u32),
        Overdue(u64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            (0..2000u64, 1..8u8).prop_map(|(at, hosts)| Happens::Ask(at, hosts)),
            (1..4u32, 1..6u64, 0..8u8).prop_map(|(h, r, rules)| Happens::Vote(h, r, rules)),
            (1..4u32).prop_map(Happens::Gone),
            (0..4000u64).prop_map(Happens::Overdue),
        ]
    }

    proptest! {
        /// Whatever comes in whatever order: what goes was promised by all that may match it, and every other promise is lifted.
        #[test]
        fn no_promise_is_broken_and_none_is_forgotten(all in proptest::collection::vec(happens(), 1..60)) {
            let bits = |bits: u8| (0..3u32).filter(move |i| bits & (1 << i) != 0);
            let rules = |of: u8| bits(of).map(|i| RuleId(u64::from(i) + 1));
            let mut rounds = Rounds::default();
            let mut promises: BTreeMap<(Round, RuleId), BTreeSet<HostId>> = BTreeMap::new();
            let mut asked: BTreeMap<Round, BTreeSet<HostId>> = BTreeMap::new();
            for what in all {
                let ended = match what {
                    Happens::Ask(at, to) => {
                        let to: BTreeSet<_> = bits(to).map(|i| HostId(i + 1)).collect();
                        let round = rounds.ask(SWITCH, rules(7), to.clone(), at);
                        asked.insert(round, to);
                        vec![]
                    }
                    Happens::Vote(host, round, of) => {
                        let (host, round) = (HostId(host), Round(round));
                        let first = asked.get_mut(&round).is_some_and(|hosts| hosts.remove(&host));
                        if first {
                            for rule in rules(of) {
                                promises.entry((round, rule)).or_default().insert(host);
                            }
                        }
                        rounds.vote(host, round, rules(of)).into_iter().map(|e| (Some(round), e)).collect()
                    }
                    Happens::Gone(host) => rounds.gone(HostId(host)).into_iter().map(|e| (None, e)).collect(),
                    Happens::Overdue(now) => rounds.overdue(now).into_iter().map(|e| (None, e)).collect(),
                };
                for (round, ended) in ended {
                    let voters = ended.hosts.clone();
                    let decision = ended.decide(&voters, true, |_| true);
                    prop_assert_eq!(decision.remove.len() + decision.stay.len(), 3);
                    match round {
                        Some(round) => for rule in rules(7) {
                            let by = promises.get(&(round, rule)).cloned().unwrap_or_default();
                            prop_assert_eq!(decision.remove.contains(&rule), by == voters);
                            prop_assert_eq!(decision.lift.contains(&rule), by != voters && !by.is_empty());
                        },
                        None => prop_assert_eq!(decision.lift.len(), 3),
                    }
                }
            }
        }
    }
}
