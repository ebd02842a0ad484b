//! Set-field on ARP, ICMP, neighbour discovery and SCTP, with checksums kept right.

use lime_core::flow::Field;

use super::edit::write;
use super::layout::{ARP, Layout, Network};

/// ICMPv4.
const ICMP: u8 = 1;
/// ICMPv6.
pub(super) const ICMPV6: u8 = 58;
/// SCTP.
const SCTP: u8 = 132;
/// ICMPv6 types of neighbour solicitations and advertisements (RFC 4861).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Options of a neighbour message that are looked at.
const MAX_OPTIONS: usize = 8;

/// Writes the field. `None`: the packet has no such header, and is unchanged.
pub(super) fn set(frame: &mut [u8], layout: &Layout, field: Field, value: u128) -> Option<()> {
    let bytes = value.to_be_bytes();
    match field {
        Field::ArpOp => arp(frame, layout, 6, &bytes[14..]),
        Field::ArpSha => arp(frame, layout, 8, &bytes[10..]),
        Field::ArpSpa => arp(frame, layout, 14, &bytes[12..]),
        Field::ArpTha => arp(frame, layout, 18, &bytes[10..]),
        Field::ArpTpa => arp(frame, layout, 24, &bytes[12..]),
        Field::Icmpv4Type | Field::Icmpv4Code => {
            let (network, at) = transport(frame, layout, ICMP, 4)?;
            let second = field == Field::Icmpv4Code;
            type_or_code(frame, &network, at, bytes[15], second)
        }
        Field::Icmpv6Type | Field::Icmpv6Code => {
            let (network, at) = transport(frame, layout, ICMPV6, 4)?;
            let second = field == Field::Icmpv6Code;
            type_or_code(frame, &network, at, bytes[15], second)
        }
        Field::Ipv6NdTarget => {
            let (network, at) = transport(frame, layout, ICMPV6, 24)?;
            if !matches!(frame[at], SOLICITATION | ADVERTISEMENT) {
                return None;
            }
            write(frame, &network, at + 8, &bytes, false);
            Some(())
        }
        Field::Ipv6NdSll => option(frame, layout, SOLICITATION, 1, &bytes[10..]),
        Field::Ipv6NdTll => option(frame, layout, ADVERTISEMENT, 2, &bytes[10..]),
        Field::SctpSrc => sctp(frame, layout, 0, &bytes[14..]),
        Field::SctpDst => sctp(frame, layout, 2, &bytes[14..]),
        _ => None,
    }
}

fn arp(frame: &mut [u8], layout: &Layout, offset: usize, value: &[u8]) -> Option<()> {
    let (eth_type, at) = layout.payload?;
    // Ethernet and IPv4 addresses (RFC 826).
    let header = frame.get_mut(at..at + 28)?;
    if eth_type != ARP || header[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    header[offset..offset + value.len()].copy_from_slice(value);
    Some(())
}

/// The transport header of this protocol, with at least `len` bytes.
fn transport(frame: &[u8], layout: &Layout, proto: u8, len: usize) -> Option<(Network, usize)> {
    let network = layout.network?;
    let at = network.transport?;
    let version = match proto {
        ICMP => !network.v6,
        ICMPV6 => network.v6,
        _ => true,
    };
    (network.proto == proto && version && frame.len() >= at + len).then_some((network, at))
}

fn type_or_code(
    frame: &mut [u8],
    network: &Network,
    at: usize,
    value: u8,
    second: bool,
) -> Option<()> {
    let new = if second {
        [frame[at], value]
    } else {
        [value, frame[at + 1]]
    };
    write(frame, network, at, &new, false);
    Some(())
}

/// A link-layer address option of a neighbour message.
fn option(frame: &mut [u8], layout: &Layout, message: u8, wanted: u8, value: &[u8]) -> Option<()> {
    let (network, start) = transport(frame, layout, ICMPV6, 24)?;
    if frame[start] != message {
        return None;
    }
    let mut at = start + 24;
    for _ in 0..MAX_OPTIONS {
        let (&kind, &words) = (frame.get(at)?, frame.get(at + 1)?);
        if words == 0 || frame.len() < at + 8 {
            return None;
        }
        if kind == wanted {
            write(frame, &network, at + 2, value, false);
            return Some(());
        }
        at += usize::from(words) * 8;
    }
    None
}

fn sctp(frame: &mut [u8], layout: &Layout, offset: usize, value: &[u8]) -> Option<()> {
    let (network, at) = transport(frame, layout, SCTP, 12)?;
    let end = network.end.filter(|end| *end >= at + 12)?;
    if network.fragment {
        // Its checksum covers what is not here.
        return None;
    }
    frame[at + offset..at + offset + 2].copy_from_slice(value);
    frame[at + 8..at + 12].copy_from_slice(&[0; 4]);
    let checksum = crc32c(&frame[at..end]);
    frame[at + 8..at + 12].copy_from_slice(&checksum.to_le_bytes());
    Some(())
}

/// CRC-32C (RFC 9260, appendix A), bit by bit: packet-outs are few.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use lime_core::flow::Action;

    use super::super::checksum::tests::{ipv4, ipv6, is_right};
    use super::super::edit;
    use super::*;

    fn set(frame: &mut Vec<u8>, field: Field, value: u128) -> bool {
        edit(frame, &Action::SetField { field, value }).is_ok()
    }

    #[test]
    fn the_crc_is_that_of_the_standard() {
        // RFC 3720, B.4: the check value of CRC-32C.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn sctp_ports() {
        let mut frame = ipv4(132, &[0; 16]);
        assert!(set(&mut frame, Field::SctpSrc, 0x1234));
        assert!(set(&mut frame, Field::SctpDst, 0x5678));
        assert_eq!(frame[34..38], [0x12, 0x34, 0x56, 0x78]);
        let sum: [u8; 4] = frame[42..46].try_into().unwrap();
        frame[42..46].fill(0);
        assert_eq!(u32::from_le_bytes(sum), crc32c(&frame[34..]));
        assert!(!set(&mut frame, Field::TcpSrc, 1));
    }

    #[test]
    fn arp_fields() {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend([0; 20]);
        assert!(set(&mut frame, Field::ArpOp, 2));
        assert!(set(&mut frame, Field::ArpSha, 0x0a));
        assert!(set(&mut frame, Field::ArpSpa, 0x0b));
        assert!(set(&mut frame, Field::ArpTha, 0x0c));
        assert!(set(&mut frame, Field::ArpTpa, 0x0d));
        let last = [frame[21], frame[27], frame[31], frame[37], frame[41]];
        assert_eq!(last, [2, 0x0a, 0x0b, 0x0c, 0x0d]);
        assert!(!set(&mut frame, Field::Ipv4Src, 1));
    }

    #[test]
    fn neighbour_messages() {
        // A target, then its option of the sender's address.
        let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        message.extend([0; 16]);
        message.extend([1, 1, 2, 0, 0, 0, 0, 1]);
        let mut frame = ipv6(ICMPV6, &message);
        // The sum that the empty checksum would have to make right.
        let pieces: u32 = frame[22..]
            .chunks(2)
            .map(|p| u32::from(u16::from_be_bytes([p[0], p[1]])))
            .sum::<u32>()
            + u32::from(ICMPV6)
            + 32;
        let folded = (pieces & 0xffff) + (pieces >> 16);
        let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
        frame[56..58].copy_from_slice(&checksum.to_be_bytes());
        assert!(is_right(&frame));
        for (field, value) in [
            (Field::Ipv6NdTarget, 0xfd00 << 112 | 9),
            (Field::Ipv6NdSll, 0x0200_0000_0009),
            (Field::Ipv6Src, 0xfe80 << 112 | 7),
            (Field::Icmpv6Code, 3),
            (Field::Ipv6Flabel, 0xabcde),
        ] {
            let before = frame.clone();
            assert!(set(&mut frame, field, value), "{field:?}");
            assert_ne!(frame, before, "{field:?}");
            assert!(is_right(&frame), "{field:?}");
        }
        assert!(!set(&mut frame, Field::Ipv6NdTll, 1));
        assert!(!set(&mut frame, Field::Icmpv4Type, 1));
        assert_eq!(frame[15..18], [0x0a, 0xbc, 0xde]);
    }
}
