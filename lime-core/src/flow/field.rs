//! The fields that rules match and set: OpenFlow 1.3.5, 7.2.3.7 (OXM fields).

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
    IpEcn = 9, 2 bits, exact, fixed;
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
    /// ICMPv4 type.
    Icmpv4Type = 19, 8 bits, exact, fixed;
    /// ICMPv4 code.
    Icmpv4Code = 20, 8 bits, exact, fixed;
    /// ARP operation.
    ArpOp = 21, 16 bits, exact, fixed;
    /// ARP sender protocol address.
    ArpSpa = 22, 32 bits, maskable, fixed;
    /// ARP target protocol address.
    ArpTpa = 23, 32 bits, maskable, fixed;
    /// IPv6 source.
    Ipv6Src = 26, 128 bits, maskable, settable;
    /// IPv6 destination.
    Ipv6Dst = 27, 128 bits, maskable, settable;
    /// ICMPv6 type.
    Icmpv6Type = 29, 8 bits, exact, fixed;
    /// ICMPv6 code.
    Icmpv6Code = 30, 8 bits, exact, fixed;
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
