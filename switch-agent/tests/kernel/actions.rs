//! Set-fields with their checksums, VLAN tags, and outputs.

use super::{frames::*, world::*};
use switch_abi::*;

/// Runs `actions` then an output to port 2, in both modes; the frame that came out.
pub fn change(w: &mut World, actions: &[Action], frame: &[u8]) -> Vec<u8> {
    w.reset();
    w.local(2, 2);
    w.rule(1, any(), any(), &[actions, &[output(2)]].concat());
    w.commit();
    let frames = BOTH.map(|mode| {
        let outcome = w.run(mode, frame);
        outcome.expect(Verdict::Redirect, &["rx 1", "tx 2", "rule 1"]);
        outcome.frame
    });
    assert_eq!(frames[0], frames[1], "XDP and TC");
    frames.into_iter().next().unwrap()
}

/// Every single change below leaves all checksums right and changes nothing else.
#[test]
fn set_fields_keep_checksums_right_and_touch_nothing_else() {
    let v4 = [
        act(op::SET_IPV4_SRC, 0, 0, &[192, 168, 77, 1]),
        act(op::SET_IPV4_DST, 0, 0, &[172, 16, 255, 254]),
    ];
    let v6 = [
        act(
            op::SET_IPV6_SRC,
            0,
            0,
            &[0x20, 1, 0xd, 0xb8, 0xff, 0xff, 1, 2],
        ),
        act(op::SET_IPV6_SRC, 1, 0, &[9, 8, 7, 6, 5, 4, 3, 2]),
        act(
            op::SET_IPV6_DST,
            0,
            0,
            &[0x20, 1, 0xd, 0xb8, 0, 0, 0xee, 0xee],
        ),
        act(op::SET_IPV6_DST, 1, 0, &[0, 0, 0, 0, 0, 0, 0, 0x77]),
    ];
    let l4 = [
        act(op::SET_L4_SRC, 0xabcd, 0, &[]),
        act(op::SET_L4_DST, 65535, 0, &[]),
    ];
    let dscp = [act(op::SET_IP_DSCP, 0x2e, 0, &[])];
    let options = with_checksum(ethernet(
        0x0800,
        &ipv4(6, 0, &[1, 1, 1, 1, 1, 1, 1, 0], &tcp(b"options")),
    ));
    let icmp6 = with_checksum(ethernet(0x86dd, &ipv6(58, &icmpv6(b"ping"))));
    let tcp6 = with_checksum(ethernet(0x86dd, &ipv6(6, &tcp(b"odd"))));
    let vlan = tagged(&udp4(b"in a vlan"), 0x8100, 0x2064);
    // (frame, offset of L3, actions)
    let cases: [(&str, Vec<u8>, usize, Vec<Action>); 7] = [
        ("udp4", udp4(b"hello"), 14, [&v4[..], &l4, &dscp].concat()),
        ("tcp4", tcp4(b"hello!"), 14, [&v4[..], &l4, &dscp].concat()),
        (
            "tcp4 with IP options",
            options,
            14,
            [&v4[..], &l4, &dscp].concat(),
        ),
        ("udp6", udp6(b"hello"), 14, [&v6[..], &l4, &dscp].concat()),
        ("tcp6", tcp6, 14, [&v6[..], &l4, &dscp].concat()),
        ("icmp6", icmp6, 14, [&v6[..], &dscp].concat()),
        ("udp4 in a VLAN", vlan, 18, [&v4[..], &l4, &dscp].concat()),
    ];
    let mut w = World::new();
    for (name, frame, l3, actions) in cases {
        assert_checksums(&frame, false);
        let out = change(&mut w, &actions, &frame);
        println!("{name}");
        assert_checksums(&out, false);
        let mut expected = frame.clone();
        let l4_at = if expected[l3] >> 4 == 4 {
            l3 + (expected[l3] & 15) as usize * 4
        } else {
            l3 + 40
        };
        for a in &actions {
            match a.op {
                op::SET_IPV4_SRC => expected[l3 + 12..l3 + 16].copy_from_slice(&a.c[..4]),
                op::SET_IPV4_DST => expected[l3 + 16..l3 + 20].copy_from_slice(&a.c[..4]),
                op::SET_IPV6_SRC => {
                    let at = l3 + 8 + a.a as usize * 8;
                    expected[at..at + 8].copy_from_slice(&a.c);
                }
                op::SET_IPV6_DST => {
                    let at = l3 + 24 + a.a as usize * 8;
                    expected[at..at + 8].copy_from_slice(&a.c);
                }
                op::SET_L4_SRC => expected[l4_at..l4_at + 2].copy_from_slice(&a.a.to_be_bytes()),
                op::SET_L4_DST => {
                    expected[l4_at + 2..l4_at + 4].copy_from_slice(&a.a.to_be_bytes())
                }
                op::SET_IP_DSCP if expected[l3] >> 4 == 4 => {
                    expected[l3 + 1] = expected[l3 + 1] & 3 | (a.a as u8) << 2;
                }
                op::SET_IP_DSCP => {
                    let class = (expected[l3] & 15) << 4 | expected[l3 + 1] >> 4;
                    let class = class & 3 | (a.a as u8) << 2;
                    expected[l3] = 0x60 | class >> 4;
                    expected[l3 + 1] = expected[l3 + 1] & 15 | class << 4;
                }
                _ => unreachable!(),
            }
        }
        if expected[l3] >> 4 == 4 {
            expected[l3 + 10..l3 + 12].copy_from_slice(&out[l3 + 10..l3 + 12]);
        }
        assert_eq!(with_checksum(expected), out, "{name}");
    }
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let frame = ethernet(0x0800, &ipv4(17, 0, &[], &udp(b"no checksum")));
    let set = [
        act(op::SET_IPV4_SRC, 0, 0, &[1, 2, 3, 4]),
        act(op::SET_L4_DST, 7, 0, &[]),
    ];
    let out = change(&mut World::new(), &set, &frame);
    assert_eq!(out[40..42], [0, 0]);
    assert_checksums(&out, true);
}

#[test]
fn a_udp_checksum_that_becomes_zero_is_written_as_ones() {
    // Try ports until the sum folds to zero for one of them.
    let mut w = World::new();
    w.local(2, 2);
    let frame = udp4(b"z");
    let old = u16::from_be_bytes([frame[40], frame[41]]);
    // Adding the present checksum to the destination port leaves a sum of all ones: a checksum of zero.
    let port = (53 + old as u32) % 0xffff;
    w.rule(
        1,
        any(),
        any(),
        &[act(op::SET_L4_DST, port as u16, 0, &[]), output(2)],
    );
    w.commit();
    for mode in BOTH {
        let out = w.run(mode, &frame).frame;
        assert_eq!(out[40..42], [0xff, 0xff], "{mode:?}");
        assert_checksums(&out, false);
    }
}

#[test]
fn ethernet_addresses() {
    let out = change(
        &mut World::new(),
        &[
            act(op::SET_ETH_DST, 0, 0, &[1, 2, 3, 4, 5, 6]),
            act(op::SET_ETH_SRC, 0, 0, &[6, 5, 4, 3, 2, 1]),
        ],
        &arp(),
    );
    assert_eq!(
        out,
        [&[1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1], &arp()[12..]].concat()
    );
}

#[test]
fn tags_in_the_bytes_can_be_popped_and_set() {
    let frame = tagged(&udp4(b"tag"), 0x8100, 0x2064);
    let mut w = World::new();
    assert_eq!(
        change(&mut w, &[act(op::POP_VLAN, 0, 0, &[])], &frame),
        udp4(b"tag")
    );
    let set = [
        act(op::SET_VLAN_VID, 0xabc, 0, &[]),
        act(op::SET_VLAN_PCP, 6, 0, &[]),
    ];
    assert_eq!(
        change(&mut w, &set, &frame),
        tagged(&udp4(b"tag"), 0x8100, 0xcabc)
    );
    let both = [
        act(op::POP_VLAN, 0, 0, &[]),
        act(op::SET_IPV4_DST, 0, 0, &[9, 9, 9, 9]),
    ];
    let out = change(&mut w, &both, &frame);
    assert_eq!(out[30..34], [9, 9, 9, 9]);
    assert_checksums(&out, false);
}

#[test]
fn xdp_pushes_tags_into_the_bytes() {
    let mut w = World::new();
    w.local(2, 2);
    let actions = [
        act(op::PUSH_VLAN, 0x8100, 0, &[]),
        act(op::SET_VLAN_VID, 100, 0, &[]),
        act(op::SET_IPV4_DST, 0, 0, &[9, 9, 9, 9]),
        output(2),
    ];
    w.rule(1, any(), any(), &actions);
    w.commit();
    let out = w.run(Mode::Xdp, &udp4(b"tag")).frame;
    assert_eq!(out[12..18], [0x81, 0, 0, 100, 8, 0]);
    assert_checksums(&out, false);
}

#[test]
fn outputs_in_the_middle_go_out_as_the_packet_is_then() {
    let mut w = World::new();
    let tap = Tap::new("out");
    w.local(2, tap.ifindex);
    w.local(3, tap.ifindex);
    let push = [
        act(op::PUSH_VLAN, 0x8100, 0, &[]),
        act(op::SET_VLAN_VID, 100, 0, &[]),
    ];
    let set = act(op::SET_IPV4_DST, 0, 0, &[9, 9, 9, 9]);
    w.rule(
        1,
        any(),
        any(),
        &[
            &[output(2), set],
            &push[..],
            &[
                output(3),
                act(op::POP_VLAN, 0, 0, &[]),
                output(2),
                output(3),
            ],
        ]
        .concat(),
    );
    w.commit();
    w.run(Mode::Xdp, &udp4(b"many")).expect(Verdict::Pass, &[]);
    let outcome = w.run(Mode::Tc, &udp4(b"many"));
    outcome.expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 2=2", "tx 3=2"]);
    let frames = tap.frames(3);
    assert_eq!(frames[0], udp4(b"many"));
    assert_eq!(frames[1][12..18], [0x81, 0, 0, 100, 8, 0]);
    assert_eq!(frames[1][34..38], [9, 9, 9, 9]);
    assert_checksums(&frames[1], false);
    assert_eq!(frames[2], outcome.frame);
    assert_checksums(&frames[2], false);
}

#[test]
fn floods_leave_out_the_ingress_port_and_those_that_say_so() {
    let mut w = World::new();
    let tap = Tap::new("flood");
    let mut in_port: PortEntry = w.get(maps::PORTS, IN);
    in_port.next = 2;
    w.port(IN, in_port);
    for slot in 2..6 {
        let flags = match slot {
            3 => PORT_NO_FLOOD,
            4 => PORT_DOWN,
            _ => 0,
        };
        let next = if slot == 5 { 0 } else { slot + 1 };
        w.port(
            slot,
            PortEntry {
                id: slot,
                port_no: slot,
                kind: PORT_LOCAL,
                ifindex: tap.ifindex,
                flags,
                next,
                ..port()
            },
        );
    }
    let mut switch: SwitchEntry = w.get(maps::SWITCHES, 1);
    switch.first_port = 1;
    w.switch(1, switch);
    w.rule(
        2,
        key(|k| k.ip_proto = 0xff),
        key(|k| k.ip_proto = 17),
        &[act(op::FLOOD, 0, 0, &[])],
    );
    w.rule(1, any(), any(), &[act(op::ALL, 0, 0, &[])]);
    w.commit();
    w.run(Mode::Xdp, &udp4(b"f")).expect(Verdict::Pass, &[]);
    w.run(Mode::Tc, &udp4(b"f")).expect(
        Verdict::Redirect,
        &["rx 1", "rule 1", "tx 2", "tx 5", "port-down 4"],
    );
    w.run(Mode::Tc, &tcp4(b"f")).expect(
        Verdict::Redirect,
        &["rx 1", "rule 2", "tx 2", "tx 3", "tx 5", "port-down 4"],
    );
    assert_eq!(tap.frames(3), [udp4(b"f"), tcp4(b"f"), tcp4(b"f")]);
}

#[test]
fn in_port_sends_back() {
    let mut w = World::new();
    w.rule(1, any(), any(), &[act(op::IN_PORT, 0, 0, &[])]);
    w.commit();
    w.run(Mode::Tc, &udp4(b"f"))
        .expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 1"]);
}
