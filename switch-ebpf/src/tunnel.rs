//! The tunnel between hosts: building outer headers, and checking those of a frame that came in.

use crate::{
    maps::{NETWORKS, PEERS, TUNNEL_PEERS, load, recirculation_ifindex},
    packet::Packet,
    parse::{ETH_IPV4, ETH_IPV6, PROTO_UDP},
    state::{State, TAG_METADATA},
};
use switch_abi::{
    DropReason, GENEVE_ETHERNET, NETWORK_UNTAGGED, NetworkEntry, OPTION_CLASS, OPTION_TYPE,
    OPTION_VERSION, OUTER_IPV4_LEN, OUTER_IPV6_LEN, TUNNEL_DELIVER, TUNNEL_GROUP,
    TUNNEL_OPTION_LEN, TUNNEL_PORT, TunnelPeerKey, hash_end, hash_word, serial_le,
};

/// What is in front of the tenant's frame, over IPv4.
pub const STRIP_IPV4: u32 = (OUTER_IPV4_LEN + TUNNEL_OPTION_LEN) as u32;
/// What is in front of the tenant's frame, over IPv6.
pub const STRIP_IPV6: u32 = (OUTER_IPV6_LEN + TUNNEL_OPTION_LEN) as u32;
const _: () = assert!(STRIP_IPV6 as usize + 22 <= crate::state::PREFIX_MAX);
/// `geneve_flags`: there is a critical option.
const GENEVE_CRITICAL: u8 = 0x40;
const GENEVE_CONTROL: u8 = 0x80;
/// Geneve version 0, five option words.
const GENEVE_VER_LEN: u8 = 5;
/// Words of option data.
const OPTION_LEN: u8 = 4;
/// Source ports of tunnel frames: the dynamic range (RFC 6335), for the underlay's load balancing.
const SOURCE_PORT_BASE: u32 = 0xc000;
/// Words of the key that a flow is told by: up to the L4 ports.
const SOURCE_PORT_WORDS: usize = 8;
/// Tags older than this against the local clock are not from this round of serial numbers.
const TAG_WINDOW: u32 = 1 << 30;
/// First byte of the addresses that this host's own frames have on the recirculation device; from anywhere else they are forged.
const LOOPBACK: u8 = 127;
/// Tries to raise a clock before the frame is given up.
const CLOCK_TRIES: u32 = 16;

/// Writes outer headers, Geneve, option and the inner Ethernet header (with a tag from the metadata) for the pending
/// output to `state.prefix`. The length of what goes in front of the frame.
#[inline(always)]
pub fn build<P: Packet>(packet: P, state: &mut State) -> Option<u32> {
    let entry = PEERS.get(state.pending.peer)?;
    let network = NETWORKS.get(state.network)?;
    let header = if state.pending.variant == 0 {
        &entry.variants[0]
    } else {
        &entry.variants[1]
    };
    // Eight words: 64 bytes at a multiple of 8 in both.
    let (from, to) = (
        header.bytes.as_ptr().cast::<u64>(),
        (&raw mut state.prefix).cast::<u64>(),
    );
    let mut i = 0;
    while i < 8 {
        // SAFETY: both are at least 64 bytes, aligned to 8 (see PeerHeader and State).
        unsafe { to.add(i).write(from.add(i).read()) };
        i += 1;
    }
    let inner = packet.length();
    source_port(state);
    let udp = (8 + TUNNEL_OPTION_LEN as u32 + inner).min(0xffff);
    let ipv4 = header.len == OUTER_IPV4_LEN as u32;
    if ipv4 {
        let total = (udp + 20).min(0xffff) as u16;
        let prefix = &mut state.prefix;
        [prefix[16], prefix[17]] = total.to_be_bytes();
        let sum = u16::from_be_bytes([prefix[24], prefix[25]]);
        // The template's sum is for a total length of 0.
        let sum = crate::checksum::apply(sum, total as u32);
        [prefix[24], prefix[25]] = sum.to_be_bytes();
        udp_and_option::<34>(state, udp as u16, network);
        inner_ethernet::<P, 70>(packet, state)?;
        Some(STRIP_IPV4)
    } else {
        let prefix = &mut state.prefix;
        [prefix[18], prefix[19]] = (udp as u16).to_be_bytes();
        udp_and_option::<54>(state, udp as u16, network);
        inner_ethernet::<P, 90>(packet, state)?;
        Some(STRIP_IPV6)
    }
}

/// Chooses the source port by the key, if that has not been done.
#[inline(always)]
pub fn source_port(state: &mut State) {
    if state.source_port == 0 {
        let words = state.key.words();
        let mut sum = 0;
        let mut at = 0;
        while at < SOURCE_PORT_WORDS {
            sum = hash_word(sum, at, words[at]);
            at += 1;
        }
        state.source_port = SOURCE_PORT_BASE | hash_end(sum, 1) & 0x3fff;
    }
}

#[inline(always)]
fn udp_and_option<const AT: usize>(state: &mut State, length: u16, network: &NetworkEntry) {
    let [s0, s1] = (state.source_port as u16).to_be_bytes();
    let [d0, d1] = TUNNEL_PORT.to_be_bytes();
    let [l0, l1] = length.to_be_bytes();
    let [g0, g1] = GENEVE_ETHERNET.to_be_bytes();
    let [_, v0, v1, v2] = network.vni.to_be_bytes();
    let [c0, c1] = OPTION_CLASS.to_be_bytes();
    let [p0, p1, p2, p3] = state.pending.port_id.to_be_bytes();
    let [k0, k1, k2, k3] = state.clock.to_be_bytes();
    // The next switch begins without a queue.
    let argument = match state.pending.kind as u8 {
        TUNNEL_DELIVER => state.queue,
        TUNNEL_GROUP => state.pending.group,
        _ => 0,
    };
    let [q0, q1, q2, q3] = argument.to_be_bytes();
    let (kind, hops) = (state.pending.kind as u8, state.hops as u8);
    // UDP's checksum is zero: over IPv6, RFC 6935 allows that for tunnels.
    let bytes: [u8; 36] = [
        s0,
        s1,
        d0,
        d1,
        l0,
        l1,
        0,
        0,
        GENEVE_VER_LEN,
        GENEVE_CRITICAL,
        g0,
        g1,
        v0,
        v1,
        v2,
        0,
        c0,
        c1,
        OPTION_TYPE,
        OPTION_LEN,
        OPTION_VERSION,
        kind,
        hops,
        0,
        p0,
        p1,
        p2,
        p3,
        k0,
        k1,
        k2,
        k3,
        q0,
        q1,
        q2,
        q3,
    ];
    state.prefix[AT..AT + 36].copy_from_slice(&bytes);
    // On their own, since the compiler would build the bytes on the stack with so many values that it does not know.
    if state.pending.kind == TUNNEL_GROUP as u32 {
        state.prefix[AT + 23] = state.pending.bucket as u8;
        let [q0, q1] = (state.queue as u16).to_be_bytes();
        (state.prefix[AT], state.prefix[AT + 1]) = (q0, q1);
    }
}

#[inline(always)]
fn inner_ethernet<P: Packet, const AT: usize>(packet: P, state: &mut State) -> Option<()> {
    if P::XDP {
        // Those bytes stay where they are.
        return Some(());
    }
    let ethernet = packet.read::<14>(0)?;
    let prefix = &mut state.prefix;
    prefix[AT..AT + 12].copy_from_slice(&[
        ethernet[0],
        ethernet[1],
        ethernet[2],
        ethernet[3],
        ethernet[4],
        ethernet[5],
        ethernet[6],
        ethernet[7],
        ethernet[8],
        ethernet[9],
        ethernet[10],
        ethernet[11],
    ]);
    if state.tag == TAG_METADATA {
        let (tpid, tci) = packet.metadata_tag()?;
        let ([t0, t1], [c0, c1]) = (tpid.to_be_bytes(), tci.to_be_bytes());
        prefix[AT + 12..AT + 18].copy_from_slice(&[t0, t1, c0, c1, ethernet[12], ethernet[13]]);
    } else {
        prefix[AT + 12..AT + 14].copy_from_slice(&[ethernet[12], ethernet[13]]);
    }
    Some(())
}

/// A tunnel frame, as its headers say. Part of the state: as a return value the compiler would keep it in registers that hold nothing
/// yet on some paths, which the verifier refuses.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arrival {
    /// Length of the outer headers, Geneve and option.
    pub outer: u32,
    /// Network slot.
    pub network: u32,
    /// [`switch_abi::TUNNEL_DELIVER`] ...
    pub kind: u32,
    /// Hops left.
    pub hops: u32,
    /// Port id.
    pub port: u32,
    /// Clock tag.
    pub clock: u32,
    /// Outer UDP source port.
    pub source_port: u32,
    /// [`switch_abi::TunnelOption::argument`].
    pub argument: u32,
    /// [`switch_abi::TunnelOption::bucket`].
    pub bucket: u32,
    /// UDP checksum; for what that says, [`switch_abi::HOLD_NAMES`].
    pub hold: u32,
}

/// [`examine`]: a tunnel frame from a peer of the network.
pub const FRAME: u32 = 0;
/// [`examine`]: not ours.
pub const FOREIGN: u32 = 1;
/// [`examine`]: a tunnel frame with another option than ours.
pub const BAD_OPTION: u32 = 2;
/// [`examine`]: a tunnel frame from a sender that is no peer of its network.
pub const UNKNOWN_PEER: u32 = 3;

/// Whether the frame that has arrived is this host's own.
#[inline(always)]
pub fn from_self(state: &State) -> bool {
    state.arrival.outer == STRIP_IPV4 && state.sender.source[0] == LOOPBACK
}

/// Checks the outer headers, the option and the sender; fills `state.arrival`.
#[inline(never)]
pub fn examine<P: Packet>(packet: P, state: &mut State) -> u32 {
    if packet.metadata_tag().is_some() {
        return FOREIGN;
    }
    let Some([t0, t1]) = packet.read::<2>(12) else {
        return FOREIGN;
    };
    // In the state: on the stack, where every access must be aligned, the compiler would write its bytes in pieces that are not.
    state.sender = TunnelPeerKey {
        source: [0; 16],
        vni: 0,
    };
    match u16::from_be_bytes([t0, t1]) {
        ETH_IPV4 => {
            let Some(h) = packet.read::<20>(14) else {
                return FOREIGN;
            };
            // No options, not a fragment.
            if h[0] != 0x45 || h[9] != PROTO_UDP || h[6] & 0x3f != 0 || h[7] != 0 {
                return FOREIGN;
            }
            state.sender.source[..4].copy_from_slice(&[h[12], h[13], h[14], h[15]]);
            state.arrival.outer = STRIP_IPV4;
            examine_udp::<P, 34>(packet, state)
        }
        ETH_IPV6 => {
            let Some(h) = packet.read::<24>(14) else {
                return FOREIGN;
            };
            if h[0] >> 4 != 6 || h[6] != PROTO_UDP {
                return FOREIGN;
            }
            state.sender.source.copy_from_slice(&h[8..24]);
            state.arrival.outer = STRIP_IPV6;
            examine_udp::<P, 54>(packet, state)
        }
        _ => FOREIGN,
    }
}

#[inline(always)]
fn examine_udp<P: Packet, const AT: u32>(packet: P, state: &mut State) -> u32 {
    let Some(u) = packet.read::<8>(AT) else {
        return FOREIGN;
    };
    if u16::from_be_bytes([u[2], u[3]]) != TUNNEL_PORT {
        return FOREIGN;
    }
    state.arrival.hold = u16::from_be_bytes([u[6], u[7]]) as u32;
    state.arrival.source_port = u16::from_be_bytes([u[0], u[1]]) as u32;
    let Some(o) = packet.read::<TUNNEL_OPTION_LEN>(AT + 8) else {
        return BAD_OPTION;
    };
    let class = OPTION_CLASS.to_be_bytes();
    let ethernet = GENEVE_ETHERNET.to_be_bytes();
    if o[0] != GENEVE_VER_LEN
        || o[1] & GENEVE_CONTROL != 0
        || [o[2], o[3]] != ethernet
        || [o[8], o[9]] != class
        || o[10] != OPTION_TYPE
        || o[11] & 0x1f != OPTION_LEN
        || o[12] != OPTION_VERSION
    {
        return BAD_OPTION;
    }
    state.sender.vni = u32::from_be_bytes([0, o[4], o[5], o[6]]);
    if AT == 34 && state.sender.source[0] == LOOPBACK && packet.ifindex() != recirculation_ifindex()
    {
        return UNKNOWN_PEER;
    }
    state.arrival.kind = o[13] as u32;
    state.arrival.hops = o[14] as u32;
    state.arrival.port = u32::from_be_bytes([o[16], o[17], o[18], o[19]]);
    state.arrival.clock = u32::from_be_bytes([o[20], o[21], o[22], o[23]]);
    state.arrival.bucket = o[15] as u32;
    state.arrival.argument = u32::from_be_bytes([o[24], o[25], o[26], o[27]]);
    let Some(network) = TUNNEL_PEERS.get_ptr(&state.sender) else {
        return UNKNOWN_PEER;
    };
    // SAFETY: an element of a preallocated hash map stays readable; the word is stored whole.
    state.arrival.network = unsafe { core::ptr::read_volatile(network) };
    FRAME
}

/// Consistency rules 2, 3 and 6: checks the tag, and raises the network's clock to it.
#[inline(always)]
pub fn obey(network: u32, tag: u32) -> Result<(), DropReason> {
    let Some(entry) = NETWORKS.get_ptr_mut(network) else {
        return Err(DropReason::UnknownPeer);
    };
    // SAFETY: the entry is a map element, always there. Others store its words whole.
    unsafe {
        if load(&(*entry).flags) & NETWORK_UNTAGGED != 0 {
            return Ok(());
        }
        if tag == 0 {
            return Err(DropReason::TagStale);
        }
        if !serial_le(tag, load(&(*entry).staged)) {
            return Err(DropReason::TagAhead);
        }
        let clock = &raw mut (*entry).clock;
        let mut i = 0;
        while i < CLOCK_TRIES {
            let now = load(&*clock);
            if serial_le(tag, now) {
                return if now.wrapping_sub(tag) > TAG_WINDOW {
                    Err(DropReason::TagStale)
                } else {
                    Ok(())
                };
            }
            if compare_exchange(clock, now, tag) == now {
                return Ok(());
            }
            i += 1;
        }
    }
    Err(DropReason::ClockContended)
}

/// Atomically stores `new` if the word is `old`; what the word was. (Rust has no atomic compare-exchange for this target yet.)
///
/// # Safety
/// `word` is a valid, aligned pointer.
#[inline(always)]
pub unsafe fn compare_exchange(word: *mut u32, old: u32, new: u32) -> u32 {
    let found: u64;
    // SAFETY: as the caller promises. The instruction compares with, and returns in, r0.
    unsafe {
        core::arch::asm!(
            "w0 = cmpxchg32_32(r2 + 0, w0, w3)",
            in("r2") word,
            in("r3") new,
            inlateout("r0") old as u64 => found,
            options(nostack),
        );
    }
    found as u32
}
