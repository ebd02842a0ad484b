//! What must be so before the agent can start, each with its mend.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use aya::util::KernelVersion;
use thiserror::Error;

/// Why the agent does not start.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// A capability is lacking.
    #[error(
        "this needs root, or at least the capabilities {missing}: run it as root, or with \
         `AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_NET_RAW CAP_PERFMON` in its systemd unit"
    )]
    Capabilities {
        /// Names, separated by spaces.
        missing: String,
    },
    /// A file of the kernel's is missing.
    #[error("the kernel lacks {feature} ({path} does not exist): {mend}")]
    Feature {
        /// What is lacking.
        feature: &'static str,
        /// How that shows.
        path: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// Too old.
    #[error(
        "this is Linux {found}, and LIME needs 6.1 or later: older ones lack what its kernel programs use, or refuse them"
    )]
    Kernel {
        /// What `uname -r` says.
        found: String,
    },
    /// No membarrier.
    #[error(
        "the kernel lacks membarrier(MEMBARRIER_CMD_GLOBAL): it needs CONFIG_MEMBARRIER and no nohz_full CPUs"
    )]
    Membarrier(#[source] io::Error),
    /// Another agent runs.
    #[error(
        "another agent runs with the state directory {path}: stop it first, or give --state-dir and --bpffs of its own to each"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("lock file {path}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

const CAPABILITIES: [(u32, &str); 4] = [
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];
/// CAP_SYS_ADMIN includes those of BPF.
const SYS_ADMIN: u32 = 21;

/// What the suite runs on and is meant to run on; `cargo xtask test --kernel 6.1` is the proof for the oldest.
const OLDEST: KernelVersion = KernelVersion::new(6, 1, 0);
/// The first with TCX.
const TCX: KernelVersion = KernelVersion::new(6, 6, 0);

/// Checks the process's rights and the kernel's version and features.
///
/// # Errors
/// The first thing that is lacking.
pub fn check() -> Result<(), PreflightError> {
    // Not to be read: nothing is known, and the first refusal will tell.
    if let Ok(version) = KernelVersion::current() {
        kernel(version)?;
    }
    capabilities()?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(PreflightError::Feature {
            feature: "BTF",
            path: "/sys/kernel/btf/vmlinux",
            mend: "use a kernel with CONFIG_DEBUG_INFO_BTF (all distributions' since 2021)",
        });
    }
    membarrier()
}

fn kernel(version: KernelVersion) -> Result<(), PreflightError> {
    if version < OLDEST {
        let found = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let found = found.trim().to_owned();
        return Err(PreflightError::Kernel { found });
    }
    if version < TCX {
        tracing::info!(
            "this kernel has no TCX (6.6 and later have): TC programs are attached as filters of clsact qdiscs"
        );
    }
    Ok(())
}

fn capabilities() -> Result<(), PreflightError> {
    // Not to be read: nothing is known, and the first refusal will tell.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let Some(effective) = effective else {
        return Ok(());
    };
    let has = |bit: u32| effective >> bit & 1 == 1;
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|&&(bit, _)| !(has(bit) || bit >= 38 && has(SYS_ADMIN)))
        .map(|&(_, name)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(PreflightError::Capabilities {
        missing: missing.join(" "),
    })
}

fn membarrier() -> Result<(), PreflightError> {
    const QUERY: libc::c_int = 0;
    const GLOBAL: libc::c_long = 1;
    // SAFETY: a query without pointers.
    let commands = unsafe { libc::syscall(libc::SYS_membarrier, QUERY, 0, 0) };
    if commands < 0 {
        return Err(PreflightError::Membarrier(io::Error::last_os_error()));
    }
    if commands & GLOBAL == 0 {
        let unsupported = io::Error::from(io::ErrorKind::Unsupported);
        return Err(PreflightError::Membarrier(unsupported));
    }
    Ok(())
}

/// Held while the agent runs, so that there are never two over the same pins and state.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a directory.
    ///
    /// # Errors
    /// Another process has it.
    pub fn take(directory: &Path) -> Result<Self, PreflightError> {
        let path = directory.join("lock");
        let error = |source| PreflightError::Lock {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(error)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(error)?;
        // SAFETY: a valid descriptor. The lock goes with it, also when the process is killed.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(Self { _file: file });
        }
        let source = io::Error::last_os_error();
        if source.kind() == io::ErrorKind::WouldBlock {
            return Err(PreflightError::Locked {
                path: directory.into(),
            });
        }
        Err(error(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_6_1_are_refused() {
        kernel(KernelVersion::new(6, 1, 0)).unwrap();
        let refused = kernel(KernelVersion::new(5, 15, 200)).unwrap_err();
        assert!(refused.to_string().contains("6.1 or later"), "{refused}");
    }

    #[test]
    fn a_directory_is_locked_once() {
        let directory = std::env::temp_dir().join(format!("lime-lock-{}", std::process::id()));
        let lock = Lock::take(&directory).unwrap();
        assert!(matches!(
            Lock::take(&directory),
            Err(PreflightError::Locked { .. })
        ));
        drop(lock);
        Lock::take(&directory).unwrap();
        let _ = std::fs::remove_dir_all(&directory);
    }
}
