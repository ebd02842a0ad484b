//! LIME's decisions, pure: the rule model, epochs and clocks, the sequencing of updates, the merging of events and counters,
//! the planning and stepping of migrations.
//!
//! Invariant: nothing here does I/O, reads a clock or is async. Functions take what happened (and the time, where it matters) and
//! return what to send; the coordinator only moves bytes. That is what lets the model checker run the code that runs in production.

pub mod counters;
pub mod flow;
mod ids;
pub mod lease;
pub mod log;
pub mod migration;
pub mod model;
mod network;
pub mod promise;
pub mod timeouts;

pub use ids::*;
pub use network::*;
