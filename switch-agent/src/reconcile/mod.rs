//! From what the coordinator wants to what is in the data path: one network at a time, as a whole or not at all.

mod desired;
mod generation;
mod store;

pub use desired::{DesiredNetwork, DesiredPlace, DesiredPort, LocalDevice};
pub use generation::{Verdict, judge};
pub use store::{Store, StoreError};
