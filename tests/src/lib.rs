//! The namespace lab, its end hosts and traffic, the reactive firewall application, the demonstration, and (in `tests/`) the
//! end-to-end tests.
//!
//! - [`lab`]: hosts, underlay, end hosts as network namespaces, with real agents and a real coordinator in them;
//! - [`traffic`]: sequence-numbered UDP and verified TCP between end hosts;
//! - [`record`]: what end hosts and controllers see, for the check that one switch could have shown it;
//! - [`rules`], [`tenant`]: a network, made and used by LIME's own API;
//! - [`program`]: runs tenants' controller programs;
//! - [`scenarios`]: such programs, and traffic, that notice when a network does not behave as one switch does;
//! - [`soak`]: random lives of networks, judged;
//! - [`firewall`]: a tenant's controller over gRPC, which notices when a network does not behave as one switch does;
//! - [`demo`]: the demonstration of `cargo xtask demo`.

pub mod demo;
pub mod firewall;
pub mod lab;
pub mod program;
pub mod record;
pub mod rules;
pub mod scenarios;
pub mod soak;
pub mod tenant;
pub mod traffic;
