//! Random packets: sound ones of every protocol that rules know, then damaged ones.

use super::random::Random;

// Rules take their values from the same pools, so that they hit.
pub const MACS: [u64; 4] = [
    0x0200_0000_0001,
    0x0200_0000_0002,
    0x0200_0000_0102,
    0xffff_ffff_ffff,
];
pub const IPV4: [u32; 4] = [0x0a00_0001, 0x0a00_0002, 0x0a00_0102, 0xc0a8_0001];
pub const IPV6: [u128; 4] = [
    0xfd00_0000_0000_0000_0000_0000_0000_0001,
    0xfd00_0000_0000_0000_0000_0000_0000_0002,
    0xfd00_0000_0000_0001_0000_0000_0000_0001,
    0xff02_0000_0000_0000_0000_0001_ff00_0001,
];
pub const PORTS: [u16; 5] = [53, 80, 443, 0x8050, 0];
pub const VIDS: [u16; 4] = [0, 1, 5, 0xfff];
pub const DSCPS: [u8; 4] = [0, 10, 46, 63];
pub const ETH_TYPES: [u16; 7] = [0x0800, 0x86dd, 0x0806, 0x88b5, 0x05ff, 0x8100, 0x88a8];

/// Linux drops tagged frames shorter than this (20 bytes) before TC programs see them, and does not pop tags that are cut off.
const TAGGED_MIN: usize = 22;

pub fn packet(random: &mut Random) -> Vec<u8> {
    let tags = random.pick(&[0, 0, 0, 1, 1, 2]);
    let mut frame = Vec::new();
    for _ in 0..2 {
        frame.extend_from_slice(&random.pick(&MACS).to_be_bytes()[2..]);
    }
    for i in 0..tags {
        let tpid: u16 = if i + 1 < tags {
            random.pick(&[0x88a8, 0x8100])
        } else {
            random.pick(&[0x8100, 0x8100, 0x88a8])
        };
        let tci = random.pick(&VIDS)
            | (random.below(8) as u16) << 13
            | if random.chance(10) { 0x1000 } else { 0 };
        frame.extend_from_slice(&tpid.to_be_bytes());
        frame.extend_from_slice(&tci.to_be_bytes());
    }
    match random.below(10) {
        0 => arp(random, &mut frame),
        1 => {
            let kind: u16 = random.pick(&[0x88b5, 0x0020, 0x05ff, 0x88cc, 0xffff]);
            frame.extend_from_slice(&kind.to_be_bytes());
            fill(random, &mut frame, 50);
        }
        2..=5 => ipv4(random, &mut frame),
        _ => ipv6(random, &mut frame),
    }
    if random.chance(10) {
        // Behind the IP packet, as Ethernet's padding.
        fill(random, &mut frame, 20);
    }
    if tags > 0 && frame.len() < TAGGED_MIN {
        frame.resize(TAGGED_MIN, 0);
    }
    if random.chance(20) {
        damage(random, &mut frame);
    }
    frame
}

/// Cut off somewhere, or with some bits the other way.
fn damage(random: &mut Random, frame: &mut Vec<u8>) {
    let tagged = matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]);
    if random.chance(50) {
        let least = if tagged { TAGGED_MIN } else { 14 };
        let length = least + random.below(frame.len().saturating_sub(least) + 1);
        frame.truncate(length);
    } else {
        for _ in 0..=random.below(3) {
            // Headers are more worth it than payload; EtherTypes and tags stay.
            let first = if tagged { TAGGED_MIN } else { 14 };
            let at = first + random.below((frame.len() - first).clamp(1, 60));
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

fn fill(random: &mut Random, to: &mut Vec<u8>, most: usize) {
    for _ in 0..random.below(most) {
        to.push(random.next() as u8);
    }
}

fn arp(random: &mut Random, frame: &mut Vec<u8>) {
    frame.extend_from_slice(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1 + random.below(2) as u8]);
    for _ in 0..2 {
        frame.extend_from_slice(&random.pick(&MACS).to_be_bytes()[2..]);
        frame.extend_from_slice(&random.pick(&IPV4).to_be_bytes());
    }
}

fn ipv4(random: &mut Random, frame: &mut Vec<u8>) {
    frame.extend_from_slice(&[0x08, 0x00]);
    let options = random.pick(&[0, 0, 0, 0, 4, 8, 40]);
    let protocol = random.pick(&[6, 6, 17, 17, 1, 132, 58, 47]);
    let fragment: u16 = random.pick(&[0, 0, 0, 0x4000, 0x2000, 0x2005, 0x0005]);
    let (source, destination) = (random.pick(&IPV4), random.pick(&IPV4));
    let mut pseudo = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    pseudo.extend_from_slice(&[0, protocol]);
    let payload = if fragment & 0x1fff == 0 {
        transport(random, protocol, &pseudo, 1)
    } else {
        later(random)
    };
    let start = frame.len();
    let total = (20 + options + payload.len()) as u16;
    frame.extend_from_slice(&[
        0x40 | (5 + options / 4) as u8,
        random.pick(&DSCPS) << 2 | random.below(4) as u8,
    ]);
    frame.extend_from_slice(&total.to_be_bytes());
    frame.extend_from_slice(&[0x12, 0x34]);
    frame.extend_from_slice(&fragment.to_be_bytes());
    frame.extend_from_slice(&[random.pick(&[1, 64, 255]), protocol, 0, 0]);
    frame.extend_from_slice(&source.to_be_bytes());
    frame.extend_from_slice(&destination.to_be_bytes());
    frame.extend(std::iter::repeat_n(1, options));
    let sum = checksum(&[&frame[start..]]);
    frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(payload);
}

fn ipv6(random: &mut Random, frame: &mut Vec<u8>) {
    frame.extend_from_slice(&[0x86, 0xdd]);
    let protocol = random.pick(&[6, 6, 17, 17, 58, 58, 132, 1, 59]);
    let (source, destination) = (random.pick(&IPV6), random.pick(&IPV6));
    let mut pseudo = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    pseudo.extend_from_slice(&[0, protocol]);
    // (number, what is behind the next header's number)
    let mut extensions: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut later_fragment = false;
    if random.chance(40) {
        for _ in 0..1 + random.below(3) {
            let number = random.pick(&[0, 43, 44, 44, 51, 60]);
            let mut body = vec![0; 7];
            match number {
                44 => {
                    let field: u16 = random.pick(&[0, 1, 8 << 3 | 1, 16 << 3]);
                    body[1..3].copy_from_slice(&field.to_be_bytes());
                    later_fragment |= field & 0xfff8 != 0;
                }
                51 => {
                    body[0] = 4;
                    body.resize(23, 7);
                }
                _ => {
                    body[0] = random.below(3) as u8;
                    body.resize(usize::from(body[0]) * 8 + 7, 1);
                    // Segments left: none.
                    body[2] = 0;
                }
            }
            extensions.push((number, body));
        }
    }
    let payload = if later_fragment {
        later(random)
    } else {
        transport(random, protocol, &pseudo, 58)
    };
    let mut numbers: Vec<u8> = extensions.iter().map(|e| e.0).collect();
    numbers.push(protocol);
    let class = random.pick(&DSCPS) << 2 | random.below(4) as u8;
    let length = payload.len() + extensions.iter().map(|e| e.1.len() + 1).sum::<usize>();
    frame.extend_from_slice(&[0x60 | class >> 4, class << 4 | 5, 6, 7]);
    frame.extend_from_slice(&(length as u16).to_be_bytes());
    frame.extend_from_slice(&[numbers[0], 64]);
    frame.extend_from_slice(&source.to_be_bytes());
    frame.extend_from_slice(&destination.to_be_bytes());
    for (i, (_, body)) in extensions.iter().enumerate() {
        frame.push(numbers[i + 1]);
        frame.extend_from_slice(body);
    }
    frame.extend(payload);
}

fn later(random: &mut Random) -> Vec<u8> {
    let mut payload = vec![];
    fill(random, &mut payload, 60);
    payload
}

/// A header with a right checksum, and what it is followed by. `pseudo`: addresses and protocol; `icmp`: the protocol that is ICMP.
fn transport(random: &mut Random, protocol: u8, pseudo: &[u8], icmp: u8) -> Vec<u8> {
    let mut bytes = vec![];
    for _ in 0..2 {
        bytes.extend_from_slice(&random.pick(&PORTS).to_be_bytes());
    }
    let field = match protocol {
        6 => {
            bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0x10, 0, 0, 0, 0, 0]);
            Some(16)
        }
        17 => {
            bytes.extend_from_slice(&[0; 4]);
            Some(6)
        }
        132 => {
            bytes.extend_from_slice(&[0, 0, 0, 9, 1, 2, 3, 4]);
            None
        }
        _ if protocol == icmp => {
            bytes[..4].copy_from_slice(&[
                random.pick(&[0, 3, 8, 128, 135]),
                random.pick(&[0, 1]),
                0,
                0,
            ]);
            bytes.extend_from_slice(&[0, 1, 0, 2]);
            Some(2)
        }
        _ => None,
    };
    fill(random, &mut bytes, 60);
    if protocol == 17 {
        let length = (bytes.len() as u16).to_be_bytes();
        bytes[4..6].copy_from_slice(&length);
        if random.chance(15) {
            // Without a checksum.
            return bytes;
        }
    }
    if let Some(field) = field {
        let length = (bytes.len() as u16).to_be_bytes();
        let pseudo = if protocol == 1 { &[] } else { pseudo };
        let length: &[u8] = if protocol == 1 { &[] } else { &length };
        let mut sum = checksum(&[pseudo, length, &bytes]);
        if protocol == 17 && sum == 0 {
            sum = 0xffff;
        }
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// RFC 1071; all parts but the last have even lengths.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
