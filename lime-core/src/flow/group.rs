//! Groups: OpenFlow 1.3.5, 5.6.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Action, RuleError, rule::check_free_actions};

/// Largest group number (OpenFlow 1.3.5, 7.3.4.3, OFPG_MAX).
pub const GROUP_MAX: u32 = 0xffff_ff00;

/// Most buckets of a group.
pub const MAX_BUCKETS: usize = 64;

/// How a group uses its buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupType {
    /// Every bucket, on a copy of the packet each.
    All,
    /// One bucket, by a hash of the packet's flow.
    Select,
    /// The only bucket.
    Indirect,
    /// The first live bucket.
    FastFailover,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Group {
    /// Number within its switch, at most [`GROUP_MAX`].
    pub id: u32,
    /// How the buckets are used.
    pub kind: GroupType,
    /// Each bucket's actions.
    pub buckets: Vec<Vec<Action>>,
}

/// Why a group is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GroupError {
    /// Not a group number.
    #[error("group {id:#x}: group numbers are 0 to {GROUP_MAX:#x}")]
    BadId {
        /// The number.
        id: u32,
    },
    /// More than [`MAX_BUCKETS`].
    #[error("{count} buckets: a group has at most {MAX_BUCKETS}")]
    TooManyBuckets {
        /// How many there were.
        count: usize,
    },
    /// An indirect group has one bucket.
    #[error("{count} buckets: an indirect group has exactly one")]
    NotOneBucket {
        /// How many there were.
        count: usize,
    },
    /// Chains of groups are not supported.
    #[error("bucket {bucket}: a bucket cannot run another group; put that group's actions here")]
    Chained {
        /// The bucket's index.
        bucket: usize,
    },
    /// An action of a bucket is refused.
    #[error("bucket {bucket}: {error}")]
    Action {
        /// The bucket's index.
        bucket: usize,
        /// Why.
        error: RuleError,
    },
}

impl Group {
    /// Checks what can be checked without knowing the switch.
    pub fn check(&self) -> Result<(), GroupError> {
        if self.id > GROUP_MAX {
            return Err(GroupError::BadId { id: self.id });
        }
        let count = self.buckets.len();
        if count > MAX_BUCKETS {
            return Err(GroupError::TooManyBuckets { count });
        }
        if self.kind == GroupType::Indirect && count != 1 {
            return Err(GroupError::NotOneBucket { count });
        }
        for (bucket, actions) in self.buckets.iter().enumerate() {
            if actions.iter().any(|a| matches!(a, Action::Group(_))) {
                return Err(GroupError::Chained { bucket });
            }
            check_free_actions(actions, false)
                .map_err(|error| GroupError::Action { bucket, error })?;
        }
        Ok(())
    }
}
