//! `cargo xtask bench`: builds the benchmarks and what they measure in release mode, and runs them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::debian::{self, Program};
use crate::{binaries, process};

/// Packages whose programs the benchmarks need: themselves, the agent, the coordinator, and the lab's guardian.
const PACKAGES: [&str; 4] = [
    "lime-bench",
    "switch-agent",
    "lime-coordinator",
    "lime-tests",
];

/// What `lime-bench` knows: checked here too, before minutes of building.
const NAMES: [&str; 10] = [
    "datapath",
    "cache",
    "pipeline",
    "uplink",
    "throughput",
    "latency",
    "rules",
    "memory",
    "clone",
    "consistency",
];

/// What `uplink` runs beside LIME.
const OPEN_VSWITCH: Program = Program {
    name: "ovs-vswitchd",
    package: "openvswitch-switch",
};

/// Measures LIME beside bare redirects, the Linux bridge, VXLAN and Open vSwitch, on this machine
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `datapath`: what bars are set for; or groups of figures; everything if none is named
    #[arg(value_name = "NAME", value_parser = NAMES)]
    pub names: Vec<String>,
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

/// Builds and runs. An error if a figure could not be measured.
pub fn run(args: &Args) -> Result<()> {
    let uplink = |name: &String| name == "uplink" || name == "datapath";
    if (args.names.is_empty() || args.names.iter().any(uplink))
        && let Err(e) = debian::ensure_programs(&[OPEN_VSWITCH])
    {
        // The rest can be measured all the same, and the report says what was not.
        eprintln!("{e:#}");
    }
    binaries::build_packages(&PACKAGES, &["--release"])?;
    // Programs that it starts lie beside it.
    let mut bench = Command::new(process::target_dir().join("release/lime-bench"));
    bench.args(&args.names).env_remove("LIME_BIN_DIR");
    if let Some(json) = &args.json {
        bench.arg("--json").arg(json);
    }
    if let Some(plots) = &args.plots {
        bench.arg("--plots").arg(plots);
    }
    if args.quick {
        bench.arg("--quick");
    }
    process::succeed(&mut bench)
}
