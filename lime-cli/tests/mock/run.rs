//! Runs of the real `lime` binary.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Mock;

/// What a run of the command left.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn ok(self) -> String {
        assert_eq!((self.code, &*self.stderr), (0, ""), "{}", self.stdout);
        self.stdout
    }

    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self.stderr
    }
}

pub fn run_at(coordinator: &str, args: &[&str], input: &str) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lime"))
        .args(args)
        .env("LIME_COORDINATOR", coordinator)
        .env("COLUMNS", "200")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn lime(mock: &Mock, args: &[&str]) -> Run {
    run_at(&format!("http://{}", mock.address), args, "")
}

pub fn lime_with_input(mock: &Mock, args: &[&str], input: &str) -> Run {
    run_at(&format!("http://{}", mock.address), args, input)
}
