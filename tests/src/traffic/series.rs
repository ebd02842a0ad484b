//! Arrivals over time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Width of a slot.
pub const SLOT: Duration = Duration::from_millis(10);
/// Slots kept: ten minutes. What comes later is not recorded.
const MAX_SLOTS: usize = 60_000;

/// Time zero of a measurement. Kernel receive timestamps are wall-clock time, hence so is this.
#[derive(Clone, Copy, Debug)]
pub struct Origin(Duration);

impl Origin {
    /// Now.
    pub fn now() -> Self {
        Self(since_epoch())
    }

    /// Time since the origin.
    pub fn elapsed(self) -> Duration {
        since_epoch().saturating_sub(self.0)
    }

    /// A wall-clock time as time since the origin; zero if earlier.
    pub fn at(self, wall_clock: Duration) -> Duration {
        wall_clock.saturating_sub(self.0)
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// How much arrived in each `SLOT` since the origin, and the longest time in which nothing did.
#[derive(Clone, Debug, Default)]
pub struct Series {
    slots: Vec<u32>,
    last: Option<Duration>,
    longest_gap: Duration,
}

impl Series {
    /// Records an arrival.
    pub fn add(&mut self, at: Duration, amount: u32) {
        let slot = (at.as_nanos() / SLOT.as_nanos()) as usize;
        if slot < MAX_SLOTS {
            if self.slots.len() <= slot {
                self.slots.resize(slot + 1, 0);
            }
            self.slots[slot] += amount;
        }
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(at.saturating_sub(last));
        }
        self.last = Some(self.last.unwrap_or_default().max(at));
    }

    /// Amounts per slot.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// Longest time between two arrivals.
    pub fn longest_gap(&self) -> Duration {
        self.longest_gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_fall_into_their_slots() {
        let mut s = Series::default();
        for ms in [0, 5, 12, 47, 48] {
            s.add(Duration::from_millis(ms), 1);
        }
        assert_eq!(s.slots(), [2, 1, 0, 0, 2]);
        assert_eq!(s.longest_gap(), Duration::from_millis(35));
    }

    #[test]
    fn a_late_arrival_makes_no_gap() {
        let mut s = Series::default();
        for ms in [10, 5, 11] {
            s.add(Duration::from_millis(ms), 1);
        }
        assert_eq!(s.longest_gap(), Duration::from_millis(1));
    }

    #[test]
    fn the_far_future_is_not_recorded() {
        let mut s = Series::default();
        s.add(Duration::from_secs(1_000_000), 1);
        assert!(s.slots().is_empty());
    }
}
