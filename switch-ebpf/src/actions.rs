//! Set-field, push and pop: on the key (while classifying) and on the packet (while executing).

use crate::{
    checksum::{add, diff32},
    maps::RULES,
    packet::Packet,
    parse::{
        ETH_IPV4, ETH_IPV6, ETH_QINQ, ETH_VLAN, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP,
    },
    rewrite, sctp, set,
    state::{ActionRef, State, TAG_METADATA, TAG_NONE},
};
use aya_ebpf::{cty::c_void, helpers::generated::bpf_loop};
use switch_abi::{Action, FRAG_LATER, MAX_ACTIONS, SET_SLOTS, VLAN_PRESENT, op};

const PCP_SHIFT: u16 = 13;
const VID: u16 = 0x0fff;

/// Applies a rule's actions to the key, for the tables and switches that follow.
#[inline(never)]
pub fn on_key(state: &mut State, slot: u32) -> u32 {
    let Some(rule) = RULES.get(slot) else {
        return 0;
    };
    let mut i = 0;
    while i < MAX_ACTIONS {
        if i >= rule.apply_count as usize {
            break;
        }
        state.change = ActionRef {
            rule: slot,
            index: i as u32,
        };
        lime_on_key();
        i += 1;
    }
    0
}

/// Runs the action set on the key, for the switches that follow.
#[inline(never)]
pub fn set_on_key(state: &mut State) -> u32 {
    let mut context = state as *mut State;
    // SAFETY: the callback has the signature that the helper asks for; the context outlives the call.
    unsafe {
        bpf_loop(
            SET_SLOTS,
            set_step as *mut c_void,
            (&raw mut context).cast(),
            0,
        );
    }
    0
}

unsafe extern "C" fn set_step(_index: u64, context: *mut *mut State) -> u64 {
    // SAFETY: `set_on_key` passes a valid pointer.
    let state = unsafe { &mut **context };
    if state.set == 0 {
        return 1;
    }
    let slot = set::take(state);
    state.change = set::reference(state, slot);
    lime_on_key();
    0
}

/// Runs the action `state.change` on the key. A global function, as [`crate::classify::lime_look_up`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lime_on_key() -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    let Some(action) = set::resolve(state.change) else {
        return 0;
    };
    let c = action.c;
    let key = &mut state.key;
    let tci = u16::from_be_bytes(key.vlan_tci);
    match action.op {
        op::SET_ETH_DST => key.eth_dst = [c[0], c[1], c[2], c[3], c[4], c[5]],
        op::SET_ETH_SRC => key.eth_src = [c[0], c[1], c[2], c[3], c[4], c[5]],
        op::PUSH_VLAN => {
            if tci != 0 {
                state.inner_tags = state.inner_tags << 16 | tci as u64;
            }
            key.vlan_tci = (tci | VLAN_PRESENT).to_be_bytes();
        }
        op::PUSH_MPLS | op::POP_MPLS | op::PUSH_PBB | op::POP_PBB => state.reshaped = 1,
        op::POP_VLAN => {
            if matches!(u16::from_be_bytes(key.eth_type), ETH_VLAN | ETH_QINQ) {
                // What is behind a third tag was not looked at.
                state.reshaped = 1;
            }
            key.vlan_tci = (state.inner_tags as u16).to_be_bytes();
            state.inner_tags >>= 16;
        }
        op::SET_VLAN_VID => key.vlan_tci = with_vid(tci, action.a).to_be_bytes(),
        op::SET_VLAN_PCP => key.vlan_tci = with_pcp(tci, action.a).to_be_bytes(),
        op::SET_IPV4_SRC => {
            (key.ip_src[0], key.ip_src[1], key.ip_src[2], key.ip_src[3]) = (c[0], c[1], c[2], c[3])
        }
        op::SET_IPV4_DST => {
            (key.ip_dst[0], key.ip_dst[1], key.ip_dst[2], key.ip_dst[3]) = (c[0], c[1], c[2], c[3])
        }
        op::SET_IPV6_SRC => set_half(&mut key.ip_src, action.a, c),
        op::SET_IPV6_DST => set_half(&mut key.ip_dst, action.a, c),
        // A later fragment has no such header, and gets none.
        op::SET_L4_SRC | op::SET_SCTP_SRC if key.frag & FRAG_LATER == 0 => {
            key.l4_src = action.a.to_be_bytes()
        }
        op::SET_L4_DST | op::SET_SCTP_DST if key.frag & FRAG_LATER == 0 => {
            key.l4_dst = action.a.to_be_bytes()
        }
        op::SET_IP_DSCP => key.ip_tos = (action.a as u8) << 2 | key.ip_tos & 3,
        op::SET_IP_ECN => key.ip_tos = key.ip_tos & !3 | action.a as u8 & 3,
        op::SET_ICMP_TYPE if key.frag & FRAG_LATER == 0 => key.l4_src = [0, action.a as u8],
        op::SET_ICMP_CODE if key.frag & FRAG_LATER == 0 => key.l4_dst = [0, action.a as u8],
        op::SET_ARP_OP => key.arp_op = action.a.to_be_bytes(),
        op::SET_ARP_SPA => {
            (key.ip_src[0], key.ip_src[1], key.ip_src[2], key.ip_src[3]) = (c[0], c[1], c[2], c[3])
        }
        op::SET_ARP_TPA => {
            (key.ip_dst[0], key.ip_dst[1], key.ip_dst[2], key.ip_dst[3]) = (c[0], c[1], c[2], c[3])
        }
        op::SET_ARP_SHA | op::SET_ND_SLL => key.l2_sender = [c[0], c[1], c[2], c[3], c[4], c[5]],
        op::SET_ARP_THA | op::SET_ND_TLL => key.l2_target = [c[0], c[1], c[2], c[3], c[4], c[5]],
        op::SET_IPV6_FLABEL => key.ipv6_flabel = action.b.to_be_bytes(),
        op::SET_ND_TARGET => set_half(&mut key.nd_target, action.a, c),
        op::SET_MPLS_LABEL => key.mpls = with_label(key.mpls, action.b),
        op::SET_MPLS_TC => key.mpls[2] = with_tc(key.mpls[2], action.a),
        op::SET_PBB_ISID => key.pbb_isid = action.b.to_be_bytes(),
        op::SET_TUNNEL_ID => key.tunnel_id = u64::from_be_bytes(c),
        _ => {}
    }
    0
}

/// A label stack entry with another label.
#[inline(always)]
fn with_label(entry: [u8; 4], label: u32) -> [u8; 4] {
    (u32::from_be_bytes(entry) & 0xfff | label << 12).to_be_bytes()
}

/// The third byte of a label stack entry with another traffic class.
#[inline(always)]
fn with_tc(byte: u8, tc: u16) -> u8 {
    byte & 0xf1 | (tc as u8 & 7) << 1
}

#[inline(always)]
fn set_half(address: &mut [u8; 16], half: u16, c: [u8; 8]) {
    let (upper, lower) = address.split_at_mut(8);
    if half == 0 {
        upper.copy_from_slice(&c)
    } else {
        lower.copy_from_slice(&c)
    }
}

#[inline(always)]
fn with_vid(tci: u16, vid: u16) -> u16 {
    tci & !VID | vid & VID
}

#[inline(always)]
fn with_pcp(tci: u16, pcp: u16) -> u16 {
    tci & 0x1fff | pcp << PCP_SHIFT
}

/// Runs one set-field, push or pop on the packet. False: it does not fit the packet, or the kernel refused.
#[inline(always)]
pub fn on_packet<P: Packet>(packet: P, state: &mut State, action: &Action) -> bool {
    let c = action.c;
    match action.op {
        op::SET_ETH_DST => packet.write(0, [c[0], c[1], c[2], c[3], c[4], c[5]]),
        op::SET_ETH_SRC => packet.write(6, [c[0], c[1], c[2], c[3], c[4], c[5]]),
        op::PUSH_VLAN => {
            let tci = outer_tci(packet, state);
            packet.push_tag(state, action.a, tci)
        }
        op::POP_VLAN => state.tag != TAG_NONE && packet.pop_tag(state),
        op::SET_VLAN_VID | op::SET_VLAN_PCP => {
            if state.tag == TAG_NONE {
                return false;
            }
            let tci = outer_tci(packet, state);
            let tci = if action.op == op::SET_VLAN_VID {
                with_vid(tci, action.a)
            } else {
                with_pcp(tci, action.a)
            };
            packet.set_tag(state, tci)
        }
        op::SET_IPV4_SRC | op::SET_IPV4_DST => {
            if state.l3_type != ETH_IPV4 as u32 {
                return false;
            }
            let at = state.l3
                + if action.op == op::SET_IPV4_SRC {
                    12
                } else {
                    16
                };
            let Some(old) = packet.read::<4>(at) else {
                return false;
            };
            let new = [c[0], c[1], c[2], c[3]];
            let diff = diff32(u32::from_ne_bytes(old), u32::from_ne_bytes(new));
            packet.fix_l3(state.l3 + 10, diff);
            fix_l4(packet, state, diff, true);
            packet.write(at, new)
        }
        op::SET_IPV6_SRC | op::SET_IPV6_DST => {
            if state.l3_type != ETH_IPV6 as u32 {
                return false;
            }
            let at = state.l3
                + if action.op == op::SET_IPV6_SRC { 8 } else { 24 }
                + if action.a == 0 { 0 } else { 8 };
            let Some(old) = packet.read::<8>(at) else {
                return false;
            };
            let diff = diff64(u64::from_ne_bytes(old), u64::from_ne_bytes(c));
            fix_l4(packet, state, diff, true);
            packet.fix_whole(diff);
            packet.write(at, c)
        }
        op::SET_L4_SRC | op::SET_L4_DST => {
            let known = state.proto == PROTO_TCP as u32 || state.proto == PROTO_UDP as u32;
            if !known || action.b != 0 && state.proto != action.b {
                return false;
            }
            if state.frag & FRAG_LATER as u32 != 0 {
                // It has no such header, and its first fragment's is set.
                return true;
            }
            if state.l4 == 0 {
                return false;
            }
            let at = state.l4 + if action.op == op::SET_L4_SRC { 0 } else { 2 };
            let Some(old) = packet.read::<2>(at) else {
                return false;
            };
            let new = action.a.to_be_bytes();
            let diff = diff32(
                u16::from_ne_bytes(old) as u32,
                u16::from_ne_bytes(new) as u32,
            );
            fix_l4(packet, state, diff, false);
            packet.write(at, new)
        }
        op::SET_IP_DSCP => set_tos(packet, state, (action.a as u8) << 2, 0xfc),
        op::SET_IP_ECN => set_tos(packet, state, action.a as u8, 3),
        op::SET_TUNNEL_ID => true,
        op::SET_SCTP_SRC | op::SET_SCTP_DST => sctp::set_port(packet, state, action),
        op::SET_QUEUE => {
            state.queue = action.b;
            packet.set_queue(action.b)
        }
        _ => rewrite::on_packet(packet, state, action),
    }
}

/// Sets the bits of TOS or traffic class that are in `mask`.
#[inline(always)]
pub fn set_tos<P: Packet>(packet: P, state: &State, bits: u8, mask: u8) -> bool {
    // In both headers they lie in the first two bytes.
    let Some(old) = packet.read::<2>(state.l3) else {
        return false;
    };
    let new = if state.l3_type == ETH_IPV4 as u32 {
        [old[0], bits & mask | old[1] & !mask]
    } else if state.l3_type == ETH_IPV6 as u32 {
        let tos = old[0] << 4 | old[1] >> 4;
        let tos = bits & mask | tos & !mask;
        [old[0] & 0xf0 | tos >> 4, tos << 4 | old[1] & 0x0f]
    } else {
        return false;
    };
    let diff = diff32(
        u16::from_ne_bytes(old) as u32,
        u16::from_ne_bytes(new) as u32,
    );
    if state.l3_type == ETH_IPV4 as u32 {
        packet.fix_l3(state.l3 + 10, diff);
    } else {
        packet.fix_whole(diff);
    }
    packet.write(state.l3, new)
}

#[inline(always)]
pub fn diff64(old: u64, new: u64) -> u32 {
    add(
        diff32(old as u32, new as u32),
        diff32((old >> 32) as u32, (new >> 32) as u32),
    )
}

/// Adjusts the L4 checksum, where the packet has one that covers the changed bytes.
#[inline(always)]
pub fn fix_l4<P: Packet>(packet: P, state: &State, diff: u32, pseudo: bool) {
    if state.l4 == 0 {
        return;
    }
    let proto = state.proto as u8;
    let field = if proto == PROTO_TCP {
        16
    } else if proto == PROTO_UDP {
        6
    } else if proto == PROTO_ICMPV6 || proto == PROTO_ICMP && !pseudo {
        2
    } else {
        return;
    };
    packet.fix_l4(state.l4 + field, diff, pseudo, proto == PROTO_UDP);
}

#[inline(always)]
pub fn outer_tci<P: Packet>(packet: P, state: &State) -> u16 {
    if state.tag == TAG_NONE {
        return 0;
    }
    if state.tag == TAG_METADATA {
        return packet.metadata_tag().map_or(0, |(_, tci)| tci);
    }
    packet.read::<2>(14).map_or(0, u16::from_be_bytes)
}
