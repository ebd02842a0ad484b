//! Groups: OpenFlow 1.3.5, 5.6.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Action, RuleError, rule::check_free_actions};
use crate::PortNo;

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
    /// One live bucket, by a hash of the packet's flow.
    Select,
    /// The only bucket.
    Indirect,
    /// The first live bucket.
    FastFailover,
}

/// One of a group's lists of actions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bucket {
    /// Share of the flows, in groups of type select, against the sum of all; 0: none. 1 in all others.
    pub weight: u16,
    /// The bucket is live while this port is, or the group that it watches; always, if it watches nothing. For groups of types select and
    /// fast failover.
    pub watch_port: Option<PortNo>,
    /// See `watch_port`. A group is live while one of its buckets is.
    pub watch_group: Option<u32>,
    /// What is done with the packet.
    pub actions: Vec<Action>,
}

impl Bucket {
    /// A bucket of weight 1 that watches nothing.
    pub fn new(actions: Vec<Action>) -> Self {
        Self {
            weight: 1,
            watch_port: None,
            watch_group: None,
            actions,
        }
    }

    /// Groups that the bucket runs or watches.
    pub fn groups(&self) -> impl Iterator<Item = u32> + '_ {
        let run = self.actions.iter().filter_map(|a| match a {
            Action::Group(id) => Some(*id),
            _ => None,
        });
        run.chain(self.watch_group)
    }
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Group {
    /// Number within its switch, at most [`GROUP_MAX`].
    pub id: u32,
    /// How the buckets are used.
    pub kind: GroupType,
    /// The buckets, in the order that fast failover tries them.
    pub buckets: Vec<Bucket>,
}

/// A change of a switch's groups (OpenFlow 1.3.5, 6.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GroupMod {
    /// A new group.
    Add(Group),
    /// Another type and other buckets for a group that is there. Its own counters go on, those of its buckets begin at zero.
    Modify(Group),
    /// Removes a group, or all (`None`), and the rules that run it. A number that is not there is no error.
    Delete(Option<u32>),
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
    /// Weights are for select groups (OpenFlow 1.3.5, 7.3.4.3).
    #[error("bucket {bucket}: weight {weight}, which only groups of type select have")]
    Weight {
        /// The bucket's index.
        bucket: usize,
        /// Its weight.
        weight: u16,
    },
    /// OpenFlow 1.3.5, 7.4.4.8: OFPGMFC_WATCH_UNSUPPORTED.
    #[error(
        "bucket {bucket}: only groups of types select and fast_failover watch ports and groups"
    )]
    Watch {
        /// The bucket's index.
        bucket: usize,
    },
    /// Only ordinary ports have a state to watch.
    #[error("bucket {bucket}: watch_port {port:#x} is not the number of an ordinary port")]
    WatchPort {
        /// The bucket's index.
        bucket: usize,
        /// The number.
        port: u32,
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
        let watches = matches!(self.kind, GroupType::Select | GroupType::FastFailover);
        for (bucket, b) in self.buckets.iter().enumerate() {
            if self.kind != GroupType::Select && b.weight > 1 {
                return Err(GroupError::Weight {
                    bucket,
                    weight: b.weight,
                });
            }
            if !watches && (b.watch_port.is_some() || b.watch_group.is_some()) {
                return Err(GroupError::Watch { bucket });
            }
            if let Some(port) = b.watch_port.filter(|p| !p.is_port()) {
                return Err(GroupError::WatchPort {
                    bucket,
                    port: port.0,
                });
            }
            check_free_actions(&b.actions, false)
                .map_err(|error| GroupError::Action { bucket, error })?;
        }
        Ok(())
    }
}
