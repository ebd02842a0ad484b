//! What a lab's things are called and where they lie, so that anybody who knows the lab's name can find and remove all of it.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where namespaces are named, as iproute2 does it.
pub const NETNS_DIR: &str = "/run/netns";
/// One directory per lab that is up, with its record and its owner's lock.
pub const REGISTRY: &str = "/run/lime/labs";
/// The BPF file system.
pub const BPFFS: &str = "/sys/fs/bpf";

/// A lab's name: 1 to 24 lower-case letters and digits, so that `lime-NAME-` is no other lab's prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabName(String);

impl LabName {
    /// The name, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let ok = (1..=24).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        ok.then(|| Self(text.to_owned()))
    }

    /// A name that no other lab of this machine has: made of the process id and a counter.
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("t{}x{n}", std::process::id()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What all of this lab's namespaces begin with.
    pub fn prefix(&self) -> String {
        format!("lime-{}-", self.0)
    }

    /// Name of the namespace of one of its hosts or end hosts, or of `core`.
    pub fn namespace(&self, member: &str) -> String {
        format!("lime-{}-{member}", self.0)
    }

    /// Where the agents' maps and programs are pinned: one directory per host in here.
    pub fn bpffs(&self) -> PathBuf {
        PathBuf::from(BPFFS).join(format!("lime-{}", self.0))
    }

    /// The lab's directory in the registry.
    pub fn registry(&self) -> PathBuf {
        PathBuf::from(REGISTRY).join(&self.0)
    }

    /// Logs and the coordinator's store.
    pub fn scratch(&self) -> PathBuf {
        std::env::temp_dir().join(format!("lime-lab-{}", self.0))
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` can name a host or an end host: 1 to 10 lower-case letters and digits (device names are made of it).
pub fn valid_member(text: &str) -> bool {
    (1..=10).contains(&text.len())
        && text != "core"
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_their_prefix_are_refused() {
        for bad in ["", "a-b", "../x", "A", "a b", "aaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(LabName::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(LabName::parse("demo1").unwrap().prefix(), "lime-demo1-");
    }

    #[test]
    fn unique_names_differ() {
        assert_ne!(LabName::unique(), LabName::unique());
    }
}
