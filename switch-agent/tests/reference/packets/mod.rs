//! Random packets: sound ones of every protocol that rules know, odd ones, then damaged ones.

mod ip;
mod ipv6;
mod transport;

use super::random::Random;

pub use transport::checksum;

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
pub const ETH_TYPES: [u16; 10] = [
    0x0800, 0x86dd, 0x0806, 0x88b5, 0x05ff, 0x8100, 0x88a8, 0x8847, 0x8848, 0x88e7,
];
pub const FLOW_LABELS: [u32; 4] = [0, 1, 0x50607, 0xfffff];
pub const LABELS: [u32; 4] = [0, 16, 0x12345, 0xfffff];
pub const SERVICES: [u32; 4] = [0, 1, 0x01_0203, 0xff_ffff];
pub const TTLS: [u8; 5] = [0, 1, 2, 64, 255];
pub const ICMP_TYPES: [u8; 6] = [0, 3, 8, 128, 135, 136];

/// Linux drops tagged frames shorter than this (20 bytes) before TC programs see them, and does not pop tags that are cut off.
const TAGGED_MIN: usize = 22;

/// Within the devices' MTU, also in a tunnel.
const LARGEST: usize = 8500;

pub fn packet(random: &mut Random) -> Vec<u8> {
    let mut frame = ethernet(random, 0);
    if random.chance(10) {
        // Behind the packet, as Ethernet's padding.
        fill(random, &mut frame, 20);
    }
    if tagged(&frame) && frame.len() < TAGGED_MIN {
        frame.resize(TAGGED_MIN, 0);
    }
    if random.chance(20) {
        damage(random, &mut frame);
    }
    frame.truncate(LARGEST);
    frame
}

/// A packet like another: the same once more, or with a few bits the other way.
pub fn like(random: &mut Random, frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if random.chance(30) {
        flip(random, &mut frame);
    }
    frame
}

fn tagged(frame: &[u8]) -> bool {
    matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8])
}

/// Cut off somewhere, or with some bits the other way.
fn damage(random: &mut Random, frame: &mut Vec<u8>) {
    if random.chance(50) {
        let least = if tagged(frame) { TAGGED_MIN } else { 14 };
        let length = least + random.below(frame.len().saturating_sub(least) + 1);
        frame.truncate(length);
    } else {
        flip(random, frame);
    }
}

fn flip(random: &mut Random, frame: &mut [u8]) {
    for _ in 0..=random.below(3) {
        // Headers are more worth it than payload; EtherTypes and tags stay.
        let first = if tagged(frame) { TAGGED_MIN } else { 14 };
        let at = first + random.below(frame.len().saturating_sub(first).clamp(1, 60));
        if let Some(byte) = frame.get_mut(at) {
            *byte ^= 1 << random.below(8);
        }
    }
}

fn fill(random: &mut Random, to: &mut Vec<u8>, most: usize) {
    for _ in 0..random.below(most) {
        to.push(random.next() as u8);
    }
}

/// What a packet carries: mostly little, at times as much as goes into a jumbo frame.
fn payload(random: &mut Random, to: &mut Vec<u8>) {
    if random.chance(1) {
        let length = 1200 + random.below(6000);
        to.resize(to.len() + length, random.next() as u8);
    } else {
        fill(random, to, 60);
    }
}

/// A whole frame. `depth`: how many it is in.
fn ethernet(random: &mut Random, depth: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    for _ in 0..2 {
        frame.extend_from_slice(&random.pick(&MACS).to_be_bytes()[2..]);
    }
    let tags = random.pick(&[0, 0, 0, 1, 1, 2]);
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
    let kinds = if depth == 0 { 22 } else { 18 };
    match random.below(kinds) {
        0 | 1 => arp(random, &mut frame),
        2 => {
            let kind: u16 = random.pick(&[0x88b5, 0x0020, 0x05ff, 0x88cc, 0xffff]);
            frame.extend_from_slice(&kind.to_be_bytes());
            fill(random, &mut frame, 50);
        }
        3..=9 => {
            frame.extend_from_slice(&[0x08, 0x00]);
            ip::ipv4(random, &mut frame);
        }
        10..=17 => {
            frame.extend_from_slice(&[0x86, 0xdd]);
            ipv6::ipv6(random, &mut frame);
        }
        18 | 19 => mpls(random, &mut frame, depth),
        _ => {
            frame.extend_from_slice(&[0x88, 0xe7, random.next() as u8]);
            frame.extend_from_slice(&random.pick(&SERVICES).to_be_bytes()[1..]);
            let inner = ethernet(random, depth + 1);
            frame.extend(inner);
        }
    }
    frame
}

fn mpls(random: &mut Random, frame: &mut Vec<u8>, depth: usize) {
    frame.extend_from_slice(&[0x88, random.pick(&[0x47, 0x47, 0x48])]);
    let entries = random.pick(&[1, 1, 2, 3, 8]);
    for i in 1..=entries {
        let bottom = (i == entries) != random.chance(5);
        let entry = random.pick(&LABELS) << 12
            | (random.below(8) as u32) << 9
            | u32::from(bottom) << 8
            | u32::from(random.pick(&TTLS));
        frame.extend_from_slice(&entry.to_be_bytes());
    }
    match random.below(8) {
        0 => fill(random, frame, 60),
        1 => {
            // A pseudo-wire: an Ethernet frame.
            let inner = ethernet(random, depth + 1);
            frame.extend(inner);
        }
        2..=4 => ipv6::ipv6(random, frame),
        _ => ip::ipv4(random, frame),
    }
}

fn arp(random: &mut Random, frame: &mut Vec<u8>) {
    frame.extend_from_slice(&[0x08, 0x06]);
    if random.chance(10) {
        // Of other hardware (InfiniBand, IEEE 1394), or of other addresses.
        let kind: [u8; 6] = random.pick(&[
            [0, 32, 8, 0, 20, 4],
            [0, 24, 8, 0, 8, 4],
            [0, 6, 8, 0, 6, 4],
            [0, 1, 0x86, 0xdd, 6, 16],
        ]);
        frame.extend_from_slice(&kind);
        fill(random, frame, 70);
        return;
    }
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1 + random.below(2) as u8]);
    for _ in 0..2 {
        frame.extend_from_slice(&random.pick(&MACS).to_be_bytes()[2..]);
        frame.extend_from_slice(&random.pick(&IPV4).to_be_bytes());
    }
}
