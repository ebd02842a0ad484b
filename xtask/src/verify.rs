//! `cargo xtask verify`: builds the model checker, optimized and with the production code's assertions on, and runs it.

use std::process::ExitCode;

use anyhow::Result;

use crate::process;

/// Options of `cargo xtask verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passed on: --minutes N, --scenario NAME,.., --seed N, --threads N, --mutations, --trace, --list; --help shows all
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Runs the checker. The exit code is its.
pub fn run(args: &Args) -> Result<ExitCode> {
    let checker = ["--quiet", "--profile", "verify", "--package", "lime-verify"];
    // Apart from the run, so that a checker that cannot be built is not taken for one that found something.
    process::succeed(process::cargo().arg("build").args(checker))?;
    // A run that was killed goes on.
    let resume = process::target_dir().join("verify-progress.jsonl");
    let mut options = args.options.clone();
    if !options.iter().any(|o| o == "--resume") {
        options.extend(["--resume".to_owned(), resume.display().to_string()]);
    }
    process::exit_code(
        process::cargo()
            .arg("run")
            .args(checker)
            .arg("--")
            .args(&options),
    )
}
