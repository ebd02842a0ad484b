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
    /// Set the TTL (IPv4) or hop limit (IPv6).
    SetNwTtl(u8),
    /// Take one from the TTL or hop limit; a packet on which it would become zero is dropped.
    DecNwTtl,
    /// Copy the TTL of the next-to-outer header to the outer: of IP to MPLS, or of MPLS to MPLS.
    CopyTtlOut,
    /// Copy the TTL of the outer header to the next one: of MPLS to MPLS, or of MPLS to IP.
    CopyTtlIn,
    /// Push an MPLS entry with this EtherType (0x8847 or 0x8848), in front of all other tags.
    PushMpls(u16),
    /// Pop the outer MPLS entry; what is behind it has this EtherType.
    PopMpls(u16),
    /// Set the TTL of the outer MPLS entry.
    SetMplsTtl(u8),
    /// Take one from the TTL of the outer MPLS entry; a packet on which it would become zero is dropped.
    DecMplsTtl,
    /// Push a PBB service tag with this EtherType (0x88e7) and a copy of the Ethernet addresses, in front of the frame.
    PushPbb(u16),
    /// Pop the PBB service tag and the Ethernet addresses in front of it.
    PopPbb,
    /// Queue of the port that the packet goes out by.
    SetQueue(u32),
}

/// The kind of an action in an action set, in the order in which sets are run: a set has at most one of each (OpenFlow 1.3.5, 5.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// Copy TTL inwards.
    CopyTtlIn,
    /// Pop a VLAN tag.
    PopVlan,
    /// Pop an MPLS entry.
    PopMpls,
    /// Pop a PBB tag.
    PopPbb,
    /// Push an MPLS entry.
    PushMpls,
    /// Push a PBB tag.
    PushPbb,
    /// Push a VLAN tag.
    PushVlan,
    /// Copy TTL outwards.
    CopyTtlOut,
    /// Decrement the MPLS TTL.
    DecMplsTtl,
    /// Decrement the IP TTL.
    DecNwTtl,
    /// Set the MPLS TTL.
    SetMplsTtl,
    /// Set the IP TTL.
    SetNwTtl,
    /// Set a field: one of each.
    SetField(Field),
    /// Choose the queue.
    SetQueue,
    /// Run a group; the output is then not done.
    Group,
    /// Output.
    Output,
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

    /// Where the action belongs in an action set.
    pub fn set_kind(&self) -> SetKind {
        match self {
            Action::CopyTtlIn => SetKind::CopyTtlIn,
            Action::PopVlan => SetKind::PopVlan,
            Action::PopMpls(_) => SetKind::PopMpls,
            Action::PopPbb => SetKind::PopPbb,
            Action::PushMpls(_) => SetKind::PushMpls,
            Action::PushPbb(_) => SetKind::PushPbb,
            Action::PushVlan(_) => SetKind::PushVlan,
            Action::CopyTtlOut => SetKind::CopyTtlOut,
            Action::DecMplsTtl => SetKind::DecMplsTtl,
            Action::DecNwTtl => SetKind::DecNwTtl,
            Action::SetMplsTtl(_) => SetKind::SetMplsTtl,
            Action::SetNwTtl(_) => SetKind::SetNwTtl,
            Action::SetField { field, .. } => SetKind::SetField(*field),
            Action::SetQueue(_) => SetKind::SetQueue,
            Action::Group(_) => SetKind::Group,
            Action::Output { .. } => SetKind::Output,
        }
    }
}

/// Puts the actions of a set in the order in which they are run. Actions of one kind keep theirs.
pub fn sort_set(actions: &mut [Action]) {
    actions.sort_by_key(Action::set_kind);
}
