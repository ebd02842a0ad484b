//! Actions that change which headers a packet has: push and pop of MPLS entries and of PBB's outer header (OpenFlow 1.3.5, 5.12). What the
//! packet's key and offsets are afterwards is read from the packet anew. And what else is rare and takes the verifier long.

use crate::{
    checksum::diff32,
    packet::Packet,
    parse::{self, ETH_IPV4, ETH_IPV6, ETH_MPLS, ETH_PBB},
    state::{State, TAG_NONE},
    tunnel,
};
use switch_abi::{Action, op};

/// VLAN tags that a packet's headers may have in front of what is changed.
pub const MAX_TAGS: usize = 2;

/// What a kind of packets has to be able to do for this. Each of them may leave the packet half-changed when it fails: such a packet is dropped.
pub trait Reshape: Copy {
    /// Inserts an MPLS entry behind the Ethernet header, in front of all tags, and changes the EtherType.
    fn push_label(self, state: &mut State, eth_type: u16, entry: [u8; 4]) -> bool;
    /// Removes the MPLS entry at `state.l3`, and changes the EtherType in front of it.
    fn pop_label(self, state: &mut State, eth_type: u16) -> bool;
    /// Puts an Ethernet header with the same addresses, and an I-TAG, in front.
    fn push_itag(self, state: &mut State, eth_type: u16, itag: [u8; 4]) -> bool;
    /// Removes the Ethernet header and the I-TAG that the frame begins with.
    fn pop_itag(self, state: &mut State) -> bool;
}

/// Whether [`on_packet`] does it, and not [`crate::actions::on_packet`].
#[inline(always)]
pub const fn is_rare(op: u8) -> bool {
    is_reshaping(op) || matches!(op, op::COPY_TTL_IN | op::COPY_TTL_OUT)
}

/// Whether the packet has other headers afterwards.
#[inline(always)]
pub const fn is_reshaping(op: u8) -> bool {
    matches!(
        op,
        op::PUSH_MPLS | op::POP_MPLS | op::PUSH_PBB | op::POP_PBB
    )
}

/// Runs one of these actions. False: the packet has no such header, or (`state.refused`) the kernel refused.
#[inline(always)]
pub fn on_packet<P: Packet>(packet: P, state: &mut State, action: &Action) -> bool {
    if matches!(action.op, op::COPY_TTL_IN | op::COPY_TTL_OUT) {
        return copy_ttl(packet, state, action.op);
    }
    // What the underlay balances by is not to change with the headers.
    tunnel::source_port(state);
    state.refused = 1;
    let done = match action.op {
        op::PUSH_MPLS => {
            let entry = new_entry(packet, state);
            packet.push_label(state, action.a, entry)
        }
        op::POP_MPLS if state.l3_type == ETH_MPLS as u32 => packet.pop_label(state, action.a),
        op::PUSH_PBB => {
            let itag = new_itag(packet, state);
            packet.push_itag(state, action.a, itag)
        }
        // A backbone VLAN in front of it is popped first.
        op::POP_PBB if state.l3_type == ETH_PBB as u32 && state.tag == TAG_NONE => {
            packet.pop_itag(state)
        }
        _ => {
            state.refused = 0;
            false
        }
    };
    if done {
        state.refused = 0;
    }
    done
}

#[inline(always)]
fn new_entry<P: Packet>(packet: P, state: &State) -> [u8; 4] {
    if state.l3_type == ETH_MPLS as u32 {
        // The bottom of the stack, unless the next header is an entry, and not a VLAN tag.
        let bottom = (state.tag != TAG_NONE) as u8;
        return match packet.read::<4>(state.l3) {
            Some([a, b, c, ttl]) => [a, b, c & !1 | bottom, ttl],
            None => [0, 0, 1, 0],
        };
    }
    let at = if state.l3_type == ETH_IPV4 as u32 {
        8
    } else if state.l3_type == ETH_IPV6 as u32 {
        7
    } else {
        return [0, 0, 1, 0];
    };
    let [ttl] = packet.read::<1>(state.l3 + at).unwrap_or([0]);
    [0, 0, 1, ttl]
}

#[inline(always)]
fn new_itag<P: Packet>(packet: P, state: &State) -> [u8; 4] {
    let pcp = (crate::actions::outer_tci(packet, state) >> 8) as u8 & 0xe0;
    if state.l3_type == ETH_PBB as u32 {
        if let Some([_, a, b, c]) = packet.read::<4>(state.l3) {
            return [pcp, a, b, c];
        }
    }
    [pcp, 0, 0, 0]
}

/// Between the outermost MPLS entry and what is behind it: an entry, or IP.
#[inline(always)]
fn copy_ttl<P: Packet>(packet: P, state: &State, op: u8) -> bool {
    if state.l3_type != ETH_MPLS as u32 {
        return false;
    }
    let inwards = op == op::COPY_TTL_IN;
    let (outer_at, inner_at) = (state.l3, state.l3 + 4);
    let Some([x, y, z, outer]) = packet.read::<4>(outer_at) else {
        return false;
    };
    let inner = if z & 1 == 0 {
        let Some([x, y, z, inner]) = packet.read::<4>(inner_at) else {
            return false;
        };
        if inwards {
            return write_entry(packet, inner_at, [x, y, z, inner], [x, y, z, outer]);
        }
        inner
    } else {
        let Some([first]) = packet.read::<1>(inner_at) else {
            return false;
        };
        // Nothing says what it is but its first four bits, and whether the rest fits.
        let there = parse::behind(packet, state, inner_at);
        let (header, word, total) = match first >> 4 {
            4 if first & 15 >= 5 => ((first & 15) as u32 * 4, 8, 2),
            6 => (40, 6, 4),
            _ => return false,
        };
        let Some(total) = packet.read::<2>(inner_at + total) else {
            return false;
        };
        let mut length = u16::from_be_bytes(total) as u32;
        if word == 6 {
            length += header;
        }
        // What is to be segmented may be longer than the field can say.
        if !packet.is_gso() && (length < header || length > there) || header > there {
            return false;
        }
        // IPv4 has TTL and protocol side by side, IPv6 next header and hop limit.
        let at = inner_at + word;
        let Some([a, b]) = packet.read::<2>(at) else {
            return false;
        };
        if word == 6 {
            if inwards {
                packet.fix_whole(diff32(
                    u16::from_ne_bytes([a, b]) as u32,
                    u16::from_ne_bytes([a, outer]) as u32,
                ));
                return packet.write(at, [a, outer]);
            }
            b
        } else {
            if inwards {
                let diff = diff32(
                    u16::from_ne_bytes([a, b]) as u32,
                    u16::from_ne_bytes([outer, b]) as u32,
                );
                packet.fix_l3(inner_at + 10, diff);
                return packet.write(at, [outer, b]);
            }
            a
        }
    };
    write_entry(packet, outer_at, [x, y, z, outer], [x, y, z, inner])
}

#[inline(always)]
fn write_entry<P: Packet>(packet: P, at: u32, old: [u8; 4], new: [u8; 4]) -> bool {
    packet.fix_whole(diff32(u32::from_ne_bytes(old), u32::from_ne_bytes(new)));
    packet.write(at, new)
}
