//! When rules with an idle timeout were last used.
//!
//! The kernel programs only count. That a count has changed between two looks says that the rule was used between them; how often it is
//! looked at follows from the timeout. So the answer is never too long ago, and too recent by one look at most.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use lime_core::{NetworkId, RuleId};

use super::Owner;

/// Looks per timeout.
const LOOKS: u32 = 16;
/// Bounds of the time between two looks.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(2);

type Key = (NetworkId, RuleId);

#[derive(Debug)]
struct Look {
    packets: u64,
    /// When the count was first seen as it is; `None`: it is as at the beginning.
    changed: Option<Instant>,
    timeout: Duration,
    every: Duration,
    next: Instant,
}

/// The rules, and what their counters said.
#[derive(Debug, Default)]
pub(super) struct IdleRules {
    rules: HashMap<Key, Look>,
    order: BTreeSet<(Instant, Key)>,
}

impl IdleRules {
    /// Begins to look at a rule, whose timeout is in seconds. `used`: what it has counted may be of this moment.
    pub fn watch(&mut self, key: Key, timeout: u32, packets: u64, now: Instant) {
        let timeout = Duration::from_secs(timeout.into());
        let every = (timeout / LOOKS).clamp(SHORTEST, LONGEST);
        let look = Look {
            packets,
            changed: (packets != 0).then_some(now),
            timeout,
            every,
            next: now + every,
        };
        self.order.insert((look.next, key));
        if let Some(old) = self.rules.insert(key, look) {
            self.order.remove(&(old.next, key));
        }
    }

    /// The idle timeout of a rule that is watched.
    pub fn timeout(&self, key: Key) -> Option<Duration> {
        self.rules.get(&key).map(|look| look.timeout)
    }

    /// A look at a rule: how long it has not been used, `None` if it never was or is not watched.
    pub fn look(&mut self, key: Key, packets: u64, now: Instant) -> Option<Duration> {
        let look = self.rules.get_mut(&key)?;
        if look.packets != packets {
            look.packets = packets;
            look.changed = Some(now);
        }
        look.changed.map(|at| now.saturating_duration_since(at))
    }

    /// Looks at what is due. `read` gives the packets that a rule has counted; `None`: it is gone.
    pub fn look_at_due(&mut self, now: Instant, read: impl Fn(Key) -> Option<u64>) {
        while let Some(&(at, key)) = self.order.first()
            && at <= now
        {
            self.order.pop_first();
            let Some(packets) = read(key) else {
                self.rules.remove(&key);
                continue;
            };
            self.look(key, packets, now);
            if let Some(look) = self.rules.get_mut(&key) {
                look.next = now + look.every;
                self.order.insert((look.next, key));
            }
        }
    }

    /// Waits until a look is due. Safe to cancel.
    pub async fn due(&self) {
        match self.order.first() {
            Some(&(at, _)) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }
}

impl Owner {
    pub(super) fn look_at_idle_rules(&mut self) {
        let datapath = &self.datapath;
        self.idle.look_at_due(Instant::now(), |(network, rule)| {
            datapath.rule_count(network, rule).map(|c| c.packets)
        });
    }

    /// Begins to look at all rules of an adopted network. What they have counted may be of just now.
    pub(super) fn adopt_idle_rules(&mut self, network: NetworkId) {
        let now = Instant::now();
        for (rule, timeout) in self.datapath.idle_rules(network).unwrap_or_default() {
            let count = self.datapath.rule_count(network, rule);
            let packets = count.map_or(0, |c| c.packets);
            self.idle.watch((network, rule), timeout, packets, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (NetworkId(1), RuleId(2));

    #[test]
    fn a_use_is_seen_at_the_next_look() {
        let mut idle = IdleRules::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        idle.watch(KEY, 1, 0, start);
        assert_eq!(idle.look(KEY, 0, at(100)), None, "never used");
        idle.look_at_due(at(199), |_| panic!("nothing is due"));
        idle.look_at_due(at(250), |_| Some(3));
        assert_eq!(
            idle.look(KEY, 3, at(1250)),
            Some(Duration::from_millis(1000))
        );
        // Asked, it looks.
        assert_eq!(idle.look(KEY, 4, at(1300)), Some(Duration::ZERO));
        idle.look_at_due(at(5000), |_| None);
        assert_eq!(idle.look(KEY, 9, at(5001)), None, "gone");
        idle.look_at_due(at(9000), |_| panic!("nothing is due"));
    }

    #[test]
    fn what_was_counted_before_is_taken_for_just_now() {
        let mut idle = IdleRules::default();
        let start = Instant::now();
        idle.watch(KEY, 10, 7, start);
        let later = start + Duration::from_secs(3);
        assert_eq!(idle.look(KEY, 7, later), Some(Duration::from_secs(3)));
    }
}
