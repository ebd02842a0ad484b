//! Where a flow is wrong, and how to mend it.

use thiserror::Error;

use crate::flow::{MatchError, MeterError, RuleError};

/// A text that is no flow.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("column {column}: {problem}")]
pub struct SyntaxError {
    /// Where, counted in characters from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong at a place of a flow.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// Not a field or key of flows.
    #[error("unknown field {name:?}{}", suggestion(nearest))]
    UnknownKey {
        /// As written.
        name: String,
        /// The name that is most like it.
        nearest: Option<&'static str>,
    },
    /// Not an action.
    #[error("unknown action {name:?}{}", suggestion(nearest))]
    UnknownAction {
        /// As written.
        name: String,
        /// The name that is most like it.
        nearest: Option<&'static str>,
    },
    /// Open vSwitch has it and LIME does not.
    #[error("{name} is not supported: {instead}")]
    Unsupported {
        /// As written.
        name: String,
        /// What to do.
        instead: String,
    },
    /// A value that does not fit its key.
    #[error("{name}: {text:?} is not {expected}")]
    BadValue {
        /// The key or action.
        name: String,
        /// As written.
        text: String,
        /// What would be right, with an article.
        expected: String,
    },
    /// A key or action without its value.
    #[error("{name} needs a value: {expected}")]
    MissingValue {
        /// The key or action.
        name: String,
        /// What would be right, with an article.
        expected: String,
    },
    /// A value where none belongs.
    #[error("{name} takes no value")]
    UnexpectedValue {
        /// The key or action.
        name: String,
    },
    /// Two different values for one field.
    #[error("{name} says something else about {field} than what comes before it")]
    Contradiction {
        /// The key.
        name: String,
        /// The field.
        field: &'static str,
    },
    /// A port without its protocol.
    #[error("{name}: which protocol? The match must say {needs}{instead}")]
    WhichProtocol {
        /// The key or action.
        name: String,
        /// What would do.
        needs: &'static str,
        /// Another way to say it.
        instead: String,
    },
    /// A rule without `actions=`.
    #[error("a rule ends in its actions: add \"actions=output:PORT\", or \"actions=drop\"")]
    MissingActions,
    /// Something that only rules have.
    #[error("a delete has no {what}: leave it out")]
    NotInDelete {
        /// What was found.
        what: &'static str,
    },
    /// Something that only rules have.
    #[error("a modification has no {what}: leave it out")]
    NotInModify {
        /// What was found.
        what: &'static str,
    },
    /// Something that has to be alone or last.
    #[error("{name} must be the {place} action")]
    Misplaced {
        /// The action.
        name: String,
        /// Only, or last.
        place: &'static str,
    },
    /// A bracket that is not closed, or not open.
    #[error("the brackets do not match")]
    Brackets,
    /// Longer than any flow.
    #[error("the text is {len} bytes long: a flow has at most {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// The fields do not go together.
    #[error("{error}{hint}")]
    Match {
        /// Why.
        error: MatchError,
        /// What to write.
        hint: &'static str,
    },
    /// The rule cannot be.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The meter cannot be.
    #[error(transparent)]
    Meter(#[from] MeterError),
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(
        || "; see ovs-fields(7) and ovs-actions(7) for the names".to_owned(),
        |name| format!("; did you mean {name:?}?"),
    )
}
