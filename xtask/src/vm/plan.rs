//! What the virtual machine is to do: made outside, read inside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::process;

/// Package whose tests load kernel programs.
const PACKAGE: &str = "switch-agent";

/// Tests and the environment they run in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Modules of the kernel, by path inside, in the order in which they are loaded.
    pub modules: Vec<PathBuf>,
    /// Variables that tests read.
    pub environment: BTreeMap<String, String>,
    /// In the order in which they are started.
    pub tests: Vec<Test>,
    /// How many run at once.
    pub at_once: usize,
    /// After this many seconds a test is killed, and has failed.
    pub seconds_per_test: u64,
}

/// One test, a process of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Test {
    /// Path inside.
    pub program: PathBuf,
    /// Name of the test in it.
    pub name: String,
}

/// A built test program.
pub struct Program {
    /// Cargo's name of it.
    pub name: String,
    /// Path outside.
    pub path: PathBuf,
}

impl Program {
    /// Path inside.
    pub fn inside(&self) -> PathBuf {
        Path::new("/tests").join(&self.name)
    }

    /// Its tests without those that are ignored.
    pub fn tests(&self) -> Result<Vec<Test>> {
        let ignored = self.list(&["--ignored"])?;
        let names = self.list(&[])?;
        let mut tests = vec![];
        for name in names {
            if !ignored.contains(&name) {
                let program = self.inside();
                tests.push(Test { program, name });
            }
        }
        Ok(tests)
    }

    fn list(&self, which: &[&str]) -> Result<Vec<String>> {
        let output = Command::new(&self.path)
            .args(["--list", "--format", "terse"])
            .args(which)
            .output()
            .with_context(|| format!("cannot run {}", self.path.display()))?;
        ensure!(
            output.status.success(),
            "{} does not list its tests",
            self.path.display()
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.lines().filter_map(|l| l.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    }
}

/// The part of cargo's messages that matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the test programs of [`PACKAGE`].
pub fn build() -> Result<Vec<Program>> {
    let output = process::cargo()
        .args(["test", "--no-run", "--package", PACKAGE])
        .arg("--message-format=json-render-diagnostics")
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "the tests could not be built");
    let mut programs = vec![];
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Message =
            serde_json::from_str(line).context("cargo's messages have another form")?;
        let is_test = message.profile.is_some_and(|p| p.test);
        if message.reason != "compiler-artifact" || !is_test {
            continue;
        }
        if let (Some(target), Some(path)) = (message.target, message.executable) {
            let name = target.name;
            programs.push(Program { name, path });
        }
    }
    ensure!(!programs.is_empty(), "cargo has built no test programs");
    Ok(programs)
}
