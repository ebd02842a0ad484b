//! The flow key: the fields of a packet that rules match, as the parser leaves them.

/// Number of 64-bit words in a flow key.
pub const KEY_WORDS: usize = 8;

/// Bit of [`FlowKey::vlan_tci`] (big-endian bytes) that says a tag is present, as in OpenFlow's `OFPVID_PRESENT`.
/// It takes the place of the DEI/CFI bit, which is not matched.
pub const VLAN_PRESENT: u16 = 0x1000;

/// [`FlowKey::frag`]: the packet is a fragment.
pub const FRAG_ANY: u8 = 1;
/// [`FlowKey::frag`]: the packet is a fragment other than the first, so it has no L4 header.
pub const FRAG_LATER: u8 = 2;

/// The matchable fields of one packet, or a mask over them. Multi-byte packet fields stay in network
/// byte order. Fields that a packet does not have are zero.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Port number within the switch, host byte order.
    pub in_port: u32,
    /// EtherType after the VLAN tags (two of them at most), network byte order. 802.3 frames have 0x05ff, as in Open vSwitch.
    pub eth_type: [u8; 2],
    /// The outer tag's PCP (3 bits), [`VLAN_PRESENT`], VID (12 bits), network byte order; all zero: untagged.
    pub vlan_tci: [u8; 2],
    /// Destination MAC address.
    pub eth_dst: [u8; 6],
    /// IPv4 protocol or IPv6 next header after extension headers.
    pub ip_proto: u8,
    /// IPv4 TOS or IPv6 traffic class: DSCP in the upper six bits, ECN in the lower two.
    pub ip_tos: u8,
    /// Source MAC address.
    pub eth_src: [u8; 6],
    /// [`FRAG_ANY`] | [`FRAG_LATER`].
    pub frag: u8,
    /// Zero.
    pub pad: u8,
    /// IPv6 source; or IPv4 source / ARP sender protocol address in the first four bytes, rest zero.
    pub ip_src: [u8; 16],
    /// IPv6 destination; or IPv4 destination / ARP target protocol address in the first four bytes, rest zero.
    pub ip_dst: [u8; 16],
    /// TCP/UDP/SCTP source port; ICMP(v6) type in the low byte (`[0, type]`).
    pub l4_src: [u8; 2],
    /// TCP/UDP/SCTP destination port; ICMP(v6) code in the low byte (`[0, code]`).
    pub l4_dst: [u8; 2],
    /// ARP operation.
    pub arp_op: [u8; 2],
    /// Zero.
    pub pad2: [u8; 2],
}

const _: () = assert!(size_of::<FlowKey>() == KEY_WORDS * 8);

impl FlowKey {
    /// The key as words, for masking, hashing and comparing.
    #[inline(always)]
    pub fn words(&self) -> &[u64; KEY_WORDS] {
        // SAFETY: repr(C), align(8), 64 bytes without implicit padding (asserted above); every bit pattern is a valid u64.
        unsafe { &*(self as *const Self).cast() }
    }

    /// A key from its words.
    #[inline(always)]
    pub fn from_words(words: [u64; KEY_WORDS]) -> Self {
        // SAFETY: as in `words`; every bit pattern is a valid FlowKey.
        unsafe { core::mem::transmute(words) }
    }

    /// This key with everything outside of `mask` set to zero.
    #[inline(always)]
    pub fn masked(&self, mask: &FlowKey) -> FlowKey {
        let (k, m) = (self.words(), mask.words());
        FlowKey::from_words([
            k[0] & m[0],
            k[1] & m[1],
            k[2] & m[2],
            k[3] & m[3],
            k[4] & m[4],
            k[5] & m[5],
            k[6] & m[6],
            k[7] & m[7],
        ])
    }
}

/// Hash of a masked key within the tuple `tuple` ([`crate::TupleEntry::id`]). Kernel and agent must agree on it bit by bit.
///
/// A multiply-rotate mix per word (as in FxHash) with a final avalanche: one multiplication per word, which is what a BPF
/// program can afford. It is not keyed; a chain that grows past [`crate::MAX_CHAIN`] is refused by the agent.
#[inline(always)]
pub fn hash_key(tuple: u32, words: &[u64; KEY_WORDS]) -> u32 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut h = (tuple as u64).wrapping_mul(K);
    let mut i = 0;
    while i < KEY_WORDS {
        h = (h.rotate_left(5) ^ words[i]).wrapping_mul(K);
        i += 1;
    }
    h ^= h >> 32;
    h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
    (h >> 32) as u32
}
