//! Why the data path refuses something. The kinds are those of the agent protocol (`AgentError.Code`).

use thiserror::Error;

/// Why an operation on the data path was refused or failed. What failed has changed nothing, unless its documentation says otherwise.
#[derive(Debug, Error)]
pub enum DatapathError {
    /// Something named is not here.
    #[error("{what} does not exist on this host")]
    NotFound {
        /// Kind and id.
        what: String,
    },
    /// Something is already taken.
    #[error("{what} is in use by {by}")]
    InUse {
        /// Kind and id.
        what: String,
        /// By whom, as far as is known.
        by: String,
    },
    /// A table is full.
    #[error("no space for {what}: the limit is {limit}; {mend}")]
    NoSpace {
        /// What there are too many of.
        what: String,
        /// The limit.
        limit: u64,
        /// What helps.
        mend: &'static str,
    },
    /// The kernel, the device or this version cannot do it.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What is lacking and what to do instead.
        why: String,
    },
    /// The request contradicts itself or what is already here.
    #[error("{what} is invalid: {why}")]
    Invalid {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The kernel refused.
    #[error("could not {what}")]
    Kernel {
        /// What was being done.
        what: String,
        /// What the kernel or the loader said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Result of a data path operation.
pub type Result<T, E = DatapathError> = std::result::Result<T, E>;

impl DatapathError {
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    pub(crate) fn in_use(what: impl Into<String>, by: impl Into<String>) -> Self {
        Self::InUse {
            what: what.into(),
            by: by.into(),
        }
    }

    pub(crate) fn no_space(what: impl Into<String>, limit: u64, mend: &'static str) -> Self {
        Self::NoSpace {
            what: what.into(),
            limit,
            mend,
        }
    }

    pub(crate) fn unsupported(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unsupported {
            what: what.into(),
            why: why.into(),
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid {
            what: what.into(),
            why: why.into(),
        }
    }

    pub(crate) fn kernel(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Kernel {
            what: what.into(),
            source: source.into(),
        }
    }
}
