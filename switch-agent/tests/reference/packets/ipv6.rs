//! IPv6 (RFC 8200), with extension headers that are as they should be, and others.

use super::super::random::Random;
use super::transport::{Over, transport};
use super::{DSCPS, FLOW_LABELS, IPV6, TTLS, payload};

const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;

/// Appends a packet.
pub fn ipv6(random: &mut Random, frame: &mut Vec<u8>) {
    let protocol = random.pick(&[6, 6, 6, 17, 17, 17, 58, 58, 58, 58, 132, 132, 1, 50, 59]);
    let (source, destination) = (random.pick(&IPV6), random.pick(&IPV6));
    let (extensions, later) = if random.chance(40) {
        extensions(random)
    } else {
        (vec![], false)
    };
    let mut bytes = Vec::new();
    if later {
        payload(random, &mut bytes);
    } else {
        let mut pseudo = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        pseudo.extend_from_slice(&[0, protocol]);
        bytes = transport(random, protocol, &pseudo, Over::Ipv6);
    }
    let mut numbers: Vec<u8> = extensions.iter().map(|e| e.0).collect();
    numbers.push(protocol);
    let class = random.pick(&DSCPS) << 2 | random.below(4) as u8;
    let [_, l0, l1, l2] = random.pick(&FLOW_LABELS).to_be_bytes();
    let length = bytes.len() + extensions.iter().map(|e| e.1.len() + 1).sum::<usize>();
    frame.extend_from_slice(&[0x60 | class >> 4, class << 4 | l0, l1, l2]);
    frame.extend_from_slice(&(length as u16).to_be_bytes());
    frame.extend_from_slice(&[numbers[0], random.pick(&TTLS)]);
    frame.extend_from_slice(&source.to_be_bytes());
    frame.extend_from_slice(&destination.to_be_bytes());
    for (i, (_, body)) in extensions.iter().enumerate() {
        frame.push(numbers[i + 1]);
        frame.extend_from_slice(body);
    }
    frame.extend(bytes);
}

/// Headers (each one's number, and what is behind the next one's number), and whether the packet is a later fragment.
fn extensions(random: &mut Random) -> (Vec<(u8, Vec<u8>)>, bool) {
    let mut numbers: Vec<u8> = if random.chance(50) {
        // As RFC 8200, 4.1, has them.
        [0, 60, 43, FRAGMENT, AUTHENTICATION, 60]
            .into_iter()
            .filter(|_| random.chance(40))
            .collect()
    } else {
        let count = random.pick(&[1, 1, 2, 2, 3, 4, 6, 7]);
        (0..count)
            .map(|_| random.pick(&[0, 43, FRAGMENT, AUTHENTICATION, 60, 60]))
            .collect()
    };
    let fragmented = random.chance(50);
    numbers.retain(|&n| n != FRAGMENT || fragmented);
    let mut later = false;
    let bodies = numbers.iter().map(|&number| {
        let mut body = vec![0; 7];
        match number {
            FRAGMENT => {
                let field: u16 = random.pick(&[0, 1, 8 << 3 | 1, 16 << 3]);
                body[1..3].copy_from_slice(&field.to_be_bytes());
                later |= field & 0xfff8 != 0;
            }
            AUTHENTICATION => {
                body[0] = random.pick(&[4, 4, 1, 6]);
                body.resize(usize::from(body[0]) * 4 + 7, 7);
            }
            _ => {
                // At times longer than anybody looks.
                body[0] = if random.chance(1) {
                    255
                } else {
                    random.pick(&[0, 1, 2, 9])
                };
                body.resize(usize::from(body[0]) * 8 + 7, 1);
                // Segments left: none.
                body[2] = 0;
            }
        }
        body
    });
    let bodies: Vec<Vec<u8>> = bodies.collect();
    (numbers.into_iter().zip(bodies).collect(), later)
}
