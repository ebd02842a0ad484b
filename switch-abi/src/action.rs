//! Actions as the kernel programs run them: compiled by the agent from the rule's OpenFlow actions.
//!
//! A rule's first [`crate::RuleEntry::apply_count`] actions are run at once. The others are put into the packet's action set, where
//! an action takes the place of the one in the same slot ([`set_slot`]). Where a rule has no goto, the set is run in the order of its
//! slots, which is that of OpenFlow 1.3.5, 5.10, if there is an output among it; without, it has no effect.

/// Actions that fit in one rule: those applied at once and those written to the set together.
pub const MAX_ACTIONS: usize = 16;

/// One compiled action. Which fields an operation uses is said at its constant in [`op`]; the others are zero.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// One of [`op`].
    pub op: u8,
    /// Zero, unless [`op`] says otherwise.
    pub pad: u8,
    /// 16-bit argument, host byte order.
    pub a: u16,
    /// 32-bit argument, host byte order.
    pub b: u32,
    /// Eight bytes, in packet order.
    pub c: [u8; 8],
}

const _: () = assert!(size_of::<Action>() == 16);

/// The highest queue: a class has 16 bits, of which two values mean something else.
pub const MAX_QUEUE: u32 = 0xfffd;

/// `skb->priority` of packets for a queue: the class `1:queue` of the device's qdisc with the handle `1:`; of no queue, 0.
#[inline(always)]
pub const fn queue_priority(queue: u32) -> u32 {
    if queue == 0 { 0 } else { 1 << 16 | queue }
}

/// Slots of an action set.
pub const SET_SLOTS: u32 = 64;

/// The slot of an action in an action set; slots are run in rising order.
#[inline(always)]
pub const fn set_slot(action: &Action) -> u32 {
    match action.op {
        // One output: OpenFlow 1.3.5, 5.10.
        op::OUTPUT..=op::CONTROLLER => SET_SLOT_OUTPUT,
        op::GROUP => SET_SLOT_GROUP,
        // Halves are two.
        other => (other as u32 + (action.a == 1 && op::has_halves(other)) as u32) & (SET_SLOTS - 1),
    }
}

/// [`set_slot`] of all outputs: the last.
pub const SET_SLOT_OUTPUT: u32 = SET_SLOTS - 1;
/// [`set_slot`] of groups, which are run in place of an output.
pub const SET_SLOT_GROUP: u32 = SET_SLOTS - 2;

impl Action {
    /// The port slot that the action names.
    pub const fn port_slot(&self) -> Option<u32> {
        match self.op {
            op::OUTPUT => Some(self.b),
            op::BUCKET | op::WATCH if self.b != 0 => Some(self.b),
            _ => None,
        }
    }
}

/// Operations of [`Action::op`]. From [`POP_VLAN`](op::POP_VLAN) on in the order in which an action set runs them.
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
    /// Copy the TTL of the outermost MPLS entry to the next one, or (from the bottom of the stack) to IP.
    pub const COPY_TTL_IN: u8 = 8;
    /// Pop the outer VLAN tag.
    pub const POP_VLAN: u8 = 9;
    /// Pop the outermost MPLS entry; the EtherType becomes `a`.
    pub const POP_MPLS: u8 = 10;
    /// Take off the Ethernet header and I-TAG that a PBB frame begins with.
    pub const POP_PBB: u8 = 11;
    /// Push an MPLS entry with EtherType `a` right behind the Ethernet header. Label, TC and TTL are those of the entry that it is put in
    /// front of, else 0, 0 and the TTL of IP (OpenFlow 1.3.5, 5.12.1).
    pub const PUSH_MPLS: u8 = 12;
    /// Put an Ethernet header with EtherType `a`, of the same addresses, and an I-TAG in front. Its I-SID is that of a present I-TAG, its
    /// priority that of the outer VLAN tag, else 0 (OpenFlow 1.3.5, 5.12.1).
    pub const PUSH_PBB: u8 = 13;
    /// Push a VLAN tag with TPID `a`; its TCI is that of the present outer tag, or 0 (OpenFlow 1.3.5, 5.12.1).
    pub const PUSH_VLAN: u8 = 14;
    /// Copy the TTL of the next MPLS entry, or (at the bottom of the stack) of IP, to the outermost entry.
    pub const COPY_TTL_OUT: u8 = 15;
    /// Take one from the TTL of IPv4 or the hop limit of IPv6. From 0 or 1, the packet is dropped.
    pub const DEC_NW_TTL: u8 = 17;
    /// Take one from the TTL of the outermost MPLS entry. From 0 or 1, the packet is dropped.
    pub const DEC_MPLS_TTL: u8 = 16;
    /// Set the TTL of the outermost MPLS entry to `a`.
    pub const SET_MPLS_TTL: u8 = 18;
    /// Set the TTL of IPv4 or the hop limit of IPv6 to `a`.
    pub const SET_NW_TTL: u8 = 19;
    /// Set the destination MAC address to `c[..6]`.
    pub const SET_ETH_DST: u8 = 20;
    /// Set the source MAC address to `c[..6]`.
    pub const SET_ETH_SRC: u8 = 21;
    /// Set the VID of the outer tag to `a`.
    pub const SET_VLAN_VID: u8 = 22;
    /// Set the PCP of the outer tag to `a`.
    pub const SET_VLAN_PCP: u8 = 23;
    /// Set the IPv4 source address to `c[..4]`.
    pub const SET_IPV4_SRC: u8 = 24;
    /// Set the IPv4 destination address to `c[..4]`.
    pub const SET_IPV4_DST: u8 = 25;
    /// Set half `a` (0: upper, 1: lower eight bytes) of the IPv6 source address to `c`.
    pub const SET_IPV6_SRC: u8 = 26;
    /// Set half `a` (0: upper, 1: lower eight bytes) of the IPv6 destination address to `c`.
    pub const SET_IPV6_DST: u8 = 28;
    /// Set the source port of protocol `b` (TCP or UDP; 0: whichever it is) to `a`.
    pub const SET_L4_SRC: u8 = 30;
    /// Set the destination port of protocol `b` (TCP or UDP; 0: whichever it is) to `a`.
    pub const SET_L4_DST: u8 = 31;
    /// Set the DSCP (upper six bits of TOS / traffic class) to `a`.
    pub const SET_IP_DSCP: u8 = 32;
    /// Set the ECN (lower two bits of TOS / traffic class) to `a`.
    pub const SET_IP_ECN: u8 = 33;
    /// Set the type of protocol `b` (ICMP or ICMPv6; 0: whichever it is) to `a`.
    pub const SET_ICMP_TYPE: u8 = 34;
    /// Set the code of protocol `b` (ICMP or ICMPv6; 0: whichever it is) to `a`.
    pub const SET_ICMP_CODE: u8 = 35;
    /// Set the ARP operation to `a`.
    pub const SET_ARP_OP: u8 = 36;
    /// Set the ARP sender protocol address to `c[..4]`.
    pub const SET_ARP_SPA: u8 = 37;
    /// Set the ARP target protocol address to `c[..4]`.
    pub const SET_ARP_TPA: u8 = 38;
    /// Set the ARP sender hardware address to `c[..6]`.
    pub const SET_ARP_SHA: u8 = 39;
    /// Set the ARP target hardware address to `c[..6]`.
    pub const SET_ARP_THA: u8 = 40;
    /// Set the IPv6 flow label to `b`.
    pub const SET_IPV6_FLABEL: u8 = 41;
    /// Set half `a` (0: upper, 1: lower eight bytes) of the neighbour discovery target to `c`; `b`: ICMPv6, or 0.
    pub const SET_ND_TARGET: u8 = 42;
    /// Set the address in the source link-layer address option of a neighbour solicitation to `c[..6]`; `b`: ICMPv6, or 0.
    pub const SET_ND_SLL: u8 = 44;
    /// Set the address in the target link-layer address option of a neighbour advertisement to `c[..6]`; `b`: ICMPv6, or 0.
    pub const SET_ND_TLL: u8 = 45;
    /// Set the label of the outermost MPLS entry to `b`.
    pub const SET_MPLS_LABEL: u8 = 46;
    /// Set the traffic class of the outermost MPLS entry to `a`.
    pub const SET_MPLS_TC: u8 = 47;
    /// Set the I-SID of the outermost I-TAG to `b`.
    pub const SET_PBB_ISID: u8 = 48;
    /// Set the tunnel id to `c`.
    pub const SET_TUNNEL_ID: u8 = 49;
    /// Set the SCTP source port to `a`.
    pub const SET_SCTP_SRC: u8 = 50;
    /// Set the SCTP destination port to `a`.
    pub const SET_SCTP_DST: u8 = 51;
    /// Choose queue `b` (0: none) of the ports that the packet goes out by: [`crate::queue_priority`].
    pub const SET_QUEUE: u8 = 52;

    /// Run group number `b`.
    pub const GROUP: u8 = 62;
    /// In a meter's head: the next band. `pad`: by how much it raises the drop precedence, or 0: it drops. `b`: its index, as its count's part
    /// has it. `a` and `c` (a number in host byte order): the shift and the factor of [`crate::band_cost`].
    pub const BAND: u8 = 58;
    /// In a meter's head: of the band before, the longest time ahead, a number in host byte order in `c`.
    pub const BURST: u8 = 59;
    /// In a group's choices: the next bucket, of weight `a`. `pad`: [`crate::BUCKET_WATCHES`]; `b`: port slot.
    pub const BUCKET: u8 = 60;
    /// In a group's choices: the bucket before is also live while the port in slot `b` is.
    pub const WATCH: u8 = 61;

    /// Whether two actions make up one value, with `a` for the half.
    #[inline(always)]
    pub const fn has_halves(op: u8) -> bool {
        matches!(op, SET_IPV6_SRC | SET_IPV6_DST | SET_ND_TARGET)
    }
}
