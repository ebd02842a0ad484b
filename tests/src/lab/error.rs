//! What can go wrong while a lab is built or used.

use std::io;
use std::path::PathBuf;

/// A lab could not be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// Namespaces, bpffs and devices are root's.
    #[error("the lab needs root (network namespaces, eBPF): run it as root, for example with sudo")]
    NotRoot,
    /// A program that should have been built is missing.
    #[error("{binary} is not in {}: build it with `cargo build --workspace`, or set LIME_BIN_DIR", directory.display())]
    MissingBinary {
        /// Its name.
        binary: &'static str,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A host's or end host's name that devices cannot be named after, or that is taken.
    #[error(
        "`{0}` cannot name a host or end host: 1 to 10 lower-case letters and digits, each name once, not `core`"
    )]
    BadName(String),
    /// The name of a lab that is up.
    #[error(
        "a lab called `{0}` is up: take it down with `cargo xtask lab down {0}` or choose another name"
    )]
    NameTaken(String),
    /// No such host or end host.
    #[error("the lab has no {kind} called `{name}`")]
    Unknown {
        /// `host` or `end host`.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// A system call failed.
    #[error("{what}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("{what}")]
    Netlink {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: Box<rtnetlink::Error>,
    },
    /// The plug program could not be loaded or attached.
    #[error("cannot plug end hosts: {0}")]
    Plug(String),
    /// A process of the lab ended, or did not become ready in time.
    #[error("{process}: {problem}\n{log}")]
    Process {
        /// Which.
        process: String,
        /// What is wrong with it.
        problem: String,
        /// The end of its log.
        log: String,
    },
    /// The coordinator answered with an error.
    #[error("{what}: {status}")]
    Rpc {
        /// What was asked of it.
        what: String,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// What was seen of a network no ordinary switch could have shown.
    #[error(transparent)]
    Contradiction(Box<lime_history::Contradiction>),
    /// The coordinator could not be reached.
    #[error("cannot reach the coordinator")]
    Transport(#[from] tonic::transport::Error),
}

/// Says what was attempted when an [`io::Error`] is all there is.
pub(crate) trait Context<T> {
    /// Wraps the error.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, LabError>;
}

impl<T> Context<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|source| LabError::Io {
            what: what(),
            source,
        })
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|e| LabError::Io {
            what: what(),
            source: e.into(),
        })
    }
}

impl<T> Context<T> for Result<T, rtnetlink::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|source| LabError::Netlink {
            what: what(),
            source: Box::new(source),
        })
    }
}
