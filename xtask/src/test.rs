//! `cargo xtask test`: builds the programs, then lets the test runner run the whole workspace.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    binaries,
    debian::{self, Program},
    process,
};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only tests whose name, or whose test program's name, contains this
    filter: Vec<String>,
    /// Run the tests of the data path on this version of Debian's kernel (6.1) instead, in an emulated machine; installs QEMU where it is lacking
    #[arg(long, value_name = "VERSION")]
    kernel: Option<String>,
}

/// What `tests/tests/applications.rs` runs across a network.
const PROGRAMS: [Program; 6] = [
    Program {
        name: "ping",
        package: "iputils-ping",
    },
    Program {
        name: "iperf3",
        package: "iperf3",
    },
    Program {
        name: "curl",
        package: "curl",
    },
    Program {
        name: "busybox",
        package: "busybox",
    },
    Program {
        name: "dnsmasq",
        package: "dnsmasq-base",
    },
    Program {
        name: "dig",
        package: "bind9-dnsutils",
    },
];

/// Runs the tests. The exit code is the runner's.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(version) = &args.kernel {
        return crate::vm::test(version, &args.filter);
    }
    binaries::need_root("the test suite")?;
    debian::ensure_programs(&PROGRAMS)?;
    binaries::build()?;
    let nextest = process::cargo()
        .args(["nextest", "--version"])
        .output()
        .is_ok_and(|o| o.status.success());
    let mut runner = process::cargo();
    if nextest {
        runner.args([
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--no-tests=fail",
        ]);
        if args.filter.is_empty() {
            // Names what it leaves out.
            runner.args(["--status-level=skip", "--final-status-level=skip"]);
        }
        for filter in &args.filter {
            runner.args(["-E", &format!("test(~{filter}) | binary(~{filter})")]);
        }
    } else {
        eprintln!(
            "cargo-nextest is not installed: the tests run by `cargo test`, one program after the other"
        );
        runner.args(["test", "--workspace", "--no-fail-fast", "--"]);
        runner.args(&args.filter);
    }
    if args.filter.is_empty() {
        // First, so that the runner's summary of all other tests comes last.
        doc_tests(nextest)?;
        println!(
            "Skipped on purpose: tests marked `ignored` (helpers that other tests start as processes of their own); each is listed below as SKIP or ignored."
        );
    }
    process::exit_code(&mut runner)
}

/// nextest does not run documentation's examples.
fn doc_tests(nextest: bool) -> Result<()> {
    if nextest {
        process::succeed(process::cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    }
    Ok(())
}
