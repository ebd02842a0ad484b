//! The hosts: who they are, and their agents' streams.
//!
//! One task per stream reads what the agent says and hands it to the network actors, whose full queues slow it down.

mod hosts;
mod service;
mod session;

pub use hosts::{Host, Hosts};
pub use service::AgentsService;
pub use session::{Session, Waiting};
