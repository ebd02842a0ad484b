//! Actions: what a rule does to a packet.

use serde::{Deserialize, Serialize};

use super::Field;
use crate::PortNo;

/// [`Action::Output`] to the controller with this `max_len` sends the whole packet (OpenFlow 1.3.5, OFPCML_NO_BUFFER).
pub const MAX_LEN_ALL: u16 = 0xffff;

/// One action, applied at once and in order (OpenFlow 1.3.5, 5.12).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// To a port; `max_len` counts for the controller only.
    Output {
        /// Ordinary or reserved.
        port: PortNo,
        /// Bytes of the packet that the controller gets.
        max_len: u16,
    },
    /// Write a header field.
    SetField {
        /// Which: [`Field::settable`].
        field: Field,
        /// Right-aligned value.
        value: u128,
    },
    /// Push a VLAN tag with this TPID (0x8100 or 0x88a8).
    PushVlan(u16),
    /// Pop the outer VLAN tag.
    PopVlan,
    /// Run a group.
    Group(u32),
}

impl Action {
    /// Output to an ordinary or reserved port, the whole packet to the controller.
    pub fn output(port: PortNo) -> Self {
        Action::Output {
            port,
            max_len: MAX_LEN_ALL,
        }
    }

    /// Operations it takes in the data path: two for an IPv6 address, which is written in halves, else one.
    pub fn cost(&self) -> usize {
        match self {
            Action::SetField { field, .. } if field.bits() > 64 => 2,
            _ => 1,
        }
    }
}
