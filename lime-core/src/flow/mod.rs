//! The rule model: OpenFlow 1.3 matches, actions and rules as values, and what they mean to each other.

mod action;
mod field;
mod group;
mod group_parts;
mod headers;
mod matching;
mod meter;
mod meter_parts;
mod modify;
pub mod ofctl;
mod packet;
mod parts;
mod removal;
mod rule;
mod table;

pub use action::*;
pub use field::*;
pub use group::*;
pub use group_parts::*;
pub use matching::*;
pub use meter::*;
pub use meter_parts::*;
pub use modify::*;
pub use packet::*;
pub use parts::{Part, PartDelta};
pub use removal::*;
pub use rule::*;
pub use table::*;
