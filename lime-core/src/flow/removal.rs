//! Why a rule has gone.

use serde::{Deserialize, Serialize};

/// Why a rule has gone, of its own or by the controller (OpenFlow 1.3.5, 7.4.2, enum ofp_flow_removed_reason).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RemovedReason {
    /// No packet matched it for its idle timeout.
    IdleTimeout,
    /// Its hard timeout has passed.
    HardTimeout,
    /// A delete.
    Delete,
    /// A group that it used was deleted.
    GroupDelete,
}
