//! A switch written to be obviously right, to compare fast ones with: frames in, frames out, one rule at a time.
//!
//! It follows OpenFlow 1.3.5 and shares nothing with the data path but the rule model of `lime-core`, and how select groups choose. There are no tables, hashes or keys:
//! a look-up goes through all rules, every table parses the frame anew as it then is, and checksums are computed from the bytes they cover.
//! Where the specification leaves a choice, what LIME has chosen is said at the place.
//!
//! Not here: how rates are measured (which bands are exceeded is given), timeouts, and outputs that wait for the controller.

mod checksum;
mod cover;
mod fault;
mod group;
mod ipv6;
mod meter;
mod outcome;
mod output;
mod parse;
mod rewrite;
mod run;
mod set;
mod tags;
mod world;

pub use fault::Fault;
pub use outcome::{Count, Counted, Drop, Event, Outcome, PortCount, Sent};
pub use parse::{Headers, Transport, parse};
pub use world::{GroupChange, Installed, MeterChange, Place, Port, World};
