//! The Internet checksum (RFC 1071) and SCTP's (RFC 9260), computed from all the bytes they cover.

/// Ones' complement sum of the bytes as 16-bit words in network order, an odd one padded with zero.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from))
        .sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of bytes whose checksum field is zero.
pub(crate) fn of(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// What a checksum field becomes when the bytes it covers change (in both, the field itself is zero).
///
/// A right one is computed anew. A wrong one stays wrong by as much (RFC 1624, equation 3), since a switch must not make a damaged packet
/// look sound; also where only a part of the bytes is at hand, in a first fragment.
pub(crate) fn follow(field: u16, before: &[u8], after: &[u8]) -> u16 {
    if before == after {
        return field;
    }
    if field == of(before) {
        return of(after);
    }
    let difference: u64 = before
        .chunks(2)
        .map(|pair| u64::from(!fold(sum(pair))))
        .sum::<u64>()
        + sum(after);
    !fold(u64::from(!field) + difference)
}

/// CRC32c (RFC 9260, appendix A), bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_3720() {
        // Appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn the_example_of_rfc_1071() {
        // Section 3: the sum of these is ddf2.
        assert_eq!(
            of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: the field 5555 becomes 3285; the rest of the header sums to cd7a.
        assert_eq!(
            follow(0xdd2f, &[0x55, 0x55, 0xcd, 0x7a], &[0x32, 0x85, 0xcd, 0x7a]),
            0x0000
        );
    }

    #[test]
    fn wrong_ones_stay_wrong_by_as_much() {
        let (before, after) = ([1, 2, 3, 4, 5], [9, 2, 3, 4, 5]);
        let wrong = of(&before).wrapping_add(7);
        assert_eq!(follow(wrong, &before, &after), of(&after).wrapping_add(7));
    }
}
