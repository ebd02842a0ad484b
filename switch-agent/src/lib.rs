//! LIME's per-host agent as a library: everything that touches the kernel.

pub mod config;
pub mod datapath;
pub mod driver;
pub mod error;
pub mod netlink;
pub mod objects;
pub mod packet;
pub mod packet_out;
pub mod recirculation;
pub mod reconcile;
pub mod underlay;
