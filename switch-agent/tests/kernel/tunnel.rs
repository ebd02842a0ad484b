//! Encapsulation and decapsulation byte by byte, and the rules on clock tags.

use super::{frames::*, world::*};
use switch_abi::*;

pub const HERE: [u8; 4] = [192, 0, 2, 1];
pub const THERE: [u8; 4] = [192, 0, 2, 2];
const THERE_6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// Outer Ethernet and IPv4 header as the agent's templates have them, with this total length.
pub fn outer_ipv4(source: [u8; 4], destination: [u8; 4], total: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet.extend(source);
    packet.extend(destination);
    let mut frame = ethernet(0x0800, &packet);
    let mut sum: u32 = frame[14..]
        .chunks(2)
        .map(|c| u16::from_be_bytes([c[0], c[1]]) as u32)
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!sum as u16).to_be_bytes());
    frame
}

fn outer_ipv6(payload: u16) -> Vec<u8> {
    let mut frame = ethernet(0x86dd, &[0x60, 0, 0, 0]);
    frame.extend(payload.to_be_bytes());
    frame.extend([17, 64]);
    frame.extend(THERE_6);
    frame.extend(V6_DST);
    frame
}

pub fn template(header: &[u8], ifindex: u32) -> PeerEntry {
    let mut variant = PeerHeader {
        ifindex,
        len: header.len() as u32 + 8,
        mtu: 1500,
        ..Default::default()
    };
    variant.bytes[..header.len()].copy_from_slice(header);
    variant.bytes[header.len() + 2..header.len() + 4].copy_from_slice(&TUNNEL_PORT.to_be_bytes());
    PeerEntry {
        host: 2,
        current: 1,
        variants: [PeerHeader::default(), variant],
        ..Default::default()
    }
}

/// UDP, Geneve and option.
fn geneve(
    source_port: [u8; 2],
    inner: usize,
    kind: u8,
    hops: u8,
    port: u32,
    clock: u32,
) -> Vec<u8> {
    let length = (8 + 28 + inner) as u16;
    let mut bytes = vec![source_port[0], source_port[1], 0x17, 0xc1];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 5, 0x40, 0x65, 0x58, 0x12, 0x34, 0x56, 0]);
    bytes.extend([0xff, 0x4c, 0x81, 4, OPTION_VERSION, kind, hops, 0]);
    bytes.extend(port.to_be_bytes());
    bytes.extend(clock.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// A tunnel frame from the other host.
pub fn arriving(inner: &[u8], kind: u8, hops: u8, port: u32, clock: u32) -> Vec<u8> {
    let outer = outer_ipv4(THERE, HERE, (20 + 8 + 28 + inner.len()) as u16);
    [
        &outer,
        &geneve([0xc1, 0x23], inner.len(), kind, hops, port, clock),
        inner,
    ]
    .concat()
}

/// Frames that the host sends to itself go to this device, and are taken for its own when they come back.
pub fn this_host(w: &mut World, ifindex: u32) {
    let header = outer_ipv4([127, 0, 0, 1], [127, 0, 0, 2], 0);
    w.peer(PEER_SELF, template(&header, ifindex));
    w.allow(&[127, 0, 0, 1], 0x123456, 1);
    w.recirculation(DEVICE);
}

/// Peer 2 over IPv4 and peer 3 over IPv6; ports 2 and 3 are on them.
pub fn world() -> World {
    let mut w = World::new();
    w.peer(2, template(&outer_ipv4(HERE, THERE, 0), 2));
    w.peer(3, template(&outer_ipv6(0), 2));
    for (slot, peer) in [(2, 2), (3, 3)] {
        w.port(
            slot,
            PortEntry {
                id: slot + 100,
                port_no: slot + 10,
                kind: PORT_REMOTE,
                peer,
                ..port()
            },
        );
    }
    w.local(4, 2);
    w.allow(&THERE, 0x123456, 1);
    w.allow(&THERE_6, 0x123456, 1);
    w
}

#[track_caller]
fn assert_encapsulated(
    frame: &[u8],
    outer: &[u8],
    kind: u8,
    hops: u8,
    port: u32,
    clock: u32,
    inner: &[u8],
) {
    let at = outer.len();
    assert_eq!(frame[..at], *outer, "outer headers");
    assert!(frame[at] >= 0xc0, "source port");
    let expected = geneve(
        [frame[at], frame[at + 1]],
        inner.len(),
        kind,
        hops,
        port,
        clock,
    );
    assert_eq!(frame[at..at + 36], expected, "UDP, Geneve and option");
    assert_eq!(frame[at + 36..], *inner, "inner frame");
}

#[test]
fn remote_ports_are_reached_over_ipv4_and_ipv6() {
    let mut w = world();
    let proto = key(|k| k.ip_proto = 0xff);
    w.rule(
        2,
        proto,
        key(|k| k.ip_proto = 17),
        &[act(op::SET_ETH_SRC, 0, 0, &[2; 6]), output(3)],
    );
    w.rule(
        1,
        any(),
        any(),
        &[act(op::SET_ETH_SRC, 0, 0, &[2; 6]), output(2)],
    );
    w.commit();
    for inner in [
        tcp4(b"hello"),
        arp(),
        udp4(b"hi"),
        udp6(&[7; 100]),
        tagged(&udp4(b"q"), 0x8100, 0x2064),
        ethernet(0x88cc, &[1; 40]),
    ] {
        let mut expected = inner.clone();
        expected[6..12].copy_from_slice(&[2; 6]);
        let (outer, rule) = if inner[23] == 17 || inner[20] == 17 || inner[27] == 17 {
            (outer_ipv6((36 + inner.len()) as u16), "rule 1")
        } else {
            (outer_ipv4(HERE, THERE, (56 + inner.len()) as u16), "rule 2")
        };
        let port = if rule == "rule 1" { 103 } else { 102 };
        for mode in BOTH {
            let outcome = w.run(mode, &inner);
            outcome.expect(Verdict::Redirect, &["rx 1", rule]);
            assert_encapsulated(
                &outcome.frame,
                &outer,
                TUNNEL_DELIVER,
                8,
                port,
                10,
                &expected,
            );
        }
    }
}

#[test]
fn a_tag_in_the_metadata_ends_up_inside_the_tunnel() {
    let mut w = world();
    let tag = [
        act(op::PUSH_VLAN, 0x8100, 0, &[]),
        act(op::SET_VLAN_VID, 77, 0, &[]),
    ];
    w.rule(1, any(), any(), &[&tag[..], &[output(2)]].concat());
    w.commit();
    for inner in [udp4(b"hello"), arp()] {
        let outer = outer_ipv4(HERE, THERE, (60 + inner.len()) as u16);
        for mode in BOTH {
            let outcome = w.run(mode, &inner);
            outcome.expect(Verdict::Redirect, &["rx 1", "rule 1"]);
            assert_encapsulated(
                &outcome.frame,
                &outer,
                TUNNEL_DELIVER,
                8,
                102,
                10,
                &tagged(&inner, 0x8100, 77),
            );
        }
    }
}

#[test]
fn copies_for_other_hosts_leave_the_packet_as_it_was() {
    let mut w = world();
    let tap = Tap::new("under");
    w.peer(2, template(&outer_ipv4(HERE, THERE, 0), tap.ifindex));
    w.peer(3, template(&outer_ipv6(0), tap.ifindex));
    w.local(4, tap.ifindex);
    let set = act(op::SET_ETH_SRC, 0, 0, &[2; 6]);
    w.rule(
        1,
        any(),
        any(),
        &[output(2), output(3), output(4), output(2), set, output(4)],
    );
    w.commit();
    for inner in [
        udp4(b"hello"),
        arp(),
        ethernet(0x88cc, &[1; 40]),
        udp6(b"six"),
    ] {
        let outcome = w.run(Mode::Tc, &inner);
        outcome.expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 4=2"]);
        let frames = tap.frames(4);
        let v4 = outer_ipv4(HERE, THERE, (56 + inner.len()) as u16);
        assert_encapsulated(&frames[0], &v4, TUNNEL_DELIVER, 8, 102, 10, &inner);
        assert_encapsulated(
            &frames[1],
            &outer_ipv6((36 + inner.len()) as u16),
            TUNNEL_DELIVER,
            8,
            103,
            10,
            &inner,
        );
        assert_eq!(frames[2], inner);
        assert_encapsulated(&frames[3], &v4, TUNNEL_DELIVER, 8, 102, 10, &inner);
        let mut last = inner.clone();
        last[6..12].copy_from_slice(&[2; 6]);
        assert_eq!(outcome.frame, last);
    }
}

#[test]
fn a_frame_to_deliver_goes_out_by_its_port() {
    let mut w = world();
    for inner in [udp4(b"deliver"), arp(), udp6(b"deliver")] {
        for mode in BOTH {
            let outcome = w.receive(mode, &arriving(&inner, TUNNEL_DELIVER, 8, 104, 10));
            outcome.expect(Verdict::Redirect, &["tx 4"]);
            assert_eq!(outcome.frame, inner);
            assert_eq!(outcome.moved["tx 4 bytes"], inner.len() as u64);
        }
    }
    let over_ipv6 = [
        outer_ipv6(36 + 42),
        geneve([1, 1], 42, TUNNEL_DELIVER, 8, 104, 10),
        arp(),
    ]
    .concat();
    for mode in BOTH {
        let outcome = w.receive(mode, &over_ipv6);
        outcome.expect(Verdict::Redirect, &["tx 4"]);
        assert_eq!(outcome.frame, arp());
    }
}

#[test]
fn a_frame_to_process_enters_at_its_port() {
    let mut w = world();
    let in_port = key(|k| (k.in_port, k.l4_dst) = (u32::MAX, [0xff; 2]));
    w.rule(
        1,
        in_port,
        key(|k| (k.in_port, k.l4_dst) = (12, [0, 53])),
        &[act(op::SET_IPV4_DST, 0, 0, &[9; 4]), output(4)],
    );
    w.commit();
    for tag in [false, true] {
        for mode in BOTH {
            let inner = if tag {
                tagged(&udp4(b"process"), 0x8100, 5)
            } else {
                udp4(b"process")
            };
            let outcome = w.receive(mode, &arriving(&inner, TUNNEL_PROCESS, 8, 102, 10));
            outcome.expect(Verdict::Redirect, &["rx 2", "rule 1", "tx 4"]);
            assert_eq!(outcome.moved["rx 2 bytes"], inner.len() as u64);
            if mode == Mode::Xdp || !tag {
                let at = if tag { 34 } else { 30 };
                assert_eq!(outcome.frame[at..at + 4], [9; 4]);
                assert_checksums(&outcome.frame, false);
            }
        }
    }
}

#[test]
fn a_port_that_moved_on_is_followed_with_the_same_tag_and_one_hop_less() {
    let mut w = world();
    for inner in [udp4(b"moved"), arp()] {
        for mode in BOTH {
            let outcome = w.receive(mode, &arriving(&inner, TUNNEL_DELIVER, 5, 102, 3));
            outcome.expect(Verdict::Redirect, &[]);
            let outer = outer_ipv4(HERE, THERE, (56 + inner.len()) as u16);
            assert_encapsulated(&outcome.frame, &outer, TUNNEL_DELIVER, 4, 102, 3, &inner);
        }
    }
    for mode in BOTH {
        w.receive(mode, &arriving(&arp(), TUNNEL_DELIVER, 0, 102, 3))
            .expect(Verdict::Drop, &["hop-limit 2"]);
        w.receive(mode, &arriving(&arp(), TUNNEL_DELIVER, 1, 102, 3))
            .expect(Verdict::Drop, &["hop-limit 2"]);
    }
}

#[test]
fn a_switch_without_an_instance_here_is_relayed_unprocessed() {
    let mut w = world();
    let relay = SwitchEntry {
        id: 5,
        network: 1,
        state: SWITCH_RELAY,
        relay_peer: 2,
        ..Default::default()
    };
    let joining = SwitchEntry {
        state: SWITCH_ACTIVE,
        join_epoch: 11,
        ..relay
    };
    let retired = SwitchEntry {
        state: SWITCH_ACTIVE,
        join_epoch: 1,
        retire_epoch: 10,
        ..relay
    };
    w.rule(1, any(), any(), &[output(4)]);
    w.commit();
    for switch in [relay, joining, retired] {
        w.switch(1, switch);
        for inner in [udp4(b"relay"), arp(), tagged(&udp4(b"t"), 0x8100, 9)] {
            for mode in BOTH {
                let outcome = w.run(mode, &inner);
                outcome.expect(Verdict::Redirect, &[]);
                let outer = outer_ipv4(HERE, THERE, (56 + inner.len()) as u16);
                assert_encapsulated(&outcome.frame, &outer, TUNNEL_PROCESS, 8, 101, 10, &inner);
                // And on, when it came by tunnel itself.
                let outcome = w.receive(mode, &arriving(&inner, TUNNEL_PROCESS, 8, 101, 9));
                outcome.expect(Verdict::Redirect, &[]);
                assert_encapsulated(&outcome.frame, &outer, TUNNEL_PROCESS, 7, 101, 10, &inner);
            }
        }
    }
    w.switch(
        1,
        SwitchEntry {
            join_epoch: 10,
            ..joining
        },
    );
    for mode in BOTH {
        w.run(mode, &arp())
            .expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 4"]);
    }
}

#[test]
fn rule_20_an_active_instance_relays_unprocessed_on_a_detour() {
    let mut w = world();
    let active = SwitchEntry {
        id: 5,
        network: 1,
        state: SWITCH_ACTIVE,
        join_epoch: 1,
        ..Default::default()
    };
    let detour = SwitchEntry {
        detour: 2,
        detour_epoch: 11,
        ..active
    };
    w.rule(1, any(), any(), &[output(4)]);
    w.commit();
    for mode in BOTH {
        w.switch(1, detour);
        for inner in [udp4(b"detour"), arp()] {
            let outer = outer_ipv4(HERE, THERE, (56 + inner.len()) as u16);
            let outcome = w.run(mode, &inner);
            outcome.expect(Verdict::Redirect, &[]);
            assert_encapsulated(&outcome.frame, &outer, TUNNEL_PROCESS, 8, 101, 10, &inner);
            // Who has no instance at all, and knows only of this one.
            let outcome = w.receive(mode, &arriving(&inner, TUNNEL_PROCESS, 8, 101, 9));
            outcome.expect(Verdict::Redirect, &[]);
            assert_encapsulated(&outcome.frame, &outer, TUNNEL_PROCESS, 7, 101, 10, &inner);
        }
        w.switch(1, active);
        w.run(mode, &arp())
            .expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 4"]);
    }
}

#[test]
fn a_link_to_a_switch_elsewhere_or_beside_other_outputs_is_tunnelled() {
    let mut w = world();
    let tap = Tap::new("recirc");
    w.peer(
        PEER_SELF,
        template(&outer_ipv4([127, 0, 0, 1], [127, 0, 0, 2], 0), tap.ifindex),
    );
    w.switch(
        2,
        SwitchEntry {
            id: 6,
            network: 1,
            state: SWITCH_RELAY,
            relay_peer: 2,
            ..Default::default()
        },
    );
    w.instance(3, 7);
    for (slot, switch, link) in [(5, 1, 6), (6, 2, 5), (7, 1, 8), (8, 3, 7)] {
        w.port(
            slot,
            PortEntry {
                id: 100 + slot,
                port_no: slot,
                switch_slot: switch,
                kind: PORT_LINK,
                link,
                ..port()
            },
        );
    }
    let proto = key(|k| k.ip_proto = 0xff);
    w.rule(2, proto, key(|k| k.ip_proto = 17), &[output(7), output(4)]);
    w.rule(1, any(), any(), &[output(5)]);
    w.commit();
    let outer = outer_ipv4(HERE, THERE, (56 + 42) as u16);
    for mode in BOTH {
        let outcome = w.run(mode, &arp());
        outcome.expect(Verdict::Redirect, &["rx 1", "rule 2", "tx 5"]);
        assert_encapsulated(&outcome.frame, &outer, TUNNEL_PROCESS, 8, 106, 10, &arp());
    }
    w.run(Mode::Xdp, &udp4(b"copy")).expect(Verdict::Pass, &[]);
    let outcome = w.run(Mode::Tc, &udp4(b"copy"));
    outcome.expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 7", "tx 4"]);
    assert_eq!(outcome.frame, udp4(b"copy"));
    let copy = &tap.frames(1)[0];
    let outer = outer_ipv4(
        [127, 0, 0, 1],
        [127, 0, 0, 2],
        (56 + udp4(b"copy").len()) as u16,
    );
    assert_encapsulated(copy, &outer, TUNNEL_PROCESS, 8, 108, 10, &udp4(b"copy"));
}

/// Consistency rules 2, 3 and 6.
#[test]
fn tags_raise_the_clock_up_to_what_is_staged_and_no_further() {
    let mut w = world();
    let frame = |clock| arriving(&arp(), TUNNEL_DELIVER, 8, 104, clock);
    for mode in BOTH {
        for (clock, tag, after, drop) in [
            (10, 10, 10, None),
            (10, 3, 10, None),
            (10, 15, 15, None),
            (10, 20, 20, None),
            (10, 21, 10, Some("tag-ahead 0")),
            (10, 20 + (1 << 31) - 1, 10, Some("tag-ahead 0")),
            (10, 0, 10, Some("tag-stale 0")),
            (10, 10u32.wrapping_sub(1 << 30), 10, None),
            (
                10,
                10u32.wrapping_sub((1 << 30) + 1),
                10,
                Some("tag-stale 0"),
            ),
            (u32::MAX, 5, 5, None),
        ] {
            w.network(
                1,
                NetworkEntry {
                    id: 7,
                    vni: 0x123456,
                    clock,
                    staged: 20,
                    ..Default::default()
                },
            );
            let outcome = w.receive(mode, &frame(tag));
            match drop {
                None => outcome.expect(Verdict::Redirect, &["tx 4"]),
                Some(reason) => outcome.expect(Verdict::Drop, &[reason]),
            }
            assert_eq!(w.clock(), after, "clock {clock}, tag {tag}");
        }
        let flags = NETWORK_UNTAGGED;
        w.network(
            1,
            NetworkEntry {
                id: 7,
                vni: 0x123456,
                clock: 10,
                staged: 20,
                flags,
                ..Default::default()
            },
        );
        w.receive(mode, &frame(500))
            .expect(Verdict::Redirect, &["tx 4"]);
        assert_eq!(w.clock(), 10, "an untagged network's clock");
    }
}

#[test]
fn what_is_no_tunnel_frame_is_left_to_the_host_and_what_is_wrong_is_dropped() {
    let mut w = world();
    let good = arriving(&arp(), TUNNEL_DELIVER, 8, 104, 10);
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    let cases: [(&str, Vec<u8>, Verdict, &[&str]); 17] = [
        ("ARP", arp(), Verdict::Pass, &[]),
        ("another UDP port", with(37, 0xc0), Verdict::Pass, &[]),
        ("TCP", with(23, 6), Verdict::Pass, &[]),
        ("a fragment", with(20, 0x20), Verdict::Pass, &[]),
        ("outer IP options", with(14, 0x46), Verdict::Pass, &[]),
        (
            "unknown sender",
            with(29, 9),
            Verdict::Drop,
            &["unknown-peer 0"],
        ),
        (
            "unknown VNI",
            with(48, 9),
            Verdict::Drop,
            &["unknown-peer 0"],
        ),
        (
            "Geneve version",
            with(42, 0x45),
            Verdict::Drop,
            &["bad-tunnel-option 0"],
        ),
        (
            "control frame",
            with(43, 0xc0),
            Verdict::Drop,
            &["bad-tunnel-option 0"],
        ),
        (
            "protocol",
            with(44, 0x08),
            Verdict::Drop,
            &["bad-tunnel-option 0"],
        ),
        (
            "option class",
            with(51, 0),
            Verdict::Drop,
            &["bad-tunnel-option 0"],
        ),
        (
            "option type",
            with(52, 1),
            Verdict::Drop,
            &["bad-tunnel-option 0"],
        ),
        (
            "option version",
            with(54, 2),
            Verdict::Drop,
            &["bad-tunnel-option 0"],
        ),
        ("kind", with(55, 3), Verdict::Drop, &["bad-tunnel-option 0"]),
        (
            "unknown port",
            with(61, 200),
            Verdict::Drop,
            &["unknown-port 0"],
        ),
        (
            "cut off in the option",
            good[..60].to_vec(),
            Verdict::Drop,
            &["bad-tunnel-option 0"],
        ),
        (
            "no inner frame",
            good[..70].to_vec(),
            Verdict::Drop,
            &["malformed 4"],
        ),
    ];
    for (name, frame, verdict, moved) in cases {
        for mode in BOTH {
            println!("{name} {mode:?}");
            w.receive(mode, &frame).expect(verdict, moved);
        }
    }
}

#[test]
fn this_hosts_own_address_counts_only_on_the_recirculation_device() {
    let mut w = world();
    w.allow(&[127, 0, 0, 1], 0x123456, 1);
    let outer = outer_ipv4([127, 0, 0, 1], [127, 0, 0, 2], 56 + 42);
    let frame = [outer, geneve([1, 1], 42, TUNNEL_DELIVER, 8, 104, 10), arp()].concat();
    w.recirculation(99);
    for mode in BOTH {
        w.receive(mode, &frame)
            .expect(Verdict::Drop, &["unknown-peer 0"]);
    }
    w.recirculation(DEVICE);
    for mode in BOTH {
        w.receive(mode, &frame).expect(Verdict::Redirect, &["tx 4"]);
    }
}

#[test]
fn two_tags_end_up_inside_the_tunnel_and_come_out_again() {
    let mut w = world();
    let tap = Tap::new("tags");
    w.peer(3, template(&outer_ipv6(0), tap.ifindex));
    let tag = [
        act(op::PUSH_VLAN, 0x88a8, 0, &[]),
        act(op::SET_VLAN_VID, 77, 0, &[]),
    ];
    let arp_only = key(|k| k.eth_type = [0xff; 2]);
    w.rule(
        2,
        arp_only,
        key(|k| k.eth_type = [8, 6]),
        &[&tag[..], &[output(3), output(2)]].concat(),
    );
    w.rule(1, any(), any(), &[&tag[..], &[output(2)]].concat());
    w.commit();
    let frame = tagged(&udp4(b"double"), 0x8100, 0x2005);
    let double = tagged(&frame, 0x88a8, 0x204d);
    let outer = outer_ipv4(HERE, THERE, (56 + double.len()) as u16);
    for mode in BOTH {
        let outcome = w.run(mode, &frame);
        outcome.expect(Verdict::Redirect, &["rx 1", "rule 2"]);
        assert_encapsulated(&outcome.frame, &outer, TUNNEL_DELIVER, 8, 102, 10, &double);
        // Delivered: XDP shows the tags, TC has the outer one in the metadata.
        let outcome = w.receive(mode, &arriving(&double, TUNNEL_DELIVER, 8, 104, 10));
        outcome.expect(Verdict::Redirect, &["tx 4"]);
        assert_eq!(
            outcome.frame,
            if mode == Mode::Xdp {
                &double[..]
            } else {
                &frame[..]
            }
        );
        assert_eq!(outcome.moved["tx 4 bytes"], double.len() as u64);
        // Forwarded to where the port is now.
        let outcome = w.receive(mode, &arriving(&double, TUNNEL_DELIVER, 8, 102, 10));
        assert_encapsulated(&outcome.frame, &outer, TUNNEL_DELIVER, 7, 102, 10, &double);
    }
    // A copy, then the packet itself.
    let frame = tagged(&arp(), 0x8100, 0x2005);
    let double = tagged(&frame, 0x88a8, 0x204d);
    let outcome = w.run(Mode::Tc, &frame);
    outcome.expect(Verdict::Redirect, &["rx 1", "rule 1"]);
    let outer = outer_ipv4(HERE, THERE, (56 + double.len()) as u16);
    assert_encapsulated(&outcome.frame, &outer, TUNNEL_DELIVER, 8, 102, 10, &double);
    let outer = outer_ipv6((36 + double.len()) as u16);
    assert_encapsulated(
        &tap.frames(1)[0],
        &outer,
        TUNNEL_DELIVER,
        8,
        103,
        10,
        &double,
    );
}

/// Rule 17: behind the deadline nothing is processed, whether remembered or not, come in by a port or a tunnel. What others have processed
/// is delivered.
#[test]
fn rule_17_nothing_is_processed_after_the_lease() {
    for mode in [Mode::Xdp, Mode::Tc] {
        let mut w = world();
        w.rule(1, any(), any(), &[output(2)]);
        w.commit();
        let network: NetworkEntry = w.get(maps::NETWORKS, 1);
        let until = |lease| NetworkEntry { lease, ..network };
        let process = arriving(&udp4(b"x"), TUNNEL_PROCESS, 8, 101, 10);
        for (lease, over) in [(0, false), (u64::MAX, false), (1, true)] {
            w.store(maps::NETWORKS, 1, until(lease));
            for _ in 0..3 {
                let by_port = w.run(mode, &udp4(b"x"));
                if over {
                    by_port.expect(Verdict::Drop, &["lease-over 1"]);
                } else {
                    assert_eq!(
                        by_port.verdict,
                        Verdict::Redirect,
                        "{mode:?} {lease} {:?}",
                        by_port.moved
                    );
                }
            }
            if over {
                w.receive(mode, &process)
                    .expect(Verdict::Drop, &["lease-over 1"]);
            }
        }
    }
}
