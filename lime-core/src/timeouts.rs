//! When rules time out: OpenFlow 1.3.5, 5.5.
//!
//! No instance removes a rule by itself. A hard timeout is due by the coordinator's clock. An idle timeout is due when no instance has had a
//! match for so long, which only the instances know: they are asked when the time may have come ([`crate::promise`]). Either way the rule
//! goes by an entry of the log, like one that is deleted.
//!
//! Times are milliseconds of any clock that does not jump; they only ever meet each other.

use std::collections::{BTreeSet, HashMap};

use crate::flow::Rule;
use crate::{RuleId, SwitchId};

/// How soon something that could not be decided is tried again, milliseconds.
pub const RETRY: u64 = 1000;

/// A rule whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its hard timeout has passed: it goes.
    Hard(SwitchId, RuleId),
    /// As far as is known nothing matched it for its idle timeout: all instances are to be asked, then [`Timeouts::answered`] to be called.
    Idle(SwitchId, RuleId),
}

#[derive(Clone, Debug)]
struct Watched {
    switch: SwitchId,
    idle: u64,
    hard: u64,
    since: u64,
    /// No match is known of after this; at first the moment it took effect.
    used: u64,
    /// Its place in the order of times; none: instances are being asked.
    at: Option<u64>,
}

impl Watched {
    fn next(&self) -> u64 {
        let hard = (self.hard != 0).then(|| self.since.saturating_add(self.hard));
        let idle = (self.idle != 0).then(|| self.used.saturating_add(self.idle));
        hard.into_iter().chain(idle).min().unwrap_or(u64::MAX)
    }
}

/// The rules of one network that time out.
#[derive(Clone, Debug, Default)]
pub struct Timeouts {
    rules: HashMap<RuleId, Watched>,
    order: BTreeSet<(u64, RuleId)>,
}

impl Timeouts {
    /// A rule is there since `since`, unused. `like`: it goes on in the place of this one, with its uses. Not due before `from`.
    pub fn watch(
        &mut self,
        switch: SwitchId,
        id: RuleId,
        rule: &Rule,
        since: u64,
        like: Option<RuleId>,
        from: u64,
    ) {
        self.forget(id);
        if rule.idle_timeout == 0 && rule.hard_timeout == 0 {
            return;
        }
        let used = like.and_then(|old| self.rules.get(&old)).map(|w| w.used);
        let watched = Watched {
            switch,
            idle: u64::from(rule.idle_timeout) * 1000,
            hard: u64::from(rule.hard_timeout) * 1000,
            since,
            used: used.unwrap_or(since).max(since),
            at: None,
        };
        let at = watched.next().max(from);
        self.rules.insert(id, watched);
        self.set(id, at);
    }

    /// Gives a rule that is not in the order of times its place there.
    fn set(&mut self, id: RuleId, at: u64) {
        if let Some(watched) = self.rules.get_mut(&id) {
            watched.at = Some(at);
            self.order.insert((at, id));
        }
    }

    /// The rule has gone, or is going.
    pub fn forget(&mut self, id: RuleId) {
        if let Some(watched) = self.rules.remove(&id)
            && let Some(at) = watched.at
        {
            self.order.remove(&(at, id));
        }
    }

    /// A packet matched the rule at `at`, or not long before.
    pub fn used(&mut self, id: RuleId, at: u64) {
        if let Some(watched) = self.rules.get_mut(&id) {
            watched.used = watched.used.max(at);
        }
    }

    /// What is due, in order of time; each once, until it is forgotten, [answered](Self::answered) or [put off](Self::put_off).
    pub fn due(&mut self, now: u64) -> Vec<Due> {
        let mut due = Vec::new();
        while let Some(&(at, id)) = self.order.first()
            && at <= now
        {
            self.order.pop_first();
            let Some(watched) = self.rules.get_mut(&id) else {
                continue;
            };
            let hard = watched.hard != 0 && watched.since.saturating_add(watched.hard) <= now;
            let next = watched.next();
            if !hard && next > now {
                // It was used since its time was set.
                self.set(id, next);
                continue;
            }
            watched.at = None;
            due.push(if hard {
                Due::Hard(watched.switch, id)
            } else {
                Due::Idle(watched.switch, id)
            });
        }
        due
    }

    /// All instances have said when the rule was last [used](Self::used): whether it is idle, and to go. If not, it is due again in time.
    pub fn answered(&mut self, id: RuleId, now: u64) -> bool {
        let Some(watched) = self.rules.get(&id) else {
            return false;
        };
        if watched.at.is_some() {
            // Of another round.
            return false;
        }
        if watched.idle != 0 && watched.used.saturating_add(watched.idle) <= now {
            return true;
        }
        self.set(id, watched.next());
        false
    }

    /// It cannot be decided or carried out now.
    pub fn put_off(&mut self, id: RuleId, now: u64) {
        if self.rules.get(&id).is_some_and(|w| w.at.is_none()) {
            self.set(id, now.saturating_add(RETRY));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCH: SwitchId = SwitchId(1);
    const R: RuleId = RuleId(5);

    fn rule(idle: u16, hard: u16) -> Rule {
        Rule {
            idle_timeout: idle,
            hard_timeout: hard,
            ..Rule::default()
        }
    }

    #[test]
    fn a_hard_timeout_is_due_once_and_whatever_the_use() {
        let mut t = Timeouts::default();
        t.watch(SWITCH, R, &rule(0, 3), 1000, None, 0);
        t.used(R, 3900);
        assert_eq!(t.due(3999), []);
        assert_eq!(t.due(4000), [Due::Hard(SWITCH, R)]);
        assert_eq!(t.due(9000), []);
        t.put_off(R, 9000);
        assert_eq!(t.due(9999), []);
        assert_eq!(t.due(10_000), [Due::Hard(SWITCH, R)]);
        t.forget(R);
        t.put_off(R, 10_000);
        assert_eq!(t.due(u64::MAX), []);
    }

    #[test]
    fn an_idle_timeout_waits_for_the_last_use() {
        let mut t = Timeouts::default();
        t.watch(SWITCH, R, &rule(2, 0), 1000, None, 0);
        assert_eq!(t.due(2999), []);
        assert_eq!(t.due(3000), [Due::Idle(SWITCH, R)]);
        // One of the instances has had a packet.
        t.used(R, 2500);
        assert!(!t.answered(R, 3010));
        assert_eq!(t.due(4499), []);
        // What is learnt otherwise counts too.
        t.used(R, 4000);
        assert_eq!(t.due(5999), []);
        assert_eq!(t.due(6000), [Due::Idle(SWITCH, R)]);
        assert!(t.answered(R, 6010));
        assert_eq!(t.due(u64::MAX), [], "it is to be removed now");
    }

    #[test]
    fn a_modified_rule_goes_on_with_its_uses_and_its_age() {
        let mut t = Timeouts::default();
        t.watch(SWITCH, R, &rule(2, 60), 1000, None, 0);
        t.used(R, 50_000);
        t.watch(SWITCH, RuleId(6), &rule(2, 60), 1000, Some(R), 0);
        t.forget(R);
        assert_eq!(t.due(51_999), []);
        assert_eq!(t.due(52_000), [Due::Idle(SWITCH, RuleId(6))]);
        t.used(RuleId(6), 60_000);
        assert!(!t.answered(RuleId(6), 60_100));
        assert_eq!(t.due(61_000), [Due::Hard(SWITCH, RuleId(6))]);
    }

    #[test]
    fn rules_without_timeouts_are_not_watched() {
        let mut t = Timeouts::default();
        t.watch(SWITCH, R, &rule(0, 0), 0, None, 0);
        assert_eq!(t.due(u64::MAX), []);
    }
}
