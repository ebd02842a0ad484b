//! Why a message is refused, and which of its fields is wrong.

use std::ops::RangeInclusive;

use lime_core::flow::{GroupError, MatchError, MeterError, PacketOutError, RuleError};
use thiserror::Error;

/// A message that does not become a domain type.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {problem}")]
pub struct ConvertError {
    /// Path of the field within the message, as `mods[3].rule.match[0].value`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// It must be there.
    #[error("is missing")]
    Missing,
    /// The number is larger than the field allows.
    #[error("{value} is too large: at most {max}")]
    TooLarge {
        /// What was given.
        value: u64,
        /// What is allowed.
        max: u64,
    },
    /// The number is not within what is possible.
    #[error("{value} is not within {} to {}", range.start(), range.end())]
    OutOfRange {
        /// What was given.
        value: u32,
        /// What is possible.
        range: RangeInclusive<u32>,
    },
    /// No such OXM field, or not supported.
    #[error("no match field has OXM number {number}")]
    UnknownField {
        /// The number.
        number: u32,
    },
    /// Bytes of another length than the field's.
    #[error("has {len} bytes, and the field {expected}")]
    WrongLength {
        /// What was given.
        len: usize,
        /// What is right.
        expected: usize,
    },
    /// More elements than allowed.
    #[error("has {count} elements: at most {max}")]
    TooMany {
        /// How many there were.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// A number that the enum does not have.
    #[error("{value} is none of its values")]
    UnknownValue {
        /// The number.
        value: i32,
    },
    /// The match contradicts itself.
    #[error(transparent)]
    Match(#[from] MatchError),
    /// The rule cannot be.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The group cannot be.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The meter cannot be.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The packet-out cannot be.
    #[error(transparent)]
    PacketOut(#[from] PacketOutError),
}

impl ConvertError {
    /// An error at this field.
    pub fn new(field: impl Into<String>, problem: impl Into<Problem>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The same error, seen from the message around it.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self {
            field: format!("{outer}.{}", self.field),
            problem: self.problem,
        }
    }
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        tonic::Status::invalid_argument(error.to_string())
    }
}

/// A number that must fit in a narrower type.
pub(super) fn narrow<T: TryFrom<u32>>(
    field: &str,
    value: u32,
    max: u64,
) -> Result<T, ConvertError> {
    T::try_from(value).map_err(|_| {
        ConvertError::new(
            field,
            Problem::TooLarge {
                value: value.into(),
                max,
            },
        )
    })
}

/// A list that must not be longer than `max`.
pub(super) fn bounded(field: &str, count: usize, max: usize) -> Result<(), ConvertError> {
    if count > max {
        return Err(ConvertError::new(field, Problem::TooMany { count, max }));
    }
    Ok(())
}
