//! Tenant frames in user space: where their headers are, checksums, set-field actions.
//!
//! Every byte here comes from a tenant: nothing panics, whatever the frame says about itself.

mod checksum;
mod edit;
mod layout;
mod protocols;
mod segment;
mod tags;
mod too_big;

pub use checksum::complete_partial;
pub use edit::{EditError, edit};
pub use layout::{Layout, Network};
pub use segment::segments;
pub use too_big::too_big;
