//! Processes of a lab: the agents, the coordinator, the guardian.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::error::{Context, LabError};
use super::netns::Netns;

/// Lines of a log that an error shows.
const TAIL: usize = 40;

/// A child process inside a namespace, with its output in a file. Killed and reaped when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in the namespace `ns`. The log is appended to, so that it tells of earlier runs too.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        ns: &Netns,
        program: &Path,
        args: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Result<Self, LabError> {
        let what = || format!("cannot start {}", program.display());
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .doing(what)?;
        let errors = output.try_clone().doing(what)?;
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C is for the owner, which decides in which order things end.
            .process_group(0);
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "info");
        }
        command.env("NO_COLOR", "1");
        // Errors are told by their chain; panics still say where.
        command.env("RUST_LIB_BACKTRACE", "0");
        enter_before_exec(&mut command, ns.clone());
        let child = command.spawn().doing(what)?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(mut self) {
        self.end();
    }

    /// An error that tells of its end, if it has ended.
    pub fn check(&mut self) -> Result<(), LabError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.problem(format!("ended ({status})"))),
            Err(e) => Err(self.problem(format!("cannot be watched ({e})"))),
        }
    }

    /// An error about this process, with the end of its log.
    pub fn problem(&self, problem: String) -> LabError {
        LabError::Process {
            process: self.name.clone(),
            problem,
            log: tail(&self.log),
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes a command's process enter a namespace before it becomes the program.
pub(super) fn enter_before_exec(command: &mut Command, ns: Netns) {
    // SAFETY: only setns is called between fork and exec; it is a plain system call. The closure owns the descriptor.
    unsafe {
        command.pre_exec(move || {
            if libc::setns(ns.raw_fd(), libc::CLONE_NEWNET) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    format!("--- {}\n{}", log.display(), lines[from..].join("\n"))
}
