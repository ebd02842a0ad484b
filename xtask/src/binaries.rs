//! Builds the programs that labs run.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Their packages.
const PACKAGES: [&str; 4] = ["switch-agent", "lime-coordinator", "lime-cli", "lime-tests"];

/// A `cargo` command in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The workspace.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Builds them, in the profile that `cargo xtask` itself is built in; they come to lie beside it. With `LIME_BIN_DIR` set, the programs
/// there are used as they are.
pub fn build() -> Result<()> {
    if std::env::var_os("LIME_BIN_DIR").is_some() {
        return Ok(());
    }
    let mut build = cargo();
    build.args(["build", "--bins"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    let status = build.status().context("cannot run cargo")?;
    ensure!(
        status.success(),
        "the programs of the lab could not be built"
    );
    Ok(())
}

/// Fails unless run by root.
pub fn need_root(what: &str) -> Result<()> {
    ensure!(
        lime_tests::lab::is_root(),
        "{what} makes network namespaces and loads eBPF programs: run it as root, for example `sudo -E cargo xtask ...`"
    );
    Ok(())
}
