//! A coordinator in this process, and fake agents that speak the agents' protocol to it over real gRPC.

#![allow(dead_code, missing_docs)]

pub mod agent;
pub mod channel;
pub mod lab;
pub mod tables;

pub use agent::FakeAgent;
pub use lab::*;
