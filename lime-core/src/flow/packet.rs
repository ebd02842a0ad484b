//! Packets between a switch and its controller.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Action, RuleError, rule::check_free_actions};
use crate::PortNo;

/// Longest packet that a packet-out may carry, bytes: the largest device MTU plus headers.
pub const MAX_PACKET: usize = 65_550;

/// Shortest packet that is an Ethernet frame at all: its header, bytes.
pub const MIN_PACKET: usize = 14;

/// Why a packet came to the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketInReason {
    /// A table-miss rule (priority 0, matching everything) sent it: OpenFlow 1.3.5, 5.4.
    NoMatch,
    /// An ordinary rule's output action sent it.
    Action,
    /// A rule's action found a TTL that runs out, and the switch tells its controller of those (OpenFlow 1.3.5, 7.4.1).
    InvalidTtl,
}

/// A packet, or its beginning, on its way to the controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PacketIn {
    /// Why.
    pub reason: PacketInReason,
    /// Table of the rule that sent it.
    pub table: u8,
    /// Cookie of that rule.
    pub cookie: u64,
    /// Where the packet came in.
    pub in_port: PortNo,
    /// Length of the whole packet, bytes.
    pub total_len: u32,
    /// The packet, cut at the action's `max_len`.
    pub data: Vec<u8>,
}

/// A packet that the controller sends out (OpenFlow 1.3.5, 7.3.7).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PacketOut {
    /// Stands for the ingress port in IN_PORT, ALL, FLOOD and TABLE; [`PortNo::CONTROLLER`]: there is none.
    pub in_port: PortNo,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// An Ethernet frame without FCS.
    pub data: Vec<u8>,
}

/// Why a packet-out is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PacketOutError {
    /// Neither a port nor CONTROLLER.
    #[error("in_port {port:#x}: give a port (1 to 0xffffff00, or LOCAL) or CONTROLLER for none")]
    BadInPort {
        /// The number.
        port: u32,
    },
    /// Too short or too long for a frame.
    #[error("the packet has {len} bytes: a frame has {MIN_PACKET} to {MAX_PACKET}")]
    BadLength {
        /// Its length.
        len: usize,
    },
    /// An action is refused.
    #[error(transparent)]
    Action(#[from] RuleError),
}

impl PacketOut {
    /// Checks what can be checked without knowing the switch.
    pub fn check(&self) -> Result<(), PacketOutError> {
        if !self.in_port.is_port() && self.in_port != PortNo::CONTROLLER {
            return Err(PacketOutError::BadInPort {
                port: self.in_port.0,
            });
        }
        let len = self.data.len();
        if !(MIN_PACKET..=MAX_PACKET).contains(&len) {
            return Err(PacketOutError::BadLength { len });
        }
        check_free_actions(&self.actions, true)?;
        Ok(())
    }
}
