//! Push and pop of MPLS and PBB, copied TTLs, SCTP ports; and tables that match what is there afterwards.

use super::{actions::change, frames::*, world::*};
use switch_abi::*;

const PUSH_MPLS: Action = plain(op::PUSH_MPLS, 0x8847);
const PUSH_PBB: Action = plain(op::PUSH_PBB, 0x88e7);
const POP_PBB: Action = plain(op::POP_PBB, 0);
const COPY_IN: Action = plain(op::COPY_TTL_IN, 0);
const COPY_OUT: Action = plain(op::COPY_TTL_OUT, 0);

const fn plain(op: u8, a: u16) -> Action {
    Action {
        op,
        pad: 0,
        a,
        b: 0,
        c: [0; 8],
    }
}

fn pop_mpls(eth_type: u16) -> Action {
    plain(op::POP_MPLS, eth_type)
}

fn mpls_ttl(ttl: u16) -> Action {
    plain(op::SET_MPLS_TTL, ttl)
}

fn label(value: u32) -> Action {
    act(op::SET_MPLS_LABEL, 0, value, &[])
}

/// A frame with MPLS entries `(label, ttl)` in front of its payload.
fn labelled(frame: &[u8], entries: &[(u32, u8)]) -> Vec<u8> {
    let mut stack = vec![];
    for (i, &(label, ttl)) in entries.iter().enumerate() {
        let bottom = u32::from(i + 1 == entries.len());
        stack.extend((label << 12 | bottom << 8 | u32::from(ttl)).to_be_bytes());
    }
    [&frame[..12], &[0x88, 0x47], &stack, &frame[14..]].concat()
}

/// A PBB frame with this one inside.
fn backbone(frame: &[u8], first: u8, isid: u32) -> Vec<u8> {
    let [_, a, b, c] = isid.to_be_bytes();
    [&frame[..12], &[0x88, 0xe7, first, a, b, c], frame].concat()
}

fn goto(table: u8, next: u8) -> impl FnOnce(&mut RuleEntry) {
    move |r| (r.table, r.goto_table) = (table, next)
}

#[test]
fn labels_are_pushed_and_popped() {
    let mut w = World::new();
    let long = with_checksum(ethernet(0x0800, &ipv4(17, 0, &[], &udp(&[7; 1400]))));
    for (frame, eth_type) in [(udp4(b"x"), 0x800), (long, 0x800), (udp6(b"x"), 0x86dd)] {
        let pushed = change(&mut w, &[PUSH_MPLS, label(0xabcde)], &frame);
        assert_eq!(pushed[12..18], [0x88, 0x47, 0xab, 0xcd, 0xe1, 63]);
        assert_eq!(pushed[18..18 + frame.len() - 14], frame[14..]);
        assert_eq!(pushed, labelled(&frame, &[(0xabcde, 63)]));
        // The second takes over the first one's fields, and is not the bottom.
        let twice = change(&mut w, &[PUSH_MPLS, mpls_ttl(9), label(7)], &pushed);
        assert_eq!(twice, labelled(&frame, &[(7, 9), (0xabcde, 63)]));
        let popped = change(&mut w, &[pop_mpls(0x8847), pop_mpls(eth_type)], &twice);
        assert_eq!(popped, frame);
        // What is there then can be written.
        let both = [pop_mpls(eth_type), plain(op::SET_L4_DST, 99)];
        let out = change(&mut w, &both, &pushed);
        assert_eq!(out[..14], frame[..14]);
        assert_checksums(&out, false);
        assert_ne!(out, frame);
    }
    let other = change(&mut w, &[PUSH_MPLS], &arp());
    assert_eq!(other, labelled(&arp(), &[(0, 0)]));
}

#[test]
fn a_label_goes_in_front_of_tags_and_comes_off_behind_them() {
    let mut w = World::new();
    let tap = Tap::new("labels");
    w.local(2, tap.ifindex);
    let flood = act(op::ALL, 0, 0, &[]);
    let mut first: PortEntry = w.get(maps::PORTS, IN);
    first.next = 2;
    w.port(IN, first);
    let mut switch: SwitchEntry = w.get(maps::SWITCHES, 1);
    switch.first_port = IN;
    w.switch(1, switch);
    let one = tagged(&udp4(b"one"), 0x8100, 0x6005);
    let two = tagged(&one, 0x88a8, 0x0007);
    let inside =
        |frame: &[u8], ttl: u8| [&frame[..12], &[0x88, 0x47, 0, 0, 1, ttl], &frame[14..]].concat();
    let behind = tagged(&labelled(&udp4(b"behind"), &[(5, 6)]), 0x8100, 9);
    let behind_two = tagged(&behind, 0x88a8, 8);
    // (what comes, actions, what goes)
    let cases: [(Vec<u8>, &[Action], Vec<u8>); 7] = [
        (one.clone(), &[PUSH_MPLS], inside(&one, 63)),
        (two.clone(), &[PUSH_MPLS], inside(&two, 63)),
        (inside(&one, 1), &[pop_mpls(0x8100)], one.clone()),
        (inside(&two, 1), &[pop_mpls(0x88a8)], two.clone()),
        (
            behind,
            &[pop_mpls(0x800)],
            tagged(&udp4(b"behind"), 0x8100, 9),
        ),
        (
            behind_two,
            &[pop_mpls(0x800)],
            tagged(&tagged(&udp4(b"behind"), 0x8100, 9), 0x88a8, 8),
        ),
        (
            inside(&one, 1),
            &[pop_mpls(0x8100), plain(op::POP_VLAN, 0)],
            udp4(b"one"),
        ),
    ];
    for (frame, actions, expected) in cases {
        w.reset();
        w.port(IN, first);
        w.local(2, tap.ifindex);
        w.switch(1, switch);
        w.rule(1, any(), any(), &[actions, &[flood, output(2)]].concat());
        w.commit();
        // By the tap: a tag that is not among the bytes would not show otherwise.
        w.run(Mode::Tc, &frame)
            .expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 2=2"]);
        assert_eq!(tap.frames(1)[0], expected);
        w.reset();
        w.local(2, tap.ifindex);
        w.rule(1, any(), any(), &[actions, &[output(2)]].concat());
        w.commit();
        let outcome = w.run(Mode::Xdp, &frame);
        outcome.expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 2"]);
        assert_eq!(outcome.frame, expected);
    }
}

#[test]
fn backbone_headers_are_pushed_and_popped() {
    let mut w = World::new();
    for frame in [udp4(b"x"), udp6(b"x"), arp(), udp4(&[1; 900])] {
        let isid = act(op::SET_PBB_ISID, 0, 0x01_0203, &[]);
        let pushed = change(&mut w, &[PUSH_PBB, isid], &frame);
        assert_eq!(pushed, backbone(&frame, 0, 0x01_0203));
        let twice = change(&mut w, &[PUSH_PBB], &pushed);
        assert_eq!(twice, backbone(&pushed, 0, 0x01_0203));
        assert_eq!(change(&mut w, &[POP_PBB, POP_PBB], &twice), frame);
    }
    let one = tagged(&udp4(b"one"), 0x8100, 0xa005);
    assert_eq!(change(&mut w, &[PUSH_PBB], &one), backbone(&one, 0xa0, 0));
    let two = tagged(&one, 0x88a8, 0x0007);
    assert_eq!(change(&mut w, &[PUSH_PBB], &two), backbone(&two, 0, 0));
}

#[test]
fn what_is_not_there_can_not_be_popped_or_copied() {
    let mut w = World::new();
    let cut = ethernet(0x8847, &[[0, 0, 1, 9].as_slice(), &[0x4f; 30]].concat());
    let no_ip = ethernet(0x8847, &[[0, 0, 1, 9].as_slice(), &[0x11; 60]].concat());
    let vlan = tagged(&backbone(&udp4(b"x"), 0, 1), 0x88a8, 4);
    let ping = with_checksum(ethernet(0x800, &ipv4(1, 0, &[], &icmpv6(b"ping"))));
    let cases = [
        (pop_mpls(0x800), udp4(b"x")),
        (POP_PBB, udp4(b"x")),
        (POP_PBB, vlan),
        (COPY_IN, udp4(b"x")),
        (COPY_OUT, no_ip.clone()),
        (COPY_IN, no_ip),
        (COPY_IN, cut),
        (plain(op::SET_SCTP_SRC, 1), udp4(b"x")),
        // Of another protocol, whose fields are in the same place.
        (act(op::SET_L4_DST, 1, 6, &[]), udp4(b"x")),
        (act(op::SET_ICMP_TYPE, 1, 58, &[]), ping),
    ];
    for (action, frame) in cases {
        w.reset();
        w.local(2, 2);
        w.rule(1, any(), any(), &[action, output(2)]);
        w.commit();
        for mode in BOTH {
            w.run(mode, &frame)
                .expect(Verdict::Drop, &["rx 1", "rule 1", "bad-set-field 1"]);
        }
    }
}

#[test]
fn ttls_are_copied_between_labels_and_ip() {
    let mut w = World::new();
    for frame in [udp4(b"x"), udp6(b"x")] {
        let stack = labelled(&frame, &[(1, 40), (2, 50)]);
        let out = change(&mut w, &[COPY_IN], &stack);
        assert_eq!(out, labelled(&frame, &[(1, 40), (2, 40)]));
        let out = change(&mut w, &[COPY_OUT], &stack);
        assert_eq!(out, labelled(&frame, &[(1, 50), (2, 50)]));
        let out = change(&mut w, &[COPY_OUT], &labelled(&frame, &[(1, 40)]));
        assert_eq!(out, labelled(&frame, &[(1, 63)]));
        let eth_type = u16::from_be_bytes([frame[12], frame[13]]);
        let inwards = [COPY_IN, pop_mpls(eth_type)];
        let out = change(&mut w, &inwards, &labelled(&frame, &[(1, 40)]));
        assert_checksums(&out, false);
        let mut expected = frame.clone();
        if eth_type == 0x800 {
            expected[22] = 40;
            expected[24..26].copy_from_slice(&out[24..26]);
        } else {
            expected[21] = 40;
        }
        assert_eq!(out, expected);
    }
}

/// Rules that need the packet as it is after the first one are run by TC alone, and XDP has counted nothing.
#[track_caller]
fn in_tc(w: &mut World, frame: &[u8], verdict: Verdict, moved: &[&str]) -> Outcome {
    w.run(Mode::Xdp, frame).expect(Verdict::Pass, &[]);
    let outcome = w.run(Mode::Tc, frame);
    outcome.expect(verdict, moved);
    outcome
}

#[test]
fn later_tables_match_what_was_under_a_label() {
    let mut w = World::new();
    w.local(2, 2);
    w.local(3, 2);
    let mpls = key(|k| k.eth_type = [255, 255]);
    let is_mpls = key(|k| k.eth_type = [0x88, 0x47]);
    w.rule_with(1, mpls, is_mpls, &[pop_mpls(0x800)], |r| {
        (r.goto_table, r.metadata, r.metadata_mask) = (1, 5, 0xff);
    });
    let mask = key(|k| {
        (k.metadata, k.eth_type, k.ip_proto) = (u64::MAX, [255; 2], 255);
        (k.ip_dst, k.l4_dst) = ([255; 16], [255; 2]);
    });
    let value = |proto, port: u16| {
        key(|k| {
            (k.metadata, k.eth_type, k.ip_proto) = (5, [8, 0], proto);
            k.ip_dst[..4].copy_from_slice(&[10, 0, 0, 2]);
            k.l4_dst = port.to_be_bytes();
        })
    };
    let nat = act(op::SET_IPV4_DST, 0, 0, &[9, 9, 9, 9]);
    w.rule_with(1, mask, value(17, 53), &[nat, output(2)], |r| r.table = 1);
    w.rule_with(1, mask, value(6, 80), &[output(3)], |r| r.table = 1);
    w.commit();
    let udp = labelled(&udp4(b"under"), &[(7, 8)]);
    let out = in_tc(
        &mut w,
        &udp,
        Verdict::Redirect,
        &["rx 1", "rule 1", "rule 2", "tx 2"],
    );
    assert_eq!(out.frame[30..34], [9, 9, 9, 9]);
    assert_checksums(&out.frame, false);
    let tcp = labelled(&tcp4(b"under"), &[(7, 8)]);
    let out = in_tc(
        &mut w,
        &tcp,
        Verdict::Redirect,
        &["rx 1", "rule 1", "rule 3", "tx 3"],
    );
    assert_eq!(out.frame, tcp4(b"under"));
    let icmp = labelled(&ethernet(0x800, &ipv4(1, 0, &[], &[8; 20])), &[(7, 8)]);
    in_tc(
        &mut w,
        &icmp,
        Verdict::Drop,
        &["rx 1", "rule 1", "table-miss 1"],
    );
}

#[test]
fn later_tables_match_what_was_pushed_and_what_was_in_a_backbone_frame() {
    let mut w = World::new();
    w.local(2, 2);
    let push = [PUSH_MPLS, label(0x12345), PUSH_PBB];
    w.rule_with(
        2,
        key(|k| k.ip_proto = 255),
        key(|k| k.ip_proto = 17),
        &push,
        goto(0, 1),
    );
    let pbb = key(|k| k.eth_type = [255, 255]);
    let is_pbb = key(|k| k.eth_type = [0x88, 0xe7]);
    w.rule_with(1, pbb, is_pbb, &[POP_PBB], goto(1, 2));
    let mask = key(|k| (k.eth_type, k.mpls) = ([255; 2], [255, 255, 0xf1, 0]));
    let value = key(|k| (k.eth_type, k.mpls) = ([0x88, 0x47], [0x12, 0x34, 0x51, 0]));
    w.rule_with(1, mask, value, &[pop_mpls(0x800)], goto(2, 3));
    let udp = key(|k| (k.eth_type, k.ip_proto) = ([8, 0], 17));
    let both = key(|k| (k.eth_type, k.ip_proto) = ([255; 2], 255));
    w.rule_with(1, both, udp, &[output(2)], |r| r.table = 3);
    w.commit();
    let moved = ["rx 1", "rule 1", "rule 2", "rule 3", "rule 4", "tx 2"];
    let out = in_tc(&mut w, &udp4(b"round"), Verdict::Redirect, &moved);
    assert_eq!(out.frame, udp4(b"round"));
}

#[test]
fn the_action_set_and_earlier_outputs_outlast_the_change() {
    let mut w = World::new();
    let tap = Tap::new("resume");
    w.local(2, tap.ifindex);
    w.local(3, tap.ifindex);
    let written = [act(op::SET_ETH_DST, 0, 0, &[6, 5, 4, 3, 2, 1]), output(3)];
    w.rule_with(
        1,
        any(),
        any(),
        &[&[output(2), pop_mpls(0x800)], &written[..]].concat(),
        |r| {
            (r.apply_count, r.goto_table) = (2, 1);
        },
    );
    let udp = key(|k| k.ip_proto = 17);
    let ttl = act(op::SET_NW_TTL, 3, 0, &[]);
    w.rule_with(1, key(|k| k.ip_proto = 255), udp, &[ttl], |r| {
        (r.table, r.apply_count) = (1, 0)
    });
    w.commit();
    let frame = labelled(&udp4(b"set"), &[(7, 8)]);
    let moved = ["rx 1", "rule 1", "rule 2", "tx 2", "tx 3"];
    let out = in_tc(&mut w, &frame, Verdict::Redirect, &moved).frame;
    assert_eq!(tap.frames(1)[0], frame);
    assert_eq!(out[..6], [6, 5, 4, 3, 2, 1]);
    assert_eq!(out[22], 3);
    assert_checksums(&out, false);
}

#[test]
fn the_next_switch_sees_the_packet_as_it_was_changed() {
    let mut w = World::new();
    w.instance(2, 6);
    let link = |slot: u32, other: u32, switch_slot| PortEntry {
        id: slot + 100,
        port_no: slot + 10,
        kind: PORT_LINK,
        link: other,
        switch_slot,
        ..port()
    };
    w.port(2, link(2, 3, 1));
    w.port(3, link(3, 2, 2));
    w.local(4, 2);
    let mut out: PortEntry = w.get(maps::PORTS, 4);
    out.switch_slot = 2;
    w.port(4, out);
    w.rule(1, any(), any(), &[PUSH_MPLS, output(2)]);
    let mask = key(|k| (k.in_port, k.eth_type) = (u32::MAX, [255; 2]));
    let value = key(|k| (k.in_port, k.eth_type) = (13, [0x88, 0x47]));
    w.rule_with(1, mask, value, &[output(4)], |r| r.switch_slot = 2);
    w.commit();
    let moved = ["rx 1", "rule 1", "tx 2", "rx 3", "rule 2", "tx 4"];
    let out = in_tc(&mut w, &udp4(b"link"), Verdict::Redirect, &moved);
    assert_eq!(out.frame, labelled(&udp4(b"link"), &[(0, 63)]));
}

#[test]
fn a_packet_is_read_again_a_limited_number_of_times() {
    let mut w = World::new();
    w.local(2, 2);
    for table in 0..5 {
        w.rule_with(1, any(), any(), &[PUSH_MPLS], goto(table, table + 1));
    }
    w.rule_with(1, any(), any(), &[output(2)], |r| r.table = 5);
    w.commit();
    let counted = [
        "rx 1",
        "rule 1",
        "rule 2",
        "rule 3",
        "rule 4",
        "rule 5",
        "hop-limit 1",
    ];
    in_tc(&mut w, &udp4(b"x"), Verdict::Drop, &counted);
}

#[test]
fn what_is_behind_a_third_tag_is_seen_when_the_first_is_popped() {
    let mut w = World::new();
    w.local(2, 2);
    w.rule_with(1, any(), any(), &[plain(op::POP_VLAN, 0)], goto(0, 1));
    let udp = key(|k| k.ip_proto = 17);
    let pop = plain(op::POP_VLAN, 0);
    w.rule_with(
        1,
        key(|k| k.ip_proto = 255),
        udp,
        &[pop, pop, output(2)],
        |r| r.table = 1,
    );
    w.commit();
    let mut frame = udp4(b"deep");
    for vid in 1..=3 {
        frame = tagged(&frame, 0x8100, vid);
    }
    let out = in_tc(
        &mut w,
        &frame,
        Verdict::Redirect,
        &["rx 1", "rule 1", "rule 2", "tx 2"],
    );
    assert_eq!(out.frame, udp4(b"deep"));
}

/// CRC-32C, bit by bit (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

fn sctp(payload: &[u8]) -> Vec<u8> {
    let mut packet = [&[4, 0xd2, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0], payload].concat();
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    packet
}

#[test]
fn sctp_ports_are_set_with_a_right_checksum() {
    let mut w = World::new();
    let set = [
        plain(op::SET_SCTP_SRC, 0xabcd),
        plain(op::SET_SCTP_DST, 0xffff),
    ];
    for length in [0, 1, 2, 3, 4, 17, 100, 1001, 1400] {
        let payload: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        let options = [1, 1, 1, 0];
        let v4 = ethernet(0x800, &ipv4(132, 0, &options, &sctp(&payload)));
        let v6 = ethernet(0x86dd, &ipv6(132, &sctp(&payload)));
        for (frame, at) in [(v4, 38), (v6, 54)] {
            let end = frame.len();
            let out = change(&mut w, &set, &frame);
            assert_eq!(out[at..at + 4], [0xab, 0xcd, 0xff, 0xff]);
            let mut packet = out[at..end].to_vec();
            packet[8..12].fill(0);
            assert_eq!(
                out[at + 8..at + 12],
                crc32c(&packet).to_le_bytes(),
                "{length}"
            );
            // A wrong one stays as wrong as it is; none stays none.
            let mut wrong = frame.clone();
            wrong[at + 8] ^= 0x10;
            let still = change(&mut w, &set, &wrong);
            assert_eq!(still[at + 8] ^ 0x10, out[at + 8]);
            let mut none = frame;
            none[at + 8..at + 12].fill(0);
            assert_eq!(change(&mut w, &set, &none)[at + 8..at + 12], [0; 4]);
        }
    }
    // The checksum of a fragmented packet covers what is not here.
    let first = ethernet(0x800, &ipv4(132, 0x2000, &[], &sctp(&[1; 32])));
    w.reset();
    w.local(2, 2);
    w.rule(1, any(), any(), &[set[0], output(2)]);
    w.commit();
    for mode in BOTH {
        w.run(mode, &first)
            .expect(Verdict::Drop, &["rx 1", "rule 1", "bad-set-field 1"]);
    }
}
