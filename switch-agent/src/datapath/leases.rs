//! Deadlines of networks: until when packets that others process too are processed here (consistency rule 17).
//!
//! The kernel programs compare them with the kernel's tick counter, which they read without a call. User space is not told that counter
//! anywhere but in `/proc/timer_list`.

use std::fs::File;
use std::io::{self, Read};
use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lime_core::NetworkId;
use nix::time::{ClockId, clock_getres};
use switch_abi::NetworkEntry;

use super::{Datapath, DatapathError, Result};

/// Where the tick counter is read.
const TIMERS: &str = "/proc/timer_list";
/// It is there once per processor; the first is enough.
const ENOUGH: u64 = 1 << 16;

/// The kernel's tick counter, and how long a tick is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    now: u64,
    length: Duration,
}

impl Ticks {
    fn read() -> io::Result<Self> {
        let mut text = String::new();
        File::open(TIMERS)?.take(ENOUGH).read_to_string(&mut text)?;
        let now = ticks_in(&text)
            .ok_or_else(|| io::Error::other(format!("{TIMERS} does not give the tick counter")))?;
        // The resolution of the coarse clock is a tick.
        let length = Duration::from(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?);
        if length.is_zero() {
            return Err(io::Error::other("the coarse clock has no resolution"));
        }
        Ok(Self { now, length })
    }

    /// The last tick before `until`.
    fn at(self, until: Instant) -> u64 {
        let left = until.saturating_duration_since(Instant::now());
        let ticks = left.as_nanos() / self.length.as_nanos();
        // 0 says that there is no deadline.
        self.now
            .saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
            .max(1)
    }
}

fn ticks_in(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("jiffies:"))?;
    line.trim().parse().ok()
}

fn unreadable(source: io::Error) -> DatapathError {
    DatapathError::Kernel {
        what: format!("read the kernel's tick counter from {TIMERS}"),
        source: source.into(),
    }
}

impl Datapath {
    /// Whether deadlines can be set here.
    ///
    /// # Errors
    /// The kernel's tick counter cannot be read.
    pub fn check_leases() -> Result<()> {
        Ticks::read().map(|_| ()).map_err(unreadable)
    }

    /// From then on, nothing of the network is processed here, whoever is alive. `None`: for ever.
    ///
    /// # Errors
    /// The kernel's tick counter cannot be read: nothing has changed.
    pub fn set_lease(&mut self, id: NetworkId, until: Option<Instant>) -> Result<()> {
        let slot = self.network(id)?.slot;
        let deadline = match until {
            None => 0,
            Some(until) => Ticks::read().map_err(unreadable)?.at(until),
        };
        let at = offset_of!(NetworkEntry, lease);
        let networks = &self.store.maps.networks;
        networks.u64_at(slot, at).store(deadline, Ordering::Release);
        Ok(())
    }

    /// Whether there is a deadline.
    pub fn is_leased(&self, id: NetworkId) -> Result<bool> {
        let slot = self.network(id)?.slot;
        let at = offset_of!(NetworkEntry, lease);
        let networks = &self.store.maps.networks;
        Ok(networks.u64_at(slot, at).load(Ordering::Acquire) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_counter_is_found_and_runs() {
        let text =
            "now at 12 nsecs\n\ncpu: 0\n  .idle_jiffies   : 4300854534\njiffies: 4300877384\n";
        assert_eq!(ticks_in(text), Some(4_300_877_384));
        assert_eq!(ticks_in(".last_jiffies : 3\n"), None);
        let first = Ticks::read().unwrap();
        let begun = Instant::now();
        while Ticks::read().unwrap().now < first.now + 250 {
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        // It runs at the rate that it is said to run at. A machine that was held up counts the ticks that it missed quickly: thus half.
        assert!(begun.elapsed() >= first.length * 125, "{first:?}");
        let deadline = first.at(Instant::now() + first.length * 100);
        assert!((first.now + 98..=first.now + 100).contains(&deadline));
        assert_eq!(first.at(begun), first.now, "over");
    }
}
