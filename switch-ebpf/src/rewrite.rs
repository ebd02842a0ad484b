//! The rarer set-fields and the TTLs, on the packet: what keeps its size and its flow's addresses.

use crate::{
    actions::{diff64, fix_l4},
    checksum::diff32,
    packet::Packet,
    parse::{
        ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_MPLS, ETH_PBB, ND_ADVERTISEMENT, ND_SOLICITATION,
        PROTO_ICMP, PROTO_ICMPV6,
    },
    state::State,
};
use switch_abi::{Action, FRAG_LATER, op};

/// What a change of bytes means for checksums.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cover {
    /// No checksum in the packet covers them.
    None,
    /// The IPv4 header's does.
    Ipv4,
    /// The L4 one does, not by the pseudo-header.
    L4,
}

/// Runs one action. False: it does not fit the packet.
#[inline(never)]
pub fn on_packet<P: Packet>(packet: P, state: &mut State, action: &Action) -> bool {
    let (a, c) = (action.a, action.c);
    let six = [c[0], c[1], c[2], c[3], c[4], c[5]];
    let four = [c[0], c[1], c[2], c[3]];
    let l3 = state.l3;
    if in_icmp(action.op) {
        if !icmp_protocol(state) || action.b != 0 && state.proto != action.b {
            return false;
        }
        if state.frag & FRAG_LATER as u32 != 0 {
            // It has no such header, and its first fragment's is set.
            return true;
        }
    }
    match action.op {
        op::SET_ARP_OP => arp(state) && set(packet, state, l3 + 6, a.to_be_bytes(), Cover::None),
        op::SET_ARP_SHA => arp(state) && set6(packet, state, l3 + 8, six, Cover::None),
        op::SET_ARP_SPA => arp(state) && set4(packet, state, l3 + 14, four, Cover::None),
        op::SET_ARP_THA => arp(state) && set6(packet, state, l3 + 18, six, Cover::None),
        op::SET_ARP_TPA => arp(state) && set4(packet, state, l3 + 24, four, Cover::None),
        op::SET_ICMP_TYPE | op::SET_ICMP_CODE => {
            if state.l4 == 0 {
                return false;
            }
            let Some([kind, code]) = packet.read::<2>(state.l4) else {
                return false;
            };
            let new = if action.op == op::SET_ICMP_TYPE {
                [a as u8, code]
            } else {
                [kind, a as u8]
            };
            set(packet, state, state.l4, new, Cover::L4)
        }
        op::SET_ND_TARGET => {
            if !neighbour(packet, state, 0) {
                return false;
            }
            let at = state.l4 + 8 + if a == 0 { 0 } else { 8 };
            let Some(old) = packet.read::<8>(at) else {
                return false;
            };
            let diff = diff64(u64::from_ne_bytes(old), u64::from_ne_bytes(c));
            fix_l4(packet, state, diff, false);
            packet.write(at, c)
        }
        op::SET_ND_SLL | op::SET_ND_TLL => {
            let kind = if action.op == op::SET_ND_SLL {
                ND_SOLICITATION
            } else {
                ND_ADVERTISEMENT
            };
            neighbour(packet, state, kind)
                && state.nd_option != 0
                && set6(packet, state, state.l4 + state.nd_option, six, Cover::L4)
        }
        op::SET_IPV6_FLABEL => {
            let Some([v, t, _, _]) = packet.read::<4>(l3) else {
                return false;
            };
            let [_, x, y, z] = action.b.to_be_bytes();
            let new = [v, t & 0xf0 | x & 15, y, z];
            state.l3_type == ETH_IPV6 as u32 && set4(packet, state, l3, new, Cover::None)
        }
        op::SET_MPLS_LABEL | op::SET_MPLS_TC | op::SET_MPLS_TTL | op::DEC_MPLS_TTL => {
            mpls(packet, state, action)
        }
        op::SET_NW_TTL | op::DEC_NW_TTL => nw_ttl(packet, state, action),
        op::SET_PBB_ISID => {
            let Some([flags, _, _, _]) = packet.read::<4>(l3) else {
                return false;
            };
            let [_, x, y, z] = action.b.to_be_bytes();
            state.l3_type == ETH_PBB as u32
                && set4(packet, state, l3, [flags, x, y, z], Cover::None)
        }
        _ => false,
    }
}

#[inline(always)]
fn arp(state: &State) -> bool {
    state.l3_type == ETH_ARP as u32
}

#[inline(always)]
fn icmp_protocol(state: &State) -> bool {
    state.proto == PROTO_ICMP as u32 && state.l3_type == ETH_IPV4 as u32
        || state.proto == PROTO_ICMPV6 as u32 && state.l3_type == ETH_IPV6 as u32
}

/// Whether the action is about ICMP's header, or what is behind it.
#[inline(always)]
fn in_icmp(operation: u8) -> bool {
    operation == op::SET_ICMP_TYPE
        || operation == op::SET_ICMP_CODE
        || operation == op::SET_ND_TARGET
        || operation == op::SET_ND_SLL
        || operation == op::SET_ND_TLL
}

/// Whether it is a neighbour solicitation or advertisement, or just the one of the given type.
#[inline(always)]
fn neighbour<P: Packet>(packet: P, state: &State, kind: u8) -> bool {
    if state.l4 == 0 || state.proto != PROTO_ICMPV6 as u32 || state.l3_type != ETH_IPV6 as u32 {
        return false;
    }
    match packet.read::<2>(state.l4) {
        Some([found, _]) if kind == 0 => found == ND_SOLICITATION || found == ND_ADVERTISEMENT,
        Some([found, _]) => found == kind,
        None => false,
    }
}

#[inline(always)]
fn mpls<P: Packet>(packet: P, state: &mut State, action: &Action) -> bool {
    if state.l3_type != ETH_MPLS as u32 {
        return false;
    }
    let Some(old) = packet.read::<4>(state.l3) else {
        return false;
    };
    let [x, y, z, ttl] = old;
    let new = match action.op {
        op::SET_MPLS_LABEL => (u32::from_be_bytes(old) & 0xfff | action.b << 12).to_be_bytes(),
        op::SET_MPLS_TC => [x, y, z & 0xf1 | (action.a as u8 & 7) << 1, ttl],
        op::SET_MPLS_TTL => [x, y, z, action.a as u8],
        _ => {
            if ttl <= 1 {
                state.expired = 1;
                return false;
            }
            [x, y, z, ttl - 1]
        }
    };
    set4(packet, state, state.l3, new, Cover::None)
}

#[inline(always)]
fn nw_ttl<P: Packet>(packet: P, state: &mut State, action: &Action) -> bool {
    let ipv4 = state.l3_type == ETH_IPV4 as u32;
    if !ipv4 && state.l3_type != ETH_IPV6 as u32 {
        return false;
    }
    // IPv4 has TTL and protocol side by side, IPv6 next header and hop limit.
    let at = state.l3 + if ipv4 { 8 } else { 6 };
    let Some(old) = packet.read::<2>(at) else {
        return false;
    };
    let mut ttl = if ipv4 { old[0] } else { old[1] };
    if action.op == op::SET_NW_TTL {
        ttl = action.a as u8;
    } else if ttl <= 1 {
        state.expired = 1;
        return false;
    } else {
        ttl -= 1;
    }
    if ipv4 {
        set(packet, state, at, [ttl, old[1]], Cover::Ipv4)
    } else {
        set(packet, state, at, [old[0], ttl], Cover::None)
    }
}

#[inline(always)]
fn cover<P: Packet>(packet: P, state: &State, diff: u32, cover: Cover) {
    match cover {
        Cover::None => packet.fix_whole(diff),
        Cover::Ipv4 => packet.fix_l3(state.l3 + 10, diff),
        Cover::L4 => fix_l4(packet, state, diff, false),
    }
}

#[inline(always)]
fn set<P: Packet>(packet: P, state: &State, at: u32, new: [u8; 2], covered: Cover) -> bool {
    let Some(old) = packet.read::<2>(at) else {
        return false;
    };
    let (old, word) = (u16::from_ne_bytes(old), u16::from_ne_bytes(new));
    cover(packet, state, diff32(old as u32, word as u32), covered);
    packet.write(at, new)
}

#[inline(always)]
fn set4<P: Packet>(packet: P, state: &State, at: u32, new: [u8; 4], covered: Cover) -> bool {
    let Some(old) = packet.read::<4>(at) else {
        return false;
    };
    let diff = diff32(u32::from_ne_bytes(old), u32::from_ne_bytes(new));
    cover(packet, state, diff, covered);
    packet.write(at, new)
}

#[inline(always)]
fn set6<P: Packet>(packet: P, state: &State, at: u32, new: [u8; 6], covered: Cover) -> bool {
    let [a, b, c, d, e, f] = new;
    set4(packet, state, at, [a, b, c, d], covered) && set(packet, state, at + 4, [e, f], covered)
}
