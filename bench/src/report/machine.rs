//! The machine that the figures are of.

use std::fs;

use serde::Serialize;

/// What a reader must know to compare figures.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model.
    pub cpu: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Release.
    pub kernel: String,
    /// Main memory.
    pub memory_bytes: u64,
    /// Load average over the minute before the run: what the figures may have been disturbed by.
    pub load_before: f64,
}

impl Machine {
    /// Whether other processes are likely to have taken part of the CPUs.
    pub fn was_busy(&self) -> bool {
        self.load_before > 0.5
    }

    /// This one, now. What cannot be found out is "unknown" or 0.
    pub fn this() -> Self {
        let unknown = || "unknown".to_owned();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: match read("/proc/sys/kernel/osrelease").trim() {
                "" => unknown(),
                release => release.to_owned(),
            },
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|v| v.trim_end_matches("kB").trim().parse::<u64>().ok())
                .map_or(0, |kib| kib * 1024),
            load_before: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .and_then(|v| v.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

/// The value of the first `key: value` line.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(k, _)| k.trim() == key)
        .map(|(_, v)| v.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_files() {
        assert_eq!(
            field("a: 1\nMemTotal:   24 kB\n", "MemTotal").as_deref(),
            Some("24 kB")
        );
        assert_eq!(field("", "x"), None);
        assert!(Machine::this().memory_bytes > 0);
    }
}
