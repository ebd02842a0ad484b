//! What the sender of a packet is told that does not fit where it was to go: ICMP "fragmentation needed" (RFC 792, RFC 1191) or ICMPv6
//! "packet too big" (RFC 4443, 3.2). A switch has no address: the message comes from where the packet was going, as Linux's tunnels do it.

use super::checksum::{finish, sum};
use super::layout::{IPV4, IPV6, Layout, Network};

/// Length of an IPv4 message at most (RFC 1812, 4.3.2.3).
const MAX_IPV4: usize = 576;
/// Length of an IPv6 message at most, and the least MTU that IPv6 has (RFC 8200, 5).
const MAX_IPV6: usize = 1280;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const ICMP_LEN: usize = 8;

/// The answer to `frame`, the beginning of a packet, if one is due: `mtu` is the largest IP packet that fits, in bytes.
///
/// None is due to packets that were sent to or come from many, to fragments other than the first, to errors, and to IPv4 without DF
/// (RFC 1122, 3.2.2; RFC 4443, 2.4).
pub fn too_big(frame: &[u8], mtu: u32) -> Option<Vec<u8>> {
    let layout = Layout::parse(frame)?;
    let network = layout.network?;
    let (to_many, from_many) = (frame[0] & 1 != 0, frame[6] & 1 != 0);
    if to_many || from_many || network.transport.is_none() {
        return None;
    }
    let eth_type = if network.v6 { IPV6 } else { IPV4 };
    if layout.payload != Some((eth_type, network.offset)) {
        return None;
    }
    let packet = &frame[network.offset..];
    let kind = frame.get(network.transport?).copied();
    let message = if network.v6 {
        ipv6(packet, &network, kind, mtu)?
    } else {
        ipv4(packet, &network, kind, mtu)?
    };
    let mut answer = Vec::with_capacity(network.offset + message.len());
    answer.extend(&frame[6..12]);
    answer.extend(&frame[..6]);
    // Tags stay.
    answer.extend(&frame[12..network.offset]);
    answer.extend(message);
    Some(answer)
}

fn ipv4(packet: &[u8], network: &Network, kind: Option<u8>, mtu: u32) -> Option<Vec<u8>> {
    let dont_fragment = packet[6] & 0x40 != 0;
    // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
    let error = network.proto == 1 && matches!(kind?, 3 | 4 | 5 | 11 | 12);
    let (source, destination) = (&packet[12..16], &packet[16..20]);
    if !dont_fragment || error || !is_one_ipv4(source) || !is_one_ipv4(destination) {
        return None;
    }
    let quoted = &packet[..packet.len().min(MAX_IPV4 - IPV4_LEN - ICMP_LEN)];
    let total = (IPV4_LEN + ICMP_LEN + quoted.len()) as u16;
    // Internetwork control (RFC 1812, 4.3.2.5); DF; TTL 64; ICMP.
    let mut message = vec![0x45, 0xc0, 0, 0, 0, 0, 0x40, 0, 64, 1, 0, 0];
    message[2..4].copy_from_slice(&total.to_be_bytes());
    message.extend(destination);
    message.extend(source);
    let header = finish(sum(&message));
    message[10..12].copy_from_slice(&header.to_be_bytes());
    message.extend([3, 4, 0, 0, 0, 0]);
    message.extend((mtu.min(0xffff) as u16).to_be_bytes());
    message.extend(quoted);
    let whole = finish(sum(&message[IPV4_LEN..]));
    message[IPV4_LEN + 2..IPV4_LEN + 4].copy_from_slice(&whole.to_be_bytes());
    Some(message)
}

fn ipv6(packet: &[u8], network: &Network, kind: Option<u8>, mtu: u32) -> Option<Vec<u8>> {
    // Errors are below 128; 137 is a redirect.
    let error = network.proto == 58 && (kind? < 128 || kind? == 137);
    let (source, destination) = (&packet[8..24], &packet[24..40]);
    if error || !is_one_ipv6(source) || !is_one_ipv6(destination) {
        return None;
    }
    let quoted = &packet[..packet.len().min(MAX_IPV6 - IPV6_LEN - ICMP_LEN)];
    let length = ICMP_LEN + quoted.len();
    let mut message = vec![0x60, 0, 0, 0];
    message.extend((length as u16).to_be_bytes());
    message.extend([58, 64]);
    message.extend(destination);
    message.extend(source);
    message.extend([2, 0, 0, 0]);
    message.extend(mtu.max(MAX_IPV6 as u32).to_be_bytes());
    message.extend(quoted);
    let pseudo = sum(&message[8..40]) + length as u32 + 58;
    let whole = finish(pseudo + sum(&message[IPV6_LEN..]));
    message[IPV6_LEN + 2..IPV6_LEN + 4].copy_from_slice(&whole.to_be_bytes());
    Some(message)
}

/// Neither "this network", nor loopback, nor multicast, nor reserved or broadcast.
fn is_one_ipv4(address: &[u8]) -> bool {
    !matches!(address[0], 0 | 127 | 224..)
}

/// Neither unspecified, nor loopback, nor multicast.
fn is_one_ipv6(address: &[u8]) -> bool {
    address[0] != 0xff && address[..15].iter().any(|&b| b != 0)
}

#[cfg(test)]
mod tests {
    use super::super::checksum::tests::{ipv4, ipv6, is_right, right_udp};
    use super::*;

    fn asking(v6: bool) -> Vec<u8> {
        let mut frame = right_udp(v6, &[7; 1400]);
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        if !v6 {
            frame[20] = 0x40;
        }
        frame
    }

    #[test]
    fn the_sender_is_told_from_where_the_packet_was_going() {
        for v6 in [false, true] {
            let frame = asking(v6);
            let answer = too_big(&frame, 1400).unwrap();
            assert_eq!(answer[..12], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
            assert_eq!(answer[12..14], frame[12..14]);
            if v6 {
                assert!(is_right(&answer));
                assert_eq!(answer.len(), 14 + 1280);
                assert_eq!(answer[22..38], frame[38..54]);
                assert_eq!(answer[38..54], frame[22..38]);
                assert_eq!(answer[54..56], [2, 0]);
                assert_eq!(answer[58..62], [0, 0, 5, 0x78]);
                assert_eq!(answer[62..], frame[14..14 + 1232]);
            } else {
                assert_eq!(finish(sum(&answer[14..34])), 0, "IPv4 header checksum");
                assert_eq!(finish(sum(&answer[34..])), 0, "ICMP checksum");
                assert_eq!(answer.len(), 14 + 576);
                assert_eq!(answer[26..30], frame[30..34]);
                assert_eq!(answer[30..34], frame[26..30]);
                assert_eq!(answer[34..36], [3, 4]);
                assert_eq!(answer[38..42], [0, 0, 5, 0x78]);
                assert_eq!(answer[42..], frame[14..14 + 548]);
            }
        }
    }

    #[test]
    fn tags_stay() {
        let mut frame = asking(false);
        frame.splice(12..12, [0x81, 0, 0, 5]);
        let answer = too_big(&frame, 1400).unwrap();
        assert_eq!(answer[12..18], [0x81, 0, 0, 5, 8, 0]);
    }

    #[test]
    fn nobody_is_told_of_what_was_sent_to_many_or_of_errors() {
        let change = |v6, at: usize, byte| {
            let mut frame = asking(v6);
            frame[at] = byte;
            too_big(&frame, 1400)
        };
        // May be fragmented, is a later fragment, to many, from many.
        for (at, byte) in [(20, 0), (21, 9), (0, 3), (30, 224), (30, 255), (26, 0)] {
            assert_eq!(change(false, at, byte), None, "{at}");
        }
        for (at, byte) in [(0, 0x33), (38, 0xff), (22, 0xff)] {
            assert_eq!(change(true, at, byte), None, "{at}");
        }
        for kind in [3, 4, 5, 11, 12] {
            let mut frame = ipv4(1, &[kind; 1400]);
            frame[20] = 0x40;
            assert_eq!(too_big(&frame, 600), None);
        }
        let mut ping = ipv4(1, &[8; 1400]);
        ping[20] = 0x40;
        assert!(too_big(&ping, 600).is_some());
        for kind in [1, 2, 137] {
            assert_eq!(too_big(&ipv6(58, &[kind; 1400]), 1300), None);
        }
        assert!(too_big(&ipv6(58, &[128; 1400]), 1300).is_some());
    }

    #[test]
    fn no_prefix_panics() {
        for v6 in [false, true] {
            let frame = asking(v6);
            for n in 0..120 {
                let _ = too_big(&frame[..n], 600);
            }
        }
    }
}
