//! Outlives the process that owns a lab, and takes the lab down when that process has gone without doing so itself
//! (SIGKILL, Ctrl-C, a crash). It is started by the lab library; its standard input is a pipe whose other end only the owner holds.

use std::io::Read;
use std::process::ExitCode;

use lime_tests::lab::{LabName, cleanup};

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1).and_then(|n| LabName::parse(&n)) else {
        eprintln!("usage: lime-lab-guard NAME (started by the lab itself)");
        return ExitCode::from(2);
    };
    // A session of its own: Ctrl-C goes to the owner's process group, not here.
    let _ = nix::unistd::setsid();
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    cleanup::remove(&name, std::process::id());
    ExitCode::SUCCESS
}
