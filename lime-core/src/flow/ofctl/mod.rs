//! The flow syntax of `ovs-ofctl` (Open vSwitch's ovs-ofctl(8), ovs-fields(7), ovs-actions(7)), read and written.
//!
//! `priority=100,tcp,nw_dst=10.0.0.2,tp_dst=80,actions=mod_dl_dst:02:00:00:00:00:01,output:2`
//!
//! Understood is what LIME's rule model has; anything else of Open vSwitch's is refused by name, with what to write instead. What
//! is printed reads back as the same rule, and so does a line of `dump-flows`: its counters and ages are skipped.

mod actions;
mod error;
mod items;
mod matching;
mod meter;
mod names;
mod print;
mod rule;
mod value;

#[cfg(test)]
mod tests;

pub use actions::parse_actions;
pub use error::{Problem, SyntaxError};
pub use meter::{format_band, format_meter, parse_meter, parse_meter_id};
pub use print::{format_actions, format_instructions, format_match, format_rule};
pub use rule::{DEFAULT_PRIORITY, parse_add, parse_filter, parse_mod, parse_modify, parse_rule};
