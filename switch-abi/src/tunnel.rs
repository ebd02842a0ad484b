//! The Geneve header (RFC 8926) between agents, with the one option that carries what LIME needs.
//!
//! Outer Ethernet, IPv4 or IPv6, UDP to [`TUNNEL_PORT`], Geneve, [`TunnelOption`], then the tenant's Ethernet frame.

/// IANA's UDP port for Geneve.
pub const TUNNEL_PORT: u16 = 6081;
/// Geneve's protocol type for Ethernet.
pub const GENEVE_ETHERNET: u16 = 0x6558;
/// Option class from the experimental range (RFC 8926, section 7).
pub const OPTION_CLASS: u16 = 0xff4c;
/// Option type, with the critical bit set: who does not understand it must drop the frame.
pub const OPTION_TYPE: u8 = 0x81;
/// Layout version of [`TunnelOption`].
pub const OPTION_VERSION: u8 = 1;

/// [`TunnelOption::kind`]: the frame was processed; deliver it at egress port [`TunnelOption::port`].
pub const TUNNEL_DELIVER: u8 = 1;
/// [`TunnelOption::kind`]: the frame was not processed; process it as come in at port [`TunnelOption::port`].
pub const TUNNEL_PROCESS: u8 = 2;

/// [`TunnelOption::kind`]: a copy for a group, [`TunnelOption::argument`], of the switch of port [`TunnelOption::port`]. Only from a host to
/// itself.
pub const TUNNEL_GROUP: u8 = 3;

/// For [`TUNNEL_GROUP`] the UDP checksum, which such frames have no use for, says of which packet with held outputs the copy is
/// ([`crate::EventHeader::hold`]); 0: of none. One that is of some is processed at exactly its tag.
pub const HOLD_NAMES: u32 = 0xffff;

/// [`TunnelOption::bucket`]: the packet came in by no port; [`TunnelOption::port`] only says which switch.
pub const BUCKET_NO_PORT: u8 = 0x80;

/// How many times a frame may be tunnelled (unprocessed, between switches, or after a port that moved).
pub const TUNNEL_HOPS: u8 = 8;

/// Outer headers before Geneve: Ethernet, IPv4 (20) or IPv6 (40), UDP.
pub const OUTER_IPV4_LEN: usize = 14 + 20 + 8;
/// As [`OUTER_IPV4_LEN`] over IPv6.
pub const OUTER_IPV6_LEN: usize = 14 + 40 + 8;

/// The Geneve base header and LIME's option. All integers in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelOption {
    /// Geneve: version 0 and option length 5 (x 4 bytes): 0x05.
    pub geneve_ver_len: u8,
    /// Geneve: O (0x80), C (0x40, set: there is a critical option).
    pub geneve_flags: u8,
    /// Geneve: protocol type, [`GENEVE_ETHERNET`].
    pub geneve_protocol: [u8; 2],
    /// Geneve: virtual network identifier.
    pub vni: [u8; 3],
    /// Geneve: reserved, zero.
    pub geneve_reserved: u8,
    /// Option: class, [`OPTION_CLASS`].
    pub class: [u8; 2],
    /// Option: type, [`OPTION_TYPE`].
    pub option_type: u8,
    /// Option: length of the data in units of 4 bytes: 4.
    pub option_len: u8,
    /// [`OPTION_VERSION`].
    pub version: u8,
    /// [`TUNNEL_DELIVER`], [`TUNNEL_PROCESS`] or [`TUNNEL_GROUP`].
    pub kind: u8,
    /// Tunnel hops left, counted down from [`TUNNEL_HOPS`].
    pub hops: u8,
    /// Which bucket of the group, from 1; 0: the group as a whole. With [`BUCKET_NO_PORT`]. Zero for other kinds.
    pub bucket: u8,
    /// [`crate::PortEntry::id`], unique within the network.
    pub port: [u8; 4],
    /// The sender's clock when the packet was processed.
    pub clock: [u8; 4],
    /// For [`TUNNEL_DELIVER`]: queue of the egress port, 0: none. For [`TUNNEL_GROUP`]: number of the group (the queue is the UDP
    /// source port: such a frame does not leave the host). Zero for other kinds.
    pub argument: [u8; 4],
}

/// Length of the Geneve base header and option, bytes.
pub const TUNNEL_OPTION_LEN: usize = size_of::<TunnelOption>();
const _: () = assert!(TUNNEL_OPTION_LEN == 28 && align_of::<TunnelOption>() == 1);

/// What a tunnelled packet needs on the underlay beyond the tenant port's MTU, over IPv4: inner Ethernet with one VLAN tag, outer IP, UDP, Geneve.
pub const TUNNEL_OVERHEAD_IPV4: usize = 18 + 20 + 8 + TUNNEL_OPTION_LEN;
/// As [`TUNNEL_OVERHEAD_IPV4`] over IPv6.
pub const TUNNEL_OVERHEAD_IPV6: usize = 18 + 40 + 8 + TUNNEL_OPTION_LEN;
