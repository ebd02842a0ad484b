//! Each field of the key, found by matching it alone; and headers that are missing or cut off.

use super::{frames::*, world::*};
use switch_abi::*;

/// What the parser makes of a frame: rules that match exactly `expected` in every byte, or nothing.
#[track_caller]
fn assert_key(w: &mut World, name: &str, frame: &[u8], expected: FlowKey) {
    w.reset();
    let all = FlowKey::from_words([u64::MAX; KEY_WORDS]);
    let expected = FlowKey {
        in_port: 11,
        in_phy_port: 11,
        eth_dst: MAC_B,
        eth_src: MAC_A,
        ..expected
    };
    w.rule(1, all, expected, &[]);
    w.commit();
    for mode in BOTH {
        println!("{name} {mode:?}");
        let outcome = w.run(mode, frame);
        if outcome.moved.contains_key("table-miss 1") {
            panic!(
                "{name} {mode:?}: the key is not {expected:?} but differs at bytes {:?}",
                differing(w, mode, frame, expected)
            );
        }
        outcome.expect(Verdict::Drop, &["rx 1", "rule 1", "rule-drop 1"]);
    }
}

/// The bytes of the key that differ: for the message of a failed test.
fn differing(w: &mut World, mode: Mode, frame: &[u8], expected: FlowKey) -> Vec<usize> {
    (0..KEY_WORDS * 8)
        .filter(|byte| {
            w.reset();
            let mut words = [0u64; KEY_WORDS];
            words[byte / 8] = 0xff << (byte % 8 * 8);
            w.rule(1, FlowKey::from_words(words), expected, &[]);
            w.commit();
            !w.run(mode, frame).moved.contains_key("rule 1")
        })
        .collect()
}

fn v4() -> FlowKey {
    key(|k| {
        k.eth_type = [8, 0];
        k.ip_tos = 0x2c;
        k.ip_src[..4].copy_from_slice(&[10, 0, 0, 1]);
        k.ip_dst[..4].copy_from_slice(&[10, 0, 0, 2]);
    })
}

fn extended(key: FlowKey, headers: u16) -> FlowKey {
    FlowKey {
        ipv6_exthdr: headers.to_be_bytes(),
        ..key
    }
}

fn v6() -> FlowKey {
    key(|k| {
        (k.eth_type, k.ip_tos, k.ip_src, k.ip_dst) = ([0x86, 0xdd], 0xab, V6_SRC, V6_DST);
        k.ipv6_flabel = [0, 0, 0, 1];
    })
}

#[test]
fn headers() {
    let mut w = World::new();
    let udp_key = FlowKey {
        ip_proto: 17,
        l4_src: [4, 0xd2],
        l4_dst: [0, 53],
        ..v4()
    };
    let tcp_key = FlowKey {
        ip_proto: 6,
        l4_src: [4, 0xd2],
        l4_dst: [0, 80],
        ..v4()
    };
    let sctp = [&[4, 0xd2, 0, 99][..], &[0; 8]].concat();
    let cases = [
        ("udp", udp4(b"x"), udp_key),
        ("tcp", tcp4(b"x"), tcp_key),
        (
            "IP options",
            ethernet(0x0800, &ipv4(6, 0, &[1; 40], &tcp(b""))),
            tcp_key,
        ),
        (
            "sctp",
            ethernet(0x0800, &ipv4(132, 0, &[], &sctp)),
            FlowKey {
                ip_proto: 132,
                l4_src: [4, 0xd2],
                l4_dst: [0, 99],
                ..v4()
            },
        ),
        (
            "icmp",
            ethernet(0x0800, &ipv4(1, 0, &[], &[3, 4, 0, 0, 0, 0, 0, 0])),
            FlowKey {
                ip_proto: 1,
                l4_src: [0, 3],
                l4_dst: [0, 4],
                ..v4()
            },
        ),
        (
            "another protocol",
            ethernet(0x0800, &ipv4(47, 0, &[], &[1; 20])),
            FlowKey {
                ip_proto: 47,
                ..v4()
            },
        ),
        (
            "a tag",
            tagged(&udp4(b"x"), 0x8100, 0x7abc),
            FlowKey {
                vlan_tci: [0x7a, 0xbc],
                ..udp_key
            },
        ),
        (
            "a service tag",
            tagged(&udp4(b"x"), 0x88a8, 0x0001),
            FlowKey {
                vlan_tci: [0x10, 0x01],
                ..udp_key
            },
        ),
        (
            "two tags",
            tagged(&tagged(&udp4(b"x"), 0x8100, 2), 0x8100, 1),
            FlowKey {
                vlan_tci: [0x10, 0x01],
                ..udp_key
            },
        ),
        (
            "three tags",
            tagged(
                &tagged(&tagged(&udp4(b"x"), 0x8100, 3), 0x8100, 2),
                0x88a8,
                1,
            ),
            key(|k| (k.eth_type, k.vlan_tci) = ([0x81, 0], [0x10, 1])),
        ),
        (
            "arp",
            arp(),
            key(|k| {
                (k.eth_type, k.arp_op) = ([8, 6], [0, 1]);
                k.ip_src[..4].copy_from_slice(&[10, 0, 0, 1]);
                k.ip_dst[..4].copy_from_slice(&[10, 0, 0, 2]);
                k.l2_sender = MAC_A;
            }),
        ),
        (
            "802.3",
            ethernet(38, &[0x42; 38]),
            key(|k| k.eth_type = [5, 0xff]),
        ),
        (
            "lldp",
            ethernet(0x88cc, &[2; 40]),
            key(|k| k.eth_type = [0x88, 0xcc]),
        ),
    ];
    for (name, frame, key) in cases {
        assert_key(&mut w, name, &frame, key);
    }
}

#[test]
fn ipv6_and_its_extension_headers() {
    let mut w = World::new();
    let udp_key = FlowKey {
        ip_proto: 17,
        l4_src: [4, 0xd2],
        l4_dst: [0, 53],
        ..v6()
    };
    let chain = |headers: &[(u8, &[u8])], last: u8, payload: &[u8]| {
        let mut bytes = vec![];
        for (i, (_, rest)) in headers.iter().enumerate() {
            bytes.push(headers.get(i + 1).map_or(last, |(kind, _)| *kind));
            bytes.extend(*rest);
        }
        bytes.extend(payload);
        ethernet(0x86dd, &ipv6(headers[0].0, &bytes))
    };
    let short: &[u8] = &[0, 1, 2, 0, 0, 0, 0];
    let long: &[u8] = &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let auth: &[u8] = &[1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    let first: &[u8] = &[0, 0, 1, 0, 0, 0, 9];
    let later: &[u8] = &[0, 5, 1, 0, 0, 0, 9];
    let lone: &[u8] = &[0, 0, 0, 0, 0, 0, 9];
    let cases = [
        ("udp", udp6(b"x"), udp_key),
        (
            "icmp6",
            ethernet(0x86dd, &ipv6(58, &icmpv6(b""))),
            FlowKey {
                ip_proto: 58,
                l4_src: [0, 128],
                ..v6()
            },
        ),
        (
            "ICMP of IPv4 in IPv6",
            ethernet(0x86dd, &ipv6(1, &icmpv6(b""))),
            FlowKey {
                ip_proto: 1,
                ..v6()
            },
        ),
        (
            "hop-by-hop",
            chain(&[(0, short)], 17, &udp(b"x")),
            extended(udp_key, EXTHDR_HOP),
        ),
        (
            "three headers",
            chain(&[(0, short), (43, long), (60, short)], 17, &udp(b"x")),
            extended(udp_key, EXTHDR_HOP | EXTHDR_ROUTER | EXTHDR_DEST),
        ),
        (
            "headers that come again, in another order",
            chain(&[(43, long), (0, short), (43, long)], 17, &udp(b"x")),
            // Hop-by-hop options have a flag only where they are the first header (OpenFlow 1.3.5, 7.2.3.8).
            extended(udp_key, EXTHDR_ROUTER | EXTHDR_UNREP | EXTHDR_UNSEQ),
        ),
        (
            "an authentication header",
            chain(&[(51, auth)], 17, &udp(b"x")),
            extended(udp_key, EXTHDR_AUTH),
        ),
        (
            "encrypted",
            ethernet(0x86dd, &ipv6(50, &[0; 16])),
            extended(
                FlowKey {
                    ip_proto: 50,
                    ..v6()
                },
                EXTHDR_ESP,
            ),
        ),
        (
            "a first fragment",
            chain(&[(60, short), (44, first)], 17, &udp(b"x")),
            FlowKey {
                frag: FRAG_ANY,
                ..extended(udp_key, EXTHDR_DEST | EXTHDR_FRAG)
            },
        ),
        (
            "a later fragment",
            chain(&[(44, later)], 17, &udp(b"x")),
            FlowKey {
                ip_proto: 17,
                frag: FRAG_ANY | FRAG_LATER,
                ..extended(v6(), EXTHDR_FRAG)
            },
        ),
        (
            "a whole packet in a fragment header",
            chain(&[(44, lone)], 17, &udp(b"x")),
            extended(udp_key, EXTHDR_FRAG),
        ),
        (
            "more headers than are looked at",
            chain(&[(60, short); 7], 17, &udp(b"x")),
            FlowKey {
                ip_proto: 60,
                ..extended(v6(), EXTHDR_DEST | EXTHDR_UNREP)
            },
        ),
        (
            "a header that is cut off",
            ethernet(0x86dd, &ipv6(60, &[17, 9, 0, 0, 0, 0, 0, 0])),
            FlowKey {
                ip_proto: 17,
                ..extended(v6(), EXTHDR_DEST)
            },
        ),
        (
            "no next header",
            ethernet(0x86dd, &ipv6(59, b"")),
            FlowKey {
                ip_proto: 59,
                ..extended(v6(), EXTHDR_NONEXT)
            },
        ),
    ];
    for (name, frame, key) in cases {
        assert_key(&mut w, name, &frame, key);
    }
}

#[test]
fn fragments_and_headers_cut_off() {
    let mut w = World::new();
    let first = FlowKey {
        ip_proto: 17,
        l4_src: [4, 0xd2],
        l4_dst: [0, 53],
        frag: FRAG_ANY,
        ..v4()
    };
    let later = FlowKey {
        ip_proto: 17,
        frag: FRAG_ANY | FRAG_LATER,
        ..v4()
    };
    let no_l3 = key(|k| k.eth_type = [8, 0]);
    let whole = udp4(b"x");
    let mut wrong_version = whole.clone();
    wrong_version[14] = 0x55;
    let mut short_header = whole.clone();
    short_header[14] = 0x44;
    let mut long_total = whole.clone();
    long_total[17] = 200;
    let mut padded = whole.clone();
    padded.resize(60, 0);
    let cases = [
        (
            "first fragment",
            ethernet(0x0800, &ipv4(17, 0x2000, &[], &udp(b"x"))),
            first,
        ),
        (
            "later fragment",
            ethernet(0x0800, &ipv4(17, 0x2001, &[], &udp(b"x"))),
            later,
        ),
        (
            "last fragment",
            ethernet(0x0800, &ipv4(17, 1, &[], &udp(b"x"))),
            later,
        ),
        ("version 5", wrong_version, no_l3),
        ("header length 4", short_header, no_l3),
        ("total length beyond the frame", long_total, no_l3),
        ("Ethernet padding", padded, FlowKey { frag: 0, ..first }),
        (
            "a UDP header cut off",
            ethernet(0x0800, &ipv4(17, 0, &[], &[4, 0xd2, 0, 53])),
            FlowKey {
                ip_proto: 17,
                ..v4()
            },
        ),
        (
            "a TCP header cut off",
            ethernet(0x0800, &ipv4(6, 0, &[], &[4; 19])),
            FlowKey {
                ip_proto: 6,
                ..v4()
            },
        ),
        (
            "ARP for other addresses",
            ethernet(
                0x0806,
                &[
                    0, 6, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                    0, 0,
                ],
            ),
            key(|k| k.eth_type = [8, 6]),
        ),
        (
            // As on a wire, it is padded with zeros first.
            "ARP cut off",
            arp()[..40].to_vec(),
            key(|k| {
                (k.eth_type, k.arp_op) = ([8, 6], [0, 1]);
                k.ip_src[..4].copy_from_slice(&[10, 0, 0, 1]);
                k.ip_dst[..4].copy_from_slice(&[10, 0, 0, 0]);
                k.l2_sender = [2, 0, 0, 0, 0, 10];
            }),
        ),
    ];
    for (name, frame, key) in cases {
        assert_key(&mut w, name, &frame, key);
    }
    // The kernel itself refuses to hand such a frame to TC in a test run.
    assert_key_xdp_only(&mut w, "IPv4 cut off", &whole[..30], no_l3);
    assert_key_xdp_only(
        &mut w,
        "a tag cut off",
        &[&whole[..12], &[0x81, 0, 0]].concat(),
        key(|k| k.eth_type = [0x81, 0]),
    );
}

#[track_caller]
fn assert_key_xdp_only(w: &mut World, name: &str, frame: &[u8], expected: FlowKey) {
    w.reset();
    let all = FlowKey::from_words([u64::MAX; KEY_WORDS]);
    w.rule(
        1,
        all,
        FlowKey {
            in_port: 11,
            in_phy_port: 11,
            eth_dst: MAC_B,
            eth_src: MAC_A,
            ..expected
        },
        &[],
    );
    w.commit();
    println!("{name}");
    w.run(Mode::Xdp, frame)
        .expect(Verdict::Drop, &["rx 1", "rule 1", "rule-drop 1"]);
}

#[test]
fn neighbour_discovery() {
    let mut w = World::new();
    let message = |kind: u8, options: &[u8]| {
        let icmp = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &V6_DST, options].concat();
        with_checksum(ethernet(0x86dd, &ipv6(58, &icmp)))
    };
    let icmp_key = |kind: u8| FlowKey {
        ip_proto: 58,
        l4_src: [0, kind],
        nd_target: V6_DST,
        ..v6()
    };
    let source = [&[1, 1][..], &MAC_A].concat();
    let target = [&[2, 1][..], &MAC_B].concat();
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let cases = [
        (
            "a solicitation without options",
            message(135, &[]),
            icmp_key(135),
        ),
        (
            "a solicitation with its source",
            message(135, &source),
            FlowKey {
                l2_sender: MAC_A,
                ..icmp_key(135)
            },
        ),
        (
            "behind other options",
            message(135, &[&nonce[..], &target, &source].concat()),
            FlowKey {
                l2_sender: MAC_A,
                ..icmp_key(135)
            },
        ),
        (
            "an advertisement with its target",
            message(136, &[&source[..], &target].concat()),
            FlowKey {
                l2_target: MAC_B,
                ..icmp_key(136)
            },
        ),
        (
            "an option of no length",
            message(136, &[2, 0, 0, 0, 0, 0, 0, 0]),
            icmp_key(136),
        ),
        (
            "an option cut off",
            message(136, &target[..7]),
            icmp_key(136),
        ),
        (
            "a message cut off",
            ethernet(0x86dd, &ipv6(58, &[136, 0, 0, 0, 0, 0, 0, 0, 0xfd])),
            FlowKey {
                nd_target: [0; 16],
                ..icmp_key(136)
            },
        ),
    ];
    for (name, frame, key) in cases {
        assert_key(&mut w, name, &frame, key);
    }
}

#[test]
fn mpls_and_pbb() {
    let mut w = World::new();
    let inner = udp4(b"x");
    let stack = [&[0x12, 0x34, 0x5a, 64, 0, 0, 0x11, 32][..], &inner[14..]].concat();
    let itag = [&[0xe0, 1, 2, 3][..], &inner].concat();
    let mpls = key(|k| (k.eth_type, k.mpls) = ([0x88, 0x47], [0x12, 0x34, 0x5a, 0]));
    let cases = [
        ("the outermost label", ethernet(0x8847, &stack), mpls),
        (
            "multicast",
            ethernet(0x8848, &stack),
            FlowKey {
                eth_type: [0x88, 0x48],
                ..mpls
            },
        ),
        (
            "in a VLAN",
            tagged(&ethernet(0x8847, &stack), 0x8100, 5),
            FlowKey {
                vlan_tci: [0x10, 5],
                ..mpls
            },
        ),
        (
            "a label cut off, and padded with zeros",
            ethernet(0x8847, &[1, 2, 3]),
            FlowKey {
                mpls: [1, 2, 3, 0],
                ..mpls
            },
        ),
        (
            "pbb",
            ethernet(0x88e7, &itag),
            key(|k| (k.eth_type, k.pbb_isid) = ([0x88, 0xe7], [0, 1, 2, 3])),
        ),
        (
            "pbb cut off, and padded with zeros",
            ethernet(0x88e7, &itag[..4]),
            key(|k| (k.eth_type, k.pbb_isid) = ([0x88, 0xe7], [0, 1, 2, 3])),
        ),
    ];
    for (name, frame, key) in cases {
        assert_key(&mut w, name, &frame, key);
    }
}
