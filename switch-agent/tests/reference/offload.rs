//! Packets as local stacks give them to the data path, with partial checksums and to be segmented: what leaves is what the reference makes of
//! the segments, with right checksums.

use lime_core::PortId;
use lime_reference::Outcome;

use super::bed::Bed;
use super::packets::{DSCPS, IPV4, IPV6, MACS, PORTS, VIDS, checksum};
use super::random::Random;
use super::scenario::{LOCAL, hex};
use super::{generate, setting};

/// `struct virtio_net_hdr` (Virtual I/O Device 1.2, 5.1.6): flags, kind, length of headers, size of segments, start and offset of the checksum.
pub type Header = [u8; 10];

const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const FIN: u8 = 1;
const PSH: u8 = 8;

/// A packet of TCP or UDP but for its payload.
#[derive(Clone)]
struct Flow {
    ethernet: Vec<u8>,
    v6: bool,
    udp: bool,
    class: u8,
    source: u128,
    destination: u128,
    ports: [u16; 2],
}

impl Flow {
    fn random(random: &mut Random) -> Self {
        let mut ethernet = Vec::new();
        for _ in 0..2 {
            ethernet.extend_from_slice(&random.pick(&MACS).to_be_bytes()[2..]);
        }
        if random.chance(30) {
            ethernet.extend_from_slice(&[0x81, 0]);
            ethernet.extend_from_slice(&random.pick(&VIDS).to_be_bytes());
        }
        let v6 = random.chance(50);
        let mut address = || match v6 {
            true => random.pick(&IPV6),
            false => random.pick(&IPV4).into(),
        };
        let (source, destination) = (address(), address());
        ethernet.extend_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
        Self {
            ethernet,
            v6,
            udp: random.chance(40),
            class: random.pick(&DSCPS) << 2,
            source,
            destination,
            ports: [random.pick(&PORTS), random.pick(&PORTS)],
        }
    }

    /// Offset of the L4 header, its length, and the offset of its checksum.
    fn layout(&self) -> (usize, usize, usize) {
        let start = self.ethernet.len() + if self.v6 { 40 } else { 20 };
        if self.udp {
            (start, 8, 6)
        } else {
            (start, 20, 16)
        }
    }

    /// The segment that starts `offset` bytes into the payload, and the sum of its pseudo-header.
    fn segment(&self, number: u16, offset: usize, flags: u8, payload: &[u8]) -> (Vec<u8>, u16) {
        let (_, header, field) = self.layout();
        let length = (header + payload.len()) as u16;
        let mut l4 = self.ports.map(u16::to_be_bytes).concat();
        if self.udp {
            l4.extend_from_slice(&length.to_be_bytes());
            l4.extend_from_slice(&[0, 0]);
        } else {
            l4.extend_from_slice(&(1 + offset as u32).to_be_bytes());
            l4.extend_from_slice(&[0, 0, 0, 2, 0x50, 0x10 | flags, 0x10, 0, 0, 0, 0, 0]);
        }
        l4.extend_from_slice(payload);
        let protocol = if self.udp { 17 } else { 6 };
        let (source, destination) = (self.source.to_be_bytes(), self.destination.to_be_bytes());
        let from = if self.v6 { 0 } else { 12 };
        let mut pseudo = [&source[from..], &destination[from..], &[0, protocol]].concat();
        pseudo.extend_from_slice(&length.to_be_bytes());
        let sum = match checksum(&[&pseudo, &l4]) {
            0 if self.udp => 0xffff,
            sum => sum,
        };
        l4[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        let mut ip = if self.v6 {
            let mut ip = vec![0x60 | self.class >> 4, self.class << 4, 0, 0];
            ip.extend_from_slice(&length.to_be_bytes());
            ip.extend_from_slice(&[protocol, 64]);
            ip
        } else {
            let mut ip = vec![0x45, self.class];
            ip.extend_from_slice(&(20 + length).to_be_bytes());
            ip.extend_from_slice(&(0x1234 + number).to_be_bytes());
            ip.extend_from_slice(&[0, 0, 64, protocol, 0, 0]);
            ip
        };
        ip.extend_from_slice(&source[from..]);
        ip.extend_from_slice(&destination[from..]);
        if !self.v6 {
            let sum = checksum(&[&ip]).to_be_bytes();
            ip[10..12].copy_from_slice(&sum);
        }
        (
            [&self.ethernet[..], &ip, &l4].concat(),
            !checksum(&[&pseudo]),
        )
    }
}

/// What goes into the device, and the same packets as they would have come over a wire.
struct Offloaded {
    header: Header,
    frame: Vec<u8>,
    segments: Vec<Vec<u8>>,
}

fn offloaded(random: &mut Random, flow: &Flow) -> Offloaded {
    let (start, header, field) = flow.layout();
    let size = random.pick(&[100, 536, 1200]);
    let whole = random.chance(40);
    let length = match whole {
        true => 1 + random.below(1300),
        false => size + 1 + random.below(4 * size),
    };
    let payload: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
    let flags = random.pick(&[0, PSH, FIN | PSH]);
    let parts: Vec<&[u8]> = match whole {
        true => vec![&payload],
        false => payload.chunks(size).collect(),
    };
    let last = parts.len() - 1;
    let segments = parts.iter().enumerate().map(|(i, part)| {
        // What is said at the end is said by the last one.
        let flags = if i == last { flags } else { 0 };
        flow.segment(i as u16, i * size, flags, part).0
    });
    let segments = segments.collect();
    let (mut frame, pseudo) = flow.segment(0, 0, flags, &payload);
    // The device is to complete the sum.
    frame[start + field..start + field + 2].copy_from_slice(&pseudo.to_be_bytes());
    let kind = match (whole, flow.udp, flow.v6) {
        (true, ..) => 0,
        (_, true, _) => GSO_UDP_L4,
        (_, _, false) => GSO_TCPV4,
        (_, _, true) => GSO_TCPV6,
    };
    let words = [
        if whole { 0 } else { start + header },
        if whole { 0 } else { size },
        start,
        field,
    ];
    let mut out = [NEEDS_CSUM, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    for (to, word) in out[2..].chunks_mut(2).zip(words) {
        to.copy_from_slice(&(word as u16).to_ne_bytes());
    }
    Offloaded {
        header: out,
        frame,
        segments,
    }
}

/// By TC: XDP sees packets before there is anything to be completed (a device in XDP mode has these offloads switched off).
#[test]
fn what_leaves_is_segmented_and_summed() {
    let mut bed = Bed::with_offloads();
    let first = setting("LIME_SEED", 1);
    let (mut packets, mut left) = (0, 0);
    for seed in first..first + setting("LIME_OFFLOADS", 60) {
        let mut random = Random::new(seed);
        let flows: Vec<Flow> = (0..10).map(|_| Flow::random(&mut random)).collect();
        let samples: Vec<Vec<u8>> = flows
            .iter()
            .map(|f| f.segment(0, 0, 0, b"sample").0)
            .collect();
        let mut scenario = generate::network(&mut random, &samples);
        for port in &mut scenario.ports {
            // MTUs are about segments; of what is not segmented yet, they are not asked.
            port.mtu = 0;
        }
        let world = scenario.world(None);
        bed.prepare(&scenario);
        for _ in 0..25 {
            let flow = &flows[random.below(flows.len())];
            let packet = offloaded(&mut random, flow);
            let port = random.pick(&LOCAL);
            let outcomes: Vec<_> = packet
                .segments
                .iter()
                .map(|s| world.receive(port, s))
                .collect();
            let tags = |o: &Outcome| o.tags_tunnelled.last().copied().unwrap_or(0);
            if outcomes.iter().any(|o| o.incomplete || tags(o) > 2) {
                continue;
            }
            if packet.segments.len() > 1 && outcomes.iter().any(|o| o.tags_tunnelled.len() > 1) {
                // Where the inner frame begins is said of a buffer once: copies with other tags are dropped.
                continue;
            }
            let tunnelled = outcomes.iter().any(|o| o.tunnelled > 0);
            if flow.udp && packet.segments.len() > 1 && tunnelled {
                // Linux does not segment UDP any more that has been in a tunnel's headers, as for a copy to another host: what leaves by devices
                // after that is lost. (The buffer is marked as encapsulated, and no helper takes that back.)
                continue;
            }
            let relabelled = outcomes.iter().map(|o| o.relabelled).max().unwrap_or(0);
            if packet.segments.len() > 1 && (relabelled > 1 || relabelled > 0 && tunnelled) {
                // Labels of what is to be segmented are part of its link-layer header: they do not go into a tunnel, and are not popped.
                continue;
            }
            let mut expected: Vec<(PortId, Vec<u8>)> = outcomes
                .into_iter()
                .flat_map(|o| o.sent)
                .map(|s| (s.port, s.frame))
                .collect();
            let observed = bed.receive_offloaded(port, &packet.header, &packet.frame);
            let frames = observed.sent.into_iter().map(|s| (s.port, s.frame));
            let mut found: Vec<(PortId, Vec<u8>)> = frames.collect();
            packets += 1;
            left += expected.len();
            expected.sort();
            found.sort();
            assert!(
                expected == found,
                "LIME_SEED={seed}: {} segments came in at port {port}: {} {}\n{scenario}reference: {}\nkernel: {}\n{:?}",
                packet.segments.len(),
                hex(&packet.header),
                hex(&packet.frame),
                list(&expected),
                list(&found),
                observed.ports
            );
        }
    }
    println!("{packets} packets came in, {left} left");
    assert!(left > packets / 4, "most of them were dropped");
}

fn list(frames: &[(PortId, Vec<u8>)]) -> String {
    frames
        .iter()
        .map(|(port, f)| format!("\n  {port}: {}", hex(f)))
        .collect()
}
