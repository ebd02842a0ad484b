//! LIME's per-host agent as a library: everything that touches the kernel.

pub mod datapath;
pub mod objects;
pub mod packet;
