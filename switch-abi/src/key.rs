//! The flow key: the fields of a packet that rules match, as the parser leaves them.

/// Number of 64-bit words in a flow key.
pub const KEY_WORDS: usize = 16;

/// Bit of [`FlowKey::vlan_tci`] (big-endian bytes) that says a tag is present, as in OpenFlow's `OFPVID_PRESENT`.
/// It takes the place of the DEI/CFI bit, which is not matched.
pub const VLAN_PRESENT: u16 = 0x1000;

/// [`FlowKey::frag`]: the packet is a fragment.
pub const FRAG_ANY: u8 = 1;
/// [`FlowKey::frag`]: the packet is a fragment other than the first, so it has no L4 header.
pub const FRAG_LATER: u8 = 2;

/// [`FlowKey::ipv6_exthdr`], as OpenFlow 1.3.5 has them (7.2.3.7, `ofp_ipv6exthdr_flags`): "no next header".
pub const EXTHDR_NONEXT: u16 = 1 << 0;
/// Encapsulating security payload.
pub const EXTHDR_ESP: u16 = 1 << 1;
/// Authentication header.
pub const EXTHDR_AUTH: u16 = 1 << 2;
/// One or two destination options headers.
pub const EXTHDR_DEST: u16 = 1 << 3;
/// Fragment header.
pub const EXTHDR_FRAG: u16 = 1 << 4;
/// Routing header.
pub const EXTHDR_ROUTER: u16 = 1 << 5;
/// Hop-by-hop options header.
pub const EXTHDR_HOP: u16 = 1 << 6;
/// A header that came more often than RFC 8200 (4.1) has it.
pub const EXTHDR_UNREP: u16 = 1 << 7;
/// Headers in another order than RFC 8200 (4.1) has them.
pub const EXTHDR_UNSEQ: u16 = 1 << 8;

/// The matchable fields of one packet, or a mask over them. Multi-byte packet fields stay in network
/// byte order. Fields that a packet does not have are zero. Fields that no packet has both of share their place.
///
/// What most rules match comes first; a search costs by the words that a mask uses ([`CompactMask`]).
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
    /// [`EXTHDR_NONEXT`] ..., network byte order.
    pub ipv6_exthdr: [u8; 2],
    /// What write-metadata left, host byte order. Zero at a packet's entry into a switch.
    pub metadata: u64,
    /// Tunnel id, host byte order; 0: none. Only actions set it: no port is a logical tunnel port.
    pub tunnel_id: u64,
    /// Target address of a neighbour solicitation or advertisement.
    pub nd_target: [u8; 16],
    /// ARP sender hardware address; or the source link-layer address option of a neighbour solicitation.
    pub l2_sender: [u8; 6],
    /// Zero.
    pub pad2: [u8; 2],
    /// ARP target hardware address; or the target link-layer address option of a neighbour advertisement.
    pub l2_target: [u8; 6],
    /// Zero.
    pub pad3: [u8; 2],
    /// The outermost MPLS label stack entry (RFC 3032) without its TTL: label (20 bits), TC (3), bottom of stack (1), zero (8).
    pub mpls: [u8; 4],
    /// I-SID of the outermost PBB I-TAG (IEEE 802.1Q, 9.7) in the last three bytes.
    pub pbb_isid: [u8; 4],
    /// IPv6 flow label in the last 20 bits.
    pub ipv6_flabel: [u8; 4],
    /// Physical port, host byte order: the same as `in_port`, since no port is a logical one.
    pub in_phy_port: u32,
}

const _: () = assert!(size_of::<FlowKey>() == KEY_WORDS * 8);

impl FlowKey {
    /// The key as words, for masking, hashing and comparing.
    #[inline(always)]
    pub fn words(&self) -> &[u64; KEY_WORDS] {
        // SAFETY: repr(C), align(8), 128 bytes without implicit padding (asserted above); every bit pattern is a valid u64.
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
        let mut words = [0; KEY_WORDS];
        let mut i = 0;
        while i < KEY_WORDS {
            words[i] = k[i] & m[i];
            i += 1;
        }
        FlowKey::from_words(words)
    }
}

/// A mask as programs use it: only the words that are not zero, so that a search costs by what a mask compares.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CompactMask {
    /// How many words the mask uses.
    pub count: u32,
    /// Zero.
    pub pad: u32,
    /// Where in the key the word is that each of them is for, in bytes.
    pub offset: [u8; KEY_WORDS],
    /// The mask's words that are not zero, in order; the rest is zero.
    pub words: [u64; KEY_WORDS],
}

impl CompactMask {
    /// From a whole mask.
    pub fn new(mask: &FlowKey) -> Self {
        let mut compact = Self::default();
        for (i, &word) in mask.words().iter().enumerate() {
            if word != 0 {
                let at = compact.count as usize;
                compact.words[at] = word;
                compact.offset[at] = i as u8 * 8;
                compact.count += 1;
            }
        }
        compact
    }

    /// Which word of the key the one in place `at` is for.
    pub(crate) fn index(&self, at: usize) -> usize {
        self.offset[at] as usize / 8 % KEY_WORDS
    }

    /// The whole mask.
    pub fn expand(&self) -> FlowKey {
        let mut words = [0; KEY_WORDS];
        for at in 0..(self.count as usize).min(KEY_WORDS) {
            words[self.index(at)] = self.words[at];
        }
        FlowKey::from_words(words)
    }

    /// What rules of this mask have for a key: its masked words that the mask uses, in order; the rest is zero.
    pub fn compact(&self, key: &FlowKey) -> [u64; KEY_WORDS] {
        let mut words = [0; KEY_WORDS];
        // Unused words of the mask are zero.
        for (at, word) in words.iter_mut().enumerate() {
            *word = key.words()[self.index(at)] & self.words[at];
        }
        words
    }
}
