//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures LIME beside bare redirects, the Linux bridge and VXLAN, on this machine. Needs root.
#[derive(Debug, Parser)]
#[command(name = "lime-bench", version)]
pub struct Options {
    /// Which groups of figures; all if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<Group>,
    /// Also write the figures and the machine to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Fewer and shorter rounds: shows that everything runs, its figures are rough
    #[arg(long)]
    pub quick: bool,
}

/// A group of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Cost per packet of the switch pipeline over a bare redirect
    Pipeline,
    /// Rules installed per second
    Rules,
    /// Time to clone a switch to a second host
    Clone,
    /// TCP in bulk on one host and across two
    Throughput,
}

impl Group {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Group::Pipeline => "pipeline",
            Group::Rules => "rules",
            Group::Clone => "clone",
            Group::Throughput => "throughput",
        }
    }

    /// What is measured, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Group::Pipeline => "cost per packet over a bare redirect, by BPF_PROG_TEST_RUN",
            Group::Rules => "rules per second, beside one bpf() call per rule",
            Group::Clone => "time to clone a switch, beside installing its rules",
            Group::Throughput => "TCP in bulk, beside a Linux bridge (and VXLAN)",
        }
    }
}

impl Options {
    /// The groups to run, each once.
    pub fn groups(&self) -> Vec<Group> {
        let all = Group::value_variants().iter().copied();
        all.filter(|g| self.names.is_empty() || self.names.contains(g))
            .collect()
    }

    /// One of two, depending on how thorough this run is.
    pub fn pick<T>(&self, thorough: T, quick: T) -> T {
        if self.quick { quick } else { thorough }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_select_groups_once_and_none_selects_all() {
        let parse = |args: &[&str]| Options::try_parse_from(args).unwrap().groups();
        assert_eq!(parse(&["b"]).len(), 4);
        assert_eq!(
            parse(&["b", "clone", "rules", "clone"]),
            [Group::Rules, Group::Clone]
        );
        assert!(Options::try_parse_from(["b", "nonsense"]).is_err());
    }
}
