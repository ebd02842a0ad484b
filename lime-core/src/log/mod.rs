//! The log of one network: what changes, in which order, and when it takes effect where.
//!
//! [`Sequencer`] is the coordinator's half of the consistency protocol. It is told what happened (a submission, an acknowledgement,
//! an event, a lost connection) and answers with [`Output`]s to carry out, in order. Comments that say "rule n" mean the numbered
//! rules of the protocol, which was model-checked with exactly these conditions.

mod entry;
mod hold;
mod member;
mod sequencer;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_strict;

pub use entry::*;
pub use member::{Member, Resume};
pub use sequencer::*;
