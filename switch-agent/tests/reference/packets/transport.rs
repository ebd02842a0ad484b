//! What IP carries, with right checksums.

use super::super::random::Random;
use super::{ICMP_TYPES, IPV6, MACS, PORTS, fill, payload};

/// The version of IP below.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Ipv4,
    Ipv6,
}

/// A header with a right checksum, and what it is followed by. `pseudo`: addresses and protocol.
pub fn transport(random: &mut Random, protocol: u8, pseudo: &[u8], over: Over) -> Vec<u8> {
    let mut bytes = vec![];
    for _ in 0..2 {
        bytes.extend_from_slice(&random.pick(&PORTS).to_be_bytes());
    }
    match (protocol, over) {
        (6, _) => {
            bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0x10, 0, 0, 0, 0, 0]);
            payload(random, &mut bytes);
            summed(bytes, 16, Some(pseudo))
        }
        (17, _) => {
            bytes.extend_from_slice(&[0; 4]);
            payload(random, &mut bytes);
            let length = (bytes.len() as u16).to_be_bytes();
            bytes[4..6].copy_from_slice(&length);
            if random.chance(15) {
                // Without a checksum.
                return bytes;
            }
            let mut bytes = summed(bytes, 6, Some(pseudo));
            if bytes[6..8] == [0, 0] {
                bytes[6..8].fill(0xff);
            }
            bytes
        }
        (132, _) => {
            bytes.extend_from_slice(&[0, 0, 0, 9, 0, 0, 0, 0]);
            payload(random, &mut bytes);
            let sum = crc32c(&bytes);
            bytes[8..12].copy_from_slice(&sum.to_le_bytes());
            bytes
        }
        (1, Over::Ipv4) => {
            icmp(random, &mut bytes);
            summed(bytes, 2, None)
        }
        (58, Over::Ipv6) => {
            icmp(random, &mut bytes);
            if random.chance(40) {
                bytes.truncate(8);
                bytes[0] = random.pick(&[135, 136]);
            }
            if matches!(bytes[0], 135 | 136) {
                neighbour(random, &mut bytes);
            }
            summed(bytes, 2, Some(pseudo))
        }
        _ => {
            fill(random, &mut bytes, 60);
            bytes
        }
    }
}

fn icmp(random: &mut Random, bytes: &mut Vec<u8>) {
    bytes[..4].copy_from_slice(&[random.pick(&ICMP_TYPES), random.pick(&[0, 1]), 0, 0]);
    bytes.extend_from_slice(&[0, 1, 0, 2]);
    if !matches!(bytes[0], 135 | 136) {
        payload(random, bytes);
    }
}

/// Target and options of neighbour discovery (RFC 4861): the ones that belong there, others, and such as can not be.
fn neighbour(random: &mut Random, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&random.pick(&IPV6).to_be_bytes());
    for _ in 0..random.pick(&[0, 1, 1, 1, 2, 4]) {
        let units = random.pick(&[1, 1, 1, 1, 1, 2, 0]);
        bytes.extend_from_slice(&[random.pick(&[1, 1, 2, 2, 5, 14]), units]);
        bytes.extend_from_slice(&random.pick(&MACS).to_be_bytes()[2..]);
        for _ in 1..units {
            bytes.extend_from_slice(&[0; 8]);
        }
    }
    fill(random, bytes, 7);
}

/// With the Internet checksum at `field`. `pseudo`: the addresses and the protocol that it covers, too.
fn summed(mut bytes: Vec<u8>, field: usize, pseudo: Option<&[u8]>) -> Vec<u8> {
    let length = (bytes.len() as u16).to_be_bytes();
    let sum = match pseudo {
        Some(pseudo) => checksum(&[pseudo, &length, &bytes]),
        None => checksum(&[&bytes]),
    };
    bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// RFC 1071; all parts but the last have even lengths.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}
