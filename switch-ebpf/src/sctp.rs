//! SCTP ports. The checksum (CRC32c, RFC 9260, 6.8 and appendix A) covers the whole packet, but it is linear: what a change of the ports does
//! to it is the CRC of the difference followed by as many zeros as the packet has bytes behind the ports. That takes a few multiplications of
//! polynomials and none of the packet's bytes; and a wrong checksum stays wrong.

use crate::{
    checksum::diff32,
    packet::Packet,
    parse::{ETH_IPV4, PROTO_SCTP},
    state::State,
};
use switch_abi::{Action, op};

/// The polynomial, in the order of bits that CRC32c computes in: the top bit is x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// 1 in that order.
const ONE: u32 = 1 << 31;
/// Bits of a length.
const LENGTH_BITS: usize = 16;
/// x^(8 * 2^i): as many zero bytes.
const ZEROS: [u32; LENGTH_BITS] = zeros();

const fn zeros() -> [u32; LENGTH_BITS] {
    let mut powers = [0; LENGTH_BITS];
    powers[0] = ONE >> 8;
    let mut i = 1;
    while i < LENGTH_BITS {
        powers[i] = product(powers[i - 1], powers[i - 1]);
        i += 1;
    }
    powers
}

/// The product of two polynomials. Without branches, which the verifier would all follow.
#[inline(always)]
const fn product(mut a: u32, b: u32) -> u32 {
    let mut sum = 0;
    let mut i = 0;
    while i < 32 {
        sum ^= a & 0u32.wrapping_sub(b >> (31 - i) & 1);
        a = a >> 1 ^ POLYNOMIAL & 0u32.wrapping_sub(a & 1);
        i += 1;
    }
    sum
}

#[inline(never)]
fn times(a: u32, b: u32) -> u32 {
    product(a, b)
}

/// Sets a port. False: there is none, or the checksum covers fragments that are not here.
#[inline(never)]
pub fn set_port<P: Packet>(packet: P, state: &State, action: &Action) -> bool {
    if state.proto != PROTO_SCTP as u32 {
        return false;
    }
    if state.l4 == 0 || state.frag != 0 {
        return false;
    }
    let (Some(ports), Some(sum), Some(v4), Some(v6)) = (
        packet.read::<4>(state.l4),
        packet.read::<4>(state.l4 + 8),
        packet.read::<2>(state.l3 + 2),
        packet.read::<2>(state.l3 + 4),
    ) else {
        return false;
    };
    let header = state.l4 - state.l3;
    let length = if state.l3_type == ETH_IPV4 as u32 {
        u16::from_be_bytes(v4) as u32 - header
    } else {
        u16::from_be_bytes(v6) as u32 + 40 - header
    };
    let [x, y] = action.a.to_be_bytes();
    let new = if action.op == op::SET_SCTP_SRC {
        [x, y, ports[2], ports[3]]
    } else {
        [ports[0], ports[1], x, y]
    };
    let old_sum = u32::from_le_bytes(sum);
    // Zero: the stack left it to the device, which takes the sum of what is there then. (One in 2^32 right checksums is zero, too.)
    if old_sum != 0 && !packet.is_gso() {
        let mut change = u32::from_le_bytes(ports) ^ u32::from_le_bytes(new);
        let mut i = 0;
        while i < LENGTH_BITS {
            let bit = 0u32.wrapping_sub(length >> i & 1);
            change = times(change, ZEROS[i] & bit | ONE & !bit);
            i += 1;
        }
        let new_sum = (old_sum ^ change).to_le_bytes();
        packet.fix_whole(diff32(u32::from_ne_bytes(sum), u32::from_ne_bytes(new_sum)));
        if !packet.write(state.l4 + 8, new_sum) {
            return false;
        }
    }
    packet.fix_whole(diff32(u32::from_ne_bytes(ports), u32::from_ne_bytes(new)));
    packet.write(state.l4, new)
}
