//! Frame to flow key. A field whose header is missing or cut off is zero, as in Open vSwitch; only a frame without
//! an Ethernet header is malformed.

use crate::{
    packet::Packet,
    state::{State, TAG_INLINE, TAG_METADATA, TAG_NONE},
};
use switch_abi::{FRAG_ANY, FRAG_LATER, FlowKey, VLAN_PRESENT};

pub const ETH_IPV4: u16 = 0x0800;
pub const ETH_ARP: u16 = 0x0806;
pub const ETH_VLAN: u16 = 0x8100;
pub const ETH_QINQ: u16 = 0x88a8;
pub const ETH_IPV6: u16 = 0x86dd;
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
const IPV6_AUTHENTICATION: u8 = 51;
const IPV6_DESTINATION: u8 = 60;
/// IPv6 extension headers that are skipped at most.
const MAX_EXTENSIONS: u32 = 6;

/// What is behind the Ethernet header and its tags has at least this length, that of UDP over IPv4 and of ARP: the kernel takes nothing shorter
/// than an IP header (and what it takes for tags) out of a tunnel. Ethernet asks for more (46 bytes: IEEE 802.3, 3.2.8); shorter ones are
/// padded, as a NIC does.
const MIN_PAYLOAD: u32 = 28;
/// The same, for IPv6.
const MIN_PAYLOAD_IPV6: u32 = 48;

/// [`parse`]: done.
pub const PARSED: u32 = 0;
/// [`parse`]: the frame has no Ethernet header.
pub const MALFORMED: u32 = 1;
/// [`parse`]: the frame is too short, and can not be padded.
pub const TOO_SHORT: u32 = 2;

/// Fills `state.key` and the offsets from the frame at `state.base`. [`PARSED`] ...
#[inline(never)]
pub fn parse<P: Packet>(packet: P, state: &mut State, in_port: u32) -> u32 {
    let base = state.base & 0xff;
    let Some(ethernet) = packet.read::<14>(base) else {
        return MALFORMED;
    };
    state.key = FlowKey::from_words([0; 8]);
    state.key.in_port = in_port;
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
        _ => {}
    }
    PARSED
}

/// How many bytes there are from an offset on.
#[inline(always)]
fn behind<P: Packet>(packet: P, state: &State, offset: u32) -> u32 {
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
    let mut i = 0;
    while i < MAX_EXTENSIONS {
        if next != IPV6_HOP_BY_HOP
            && next != IPV6_ROUTING
            && next != IPV6_DESTINATION
            && next != IPV6_FRAGMENT
            && next != IPV6_AUTHENTICATION
        {
            break;
        }
        let at = opaque32(l3 + 40 + skipped);
        if skipped + 8 > payload || at > 1800 {
            whole = false;
            break;
        }
        let Some(e) = packet.read::<4>(at) else {
            whole = false;
            break;
        };
        if next == IPV6_FRAGMENT {
            let offset = u16::from_be_bytes([e[2], e[3]]);
            if offset & 0xfff8 != 0 {
                state.key.frag = FRAG_ANY | FRAG_LATER;
            } else if offset & 1 != 0 {
                state.key.frag = FRAG_ANY;
            }
            next = e[0];
            skipped += 8;
            if offset & 0xfff8 != 0 {
                // What follows is not the header that `next` names.
                break;
            }
        } else {
            // RFC 4302, 2.2: in units of 4 bytes, less 2.
            skipped += if next == IPV6_AUTHENTICATION {
                (e[1] as u32 + 2) * 4
            } else {
                (e[1] as u32 + 1) * 8
            };
            next = e[0];
        }
        skipped &= 0xfff;
        i += 1;
    }
    state.key.ip_proto = next;
    state.proto = next as u32;
    state.frag = state.key.frag as u32;
    if whole && state.key.frag & FRAG_LATER == 0 && skipped <= payload {
        l4(
            packet,
            state,
            l3 + 40 + skipped,
            payload - skipped,
            next,
            PROTO_ICMPV6,
        );
    }
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
    state.key.arp_op = [h[6], h[7]];
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
