//! What the coordinator is told when a request cannot be done.

use lime_proto::ConvertError;
use lime_proto::v1::agent_error::Code;
use thiserror::Error;

use crate::datapath::DatapathError;

/// A request that was refused or failed; nothing of it was done.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct CommandError {
    /// What kind of failure.
    pub code: Code,
    /// Names the thing and the mend.
    pub message: String,
}

/// Result of a request.
pub type CommandResult<T = ()> = Result<T, CommandError>;

impl CommandError {
    /// An error of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The message contradicts itself or what is here.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message)
    }

    /// Something named is not here.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// Something failed that should not.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The same error, about `what`.
    #[must_use]
    pub fn about(self, what: impl std::fmt::Display) -> Self {
        Self {
            code: self.code,
            message: format!("{what}: {}", self.message),
        }
    }
}

/// An error with all its sources, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

impl From<DatapathError> for CommandError {
    fn from(error: DatapathError) -> Self {
        let code = match error {
            DatapathError::NotFound { .. } => Code::NotFound,
            DatapathError::InUse { .. } => Code::InUse,
            DatapathError::NoSpace { .. } => Code::NoSpace,
            DatapathError::Unsupported { .. } => Code::Unsupported,
            DatapathError::Invalid { .. } => Code::Invalid,
            DatapathError::Kernel { .. } => Code::Internal,
        };
        Self::new(code, chain(&error))
    }
}

impl From<ConvertError> for CommandError {
    fn from(error: ConvertError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<CommandError> for lime_proto::v1::AgentError {
    fn from(error: CommandError) -> Self {
        Self {
            code: error.code.into(),
            message: error.message,
        }
    }
}
