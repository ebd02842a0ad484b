//! Precedence over the other load of the machine, so that figures are not of that.

use std::fs;

use anyhow::{Result, ensure};

/// Of the session's group of processes, among which the kernel shares the CPUs first where it groups them so (sched(7), "autogroup").
const GROUP: &str = "/proc/self/autogroup";

/// This process goes first as long as this is there, and what it starts with it.
#[derive(Clone, Copy, Debug)]
pub struct Priority {
    group_before: Option<i32>,
}

impl Priority {
    /// From here on. Called before there are other threads, which take it over.
    pub fn raise() -> Result<Self> {
        go_first(0)?;
        let text = fs::read_to_string(GROUP).unwrap_or_default();
        let before = text.trim().rsplit(' ').next().and_then(|n| n.parse().ok());
        // Where processes are not grouped there is nothing to write to.
        let raised = before.filter(|_| fs::write(GROUP, "-20").is_ok());
        Ok(Self {
            group_before: raised,
        })
    }

    /// The session's group gets the priority back that it had. This process keeps its own: it is about to end.
    pub fn give_back(self) {
        if let Some(nice) = self.group_before {
            let _ = fs::write(GROUP, nice.to_string());
        }
    }
}

/// The same for one thread of any process; 0: the calling one.
pub fn go_first(thread: libc::id_t) -> Result<()> {
    // SAFETY: plain system call.
    let rc = unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, -20) };
    ensure!(
        rc == 0,
        "cannot raise the priority: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}
