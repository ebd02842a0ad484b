//! [`Packet`] over TC: a socket buffer, with partial checksums, segmentation offload and a tag in its metadata.

use crate::{
    packet::{Packet, bounded, gather, opaque, stages},
    parse::{ETH_IPV4, ETH_IPV6, ETH_QINQ, ETH_VLAN},
    state::{State, TAG_INLINE, TAG_METADATA, TAG_NONE},
    tunnel::{STRIP_IPV4, STRIP_IPV6},
};
use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{
        bpf_clone_redirect, bpf_csum_update, bpf_l3_csum_replace, bpf_l4_csum_replace,
        bpf_redirect, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes,
        bpf_skb_store_bytes, bpf_skb_vlan_pop, bpf_skb_vlan_push,
    },
};
use switch_abi::queue_priority;

// <linux/bpf.h>, flags of bpf_skb_adjust_room.
pub const FIXED_GSO: u64 = 1 << 0;
const ENCAP_L3_IPV4: u64 = 1 << 1;
const ENCAP_L3_IPV6: u64 = 1 << 2;
const ENCAP_L4_UDP: u64 = 1 << 4;
const ENCAP_L2_ETH: u64 = 1 << 6;
const DECAP_L3_IPV4: u64 = 1 << 7;
const DECAP_L3_IPV6: u64 = 1 << 8;
const ENCAP_L2_SHIFT: u64 = 56;
pub const ADJ_ROOM_MAC: u32 = 1;

/// Length of an IPv6 header.
const OUTER_IP_MAX: u32 = 40;

/// A frame at TC ingress.
#[derive(Clone, Copy)]
pub struct Tc(pub *mut __sk_buff);

impl Tc {
    /// `skb->protocol`, which may lag behind the bytes after the pipeline's own changes.
    #[inline(always)]
    pub fn protocol(self) -> u16 {
        // SAFETY: the context is valid for the program's run.
        u16::from_be(unsafe { (*self.0).protocol } as u16)
    }

    #[inline(always)]
    fn has_metadata_tag(self) -> bool {
        // SAFETY: the context is valid for the program's run.
        unsafe { (*self.0).vlan_present != 0 }
    }

    #[inline(always)]
    pub fn vlan_push(self, tpid: u16, tci: u16) -> bool {
        // SAFETY: the context is valid for the program's run.
        unsafe { bpf_skb_vlan_push(self.0, tpid.to_be(), tci) == 0 }
    }

    #[inline(always)]
    pub fn vlan_pop(self) -> bool {
        // SAFETY: the context is valid for the program's run.
        unsafe { bpf_skb_vlan_pop(self.0) == 0 }
    }

    #[inline(always)]
    fn resize(self, by: i32, flags: u64) -> bool {
        // SAFETY: the context is valid for the program's run.
        unsafe { bpf_skb_adjust_room(self.0, by, ADJ_ROOM_MAC, flags) == 0 }
    }

    /// Before Linux 6.3, what resizing leaves must not be shorter than the outer IP header: a short frame is made longer meanwhile. (Refused for
    /// what was put into a tunnel here: that is then taken for IPv4, with its shorter header.)
    #[inline(always)]
    fn shrink_short(self, shrink: u32) -> bool {
        // SAFETY: the context is valid for the program's run.
        unsafe {
            let length = (*self.0).len;
            bpf_skb_change_tail(self.0, length + OUTER_IP_MAX, 0) == 0
                && self.resize(-(shrink as i32), FIXED_GSO)
                && bpf_skb_change_tail(self.0, length - shrink, 0) == 0
        }
    }

    /// Takes `skb->protocol`, and a tag into the metadata, from the bytes, as popping a tag does: two are pushed and popped, since one would
    /// only be in the metadata.
    #[inline(always)]
    pub fn reread(self) -> bool {
        self.vlan_push(ETH_VLAN, 1)
            && self.vlan_push(ETH_VLAN, 1)
            && self.vlan_pop()
            && self.vlan_pop()
    }

    /// Makes `skb->protocol` this one, since resizing asks for IP. The caller overwrites the EtherType later. Only for frames without tags.
    #[inline(always)]
    pub fn assume(self, eth_type: u16) -> bool {
        self.write(12, eth_type.to_be_bytes()) && self.reread() && self.protocol() == eth_type
    }

    /// Before Linux 6.3, a frame out of a tunnel keeps `skb->protocol` of the outer header; with the other IP version's it could not be
    /// segmented.
    #[inline(always)]
    fn take_protocol(self, inner: u16) -> bool {
        let ip = inner == ETH_IPV4 || inner == ETH_IPV6;
        !ip || self.protocol() == inner || self.assume(inner)
    }

    /// Appends the second tag and what follows it, which is among the bytes, to the inner Ethernet header in the prefix.
    #[inline(always)]
    fn second_tag_to_prefix(self, state: &mut State, outer: u32) -> bool {
        let Some(tag) = self.read::<4>(14) else {
            return false;
        };
        if outer == STRIP_IPV4 {
            const AT: usize = STRIP_IPV4 as usize + 18;
            state.prefix[AT..AT + 4].copy_from_slice(&tag);
        } else {
            const AT: usize = STRIP_IPV6 as usize + 18;
            state.prefix[AT..AT + 4].copy_from_slice(&tag);
        }
        true
    }

    #[inline(always)]
    fn store_prefix(self, state: &mut State, length: u32) -> bool {
        let Some(length) = bounded(length, crate::state::PREFIX_MAX as u32) else {
            return false;
        };
        // SAFETY: `length` is within the prefix, as just checked.
        unsafe { bpf_skb_store_bytes(self.0, 0, state.prefix.as_mut_ptr().cast(), length, 0) == 0 }
    }
}

#[inline(always)]
pub fn is_tag(eth_type: u16) -> bool {
    eth_type == ETH_VLAN || eth_type == ETH_QINQ
}

stages!(
    Tc,
    __sk_buff,
    lime_tc_short_cut,
    lime_tc_parse,
    lime_tc_neighbour,
    lime_tc_change,
    lime_tc_reshape,
    lime_tc_meter,
    lime_tc_emit,
    lime_tc_flush,
    lime_tc_strip,
    lime_tc_packet_in,
    lime_tc_wrap,
    lime_tc_run,
    lime_tc_wait,
    lime_tc_hold,
    lime_tc_report,
    lime_tc_report_whole
);

impl Packet for Tc {
    const XDP: bool = false;
    const DROP: i32 = TC_ACT_SHOT;
    const PASS: i32 = TC_ACT_UNSPEC;

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: the context is valid for the program's run.
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    fn survey(self, _state: &mut State) {}

    #[inline(always)]
    fn bounds(self) -> (usize, usize) {
        // SAFETY: the context is valid for the program's run. Volatile: as at XDP.
        unsafe {
            (
                core::ptr::read_volatile(&raw const (*self.0).data) as usize,
                core::ptr::read_volatile(&raw const (*self.0).data_end) as usize,
            )
        }
    }

    #[inline(always)]
    fn length(self) -> u32 {
        // SAFETY: the context is valid for the program's run.
        unsafe { (*self.0).len + if (*self.0).vlan_present != 0 { 4 } else { 0 } }
    }

    #[inline(always)]
    fn segment_size(self) -> u32 {
        // SAFETY: the context is valid for the program's run.
        unsafe { (*self.0).gso_size }
    }

    #[inline(always)]
    fn segments(self) -> u32 {
        let size = self.segment_size();
        if size == 0 {
            return 1;
        }
        // SAFETY: the context is valid for the program's run.
        let segments = unsafe { (*self.0).gso_segs };
        // Senders need not say; then it is somewhat more than there are.
        if segments != 0 {
            segments
        } else {
            self.length() / size + 1
        }
    }

    #[inline(always)]
    fn set_queue(self, queue: u32) -> bool {
        // SAFETY: the context is valid for the program's run; programs may write these two words.
        unsafe {
            (*self.0).priority = queue_priority(queue);
            // The kernel's numbers begin at 1; 0: any.
            (*self.0).queue_mapping = if queue == 0 { 0 } else { queue + 1 };
        }
        true
    }

    #[inline(always)]
    fn read<const N: usize>(self, offset: u32) -> Option<[u8; N]> {
        let offset = offset & 0x7ff;
        // SAFETY: the context is valid for the program's run; bounds are checked before the read.
        // Volatile: kept from an earlier read, it might be spilled as the 32 bits that it seems to be, and be no pointer any more.
        unsafe {
            let (data, end) = (
                core::ptr::read_volatile(&raw const (*self.0).data) as usize,
                core::ptr::read_volatile(&raw const (*self.0).data_end) as usize,
            );
            let at = opaque(data + offset as usize);
            if at + N <= end {
                return Some(gather(at));
            }
            // Not in the linear part.
            let mut bytes = MaybeUninit::<[u8; N]>::uninit();
            let result =
                bpf_skb_load_bytes(self.0.cast(), offset, bytes.as_mut_ptr().cast(), N as u32);
            (result == 0).then(|| bytes.assume_init())
        }
    }

    #[inline(always)]
    fn copy_out(self, offset: u32, to: *mut u8, length: u32, room: u32) -> bool {
        let Some(length) = bounded(length, room) else {
            return false;
        };
        // SAFETY: the caller has that much room.
        unsafe { bpf_skb_load_bytes(self.0.cast(), offset, to.cast(), length) == 0 }
    }

    #[inline(always)]
    fn write<const N: usize>(self, offset: u32, bytes: [u8; N]) -> bool {
        // SAFETY: the buffer has N bytes. The helper makes a shared buffer writable first.
        unsafe {
            bpf_skb_store_bytes(self.0, offset & 0x7ff, bytes.as_ptr().cast(), N as u32, 0) == 0
        }
    }

    #[inline(always)]
    fn metadata_tag(self) -> Option<(u16, u16)> {
        // SAFETY: the context is valid for the program's run.
        unsafe {
            self.has_metadata_tag().then(|| {
                (
                    u16::from_be((*self.0).vlan_proto as u16),
                    (*self.0).vlan_tci as u16,
                )
            })
        }
    }

    #[inline(always)]
    fn fix_l3(self, offset: u32, diff: u32) {
        // SAFETY: the context is valid for the program's run. Size 0: `to` is a difference.
        unsafe { bpf_l3_csum_replace(self.0, offset & 0x7ff, 0, diff as u64, 0) };
    }

    #[inline(always)]
    fn fix_l4(self, offset: u32, diff: u32, pseudo: bool, udp: bool) {
        let flags = if pseudo { BPF_F_PSEUDO_HDR as u64 } else { 0 }
            | if udp { BPF_F_MARK_MANGLED_0 as u64 } else { 0 };
        // SAFETY: as in `fix_l3`. It does the right thing for partial checksums.
        unsafe { bpf_l4_csum_replace(self.0, offset & 0x7ff, 0, diff as u64, flags) };
    }

    #[inline(always)]
    fn fix_whole(self, diff: u32) {
        // SAFETY: the context is valid for the program's run. Does nothing unless the device summed the whole frame.
        unsafe { bpf_csum_update(self.0, diff) };
    }

    #[inline(always)]
    fn push_tag(self, state: &mut State, tpid: u16, tci: u16) -> bool {
        if !self.vlan_push(tpid, tci) {
            return false;
        }
        if state.tag == TAG_METADATA {
            // The kernel moved the tag that was in the metadata into the bytes.
            state.l3 += 4;
            state.l4 += if state.l4 != 0 { 4 } else { 0 };
        }
        state.tag = TAG_METADATA;
        true
    }

    #[inline(always)]
    fn pop_tag(self, state: &mut State) -> bool {
        // SAFETY: the context is valid for the program's run.
        let before = unsafe { (*self.0).len };
        if !self.vlan_pop() {
            return false;
        }
        // SAFETY: the context is valid for the program's run.
        let removed = before - unsafe { (*self.0).len };
        if state.tag == TAG_INLINE && removed == 0 {
            return false;
        }
        state.l3 -= removed;
        state.l4 -= if state.l4 != 0 { removed } else { 0 };
        state.tag = if self.has_metadata_tag() {
            TAG_METADATA
        } else {
            match self.read::<2>(12).map(u16::from_be_bytes) {
                Some(ETH_VLAN | ETH_QINQ) => TAG_INLINE,
                _ => TAG_NONE,
            }
        };
        true
    }

    #[inline(always)]
    fn set_tag(self, state: &State, tci: u16) -> bool {
        if state.tag == TAG_INLINE {
            return self.write(14, tci.to_be_bytes());
        }
        match self.metadata_tag() {
            Some((tpid, _)) => self.vlan_pop() && self.vlan_push(tpid, tci),
            None => false,
        }
    }

    #[inline(always)]
    fn pad(self, length: u32) -> bool {
        // SAFETY: the context is valid for the program's run.
        unsafe { (*self.0).len >= length || bpf_skb_change_tail(self.0, length, 0) == 0 }
    }

    #[inline(always)]
    fn encapsulate(self, state: &mut State, outer: u32) -> bool {
        if state.labelled != 0 {
            return false;
        }
        let mut grow = outer;
        if self.has_metadata_tag() {
            // Removing it pulls the next one, if any, out of the bytes into the metadata.
            let second = is_tag(self.protocol());
            if second && !self.second_tag_to_prefix(state, outer) {
                return false;
            }
            if !self.vlan_pop() {
                return false;
            }
            grow += 4;
            if second {
                // A third one is too much.
                if is_tag(self.protocol()) || !self.vlan_pop() {
                    return false;
                }
                grow += 4;
            }
        }
        let protocol = self.protocol();
        if protocol != ETH_IPV4 && protocol != ETH_IPV6 && !self.assume(ETH_IPV4) {
            return false;
        }
        let l3 = if outer == STRIP_IPV4 {
            ENCAP_L3_IPV4
        } else {
            ENCAP_L3_IPV6
        };
        let inner = (grow - outer + 14) as u64;
        let flags = FIXED_GSO | l3 | ENCAP_L4_UDP | ENCAP_L2_ETH | inner << ENCAP_L2_SHIFT;
        if !self.resize(grow as i32, flags) {
            // Refused for a buffer that was in a tunnel before: its inner offsets are still right (they count from the
            // buffer's start, and the payload has not moved), so that it only needs the room. Segmentation goes by the
            // outer protocol, which is not set then. Where the inner frame begins cannot be said again: it must be as long as it was.
            let around = if outer == STRIP_IPV4 {
                ETH_IPV4
            } else {
                ETH_IPV6
            };
            if self.is_gso()
                && (state.inner != 0 && state.inner != inner as u32
                    || self.protocol() != around && !self.assume(around))
            {
                return false;
            }
            if !self.resize(grow as i32, FIXED_GSO) {
                return false;
            }
        }
        state.inner = inner as u32;
        self.store_prefix(state, grow + 14)
    }

    #[inline(always)]
    fn decapsulate(self, state: &mut State, outer: u32) -> bool {
        let Some(mut ethernet) = self.read::<14>(outer) else {
            return false;
        };
        let (mut tpid, mut tci) = (0, 0);
        let (mut second_tpid, mut second_tci) = (0, 0);
        let mut shrink = outer;
        let mut inner = u16::from_be_bytes([ethernet[12], ethernet[13]]);
        if is_tag(inner) {
            if let Some([c0, c1, t0, t1]) = self.read::<4>(outer + 14) {
                (tpid, tci) = (inner, u16::from_be_bytes([c0, c1]));
                shrink += 4;
                inner = u16::from_be_bytes([t0, t1]);
                (ethernet[12], ethernet[13]) = (t0, t1);
            }
        }
        // The second tag also comes out and is pushed again, so that the kernel knows of it (`skb->protocol`) and pops it later.
        if tpid != 0 && is_tag(inner) {
            if let Some([c0, c1, t0, t1]) = self.read::<4>(outer + 18) {
                (second_tpid, second_tci) = (inner, u16::from_be_bytes([c0, c1]));
                shrink += 4;
                inner = u16::from_be_bytes([t0, t1]);
                (ethernet[12], ethernet[13]) = (t0, t1);
            }
        }
        let l3 = if inner == ETH_IPV6 {
            DECAP_L3_IPV6
        } else {
            DECAP_L3_IPV4
        };
        // Before Linux 6.3 there are no such flags; they say what the frame is then, and allow short ones.
        let by = -(shrink as i32);
        if !self.resize(by, FIXED_GSO | l3)
            && !self.resize(by, FIXED_GSO)
            && !self.shrink_short(shrink)
            && !(self.assume(ETH_IPV4) && self.resize(by, FIXED_GSO))
        {
            return false;
        }
        if !self.write(0, ethernet) || !self.take_protocol(inner) {
            return false;
        }
        if second_tpid != 0 && !self.vlan_push(second_tpid, second_tci) {
            return false;
        }
        if tpid != 0 {
            if !self.vlan_push(tpid, tci) {
                return false;
            }
            state.tag = TAG_METADATA;
        }
        true
    }

    #[inline(always)]
    fn clone_to(self, ifindex: u32) -> bool {
        // SAFETY: the context is valid for the program's run.
        unsafe { bpf_clone_redirect(self.0, ifindex, 0) == 0 }
    }

    #[inline(always)]
    fn redirect(self, ifindex: u32) -> i32 {
        // SAFETY: plain helper call.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }
}
