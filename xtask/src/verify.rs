//! `cargo xtask verify`: builds the model checker, optimized and with the production code's assertions on, and runs it.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::binaries;

/// Options of `cargo xtask verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passed on: --minutes N, --scenario NAME,.., --seed N, --threads N, --mutations, --trace, --list; --help shows all
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Runs the checker. The exit code is its.
pub fn run(args: &Args) -> Result<ExitCode> {
    let built = binaries::cargo()
        .args([
            "build",
            "--quiet",
            "--profile",
            "verify",
            "--package",
            "lime-verify",
        ])
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the model checker could not be built");
    let mut checker = binaries::cargo();
    checker.args([
        "run",
        "--quiet",
        "--profile",
        "verify",
        "--package",
        "lime-verify",
        "--",
    ]);
    let status = checker
        .args(&args.options)
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
