//! Actions as the kernel programs run them: compiled by the agent from the rule's OpenFlow actions.

/// Actions that fit in one rule.
pub const MAX_ACTIONS: usize = 16;

/// One compiled action. Which fields an operation uses is said at its constant in [`op`]; the others are zero.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// One of [`op`].
    pub op: u8,
    /// Zero.
    pub pad: u8,
    /// 16-bit argument, host byte order.
    pub a: u16,
    /// 32-bit argument, host byte order.
    pub b: u32,
    /// Eight bytes, in packet order.
    pub c: [u8; 8],
}

const _: () = assert!(size_of::<Action>() == 16);

/// Operations of [`Action::op`].
pub mod op {
    /// Ends the list.
    pub const END: u8 = 0;
    /// Output to the port in slot `b`. Dropped with a reason when that is the ingress port (OpenFlow 1.3.5, 7.2.5 OFPP_IN_PORT).
    pub const OUTPUT: u8 = 1;
    /// Output to the ingress port.
    pub const IN_PORT: u8 = 2;
    /// Output to all ports of the switch but the ingress port.
    pub const ALL: u8 = 3;
    /// As [`ALL`], without ports that have [`crate::PORT_NO_FLOOD`].
    pub const FLOOD: u8 = 4;
    /// To the controller: at most `a` bytes of the packet (0xffff: all of it), reason in `b` ([`crate::EVENT_REASON_ACTION`] ...).
    pub const CONTROLLER: u8 = 5;
    /// Set the destination MAC address to `c[..6]`.
    pub const SET_ETH_DST: u8 = 6;
    /// Set the source MAC address to `c[..6]`.
    pub const SET_ETH_SRC: u8 = 7;
    /// Push a VLAN tag with TPID `a`; its TCI is that of the present outer tag, or 0 (OpenFlow 1.3.5, 5.12.1).
    pub const PUSH_VLAN: u8 = 8;
    /// Pop the outer VLAN tag.
    pub const POP_VLAN: u8 = 9;
    /// Set the VID of the outer tag to `a`.
    pub const SET_VLAN_VID: u8 = 10;
    /// Set the PCP of the outer tag to `a`.
    pub const SET_VLAN_PCP: u8 = 11;
    /// Set the IPv4 source address to `c[..4]`.
    pub const SET_IPV4_SRC: u8 = 12;
    /// Set the IPv4 destination address to `c[..4]`.
    pub const SET_IPV4_DST: u8 = 13;
    /// Set half `a` (0: upper, 1: lower eight bytes) of the IPv6 source address to `c`.
    pub const SET_IPV6_SRC: u8 = 14;
    /// Set half `a` (0: upper, 1: lower eight bytes) of the IPv6 destination address to `c`.
    pub const SET_IPV6_DST: u8 = 15;
    /// Set the TCP or UDP source port to `a`.
    pub const SET_L4_SRC: u8 = 16;
    /// Set the TCP or UDP destination port to `a`.
    pub const SET_L4_DST: u8 = 17;
    /// Set the DSCP (upper six bits of TOS / traffic class) to `a`.
    pub const SET_IP_DSCP: u8 = 18;
}
