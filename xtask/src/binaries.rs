//! Builds the programs that labs run.

use anyhow::{Result, ensure};

use crate::process;

/// Their packages.
const PACKAGES: [&str; 4] = ["switch-agent", "lime-coordinator", "lime-cli", "lime-tests"];

/// Builds them, in the profile that `cargo xtask` itself is built in; they come to lie beside it. With `LIME_BIN_DIR` set, the programs
/// there are used as they are.
pub fn build() -> Result<()> {
    if std::env::var_os("LIME_BIN_DIR").is_some() {
        return Ok(());
    }
    build_packages(&PACKAGES, &[])
}

/// Builds the programs of some packages, with further options of `cargo build`.
pub fn build_packages(packages: &[&str], options: &[&str]) -> Result<()> {
    let mut build = process::cargo();
    build.args(["build", "--bins"]).args(options);
    for package in packages {
        build.args(["--package", package]);
    }
    process::succeed(&mut build)
}

/// Fails unless run by root.
pub fn need_root(what: &str) -> Result<()> {
    ensure!(
        lime_tests::lab::is_root(),
        "{what} makes network namespaces and loads eBPF programs: run it as root, for example `sudo -E cargo xtask ...`"
    );
    Ok(())
}
