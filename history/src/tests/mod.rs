//! Histories made by hand, and of a switch that runs in a test.
#![allow(clippy::unwrap_used, reason = "tests panic")]

mod by_hand;
mod kept;
mod simulated;
mod story;
