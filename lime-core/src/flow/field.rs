//! The fields that rules match and set: OpenFlow 1.3.5, 7.2.3.7 (OXM fields), all of them.
//!
//! Two deliberate differences: ports of TCP, UDP and SCTP take masks, as in Open vSwitch; and EtherType, IP protocol and the
//! bottom-of-stack bit, which say what comes next in the packet, are only changed by pushing and popping headers.

use serde::{Deserialize, Serialize};

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $variant:ident = $oxm:literal, $bits:literal bits, $maskable:ident, $settable:ident;)+) => {
        /// A matchable field. The discriminant is its OXM field number in class OFPXMC_OPENFLOW_BASIC.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Field { $($(#[doc = $doc])+ $variant = $oxm),+ }

        impl Field {
            /// All fields, by number.
            pub const ALL: &'static [Field] = &[$(Field::$variant),+];

            /// Width in bits.
            pub const fn bits(self) -> u32 {
                match self { $(Field::$variant => $bits),+ }
            }

            /// Whether OpenFlow allows a mask.
            pub const fn maskable(self) -> bool {
                match self { $(Field::$variant => fields!(@$maskable)),+ }
            }

            /// Whether a set-field action may name it.
            pub const fn settable(self) -> bool {
                match self { $(Field::$variant => fields!(@$settable)),+ }
            }

            /// From the OXM field number.
            pub const fn from_oxm(number: u32) -> Option<Field> {
                match number { $($oxm => Some(Field::$variant),)+ _ => None }
            }
        }
    };
    (@maskable) => { true };
    (@exact) => { false };
    (@settable) => { true };
    (@fixed) => { false };
}

fields! {
    /// Ingress port.
    InPort = 0, 32 bits, exact, fixed;
    /// Physical port that the packet came in at: the ingress port, since LIME's ports are not aggregates.
    InPhyPort = 1, 32 bits, exact, fixed;
    /// What tables leave each other: written by write-metadata, 0 at first.
    Metadata = 2, 64 bits, maskable, fixed;
    /// Ethernet destination.
    EthDst = 3, 48 bits, maskable, settable;
    /// Ethernet source.
    EthSrc = 4, 48 bits, maskable, settable;
    /// EtherType after VLAN tags.
    EthType = 5, 16 bits, exact, fixed;
    /// VLAN id, with bit 0x1000 (OFPVID_PRESENT) for "there is a tag"; 0 matches untagged packets.
    VlanVid = 6, 13 bits, maskable, settable;
    /// VLAN priority.
    VlanPcp = 7, 3 bits, exact, settable;
    /// DSCP: upper six bits of TOS or traffic class.
    IpDscp = 8, 6 bits, exact, settable;
    /// ECN: lower two bits of TOS or traffic class.
    IpEcn = 9, 2 bits, exact, settable;
    /// IP protocol.
    IpProto = 10, 8 bits, exact, fixed;
    /// IPv4 source.
    Ipv4Src = 11, 32 bits, maskable, settable;
    /// IPv4 destination.
    Ipv4Dst = 12, 32 bits, maskable, settable;
    /// TCP source port.
    TcpSrc = 13, 16 bits, maskable, settable;
    /// TCP destination port.
    TcpDst = 14, 16 bits, maskable, settable;
    /// UDP source port.
    UdpSrc = 15, 16 bits, maskable, settable;
    /// UDP destination port.
    UdpDst = 16, 16 bits, maskable, settable;
    /// SCTP source port.
    SctpSrc = 17, 16 bits, maskable, settable;
    /// SCTP destination port.
    SctpDst = 18, 16 bits, maskable, settable;
    /// ICMPv4 type.
    Icmpv4Type = 19, 8 bits, exact, settable;
    /// ICMPv4 code.
    Icmpv4Code = 20, 8 bits, exact, settable;
    /// ARP operation.
    ArpOp = 21, 16 bits, exact, settable;
    /// ARP sender protocol address.
    ArpSpa = 22, 32 bits, maskable, settable;
    /// ARP target protocol address.
    ArpTpa = 23, 32 bits, maskable, settable;
    /// ARP sender hardware address.
    ArpSha = 24, 48 bits, maskable, settable;
    /// ARP target hardware address.
    ArpTha = 25, 48 bits, maskable, settable;
    /// IPv6 source.
    Ipv6Src = 26, 128 bits, maskable, settable;
    /// IPv6 destination.
    Ipv6Dst = 27, 128 bits, maskable, settable;
    /// IPv6 flow label.
    Ipv6Flabel = 28, 20 bits, maskable, settable;
    /// ICMPv6 type.
    Icmpv6Type = 29, 8 bits, exact, settable;
    /// ICMPv6 code.
    Icmpv6Code = 30, 8 bits, exact, settable;
    /// Target address of a neighbour solicitation or advertisement (RFC 4861).
    Ipv6NdTarget = 31, 128 bits, exact, settable;
    /// Source link-layer address option of a neighbour solicitation.
    Ipv6NdSll = 32, 48 bits, exact, settable;
    /// Target link-layer address option of a neighbour advertisement.
    Ipv6NdTll = 33, 48 bits, exact, settable;
    /// Label of the outer MPLS entry.
    MplsLabel = 34, 20 bits, exact, settable;
    /// Traffic class of the outer MPLS entry.
    MplsTc = 35, 3 bits, exact, settable;
    /// Bottom-of-stack bit of the outer MPLS entry.
    MplsBos = 36, 1 bits, exact, fixed;
    /// Service id of the outer PBB tag.
    PbbIsid = 37, 24 bits, maskable, settable;
    /// Metadata of a logical port; 0 at ports of LIME, which are not tunnels.
    TunnelId = 38, 64 bits, maskable, settable;
    /// Which IPv6 extension headers there are: the flags of [`exthdr`].
    Ipv6Exthdr = 39, 9 bits, maskable, fixed;
}

/// Flags of [`Field::Ipv6Exthdr`]: OpenFlow 1.3.5, 7.2.3.7 (enum ofp_ipv6exthdr_flags).
pub mod exthdr {
    /// "No next header" found.
    pub const NO_NEXT: u16 = 1 << 0;
    /// Encrypted security payload.
    pub const ESP: u16 = 1 << 1;
    /// Authentication header.
    pub const AUTH: u16 = 1 << 2;
    /// One or two destination options headers.
    pub const DEST: u16 = 1 << 3;
    /// Fragment header.
    pub const FRAG: u16 = 1 << 4;
    /// Routing header.
    pub const ROUTER: u16 = 1 << 5;
    /// Hop-by-hop header.
    pub const HOP: u16 = 1 << 6;
    /// A header more than once, where once is expected.
    pub const UNREP: u16 = 1 << 7;
    /// Headers in an order that RFC 8200 does not prefer.
    pub const UNSEQ: u16 = 1 << 8;
}

impl Field {
    /// The OXM field number.
    pub const fn oxm(self) -> u32 {
        self as u32
    }

    /// A mask of all the field's bits.
    pub const fn full_mask(self) -> u128 {
        u128::MAX >> (128 - self.bits())
    }

    /// Bytes that a value takes on the wire.
    pub const fn bytes(self) -> usize {
        (self.bits() as usize).div_ceil(8)
    }
}
