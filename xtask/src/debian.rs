//! Programs of others that tests and benchmarks run: what is missing is installed from Debian's packages, and said.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::process;

/// A program, and Debian's package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in the search path, or in one of the folders for administrators' programs.
    pub name: &'static str,
    /// Debian's package.
    pub package: &'static str,
}

/// Installs those that are missing.
///
/// # Errors
/// A program is missing, and apt-get cannot install it.
pub fn ensure_programs(programs: &[Program]) -> Result<()> {
    let missing: Vec<_> = programs.iter().filter(|p| !is_there(p.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|p| p.package).collect();
    packages.sort_unstable();
    packages.dedup();
    install(&packages)?;
    for program in missing {
        ensure!(
            is_there(program.name),
            "{} was installed, but has no program {}",
            program.package,
            program.name
        );
    }
    Ok(())
}

/// Installs packages, and says so.
///
/// # Errors
/// apt-get cannot install them.
pub fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    println!("Installing from Debian: {list} ...");
    let install = [
        &["install", "-y", "-qq", "--no-install-recommends"],
        packages,
    ]
    .concat();
    // The lists of packages may be missing or old.
    if apt_get(&install).is_err() {
        apt_get(&["update", "-qq"])?;
        apt_get(&install)
            .with_context(|| format!("install these yourself, or their like: {list}"))?;
    }
    Ok(())
}

/// Runs apt-get without questions.
///
/// # Errors
/// It cannot be run, or says that it failed.
pub fn apt_get(args: &[&str]) -> Result<()> {
    process::succeed(
        Command::new("apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null()),
    )
}

fn is_there(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| Path::new(&folder).join(name).is_file())
}
