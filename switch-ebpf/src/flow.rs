//! The common packets, read at once: Ethernet, one tag at most, IPv4 or IPv6 without options and fragments, TCP, UDP or echo. They need
//! neither the general parser ([`crate::parse`]), whose findings for them are the same, nor its many steps.

use crate::{
    packet::{Packet, opaque},
    parse::{
        ETH_IPV4, ETH_IPV6, ETH_QINQ, ETH_VLAN, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP,
    },
    state::{State, TAG_INLINE, TAG_METADATA, TAG_NONE, clear},
};
use switch_abi::{KEY_WORDS, VLAN_PRESENT};

/// Words of a flow's identity.
pub const FLOW_WORDS: usize = 8;

/// A common packet. Part of the state: the stack has no room for it.
#[repr(C)]
pub struct Flow {
    /// Ingress port, network, and every field of [`switch_abi::FlowKey`] that such a packet has and that two of them may differ in:
    ///
    /// | word | bits |
    /// | --- | --- |
    /// | 0 | word 0 of the key, with the port's slot in place of its number |
    /// | 1 | word 1 |
    /// | 2 | word 2, with the lower 16 bits of the IPv6 flow label's bytes in the upper 16, which are zero there |
    /// | 3, 4 | first words of source and destination address |
    /// | 5 | lower half: L4 ports; upper half: the network's slot in 17 bits, the rest of the flow label's bytes in the upper 4 |
    /// | 6, 7 | second words of source and destination address |
    pub words: [u64; FLOW_WORDS],
    /// [`State::l3`].
    l3: u32,
    /// [`State::tag`].
    tag: u32,
    /// [`State::ttl`].
    ttl: u32,
}

impl Flow {
    /// Whether the packet has a tag.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        self.tag != TAG_NONE
    }

    /// Whether the packet is IPv6.
    #[inline(always)]
    fn is_ipv6(&self) -> bool {
        (self.words[0] >> 32) as u16 == ETH_IPV6.to_be()
    }
}

/// Echo request and reply (RFC 4443, 4.1 and 4.2). Others may have fields of their own.
const ICMPV6_ECHO_REQUEST: u8 = 128;
const ICMPV6_ECHO_REPLY: u8 = 129;

/// Makes `state.flow` that of a packet that came in by the port in slot `port` of the network in slot `network`, and is `length` bytes long. False: it is not a common packet.
#[inline(always)]
pub fn read<P: Packet>(packet: P, state: &mut State, port: u32, network: u32, length: u32) -> bool {
    let (data, end) = packet.bounds();
    if data + 18 > end {
        return false;
    }
    // SAFETY: 18 bytes are there.
    let (w0, w1) = unsafe { (word(data), word(data + 8)) };
    let mut kind = (w1 >> 32) as u16;
    let (mut l3, mut tag, mut tci, mut there) = (14, TAG_NONE, 0, length);
    if let Some((_, metadata)) = packet.metadata_tag() {
        tag = TAG_METADATA;
        tci = (metadata | VLAN_PRESENT).to_be();
        // Counted in the length, and not among the bytes.
        there -= 4;
    } else if kind == ETH_VLAN.to_be() || kind == ETH_QINQ.to_be() {
        tag = TAG_INLINE;
        tci = (w1 >> 48) as u16 | VLAN_PRESENT.to_be();
        // SAFETY: as above.
        kind = unsafe { ((data + 16) as *const u16).read_unaligned() };
        l3 = 18;
    }
    there -= l3;
    let at = opaque(data + l3 as usize);
    let words = &mut state.flow.words;
    words[0] = port as u64 | (kind as u64) << 32 | (tci as u64) << 48;
    let mut word1 = w0 & 0xffff_ffff_ffff;
    let mut word2 = w0 >> 48 | (w1 & 0xffff_ffff) << 16;
    let mut word5 = (network as u64) << 32;
    let (proto, icmp, ports, ttl);
    let payload;
    if kind == ETH_IPV4.to_be() {
        if at + 24 > end {
            return false;
        }
        // SAFETY: 24 bytes are there.
        let (a, b, c) = unsafe { (word(at), word(at + 8), word(at + 16)) };
        // Version 4, five words of header; neither more fragments nor an offset.
        if a as u8 != 0x45 || (a >> 48) as u16 & 0x3fff_u16.to_be() != 0 {
            return false;
        }
        let total = u16::from_be((a >> 16) as u16) as u32;
        if total > there || total < 20 {
            return false;
        }
        payload = total - 20;
        ttl = b as u8 as u32;
        proto = (b >> 8) as u8;
        icmp = PROTO_ICMP;
        word1 |= (proto as u64) << 48 | (a & 0xff00) << 48;
        words[3] = b >> 32;
        words[4] = c & 0xffff_ffff;
        clear(&mut words[6]);
        clear(&mut words[7]);
        ports = (c >> 32) as u32;
    } else if kind == ETH_IPV6.to_be() {
        if at + 44 > end {
            return false;
        }
        // SAFETY: 44 bytes are there.
        let a = unsafe { word(at) };
        let first = u32::from_be(a as u32);
        payload = u16::from_be((a >> 32) as u16) as u32;
        if first >> 28 != 6 || payload + 40 > there {
            return false;
        }
        proto = (a >> 48) as u8;
        ttl = (a >> 56) as u32;
        icmp = PROTO_ICMPV6;
        word1 |= (proto as u64) << 48 | (first as u64 >> 20 & 0xff) << 56;
        // SAFETY: as above.
        unsafe {
            words[3] = word(at + 8);
            words[6] = word(at + 16);
            words[4] = word(at + 24);
            words[7] = word(at + 32);
            ports = ((at + 40) as *const u32).read_unaligned();
        }
        word2 |= (a >> 16 & 0xffff) << 48;
        word5 |= (a >> 8 & 0xf) << 60;
    } else {
        return false;
    }
    // At least eight bytes, so that nothing needs padding either.
    word5 |= if proto == PROTO_TCP && payload >= 20 || proto == PROTO_UDP && payload >= 8 {
        ports as u64
    } else if proto == icmp && payload >= 8 {
        let kind = ports as u8;
        if icmp == PROTO_ICMPV6 && kind != ICMPV6_ECHO_REQUEST && kind != ICMPV6_ECHO_REPLY {
            return false;
        }
        // Type and code, each in the lower of two bytes.
        (ports as u64 & 0xff) << 8 | (ports as u64 & 0xff00) << 16
    } else {
        return false;
    };
    words[1] = word1;
    words[2] = word2;
    words[5] = word5;
    let flow = &mut state.flow;
    flow.l3 = l3;
    flow.tag = tag;
    flow.ttl = ttl;
    true
}

/// What [`crate::parse::parse`] would leave in the state.
#[inline(always)]
pub fn fill(state: &mut State) {
    let flow = &state.flow;
    let words = &flow.words;
    let ipv6 = flow.is_ipv6();
    let (tag, ttl, l3) = (flow.tag, flow.ttl, flow.l3);
    let in_port = state.in_port as u64;
    let key = [
        words[0] & !0xffff_ffff | in_port,
        words[1],
        words[2] & 0xffff_ffff_ffff,
        words[3],
        words[6],
        words[4],
        words[7],
        words[5] & 0xffff_ffff,
    ];
    // The label's bytes: zero, four bits, and two bytes.
    let last = in_port << 32 | words[2] >> 48 << 16 | words[5] >> 60 << 8;
    state.proto = (words[1] >> 48) as u8 as u32;
    let to = (&raw mut state.key).cast::<u64>();
    let mut at = 0;
    while at < KEY_WORDS - 1 {
        // SAFETY: the key has so many words.
        let word = unsafe { &mut *to.add(at) };
        if at < key.len() {
            *word = key[at];
        } else {
            clear(word);
        }
        at += 1;
    }
    // SAFETY: as above.
    unsafe { *to.add(KEY_WORDS - 1) = last };
    state.inner_tags = 0;
    state.nd_option = 0;
    state.extensions = 0;
    state.frag = 0;
    state.tag = tag;
    state.ttl = ttl;
    state.l3 = l3;
    if ipv6 {
        state.l3_type = ETH_IPV6 as u32;
        state.l4 = l3 + 40;
    } else {
        state.l3_type = ETH_IPV4 as u32;
        state.l4 = l3 + 20;
    }
}

/// Eight bytes of the packet.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn word(at: usize) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { (at as *const u64).read_unaligned() }
}
