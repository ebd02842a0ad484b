//! `cargo xtask fuzz`: the comparisons with reference implementations, for longer than the test suite runs them.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::{binaries, process};

/// What to compare.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The kernel programs with the reference switch, on random rules and packets, by XDP and by TC
    Datapath {
        /// How many packets
        #[arg(long, default_value_t = 1_000_000)]
        cases: u64,
        /// Where to start; one from the time of day if not given
        #[arg(long)]
        seed: Option<u64>,
        /// How packets come in: some of test-run, tap and veth [default: all]
        #[arg(long, value_delimiter = ',')]
        ways: Vec<String>,
    },
    /// Which mistakes, planted in the reference switch, the comparison finds, and how
    Planted,
}

/// Runs it. The exit code is the test's.
pub fn run(command: &Command) -> Result<ExitCode> {
    binaries::need_root("the comparison with the kernel")?;
    let mut cargo = process::cargo();
    cargo
        .args(["test", "--package", "switch-agent", "--test", "reference"])
        .args(["--", "--nocapture", "--exact"]);
    match command {
        Command::Datapath { cases, seed, ways } => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let seed = seed.unwrap_or_else(|| now.map_or(0, |d| d.as_secs() << 20));
            println!("{cases} packets, from seed {seed}");
            cargo
                .arg("the_kernel_does_what_the_reference_does")
                .env("LIME_CASES", cases.to_string())
                .env("LIME_SEED", seed.to_string());
            if !ways.is_empty() {
                cargo.env("LIME_WAYS", ways.join(","));
            }
        }
        Command::Planted => {
            cargo.arg("planted_bugs_are_found");
        }
    }
    process::exit_code(&mut cargo)
}
