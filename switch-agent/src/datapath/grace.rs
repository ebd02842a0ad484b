//! Waiting until no kernel program can still see what was unlinked.

use std::io;

/// `MEMBARRIER_CMD_GLOBAL` (linux/membarrier.h).
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Waits until every kernel program that was running has finished: afterwards none sees what was unlinked before.
///
/// `membarrier(MEMBARRIER_CMD_GLOBAL)` is `synchronize_rcu()` in the kernel, and XDP and TC programs run inside RCU read-side
/// sections. Blocks for some milliseconds to some tens of them.
///
/// # Errors
/// `ENOSYS` from a kernel without membarrier, `EINVAL` on one booted with `nohz_full` CPUs.
pub fn grace_period() -> io::Result<()> {
    // SAFETY: no pointers are passed.
    match unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_has_it() {
        super::grace_period().unwrap();
    }
}
