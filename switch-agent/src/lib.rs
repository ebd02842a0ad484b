//! LIME's per-host agent as a library: everything that touches the kernel.
//!
//! [`run`] is the whole agent. Its tasks: the owner of the data path ([`owner`]), the session with the coordinator ([`session`]), and the
//! watch over the host's network ([`underlay::watch`]). What they share goes through bounded channels.

mod agent;
pub mod config;
pub mod datapath;
pub mod driver;
pub mod error;
pub mod netlink;
pub mod objects;
pub mod owner;
pub mod packet;
pub mod packet_out;
pub mod preflight;
pub mod recirculation;
pub mod reconcile;
pub mod session;
pub mod underlay;

pub use agent::{AgentError, run, unload};
pub use config::Config;
