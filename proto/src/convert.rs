//! Wire types to domain types and back, once, at the edge of each process.
//!
//! What comes in is untrusted: every conversion into a domain type checks widths, numbers and counts, and names the field that is
//! wrong. What goes out cannot fail.

mod bundle;
mod error;
mod groups;
mod messages;
mod meters;
mod rules;
mod stats;

#[cfg(test)]
mod tests;

pub use error::{ConvertError, Problem};
pub use messages::enum_from_wire;
pub use meters::{part_from_wire, part_to_wire};
pub use rules::{
    MAX_MATCH_FIELDS, actions_from_wire, actions_to_wire, match_from_wire, match_to_wire,
};
