//! Migrations: instances of switches, and ports with the end hosts behind them, go to another host as one transaction.
//!
//! [`plan`] turns a request and the model into a list of [`Step`]s: data, printable, with no choices left. [`Progress`] walks them, one
//! at a time, forwards or backwards; every step can be begun again and undone. Before the first retirement a migration can go back;
//! after that it only goes on.

mod machine;
mod plan;

pub use machine::*;
pub use plan::*;
