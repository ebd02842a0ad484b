//! [`Reshape`] over TC. Tags are taken out of the frame first, so that what changes is right behind the Ethernet header, where the kernel
//! inserts and removes bytes.

use crate::{
    packet::Packet,
    parse::{ETH_IPV4, ETH_IPV6},
    reshape::{MAX_TAGS, Reshape},
    state::State,
    tc::{ADJ_ROOM_MAC, FIXED_GSO, Tc, is_tag},
};
use aya_ebpf::helpers::generated::{bpf_skb_adjust_room, bpf_skb_change_head};

/// Least length of an MPLS entry's or I-TAG's payload, so that the kernel takes the header off: an IPv4 header is what it asks for.
const MIN_BEHIND: u32 = 28;
/// Length of an MPLS entry.
const ENTRY: u32 = 4;
/// Length of an Ethernet header and an I-TAG.
const ITAG_HEADER: u32 = 18;

impl Tc {
    /// Takes all tags out of the frame, into `state.tags`.
    #[inline(always)]
    fn untag(self, state: &mut State) -> bool {
        state.tag_count = 0;
        let mut i = 0;
        while i < MAX_TAGS {
            let tag = if let Some((tpid, tci)) = self.metadata_tag() {
                (tpid as u32) << 16 | tci as u32
            } else if is_tag(self.protocol()) {
                match self.read::<4>(12) {
                    Some(tag) => u32::from_be_bytes(tag),
                    None => return false,
                }
            } else {
                return true;
            };
            if !self.vlan_pop() {
                return false;
            }
            state.tags[i] = tag;
            i += 1;
            state.tag_count = i as u32;
        }
        self.metadata_tag().is_none() && !is_tag(self.protocol())
    }

    /// Puts one tag of [`Tc::untag`] back.
    #[inline(always)]
    fn retag(self, tag: u32) -> bool {
        self.vlan_push((tag >> 16) as u16, tag as u16)
    }

    /// Makes room at the Ethernet header of a frame without tags. The caller then writes all from the start to the end of that room.
    #[inline(always)]
    fn open(self, state: &mut State, length: u32) -> bool {
        if self.is_gso() {
            // The kernel segments what `skb->protocol` says, behind the link-layer header: that becomes longer.
            state.labelled = 1;
            // SAFETY: the context is valid for the program's run.
            return unsafe { bpf_skb_change_head(self.0, length, 0) == 0 };
        }
        let protocol = self.protocol();
        if protocol != ETH_IPV4 && protocol != ETH_IPV6 && !self.assume(ETH_IPV4) {
            return false;
        }
        // SAFETY: the context is valid for the program's run.
        unsafe { bpf_skb_adjust_room(self.0, length as i32, ADJ_ROOM_MAC, FIXED_GSO) == 0 }
    }

    /// Removes bytes behind the Ethernet header of a frame without tags.
    #[inline(always)]
    fn close(self, state: &State, length: u32) -> bool {
        if state.labelled != 0 || !self.pad(14 + length + MIN_BEHIND) {
            return false;
        }
        if self.protocol() != ETH_IPV4 && !self.assume(ETH_IPV4) {
            return false;
        }
        // SAFETY: the context is valid for the program's run.
        unsafe { bpf_skb_adjust_room(self.0, -(length as i32), ADJ_ROOM_MAC, FIXED_GSO) == 0 }
    }

    /// Writes the tags (as [`Tc::untag`] took them) but for the outermost TPID, and the EtherType behind them. In words and not in arrays of odd lengths, which the compiler would put together on the stack in pieces that
    /// are not aligned.
    #[inline(always)]
    fn write_tags(self, state: &State, at: u32, eth_type: [u8; 2]) -> bool {
        let [first, second] = state.tags;
        let last = u16::from_be_bytes(eth_type) as u32;
        match state.tag_count {
            0 => true,
            1 => self.write(at, ((first & 0xffff) << 16 | last).to_be_bytes()),
            _ => {
                let words = (first as u64 & 0xffff) << 48 | (second as u64) << 16 | last as u64;
                self.write(at, words.to_be_bytes())
            }
        }
    }

    /// Makes the kernel look at the frame's bytes again, for `skb->protocol` and a tag.
    #[inline(always)]
    fn refresh(self, state: &State) -> bool {
        // What is to be segmented stays what it is: see `open`.
        state.labelled != 0 || self.reread()
    }
}

impl Reshape for Tc {
    #[inline(always)]
    fn push_label(self, state: &mut State, eth_type: u16, entry: [u8; 4]) -> bool {
        if !self.untag(state) {
            return false;
        }
        let (Some(addresses), Some(behind)) = (self.read::<12>(0), self.read::<2>(12)) else {
            return false;
        };
        self.open(state, ENTRY + 4 * state.tag_count)
            && self.write(0, addresses)
            && self.write(12, eth_type.to_be_bytes())
            && self.write(14, entry)
            && self.write_tags(state, 18, behind)
            && self.refresh(state)
    }

    #[inline(always)]
    fn pop_label(self, state: &mut State, eth_type: u16) -> bool {
        if !self.untag(state) {
            return false;
        }
        let Some(addresses) = self.read::<12>(0) else {
            return false;
        };
        let count = state.tag_count;
        self.close(state, ENTRY)
            && self.write(0, addresses)
            && self.write(12, eth_type.to_be_bytes())
            && self.refresh(state)
            && (count < 2 || self.retag(state.tags[1]))
            && (count < 1 || self.retag(state.tags[0]))
    }

    #[inline(always)]
    fn push_itag(self, state: &mut State, eth_type: u16, itag: [u8; 4]) -> bool {
        if !self.untag(state) {
            return false;
        }
        let (Some(addresses), Some(behind)) = (self.read::<12>(0), self.read::<2>(12)) else {
            return false;
        };
        let outermost = if state.tag_count == 0 {
            behind
        } else {
            ((state.tags[0] >> 16) as u16).to_be_bytes()
        };
        self.open(state, ITAG_HEADER + 4 * state.tag_count)
            && self.write(0, addresses)
            && self.write(12, eth_type.to_be_bytes())
            && self.write(14, itag)
            && self.write(18, addresses)
            && self.write(30, outermost)
            && self.write_tags(state, 32, behind)
            && self.refresh(state)
    }

    #[inline(always)]
    fn pop_itag(self, state: &mut State) -> bool {
        let at = ITAG_HEADER;
        let (Some(addresses), Some(behind)) = (self.read::<12>(at), self.read::<2>(at + 12)) else {
            return false;
        };
        self.close(state, ITAG_HEADER)
            && self.write(0, addresses)
            && self.write(12, behind)
            && self.refresh(state)
    }
}
