//! The owner's side of the guardian process: see `bin/lime-lab-guard.rs`.

use std::process::{Child, Command, Stdio};

use super::binaries;
use super::error::{Context, LabError};
use super::names::LabName;

/// Holds the pipe that the guardian watches. Dropped after the lab is down: the guardian then finds nothing to do and ends.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    pub(super) fn start(name: &LabName) -> Result<Self, LabError> {
        let program = binaries::find("lime-lab-guard")?;
        let child = Command::new(&program)
            .arg(name.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .doing(|| format!("cannot start {}", program.display()))?;
        Ok(Self(child))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
