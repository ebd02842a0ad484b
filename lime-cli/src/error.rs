//! Errors as people and scripts see them, and the exit codes that stand for them.

use std::io;

use serde::Serialize;
use thiserror::Error;
use tonic::{Code, Status};

/// Why a command failed. The exit codes are documented in `lime --help`.
#[derive(Debug, Error)]
pub enum CliError {
    /// The arguments cannot be; what clap cannot know.
    #[error("{0}")]
    Usage(String),
    /// The coordinator cannot be reached.
    #[error("cannot reach the coordinator at {url}: {reason}")]
    Unreachable {
        /// Where it was sought.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The coordinator refused.
    #[error("cannot {doing}: {}", status_text(status))]
    Refused {
        /// What was asked for, as in "create network acme".
        doing: String,
        /// The coordinator's answer.
        status: Box<Status>,
    },
    /// No answer in time.
    #[error("cannot {doing}: no answer within {seconds} s")]
    TimedOut {
        /// What was asked for.
        doing: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Something named is not there.
    #[error("{what} {name} does not exist: `lime {what} list` shows what there is")]
    NotFound {
        /// Network, switch, port, host or group.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The coordinator's answer makes no sense to this version.
    #[error("cannot read the coordinator's answer: {0}")]
    BadAnswer(String),
    /// A migration did not complete.
    #[error("{0}")]
    Migration(String),
    /// The user stopped the command.
    #[error("{0}")]
    Interrupted(String),
    /// A file, or standard input or output.
    #[error("cannot {doing}: {reason}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why not.
        reason: String,
    },
    /// Whoever read the output has gone: nothing to say, and nobody to say it to.
    #[error("the output was closed")]
    OutputClosed,
}

impl CliError {
    /// An input or output error.
    pub fn io(doing: impl Into<String>, error: &io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            reason: error.to_string(),
        }
    }

    /// Something named is not there.
    pub fn not_found(what: &'static str, name: impl ToString) -> Self {
        let name = name.to_string();
        Self::NotFound { what, name }
    }

    /// The coordinator's refusal of what was asked for.
    pub fn refused(doing: impl Into<String>, status: Status) -> Self {
        Self::Refused {
            doing: doing.into(),
            status: Box::new(status),
        }
    }

    /// Whether trying again later may help.
    pub fn is_unreachable(&self) -> bool {
        self.exit_code() == 5
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Usage(_) => 2,
            Self::NotFound { .. } => 3,
            Self::Unreachable { .. } | Self::TimedOut { .. } => 5,
            Self::Migration(_) => 6,
            Self::BadAnswer(_) | Self::Interrupted(_) | Self::Io { .. } => 1,
            Self::Refused { status, .. } => match status.code() {
                Code::InvalidArgument => 2,
                Code::NotFound => 3,
                Code::AlreadyExists | Code::FailedPrecondition => 4,
                Code::Unavailable | Code::DeadlineExceeded => 5,
                _ => 1,
            },
        }
    }

    /// What to do about it, where the message does not say so.
    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable { .. } => {
                "start lime-coordinator there, or say where it listens: --coordinator URL, or LIME_COORDINATOR=URL"
            }
            Self::TimedOut { .. } => {
                "an update waits for all hosts of its network: `lime network show NET` says which are behind, --timeout waits longer"
            }
            Self::Refused { status, .. } => match status.code() {
                Code::Unimplemented => {
                    "the coordinator is older than this command: use the same version of both"
                }
                Code::ResourceExhausted | Code::OutOfRange
                    if status.message().contains("message length") =>
                {
                    "send fewer rules at once"
                }
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Tells the user, on standard error.
    pub fn report(&self, json: bool) {
        if matches!(self, Self::OutputClosed) {
            return;
        }
        if json {
            #[derive(Serialize)]
            struct Report<'a> {
                error: String,
                exit_code: u8,
                hint: Option<&'a str>,
            }
            let report = Report {
                error: self.to_string(),
                exit_code: self.exit_code(),
                hint: self.hint(),
            };
            if let Ok(text) = serde_json::to_string(&report) {
                eprintln!("{text}");
            }
            return;
        }
        eprintln!("error: {self}");
        if let Some(hint) = self.hint() {
            eprintln!("hint: {hint}");
        }
    }
}

/// The message, or the code's meaning where there is none.
fn status_text(status: &Status) -> &str {
    match status.message() {
        "" => status.code().description(),
        message => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_exit_codes() {
        for (code, exit) in [
            (Code::NotFound, 3),
            (Code::AlreadyExists, 4),
            (Code::FailedPrecondition, 4),
            (Code::InvalidArgument, 2),
            (Code::Unavailable, 5),
            (Code::DeadlineExceeded, 5),
            (Code::Internal, 1),
        ] {
            let error = CliError::refused("do it", Status::new(code, "no"));
            assert_eq!(error.exit_code(), exit, "{code:?}");
            assert_eq!(error.to_string(), "cannot do it: no");
        }
    }
}
