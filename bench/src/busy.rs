//! Time that a thread has been running: unlike the time of day, it does not go on while others have the CPU.

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// A stop watch for the calling thread.
pub struct Busy {
    start: f64,
}

impl Busy {
    /// From here on.
    pub fn start() -> Result<Self> {
        Ok(Self { start: now()? })
    }

    /// Seconds since the start, read by the same thread.
    pub fn seconds(&self) -> Result<f64> {
        Ok(now()? - self.start)
    }
}

fn now() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("the thread's CPU clock cannot be read")?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 * 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_while_the_thread_does() {
        let busy = Busy::start().unwrap();
        let before = busy.seconds().unwrap();
        while busy.seconds().unwrap() == before {
            std::hint::spin_loop();
        }
        assert!(busy.seconds().unwrap() > before && before >= 0.0);
    }
}
