//! Frames to feed, and a check of all checksums in frames that come out.

pub const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
pub const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// Ethernet header and payload.
pub fn ethernet(eth_type: u16, payload: &[u8]) -> Vec<u8> {
    [&MAC_B[..], &MAC_A, &eth_type.to_be_bytes(), payload].concat()
}

/// With a VLAN tag inserted.
pub fn tagged(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    [
        &frame[..12],
        &tpid.to_be_bytes(),
        &tci.to_be_bytes(),
        &frame[12..],
    ]
    .concat()
}

/// An IPv4 header (with `options`, a multiple of 4 bytes) and its payload; checksum filled in.
pub fn ipv4(proto: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![
        0x40 | (header / 4) as u8,
        0x2c,
        0,
        0,
        0x12,
        0x34,
        0,
        0,
        63,
        proto,
        0,
        0,
    ];
    packet[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(options);
    let sum = !sum(&packet, 0);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

pub const V6_SRC: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
pub const V6_DST: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];

/// An IPv6 header and its payload.
pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    [
        &[0x6a, 0xb0, 0, 1, length[0], length[1], next, 63][..],
        &V6_SRC,
        &V6_DST,
        payload,
    ]
    .concat()
}

/// UDP, checksum zero.
pub fn udp(payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [&[0x04, 0xd2, 0, 53, length[0], length[1], 0, 0], payload].concat()
}

/// TCP, checksum zero.
pub fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..4].copy_from_slice(&[0x04, 0xd2, 0, 80]);
    segment[12] = 0x50;
    segment.extend(payload);
    segment
}

/// An untagged IPv4 frame without options, with another TOS.
pub fn with_tos(mut frame: Vec<u8>, tos: u8) -> Vec<u8> {
    frame[15] = tos;
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = !sum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// An untagged IPv6 frame with another traffic class.
pub fn with_tos6(mut frame: Vec<u8>, tos: u8) -> Vec<u8> {
    frame[14] = 0x60 | tos >> 4;
    frame[15] = tos << 4 | frame[15] & 0xf;
    frame
}

/// ICMPv6 echo request, checksum zero.
pub fn icmpv6(payload: &[u8]) -> Vec<u8> {
    [&[128, 0, 0, 0, 0, 1, 0, 1], payload].concat()
}

pub fn arp() -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(MAC_A);
    packet.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    ethernet(0x0806, &packet)
}

/// Fills in the L4 checksum of an IP frame (untagged or with one tag).
pub fn with_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    if let Some((field, _)) = l4_checksum(&frame) {
        frame[field..field + 2].copy_from_slice(&[0, 0]);
        let (_, sum) = l4_checksum(&frame).unwrap();
        let sum = if !sum == 0 { 0xffff } else { !sum };
        frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

pub fn udp4(payload: &[u8]) -> Vec<u8> {
    with_checksum(ethernet(0x0800, &ipv4(17, 0, &[], &udp(payload))))
}

pub fn tcp4(payload: &[u8]) -> Vec<u8> {
    with_checksum(ethernet(0x0800, &ipv4(6, 0, &[], &tcp(payload))))
}

pub fn udp6(payload: &[u8]) -> Vec<u8> {
    with_checksum(ethernet(0x86dd, &ipv6(17, &udp(payload))))
}

/// Panics unless all checksums in the frame are right. `zero_udp`: a zero UDP checksum is.
pub fn assert_checksums(frame: &[u8], zero_udp: bool) {
    let (l3, eth_type) = l3(frame);
    if eth_type == 0x0800 {
        let header = (frame[l3] & 15) as usize * 4;
        assert_eq!(
            sum(&frame[l3..l3 + header], 0),
            0xffff,
            "IPv4 header checksum"
        );
    }
    if let Some((field, sum)) = l4_checksum(frame) {
        if zero_udp && frame[field..field + 2] == [0, 0] {
            return;
        }
        assert_eq!(sum, 0xffff, "L4 checksum");
    }
}

fn l3(frame: &[u8]) -> (usize, u16) {
    let eth_type = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if eth_type(12) == 0x8100 {
        (18, eth_type(16))
    } else {
        (14, eth_type(12))
    }
}

/// Where the L4 checksum is, and the sum over all that it covers.
fn l4_checksum(frame: &[u8]) -> Option<(usize, u16)> {
    let (l3, eth_type) = l3(frame);
    let (l4, proto, addresses) = match eth_type {
        0x0800 => {
            let header = (frame[l3] & 15) as usize * 4;
            (l3 + header, frame[l3 + 9], l3 + 12..l3 + 20)
        }
        0x86dd => (l3 + 40, frame[l3 + 6], l3 + 8..l3 + 40),
        _ => return None,
    };
    let field = match proto {
        6 => l4 + 16,
        17 => l4 + 6,
        58 => l4 + 2,
        _ => return None,
    };
    let length = (frame.len() - l4) as u32;
    let pseudo = sum(&frame[addresses], proto as u32 + length) as u32;
    Some((field, sum(&frame[l4..], pseudo)))
}

fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut total = start as u64;
    for pair in bytes.chunks(2) {
        total += u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]) as u64;
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}
