//! What the agent's tests share: a network namespace of their own, and a coordinator that does as it is told.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

mod coordinator;
mod describe;
mod other;
mod wire;
mod world;

pub use coordinator::{Coordinator, Session};
pub use describe::{code, local, network, output, rule, stage};
pub use other::OtherHost;
pub use wire::Wire;
pub use world::{World, in_namespace, ip};
