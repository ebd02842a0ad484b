//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures LIME beside bare redirects, the Linux bridge, VXLAN and Open vSwitch, on this machine. Needs root.
#[derive(Debug, Parser)]
#[command(name = "lime-bench", version)]
pub struct Options {
    /// `datapath`: what bars are set for; or groups of figures; everything if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<Name>,
    /// Also write the figures and the machine to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also draw the figures, as SVG files in this directory
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Fewer and shorter rounds: shows that everything runs, its figures are rough
    #[arg(long)]
    pub quick: bool,
}

/// What can be named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// The figures of the data path that bars are set for
    Datapath,
    /// A flow that repeats, and random flows, through two tables
    Cache,
    /// Cost per packet of table searches, by the number of rules and masks
    Pipeline,
    /// Packets per second from an uplink
    Uplink,
    /// TCP in bulk on one host and across two
    Throughput,
    /// UDP request and response
    Latency,
    /// Rules installed per second
    Rules,
    /// Memory per rule
    Memory,
    /// Time to clone a switch to a second host
    Clone,
    /// What consistency costs: tags, updates and flows on several instances, frames lost by updates
    Consistency,
}

/// A group of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The flow cache.
    Cache,
    /// Table searches.
    Pipeline,
    /// Packets per second.
    Uplink,
    /// TCP in bulk.
    Throughput,
    /// UDP request and response.
    Latency,
    /// Rules per second.
    Rules,
    /// Bytes per rule.
    Memory,
    /// Time to clone.
    Clone,
    /// Cost of consistency.
    Consistency,
}

impl Group {
    const ALL: [Group; 9] = [
        Group::Cache,
        Group::Pipeline,
        Group::Uplink,
        Group::Throughput,
        Group::Latency,
        Group::Rules,
        Group::Memory,
        Group::Clone,
        Group::Consistency,
    ];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Group::Cache => "cache",
            Group::Pipeline => "pipeline",
            Group::Uplink => "uplink",
            Group::Throughput => "throughput",
            Group::Latency => "latency",
            Group::Rules => "rules",
            Group::Memory => "memory",
            Group::Clone => "clone",
            Group::Consistency => "consistency",
        }
    }

    /// What is measured, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Group::Cache => "flows that repeat and flows that do not, by BPF_PROG_TEST_RUN",
            Group::Pipeline => "cost per packet over a bare redirect, by BPF_PROG_TEST_RUN",
            Group::Uplink => {
                "packets per second, beside a bare redirect, a Linux bridge and Open vSwitch"
            }
            Group::Throughput => "TCP in bulk, beside a Linux bridge (and VXLAN)",
            Group::Latency => "UDP request and response, beside a Linux bridge (and VXLAN)",
            Group::Rules => "rules per second, beside one bpf() call per rule",
            Group::Memory => "bytes per rule",
            Group::Clone => "time to clone a switch, beside installing its rules",
            Group::Consistency => "several instances beside one, tags beside none",
        }
    }

    fn named(self, name: Name) -> bool {
        match name {
            Name::Datapath => !matches!(self, Group::Clone | Group::Consistency),
            Name::Cache => self == Group::Cache,
            Name::Pipeline => self == Group::Pipeline,
            Name::Uplink => self == Group::Uplink,
            Name::Throughput => self == Group::Throughput,
            Name::Latency => self == Group::Latency,
            Name::Rules => self == Group::Rules,
            Name::Memory => self == Group::Memory,
            Name::Clone => self == Group::Clone,
            Name::Consistency => self == Group::Consistency,
        }
    }
}

impl Options {
    /// The groups to run, each once.
    pub fn groups(&self) -> Vec<Group> {
        let wanted =
            |g: &Group| self.names.is_empty() || self.names.iter().any(|&name| g.named(name));
        Group::ALL.into_iter().filter(wanted).collect()
    }

    /// Whether a group is to leave out what there is no bar for: it runs as a part of `datapath` only.
    pub fn only_bars(&self, group: Group) -> bool {
        let names = || self.names.iter().filter(|&&name| group.named(name));
        names().next().is_some() && names().all(|&name| name == Name::Datapath)
    }

    /// One of two, depending on how thorough this run is.
    pub fn pick<T>(&self, thorough: T, quick: T) -> T {
        if self.quick { quick } else { thorough }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Options {
        Options::try_parse_from(args).unwrap()
    }

    #[test]
    fn names_select_groups_once_and_none_selects_all() {
        assert_eq!(parse(&["b"]).groups().len(), Group::ALL.len());
        assert_eq!(
            parse(&["b", "clone", "rules", "clone"]).groups(),
            [Group::Rules, Group::Clone]
        );
        assert!(Options::try_parse_from(["b", "nonsense"]).is_err());
        for group in Group::ALL {
            assert_eq!(parse(&["b", group.name()]).groups(), [group]);
        }
    }

    #[test]
    fn datapath_is_all_that_has_bars_unless_more_is_asked_for() {
        let options = parse(&["b", "datapath", "rules"]);
        assert!(!options.groups().contains(&Group::Clone));
        assert!(options.only_bars(Group::Pipeline) && !options.only_bars(Group::Rules));
        assert!(!parse(&["b"]).only_bars(Group::Pipeline));
    }
}
