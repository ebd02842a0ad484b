//! The rule model: OpenFlow 1.3 matches, actions and rules as values, and what they mean to each other.

mod action;
mod field;
mod matching;
mod rule;

pub use action::*;
pub use field::*;
pub use matching::*;
pub use rule::*;
