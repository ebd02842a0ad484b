//! What a local stack leaves to devices: checksums, and the segmentation of TCP and UDP (Linux: TSO, USO).

use super::checksum::{TCP, UDP, field_offset, finish, pseudo, sum};
use super::{Layout, complete_partial};

/// TCP flags that only the last segment has (RFC 9293, 3.1: FIN, PSH), and one that only the first has (RFC 3168: CWR).
const LAST_ONLY: u8 = 0x01 | 0x08;
const FIRST_ONLY: u8 = 0x80;

/// The packets that a device would make of this one: its checksum completed, and, if there is a `size`, segments with so much payload.
/// `None`: it is to be segmented, and is not what can be.
pub fn segments(mut packet: Vec<u8>, size: usize) -> Option<Vec<Vec<u8>>> {
    if size == 0 {
        complete_partial(&mut packet);
        return Some(vec![packet]);
    }
    let network = Layout::parse(&packet)?.network?;
    let start = network.transport.filter(|_| !network.fragment)?;
    let header = match network.proto {
        TCP => usize::from(*packet.get(start + 12)? >> 4) * 4,
        UDP => 8,
        _ => return None,
    };
    let body = start + header;
    if network.proto == TCP && header < 20 || packet.len() <= body {
        return None;
    }
    let (head, payload) = packet.split_at(body);
    let at = start + field_offset(network.proto)?;
    let count = payload.len().div_ceil(size);
    let mut all = Vec::with_capacity(count);
    for (i, part) in payload.chunks(size).enumerate() {
        let mut frame = Vec::with_capacity(body + part.len());
        frame.extend_from_slice(head);
        frame.extend_from_slice(part);
        let length = u16::try_from(frame.len() - network.offset).ok()?;
        let ip = &mut frame[network.offset..start];
        if network.v6 {
            ip[4..6].copy_from_slice(&(length - 40).to_be_bytes());
        } else {
            ip[2..4].copy_from_slice(&length.to_be_bytes());
            let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(i as u16);
            ip[4..6].copy_from_slice(&id.to_be_bytes());
            ip[10..12].fill(0);
            let checksum = finish(sum(ip));
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        if network.proto == TCP {
            let sequence = &mut frame[start + 4..start + 8];
            let first = u32::from_be_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]);
            let here = first.wrapping_add((i * size) as u32);
            sequence.copy_from_slice(&here.to_be_bytes());
            if i + 1 < count {
                frame[start + 13] &= !LAST_ONLY;
            }
            if i > 0 {
                frame[start + 13] &= !FIRST_ONLY;
            }
        } else {
            let length = (frame.len() - start) as u16;
            frame[start + 4..start + 6].copy_from_slice(&length.to_be_bytes());
        }
        frame[at..at + 2].fill(0);
        let over = u32::from(pseudo(&frame, &network, frame.len() - start)) + sum(&frame[start..]);
        let checksum = match finish(over) {
            0 if network.proto == UDP => 0xffff,
            checksum => checksum,
        };
        frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        all.push(frame);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::super::checksum::tests::{ipv4, ipv6, is_right};
    use super::*;

    fn tcp(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0x13, 0x88, 0x13, 0x89];
        tcp.extend(0xffff_ff00u32.to_be_bytes());
        tcp.extend([0, 0, 0, 9, 0x60, flags, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
        tcp.extend(payload);
        tcp
    }

    #[test]
    fn segments_are_what_a_device_makes() {
        let payload: Vec<u8> = (0..2500u32).map(|i| i as u8).collect();
        for make in [ipv4, ipv6] {
            let frame = make(TCP, &tcp(0x80 | 0x10 | 0x08 | 0x01, &payload));
            let all = segments(frame, 1000).unwrap();
            assert_eq!(all.len(), 3);
            let mut there = Vec::new();
            for (i, segment) in all.iter().enumerate() {
                assert!(is_right(segment), "{i}");
                let network = Layout::parse(segment).unwrap().network.unwrap();
                assert_eq!(network.end, Some(segment.len()));
                let start = network.transport.unwrap();
                let sequence = 0xffff_ff00u32.wrapping_add(1000 * i as u32);
                assert_eq!(segment[start + 4..start + 8], sequence.to_be_bytes());
                assert_eq!(segment[start + 13], [0x90, 0x10, 0x19][i]);
                if !network.v6 {
                    assert_eq!(segment[network.offset + 5], 1 + i as u8);
                }
                there.extend_from_slice(&segment[start + 24..]);
            }
            assert_eq!(there, payload);
        }
    }

    #[test]
    fn datagrams_are_cut_into_datagrams() {
        let mut udp = vec![0x13, 0x88, 0x13, 0x89, 0, 0, 0, 0];
        udp.extend([7; 250]);
        let all = segments(ipv6(UDP, &udp), 100).unwrap();
        let lengths: Vec<usize> = all.iter().map(Vec::len).collect();
        assert_eq!(lengths, [14 + 48 + 100, 14 + 48 + 100, 14 + 48 + 50]);
        assert!(all.iter().all(|s| is_right(s)));
    }

    #[test]
    fn what_is_not_to_be_segmented_is_one_packet() {
        let frame = ipv4(TCP, &tcp(0x10, &[1, 2, 3]));
        assert_eq!(segments(frame.clone(), 0), Some(vec![frame]));
    }

    #[test]
    fn what_cannot_be_segmented_is_refused() {
        assert_eq!(segments(vec![0; 60], 100), None);
        assert_eq!(segments(ipv4(1, &[0; 500]), 100), None);
        assert_eq!(segments(ipv4(TCP, &[0; 500]), 100), None);
        let whole = ipv4(TCP, &tcp(0x10, &[0; 300]));
        for cut in 0..whole.len() {
            let _ = segments(whole[..cut].to_vec(), 100);
        }
    }
}
