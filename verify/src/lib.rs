//! Model checking of the consistency protocol: every order in which things can happen in small worlds around the code that runs in
//! production.
//!
//! What is production code here: [`lime_core::log::Sequencer`], the coordinator's decisions, and [`lime_core::model::desired`], what each
//! host is told. There is no second copy of either. What is a model, written against the rules: the agent ([`agent`]), the kernel's
//! pipeline as far as versions go ([`world`]), the coordinator's shell and store ([`shell`]), its operations ([`operation`]).
//!
//! A [`scenario`] is a world of 2 or 3 hosts with a few packets, updates and mishaps. [`explore`] walks through all its states. Whenever an
//! end host or the controller has seen something, [`history`] decides whether one reference switch could have shown all that was seen.
//! A [`mutation`] takes one rule of the protocol out; each must be caught.
//!
//! The explorer is our own, not `stateright`: that keeps for each state the fingerprint of its predecessor too, and whole states of
//! the frontier or the way to each of them, which for 10^8 states does not fit; it cannot stop at a limit of memory, and brings a web server
//! with it. Ours is a depth-first walk over 64-bit fingerprints in one table of fixed size (8 bytes a state at full load, 20 at most), by
//! any number of threads, each in an order of its own. A fingerprint that two states share hides one of them: with 10^8 states
//! that is expected 0.0003 times in a run. Shortest traces come from a breadth-first walk.

pub mod agent;
mod controller;
pub mod coordinator;
mod exclusion;
pub mod explain;
pub mod explore;
pub mod history;
pub mod host;
mod kernel;
pub mod mutation;
pub mod operation;
pub mod progress;
mod promise;
pub mod real_time;
pub mod scenario;
pub mod scenarios;
pub mod scenarios_long;
pub mod scenarios_strict;
pub mod shell;
pub mod world;
