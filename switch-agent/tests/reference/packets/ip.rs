//! IPv4 (RFC 791), with options and fragments.

use super::super::random::Random;
use super::transport::{Over, transport};
use super::{DSCPS, IPV4, TTLS, checksum, payload};

/// Appends a packet.
pub fn ipv4(random: &mut Random, frame: &mut Vec<u8>) {
    let options = random.pick(&[0, 0, 0, 0, 4, 8, 40]);
    let protocol = random.pick(&[6, 6, 6, 17, 17, 17, 1, 1, 132, 132, 58, 47]);
    // Don't fragment; the first fragment; later ones.
    let fragment: u16 = random.pick(&[0, 0, 0, 0, 0x4000, 0x2000, 0x2005, 0x0005, 0x1fff]);
    let (source, destination) = (random.pick(&IPV4), random.pick(&IPV4));
    let mut bytes = Vec::new();
    if fragment & 0x1fff == 0 {
        let mut pseudo = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        pseudo.extend_from_slice(&[0, protocol]);
        bytes = transport(random, protocol, &pseudo, Over::Ipv4);
    } else {
        payload(random, &mut bytes);
    }
    let start = frame.len();
    let total = (20 + options + bytes.len()) as u16;
    let class = random.pick(&DSCPS) << 2 | random.below(4) as u8;
    frame.extend_from_slice(&[0x40 | (5 + options / 4) as u8, class]);
    frame.extend_from_slice(&total.to_be_bytes());
    frame.extend_from_slice(&[0x12, 0x34]);
    frame.extend_from_slice(&fragment.to_be_bytes());
    frame.extend_from_slice(&[random.pick(&TTLS), protocol, 0, 0]);
    frame.extend_from_slice(&source.to_be_bytes());
    frame.extend_from_slice(&destination.to_be_bytes());
    frame.extend(std::iter::repeat_n(1, options));
    let sum = checksum(&[&frame[start..]]);
    frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(bytes);
}
