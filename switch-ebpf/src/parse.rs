//! Frame to flow key. A field whose header is missing or cut off is zero, as in Open vSwitch; only a frame without
//! an Ethernet header is malformed.

use crate::{
    maps::load,
    packet::Packet,
    state::{State, TAG_INLINE, TAG_METADATA, TAG_NONE},
};
use switch_abi::{
    EXTHDR_AUTH, EXTHDR_DEST, EXTHDR_ESP, EXTHDR_FRAG, EXTHDR_HOP, EXTHDR_NONEXT, EXTHDR_ROUTER,
    EXTHDR_UNREP, EXTHDR_UNSEQ, FRAG_ANY, FRAG_LATER, FlowKey, KEY_WORDS, VLAN_PRESENT,
};

pub const ETH_IPV4: u16 = 0x0800;
pub const ETH_ARP: u16 = 0x0806;
pub const ETH_VLAN: u16 = 0x8100;
pub const ETH_QINQ: u16 = 0x88a8;
pub const ETH_IPV6: u16 = 0x86dd;
pub const ETH_MPLS: u16 = 0x8847;
pub const ETH_MPLS_MULTICAST: u16 = 0x8848;
pub const ETH_PBB: u16 = 0x88e7;
/// What the key has for 802.3 frames.
const ETH_802_3: u16 = 0x05ff;
/// Values below are lengths (IEEE 802.3, 3.2.6).
const ETH_MIN_TYPE: u16 = 0x0600;

pub const PROTO_ICMP: u8 = 1;
pub const PROTO_TCP: u8 = 6;
pub const PROTO_UDP: u8 = 17;
pub const PROTO_ICMPV6: u8 = 58;
pub const PROTO_SCTP: u8 = 132;
const IPV6_HOP_BY_HOP: u8 = 0;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_DESTINATION: u8 = 60;
const IPV6_ESP: u8 = 50;
const IPV6_AUTH: u8 = 51;
const IPV6_NONE: u8 = 59;
/// ICMPv6 types that carry a target address (RFC 4861, 4.3 and 4.4).
pub const ND_SOLICITATION: u8 = 135;
pub const ND_ADVERTISEMENT: u8 = 136;
/// Their options: source and target link-layer address.
const ND_OPTION_SOURCE: u8 = 1;
const ND_OPTION_TARGET: u8 = 2;
/// Options that are looked at, at most.
const MAX_ND_OPTIONS: u32 = 3;
/// IPv6 extension headers that are skipped at most.
const MAX_EXTENSIONS: u32 = 6;

/// What is behind the Ethernet header and its tags has at least this length, that of UDP over IPv4 and of ARP: the kernel takes nothing shorter
/// than an IP header (and what it takes for tags) out of a tunnel. Ethernet asks for more (46 bytes: IEEE 802.3, 3.2.8); shorter ones are
/// padded, as a NIC does.
const MIN_PAYLOAD: u32 = 28;
/// The same, for IPv6.
const MIN_PAYLOAD_IPV6: u32 = 48;

/// [`Packet::segment_size`] of packets whose fragments are segments (GSO_BY_FRAGS).
const GSO_BY_FRAGMENTS: u32 = 0xffff;

/// [`parse`]: done.
pub const PARSED: u32 = 0;
/// [`parse`]: the frame has no Ethernet header.
pub const MALFORMED: u32 = 1;
/// [`parse`]: the frame is too short, and can not be padded.
pub const TOO_SHORT: u32 = 2;

/// Fills `state.key` and the offsets from the frame at `state.base`. What is not of the frame (metadata, tunnel id) stays. [`PARSED`] ...
#[inline(always)]
pub fn parse<P: Packet>(packet: P) -> u32 {
    let Some(state) = State::current() else {
        return MALFORMED;
    };
    let in_port = state.in_port;
    let base = state.base & 0xff;
    let Some(ethernet) = packet.read::<14>(base) else {
        return MALFORMED;
    };
    let (metadata, tunnel_id) = (state.key.metadata, state.key.tunnel_id);
    state.key = FlowKey::from_words([0; KEY_WORDS]);
    state.key.in_port = in_port;
    state.key.in_phy_port = in_port;
    state.key.metadata = metadata;
    state.key.tunnel_id = tunnel_id;
    state.nd_option = 0;
    state.ttl = 0;
    state.l4 = 0;
    state.l3_type = 0;
    state.frag = 0;
    state.proto = 0;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = ethernet;
    state.key.eth_dst = [d0, d1, d2, d3, d4, d5];
    state.key.eth_src = [s0, s1, s2, s3, s4, s5];
    let mut eth_type = u16::from_be_bytes([t0, t1]);
    let mut l3 = base + 14;
    state.tag = TAG_NONE;
    state.inner_tags = 0;
    let mut tci = None;
    if let Some((_, metadata)) = packet.metadata_tag() {
        state.tag = TAG_METADATA;
        tci = Some(metadata);
    } else if eth_type == ETH_VLAN || eth_type == ETH_QINQ {
        if let Some([c0, c1, t0, t1]) = packet.read::<4>(l3) {
            state.tag = TAG_INLINE;
            tci = Some(u16::from_be_bytes([c0, c1]));
            eth_type = u16::from_be_bytes([t0, t1]);
            l3 += 4;
        }
    }
    if let Some(tci) = tci {
        state.key.vlan_tci = (tci | VLAN_PRESENT).to_be_bytes();
        // A second tag; a third one's TPID would be the EtherType.
        if eth_type == ETH_VLAN || eth_type == ETH_QINQ {
            if let Some([c0, c1, t0, t1]) = packet.read::<4>(l3) {
                state.inner_tags = (u16::from_be_bytes([c0, c1]) | VLAN_PRESENT) as u64;
                eth_type = u16::from_be_bytes([t0, t1]);
                l3 += 4;
            }
        }
    }
    state.l3 = l3;
    let least = if eth_type == ETH_IPV6 {
        MIN_PAYLOAD_IPV6
    } else {
        MIN_PAYLOAD
    };
    if !packet.pad(l3 + least) {
        return TOO_SHORT;
    }
    let shown = if eth_type < ETH_MIN_TYPE {
        ETH_802_3
    } else {
        eth_type
    };
    state.key.eth_type = shown.to_be_bytes();
    match eth_type {
        ETH_IPV4 => ipv4(packet, state, l3),
        ETH_IPV6 => ipv6(packet, state, l3),
        ETH_ARP => arp(packet, state, l3),
        ETH_MPLS | ETH_MPLS_MULTICAST => mpls(packet, state, l3),
        ETH_PBB => pbb(packet, state, l3),
        _ => {}
    }
    PARSED
}

/// By how many bytes a packet that is to be segmented, and has just been parsed, is longer than one of its segments. Of protocols whose segments
/// are not known (SCTP: one per fragment), all but headers: they count as fitting anywhere.
#[inline(never)]
pub fn excess<P: Packet>(packet: P, state: &State) -> u32 {
    let payload = if state.l4 != 0 && state.proto == PROTO_TCP as u32 {
        let Some([offset]) = packet.read::<1>(state.l4 + 12) else {
            return 0;
        };
        state.l4 + (offset >> 4) as u32 * 4
    } else if state.l4 != 0 {
        state.l4 + 8
    } else {
        state.l3
    };
    let (there, segment) = (behind(packet, state, payload), packet.segment_size());
    if segment == GSO_BY_FRAGMENTS {
        there
    } else if there > segment {
        there - segment
    } else {
        0
    }
}

/// How many bytes there are from an offset on.
#[inline(always)]
pub fn behind<P: Packet>(packet: P, state: &State, offset: u32) -> u32 {
    // A tag in the metadata counts for the length, but is not among the bytes.
    let metadata = if state.tag == TAG_METADATA { 4 } else { 0 };
    packet.length() - metadata - offset
}

#[inline(always)]
fn ipv4<P: Packet>(packet: P, state: &mut State, l3: u32) {
    let Some(h) = packet.read::<20>(l3) else {
        return;
    };
    let header = (h[0] & 15) as u32 * 4;
    let total = u16::from_be_bytes([h[2], h[3]]) as u32;
    let there = behind(packet, state, l3);
    // A packet to be segmented may be longer than the field can say; then it is zero.
    let total = if total == 0 && packet.is_gso() {
        there
    } else {
        total
    };
    if h[0] >> 4 != 4 || header < 20 || total < header || total > there {
        return;
    }
    state.l3_type = ETH_IPV4 as u32;
    state.ttl = h[8] as u32;
    state.proto = h[9] as u32;
    state.key.ip_proto = h[9];
    state.key.ip_tos = h[1];
    state.key.ip_src[..4].copy_from_slice(&[h[12], h[13], h[14], h[15]]);
    state.key.ip_dst[..4].copy_from_slice(&[h[16], h[17], h[18], h[19]]);
    let fragment = u16::from_be_bytes([h[6], h[7]]);
    if fragment & 0x1fff != 0 {
        state.key.frag = FRAG_ANY | FRAG_LATER;
    } else if fragment & 0x2000 != 0 {
        state.key.frag = FRAG_ANY;
    }
    state.frag = state.key.frag as u32;
    if state.key.frag & FRAG_LATER == 0 {
        l4(packet, state, l3 + header, total - header, h[9], PROTO_ICMP);
    }
}

#[inline(always)]
fn ipv6<P: Packet>(packet: P, state: &mut State, l3: u32) {
    let Some(h) = packet.read::<40>(l3) else {
        return;
    };
    let payload = u16::from_be_bytes([h[4], h[5]]) as u32;
    let there = behind(packet, state, l3 + 40);
    let payload = if payload == 0 && packet.is_gso() {
        there
    } else {
        payload
    };
    if h[0] >> 4 != 6 || payload > there {
        return;
    }
    state.l3_type = ETH_IPV6 as u32;
    state.ttl = h[7] as u32;
    state.key.ipv6_flabel = [0, h[1] & 15, h[2], h[3]];
    state.key.ip_tos = h[0] << 4 | h[1] >> 4;
    let mut source = [0; 16];
    source.copy_from_slice(&h[8..24]);
    let mut destination = [0; 16];
    destination.copy_from_slice(&h[24..40]);
    state.key.ip_src = source;
    state.key.ip_dst = destination;
    let mut next = h[6];
    let mut skipped = 0u32;
    let mut whole = true;
    state.extensions = 0;
    let mut i = 0;
    while i < MAX_EXTENSIONS {
        if next != IPV6_HOP_BY_HOP
            && next != IPV6_ROUTING
            && next != IPV6_DESTINATION
            && next != IPV6_FRAGMENT
            && next != IPV6_AUTH
        {
            break;
        }
        state.extensions = lime_extension(state.extensions, next as u32);
        let at = opaque32(l3 + 40 + skipped);
        if skipped + 8 > payload || at > 1800 {
            whole = false;
            break;
        }
        let Some(e) = packet.read::<4>(at) else {
            whole = false;
            break;
        };
        let length = if next == IPV6_AUTH {
            // In words of four bytes, less two (RFC 4302, 2.2).
            (e[1] as u32 + 2) * 4
        } else if next == IPV6_FRAGMENT {
            let offset = u16::from_be_bytes([e[2], e[3]]);
            if offset & 0xfff8 != 0 {
                state.key.frag = FRAG_ANY | FRAG_LATER;
            } else if offset & 1 != 0 {
                state.key.frag = FRAG_ANY;
            }
            8
        } else {
            (e[1] as u32 + 1) * 8
        };
        next = e[0];
        skipped = forget(&mut state.scratch, skipped + length) & 0xfff;
        if load(&state.key.frag) & FRAG_LATER != 0 {
            // What follows is not the header that `next` names.
            break;
        }
        i += 1;
    }
    if state.key.frag & FRAG_LATER == 0 {
        if next == IPV6_ESP {
            state.extensions = lime_extension(state.extensions, next as u32);
        } else if next == IPV6_NONE {
            state.extensions |= EXTHDR_NONEXT as u32;
        }
    }
    state.key.ipv6_exthdr = (state.extensions as u16).to_be_bytes();
    state.key.ip_proto = next;
    state.proto = next as u32;
    state.frag = state.key.frag as u32;
    if whole && state.key.frag & FRAG_LATER == 0 && skipped <= payload {
        let at = l3 + 40 + skipped;
        l4(packet, state, at, payload - skipped, next, PROTO_ICMPV6);
        let kind = state.key.l4_src[1];
        if next == PROTO_ICMPV6
            && state.l4 != 0
            && (kind == ND_SOLICITATION || kind == ND_ADVERTISEMENT)
        {
            packet.neighbour(at, payload - skipped, kind as u32);
        }
    }
}

/// Takes a value through memory, so that the verifier knows nothing of it, and does not follow each way that it came about.
#[inline(always)]
fn forget(scratch: &mut u32, value: u32) -> u32 {
    // SAFETY: a reference; volatile, so that it is really written and read.
    unsafe {
        core::ptr::write_volatile(scratch, value);
        core::ptr::read_volatile(scratch)
    }
}

/// What is known of extension headers ([`State::extensions`]) with one more: flags, and whether the headers come as RFC 8200 (4.1) has them. A
/// global function, so that the kernel verifies it once, and not for each combination of headers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lime_extension(seen: u32, header: u32) -> u32 {
    let (flags, last) = (seen & 0xffff, seen >> 16 & 0xff);
    // Destination options may come twice: in front of a routing header, and last.
    let (flag, rank) = match header as u8 {
        IPV6_HOP_BY_HOP => (if last == 0 { EXTHDR_HOP } else { 0 }, 1),
        IPV6_ROUTING => (EXTHDR_ROUTER, 3),
        IPV6_FRAGMENT => (EXTHDR_FRAG, 4),
        IPV6_AUTH => (EXTHDR_AUTH, 5),
        IPV6_ESP => (EXTHDR_ESP, 6),
        _ => (EXTHDR_DEST, if last < 2 { 2 } else { 7 }),
    };
    let again = flags & flag as u32 != 0 && (rank != 7 || seen & SECOND_DESTINATION != 0)
        || rank == 1 && seen & HOP_BY_HOP_SEEN != 0;
    let second = rank == 7 && flags & flag as u32 != 0;
    flags
        | flag as u32
        | if again { EXTHDR_UNREP as u32 } else { 0 }
        | if rank < last { EXTHDR_UNSEQ as u32 } else { 0 }
        | rank << 16
        | seen & (SECOND_DESTINATION | HOP_BY_HOP_SEEN)
        | if second { SECOND_DESTINATION } else { 0 }
        | if rank == 1 { HOP_BY_HOP_SEEN } else { 0 }
}

/// In `state.extensions`: there were two headers of destination options.
const SECOND_DESTINATION: u32 = 1 << 24;
/// In `state.extensions`: there was a header of hop-by-hop options. Only one in front of all others sets the flag.
const HOP_BY_HOP_SEEN: u32 = 1 << 25;

/// Target address and link-layer address option of a neighbour solicitation or advertisement of `length` bytes.
#[inline(always)]
pub fn neighbour<P: Packet>(packet: P, l4: u32, length: u32, kind: u32) -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    if length < 24 || l4 > 1800 {
        return 0;
    }
    let Some(target) = packet.read::<16>(opaque32(l4 + 8)) else {
        return 0;
    };
    state.key.nd_target = target;
    let solicitation = kind == ND_SOLICITATION as u32;
    let wanted = if solicitation {
        ND_OPTION_SOURCE
    } else {
        ND_OPTION_TARGET
    };
    let mut at = 24;
    let mut i = 0;
    while i < MAX_ND_OPTIONS {
        if at + 8 > length {
            return 0;
        }
        let offset = opaque32(l4 + at);
        if offset > 1900 {
            return 0;
        }
        let Some([option, words, a0, a1, a2, a3, a4, a5]) = packet.read::<8>(offset) else {
            return 0;
        };
        if words == 0 {
            return 0;
        }
        // Longer ones are of other link layers than Ethernet (RFC 2464, 6).
        if option == wanted && words == 1 {
            let address = [a0, a1, a2, a3, a4, a5];
            if solicitation {
                state.key.l2_sender = address;
            } else {
                state.key.l2_target = address;
            }
            state.nd_option = at + 2;
            return 0;
        }
        at = forget(&mut state.scratch, at + words as u32 * 8) & 0xfff;
        i += 1;
    }
    0
}

/// The outermost label stack entry. What is behind it is not looked at, since nothing says what it is (OpenFlow 1.3.5, 7.2.3.8).
#[inline(always)]
fn mpls<P: Packet>(packet: P, state: &mut State, l3: u32) {
    let Some([a, b, c, ttl]) = packet.read::<4>(l3) else {
        return;
    };
    state.l3_type = ETH_MPLS as u32;
    state.ttl = ttl as u32;
    state.key.mpls = [a, b, c, 0];
}

/// The I-TAG; the frame in it is not looked at.
#[inline(always)]
fn pbb<P: Packet>(packet: P, state: &mut State, l3: u32) {
    // With the encapsulated frame's Ethernet header.
    let Some(h) = packet.read::<18>(l3) else {
        return;
    };
    state.l3_type = ETH_PBB as u32;
    state.key.pbb_isid = [0, h[1], h[2], h[3]];
}

#[inline(always)]
fn arp<P: Packet>(packet: P, state: &mut State, l3: u32) {
    let Some(h) = packet.read::<28>(l3) else {
        return;
    };
    // Ethernet and IPv4 addresses only.
    if [h[0], h[1], h[2], h[3], h[4], h[5]] != [0, 1, 8, 0, 6, 4] {
        return;
    }
    state.l3_type = ETH_ARP as u32;
    state.key.arp_op = [h[6], h[7]];
    state.key.l2_sender = [h[8], h[9], h[10], h[11], h[12], h[13]];
    state.key.l2_target = [h[18], h[19], h[20], h[21], h[22], h[23]];
    state.key.ip_src[..4].copy_from_slice(&[h[14], h[15], h[16], h[17]]);
    state.key.ip_dst[..4].copy_from_slice(&[h[24], h[25], h[26], h[27]]);
}

/// `length`: bytes from `at` to the end of the IP packet.
#[inline(always)]
fn l4<P: Packet>(packet: P, state: &mut State, at: u32, length: u32, proto: u8, icmp: u8) {
    let header = match proto {
        PROTO_TCP => 20,
        PROTO_UDP => 8,
        PROTO_SCTP => 12,
        PROTO_ICMP | PROTO_ICMPV6 if proto == icmp => 4,
        _ => return,
    };
    if length < header || at > 1900 {
        return;
    }
    let Some([a, b, c, d]) = packet.read::<4>(opaque32(at)) else {
        return;
    };
    if proto == icmp {
        state.key.l4_src = [0, a];
        state.key.l4_dst = [0, b];
    } else {
        state.key.l4_src = [a, b];
        state.key.l4_dst = [c, d];
    }
    state.l4 = at;
}

#[inline(always)]
fn opaque32(value: u32) -> u32 {
    crate::packet::opaque(value as usize) as u32
}
