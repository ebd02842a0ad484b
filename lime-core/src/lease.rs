//! How long a host may go on by itself: rule 17, the coordinator's half.
//!
//! The host asks for its lease and counts its length from the moment at which it *sent* the question; the coordinator counts from the moment at
//! which it *has* it, and grants less than it waits for. So whatever is under way for how long, the host stops before the coordinator goes
//! on without it, as long as their clocks do not differ in speed by more than a tenth.
//!
//! Times are milliseconds of a clock that does not jump.

/// Of what the coordinator waits for, so much is granted: tenths.
const GRANTED: u64 = 9;

/// What the coordinator knows of one host's lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lease {
    /// No grant lasts longer.
    until: u64,
    /// The host has shown that it keeps leases: until then it may go on for ever.
    proven: bool,
}

impl Lease {
    /// After a restart of the coordinator: whatever it granted before lasts at most so much longer. 0: the host has not shown that it
    /// keeps leases.
    pub fn remembered(length: u64, now: u64) -> Self {
        Self {
            until: now.saturating_add(length),
            proven: length != 0,
        }
    }

    /// The host's stream is open, and it is told of its lease. What it may count on from the moment it sent its greeting; 0: leases are
    /// off, and it may go on for ever.
    pub fn welcome(&mut self, length: u64, now: u64) -> u64 {
        if length == 0 {
            self.proven = false;
            return 0;
        }
        self.until = self.until.max(now.saturating_add(length));
        length / 10 * GRANTED
    }

    /// The host asks for more, and so shows that it keeps what it has. `None`: it is over; it must come back on another stream, where it is
    /// first told what has become of its networks.
    pub fn renew(&mut self, length: u64, now: u64) -> Option<u64> {
        if length == 0 {
            return Some(0);
        }
        if self.until < now {
            return None;
        }
        self.proven = true;
        self.until = self.until.max(now.saturating_add(length));
        Some(length / 10 * GRANTED)
    }

    /// Whether the host has stopped.
    pub fn is_over(&self, now: u64) -> bool {
        self.proven && self.until < now
    }

    /// Whether it keeps leases.
    pub fn is_proven(&self) -> bool {
        self.proven
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_17_a_lease_is_over_only_when_the_host_has_stopped() {
        let mut lease = Lease::default();
        assert!(!lease.is_over(u64::MAX), "it may never have heard of it");
        assert_eq!(lease.welcome(1000, 500), 900);
        assert!(!lease.is_over(5000), "it may not have got the greeting");
        let mut lease = Lease::default();
        lease.welcome(1000, 500);
        // The host counts from before 1200, the coordinator from 1200: 2100 comes before 2200.
        assert_eq!(lease.renew(1000, 1200), Some(900));
        assert!(!lease.is_over(2200));
        assert!(lease.is_over(2201));
        assert_eq!(lease.renew(1000, 2201), None, "not on this stream");
        assert_eq!(lease.welcome(1000, 3000), 900);
        assert!(!lease.is_over(4000) && lease.is_over(4001));
    }

    #[test]
    fn rule_17_a_restarted_coordinator_waits_for_what_it_had_granted() {
        let lease = Lease::remembered(1000, 7000);
        assert!(!lease.is_over(8000) && lease.is_over(8001));
        let lease = Lease::remembered(0, 7000);
        assert!(!lease.is_over(u64::MAX));
    }

    #[test]
    fn without_leases_nobody_is_given_up() {
        let mut lease = Lease::remembered(1000, 0);
        assert_eq!(lease.welcome(0, 10), 0);
        assert_eq!(lease.renew(0, 20), Some(0));
        assert!(!lease.is_over(u64::MAX));
    }
}
