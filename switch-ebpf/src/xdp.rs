//! [`Packet`] over XDP: bytes in place, checksums by hand.

use crate::{
    checksum,
    packet::{Packet, bounded, gather, opaque, stages},
    state::{State, TAG_INLINE, TAG_NONE},
};
use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::generated::{
        bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
        bpf_xdp_load_bytes, bpf_xdp_store_bytes,
    },
};

/// A frame at XDP.
#[derive(Clone, Copy)]
pub struct Xdp(pub *mut xdp_md);

impl Xdp {
    /// The address of `length` bytes at an offset, if they lie in the linear part.
    #[inline(always)]
    fn linear(self, offset: u32, length: usize) -> Option<usize> {
        let (data, end) = self.bounds();
        let at = opaque(data + (offset & 0x7ff) as usize);
        (at + length <= end).then_some(at)
    }

    #[inline(always)]
    fn read16(self, offset: u32) -> Option<u16> {
        self.read::<2>(offset).map(u16::from_ne_bytes)
    }
}

stages!(
    Xdp,
    xdp_md,
    lime_xdp_short_cut,
    lime_xdp_parse,
    lime_xdp_neighbour,
    lime_xdp_change,
    lime_xdp_reshape,
    lime_xdp_meter,
    lime_xdp_emit,
    lime_xdp_flush,
    lime_xdp_strip,
    lime_xdp_packet_in,
    lime_xdp_wrap,
    lime_xdp_run,
    lime_xdp_wait,
    lime_xdp_hold,
    lime_xdp_report,
    lime_xdp_report_whole
);

impl Packet for Xdp {
    const XDP: bool = true;
    const DROP: i32 = xdp_action::XDP_DROP as i32;
    const PASS: i32 = xdp_action::XDP_PASS as i32;

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: the context is valid for the program's run.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn survey(self, state: &mut State) {
        let (data, end) = self.bounds();
        // SAFETY: the context is valid for the program's run.
        let length = unsafe { bpf_xdp_get_buff_len(self.0) };
        state.fragments = (length != (end - data) as u64) as u32;
    }

    #[inline(always)]
    fn bounds(self) -> (usize, usize) {
        // SAFETY: the context is valid for the program's run.
        // Volatile: kept from an earlier read, it might be spilled as the 32 bits that it seems to be, and be no pointer any more.
        unsafe {
            (
                core::ptr::read_volatile(&raw const (*self.0).data) as usize,
                core::ptr::read_volatile(&raw const (*self.0).data_end) as usize,
            )
        }
    }

    #[inline(always)]
    fn length(self) -> u32 {
        // Asking the kernel is a call, which costs as much as twenty instructions.
        if State::current().is_some_and(|state| state.fragments == 0) {
            let (data, end) = self.bounds();
            return (end - data) as u32;
        }
        // SAFETY: the context is valid for the program's run.
        unsafe { bpf_xdp_get_buff_len(self.0) as u32 }
    }

    #[inline(always)]
    fn segment_size(self) -> u32 {
        0
    }

    #[inline(always)]
    fn segments(self) -> u32 {
        1
    }

    #[inline(always)]
    fn set_queue(self, _queue: u32) -> bool {
        false
    }

    #[inline(always)]
    fn read<const N: usize>(self, offset: u32) -> Option<[u8; N]> {
        if let Some(at) = self.linear(offset, N) {
            // SAFETY: `linear` checked the bounds.
            return Some(unsafe { gather(at) });
        }
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the buffer has N bytes, and the helper has written them when it succeeds.
        unsafe {
            let result =
                bpf_xdp_load_bytes(self.0, offset & 0x7ff, bytes.as_mut_ptr().cast(), N as u32);
            (result == 0).then(|| bytes.assume_init())
        }
    }

    #[inline(always)]
    fn copy_out(self, offset: u32, to: *mut u8, length: u32, room: u32) -> bool {
        let Some(length) = bounded(length, room) else {
            return false;
        };
        // SAFETY: the caller has that much room.
        unsafe { bpf_xdp_load_bytes(self.0, offset, to.cast(), length) == 0 }
    }

    #[inline(always)]
    fn write<const N: usize>(self, offset: u32, mut bytes: [u8; N]) -> bool {
        if let Some(at) = self.linear(offset, N) {
            // SAFETY: `linear` checked the bounds.
            unsafe { core::ptr::write_unaligned(at as *mut [u8; N], bytes) };
            return true;
        }
        // SAFETY: the buffer has N bytes.
        unsafe {
            bpf_xdp_store_bytes(self.0, offset & 0x7ff, bytes.as_mut_ptr().cast(), N as u32) == 0
        }
    }

    #[inline(always)]
    fn metadata_tag(self) -> Option<(u16, u16)> {
        None
    }

    #[inline(always)]
    fn fix_l3(self, offset: u32, diff: u32) {
        if let Some(field) = self.read16(offset) {
            self.write(offset, checksum::apply(field, diff).to_ne_bytes());
        }
    }

    #[inline(always)]
    fn fix_l4(self, offset: u32, diff: u32, _pseudo: bool, udp: bool) {
        if let Some(field) = self.read16(offset) {
            if udp && field == 0 {
                return;
            }
            let mut field = checksum::apply(field, diff);
            if udp && field == 0 {
                field = 0xffff;
            }
            self.write(offset, field.to_ne_bytes());
        }
    }

    #[inline(always)]
    fn fix_whole(self, _diff: u32) {}

    #[inline(always)]
    fn push_tag(self, state: &mut State, tpid: u16, tci: u16) -> bool {
        let Some(addresses) = self.read::<12>(0) else {
            return false;
        };
        // SAFETY: the context is valid for the program's run.
        if unsafe { bpf_xdp_adjust_head(self.0, -4) } != 0 {
            return false;
        }
        let ([t0, t1], [c0, c1]) = (tpid.to_be_bytes(), tci.to_be_bytes());
        state.l3 += 4;
        state.l4 += if state.l4 != 0 { 4 } else { 0 };
        state.tag = TAG_INLINE;
        self.write(0, addresses) && self.write(12, [t0, t1, c0, c1])
    }

    #[inline(always)]
    fn pop_tag(self, state: &mut State) -> bool {
        let Some(addresses) = self.read::<12>(0) else {
            return false;
        };
        // SAFETY: the context is valid for the program's run.
        if unsafe { bpf_xdp_adjust_head(self.0, 4) } != 0 {
            return false;
        }
        state.l3 -= 4;
        state.l4 -= if state.l4 != 0 { 4 } else { 0 };
        state.tag = match self.read::<2>(12) {
            Some([0x81, 0x00] | [0x88, 0xa8]) => TAG_INLINE,
            _ => TAG_NONE,
        };
        self.write(0, addresses)
    }

    #[inline(always)]
    fn set_tag(self, _state: &State, tci: u16) -> bool {
        self.write(14, tci.to_be_bytes())
    }

    #[inline(always)]
    fn pad(self, length: u32) -> bool {
        let there = self.length();
        // SAFETY: the context is valid for the program's run.
        there >= length || unsafe { bpf_xdp_adjust_tail(self.0, (length - there) as i32) } == 0
    }

    #[inline(always)]
    fn encapsulate(self, state: &mut State, outer: u32) -> bool {
        // SAFETY: the context is valid for the program's run; the prefix is longer than any `outer`.
        unsafe {
            if bpf_xdp_adjust_head(self.0, -(outer as i32)) != 0 {
                return false;
            }
            let outer = if outer == crate::tunnel::STRIP_IPV4 {
                crate::tunnel::STRIP_IPV4
            } else {
                crate::tunnel::STRIP_IPV6
            };
            bpf_xdp_store_bytes(self.0, 0, state.prefix.as_mut_ptr().cast(), outer) == 0
        }
    }

    #[inline(always)]
    fn decapsulate(self, _state: &mut State, outer: u32) -> bool {
        // SAFETY: the context is valid for the program's run.
        unsafe { bpf_xdp_adjust_head(self.0, outer as i32) == 0 }
    }

    #[inline(always)]
    fn clone_to(self, _ifindex: u32) -> bool {
        false
    }

    #[inline(always)]
    fn redirect(self, ifindex: u32) -> i32 {
        // SAFETY: plain helper call.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }
}
