//! Internet checksums (RFC 1071, RFC 1624), and the completion of those that a local stack left to a device.

use super::{Layout, Network};

/// TCP.
pub(super) const TCP: u8 = 6;
/// UDP.
pub(super) const UDP: u8 = 17;

/// The one's-complement sum of the bytes, not folded.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| {
            let low = pair.get(1).copied().unwrap_or(0);
            u32::from(u16::from_be_bytes([pair[0], low]))
        })
        .sum()
}

/// The checksum field for a sum over all that it covers, the field being zero.
pub(super) fn finish(sum: u32) -> u16 {
    !fold(sum)
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Offset of the checksum within the transport header.
pub(super) fn field_offset(proto: u8) -> Option<usize> {
    match proto {
        TCP => Some(16),
        UDP => Some(6),
        _ => None,
    }
}

/// `checksum` after `old` became `new`, both of even length (RFC 1624, equation 3).
pub(super) fn update(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let inverted: u32 = old
        .chunks_exact(2)
        .map(|pair| u32::from(!u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    !fold(u32::from(!checksum) + inverted + sum(new))
}

/// Sum over the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1), folded.
pub(super) fn pseudo(frame: &[u8], network: &Network, len: usize) -> u16 {
    let addresses = if network.v6 {
        network.offset + 8..network.offset + 40
    } else {
        network.offset + 12..network.offset + 20
    };
    let addresses = frame.get(addresses).unwrap_or_default();
    fold(sum(addresses) + u32::from(network.proto) + (len >> 16) as u32 + (len & 0xffff) as u32)
}

/// Completes a TCP or UDP checksum that the sending stack left to the device (CHECKSUM_PARTIAL): the field then holds
/// the folded sum of the pseudo-header, not complemented. A checksum that only looks like that by chance comes out unchanged.
///
/// Frames that are cut, fragmented, or not TCP or UDP are left alone. Returns whether the checksum was written.
pub fn complete_partial(frame: &mut [u8]) -> bool {
    let Some(network) = Layout::parse(frame).and_then(|l| l.network) else {
        return false;
    };
    let (Some(start), Some(end), Some(at), false) = (
        network.transport,
        network.end,
        field_offset(network.proto),
        network.fragment,
    ) else {
        return false;
    };
    let minimum = if network.proto == TCP { 20 } else { 8 };
    if end < start + minimum {
        return false;
    }
    let pseudo = pseudo(frame, &network, end - start);
    let field = u16::from_be_bytes([frame[start + at], frame[start + at + 1]]);
    if field != pseudo {
        return false;
    }
    // The field holds the pseudo-header's sum, so that the sum over the segment includes it.
    let mut checksum = !fold(sum(&frame[start..end]));
    if checksum == 0 && network.proto == UDP {
        checksum = 0xffff;
    }
    frame[start + at..start + at + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An IPv4 frame with a right header checksum and a transport payload as given.
    pub fn ipv4(proto: u8, transport: &[u8]) -> Vec<u8> {
        let mut frame = vec![0u8; 12];
        frame.extend([0x08, 0x00]);
        let total = (20 + transport.len()) as u16;
        let mut ip = vec![0x45, 0];
        ip.extend(total.to_be_bytes());
        ip.extend([0, 1, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let checksum = !fold(sum(&ip));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(ip);
        frame.extend(transport);
        frame
    }

    /// An IPv6 frame.
    pub fn ipv6(proto: u8, transport: &[u8]) -> Vec<u8> {
        let mut frame = vec![0u8; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((transport.len() as u16).to_be_bytes());
        frame.extend([proto, 64]);
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        frame.extend(transport);
        frame
    }

    /// Whether all checksums in the frame are right.
    pub fn is_right(frame: &[u8]) -> bool {
        let network = Layout::parse(frame).unwrap().network.unwrap();
        let start = network.transport.unwrap();
        let end = network.end.unwrap();
        let header = network.v6 || fold(sum(&frame[network.offset..start])) == 0xffff;
        let l4 = u32::from(pseudo(frame, &network, end - start)) + sum(&frame[start..end]);
        header && fold(l4) == 0xffff
    }

    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut udp = vec![0x13, 0x88, 0x13, 0x89];
        udp.extend(((8 + payload.len()) as u16).to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(payload);
        udp
    }

    fn make_partial(frame: &mut [u8]) {
        let network = Layout::parse(frame).unwrap().network.unwrap();
        let (start, end) = (network.transport.unwrap(), network.end.unwrap());
        let at = start + field_offset(network.proto).unwrap();
        let partial = pseudo(frame, &network, end - start);
        frame[at..at + 2].copy_from_slice(&partial.to_be_bytes());
    }

    /// A frame with right checksums everywhere.
    pub fn right_udp(v6: bool, payload: &[u8]) -> Vec<u8> {
        let udp = udp(payload);
        let mut frame = if v6 { ipv6(UDP, &udp) } else { ipv4(UDP, &udp) };
        make_partial(&mut frame);
        assert!(complete_partial(&mut frame));
        frame
    }

    #[test]
    fn partial_checksums_are_completed_and_right_ones_stay() {
        for v6 in [false, true] {
            for payload in [&b""[..], b"x", b"hello", &[0xff; 1400]] {
                let mut frame = right_udp(v6, payload);
                assert!(is_right(&frame));
                let before = frame.clone();
                assert!(!complete_partial(&mut frame) || frame == before);
                assert_eq!(frame, before);
            }
        }
    }

    #[test]
    fn tcp_is_completed_past_padding() {
        let mut tcp = vec![0u8; 20];
        tcp[12] = 0x50;
        let mut frame = ipv4(TCP, &tcp);
        make_partial(&mut frame);
        // Ethernet padding is not part of the packet.
        frame.extend([0xaa; 6]);
        assert!(complete_partial(&mut frame));
        assert!(is_right(&frame));
    }

    #[test]
    fn cut_and_fragmented_packets_are_left_alone() {
        let mut frame = ipv4(UDP, &udp(b"hello"));
        make_partial(&mut frame);
        let cut = frame.len() - 2;
        assert!(!complete_partial(&mut frame[..cut]));
        frame[14 + 6] = 0x20;
        assert!(!complete_partial(&mut frame));
    }

    #[test]
    fn a_udp_packet_without_checksum_stays_so() {
        let mut frame = ipv4(UDP, &udp(b"hello"));
        assert!(!complete_partial(&mut frame));
    }
}
