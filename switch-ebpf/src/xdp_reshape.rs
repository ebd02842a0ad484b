//! [`Reshape`] over XDP: the frame begins earlier or later, and what is in front is written again.

use crate::{packet::Packet, reshape::Reshape, state::State, xdp::Xdp};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;

/// Length of an MPLS entry.
const ENTRY: i32 = 4;
/// Length of an Ethernet header and an I-TAG.
const ITAG_HEADER: i32 = 18;

impl Xdp {
    /// Moves the frame's start, forward if positive.
    #[inline(always)]
    fn move_start(self, by: i32) -> bool {
        // SAFETY: the context is valid for the program's run.
        unsafe { bpf_xdp_adjust_head(self.0, by) == 0 }
    }

    /// Inserts four bytes behind the Ethernet header.
    #[inline(always)]
    fn push(self, room: i32, eth_type: u16, header: [u8; 4]) -> bool {
        let Some(addresses) = self.read::<12>(0) else {
            return false;
        };
        self.move_start(-room)
            && self.write(0, addresses)
            && self.write(12, eth_type.to_be_bytes())
            && self.write(14, header)
    }
}

impl Reshape for Xdp {
    #[inline(always)]
    fn push_label(self, _state: &mut State, eth_type: u16, entry: [u8; 4]) -> bool {
        self.push(ENTRY, eth_type, entry)
    }

    #[inline(always)]
    fn pop_label(self, state: &mut State, eth_type: u16) -> bool {
        let Some(addresses) = self.read::<12>(0) else {
            return false;
        };
        let (eth_type, l3) = (eth_type.to_be_bytes(), state.l3);
        if l3 == 14 {
            return self.move_start(ENTRY) && self.write(0, addresses) && self.write(12, eth_type);
        }
        let (Some(outer), Some(inner)) = (self.read::<4>(12), self.read::<4>(16)) else {
            return false;
        };
        if !self.move_start(ENTRY) || !self.write(0, addresses) || !self.write(12, outer) {
            return false;
        }
        if l3 == 18 {
            self.write(16, eth_type)
        } else {
            self.write(16, inner) && self.write(20, eth_type)
        }
    }

    #[inline(always)]
    fn push_itag(self, _state: &mut State, eth_type: u16, itag: [u8; 4]) -> bool {
        self.push(ITAG_HEADER, eth_type, itag)
    }

    #[inline(always)]
    fn pop_itag(self, _state: &mut State) -> bool {
        self.move_start(ITAG_HEADER)
    }
}
