//! Every drop has one name, counted at one port.

use super::{frames::*, world::*};
use switch_abi::*;

/// A port on another host.
fn remote() -> PortEntry {
    PortEntry {
        id: 2,
        kind: PORT_REMOTE,
        peer: 2,
        ..port()
    }
}

/// Prepares a world, and says what a UDP frame is then counted as.
type Case = (&'static str, fn(&mut World), &'static [&'static str]);

const CASES: &[Case] = &[
    ("an empty table", |_| {}, &["rx 1", "table-miss 1"]),
    (
        "no actions",
        |w| ignore(w.rule(1, any(), any(), &[])),
        &["rx 1", "rule 1", "rule-drop 1"],
    ),
    (
        "a miss in a later table",
        |w| ignore(w.rule_with(1, any(), any(), &[], |r| r.goto_table = 3)),
        &["rx 1", "rule 1", "table-miss 1"],
    ),
    (
        "output to the ingress port",
        |w| ignore(w.rule(1, any(), any(), &[output(IN)])),
        &["rx 1", "rule 1", "output-to-in-port 1"],
    ),
    (
        "a port that does not exist",
        |w| ignore(w.rule(1, any(), any(), &[output(9)])),
        &["rx 1", "rule 1", "port-down 9"],
    ),
    (
        "a port that is down",
        |w| {
            w.port(
                2,
                PortEntry {
                    id: 2,
                    kind: PORT_LOCAL,
                    ifindex: 2,
                    flags: PORT_DOWN,
                    ..port()
                },
            );
            w.rule(1, any(), any(), &[output(2)]);
        },
        &["rx 1", "rule 1", "port-down 2"],
    ),
    (
        "a small MTU",
        |w| {
            w.port(
                2,
                PortEntry {
                    id: 2,
                    kind: PORT_LOCAL,
                    ifindex: 2,
                    mtu: 28,
                    ..port()
                },
            );
            w.rule(1, any(), any(), &[output(2)]);
        },
        &["rx 1", "rule 1", "too-big 2"],
    ),
    (
        "no path to the peer",
        |w| {
            w.port(2, remote());
            w.rule(1, any(), any(), &[output(2)]);
        },
        &["rx 1", "rule 1", "no-path 2"],
    ),
    (
        "an underlay with a small MTU",
        |w| {
            let header = PeerHeader {
                ifindex: 2,
                len: OUTER_IPV4_LEN as u32,
                mtu: 98,
                ..Default::default()
            };
            w.peer(
                2,
                PeerEntry {
                    host: 2,
                    variants: [header; 2],
                    ..Default::default()
                },
            );
            w.port(2, remote());
            w.rule(1, any(), any(), &[output(2)]);
        },
        &["rx 1", "rule 1", "too-big 2"],
    ),
    (
        "a set-field that does not fit",
        |w| {
            ignore(w.rule_with(
                1,
                any(),
                any(),
                &[act(op::SET_IPV6_SRC, 0, 0, &[]), output(2)],
                |r| r.goto_table = 1,
            ))
        },
        &["rx 1", "rule 1", "bad-set-field 1"],
    ),
    (
        "popping a tag that is not there",
        |w| ignore(w.rule(1, any(), any(), &[act(op::POP_VLAN, 0, 0, &[]), output(2)])),
        &["rx 1", "rule 1", "bad-set-field 1"],
    ),
    (
        "a disabled switch",
        |w| w.switch(1, SwitchEntry::default()),
        &["switch-disabled 1"],
    ),
    (
        "no instance anywhere",
        |w| {
            w.switch(
                1,
                SwitchEntry {
                    id: 5,
                    network: 1,
                    ..Default::default()
                },
            )
        },
        &["no-instance 1"],
    ),
    (
        "a relay without a path",
        |w| {
            w.switch(
                1,
                SwitchEntry {
                    id: 5,
                    network: 1,
                    state: SWITCH_RELAY,
                    relay_peer: 3,
                    ..Default::default()
                },
            )
        },
        &["no-path 1"],
    ),
    (
        "a clock not started",
        |w| {
            w.network(
                1,
                NetworkEntry {
                    id: 7,
                    ..Default::default()
                },
            )
        },
        &["switch-disabled 1"],
    ),
];

#[test]
fn every_drop_is_counted_under_one_reason() {
    let mut w = World::new();
    for (name, prepare, moved) in CASES {
        w.reset();
        prepare(&mut w);
        w.commit();
        for mode in BOTH {
            println!("{name} {mode:?}");
            // 29 bytes of IPv4.
            w.run(mode, &udp4(b"x")).expect(Verdict::Drop, moved);
        }
    }
}

#[test]
fn a_device_without_a_port_is_left_by_xdp_and_named_by_tc() {
    let mut w = World::new();
    w.set(maps::DEVICES, DEVICE, 0u32);
    w.run(Mode::Xdp, &udp4(b"x")).expect(Verdict::Pass, &[]);
    w.run(Mode::Tc, &udp4(b"x"))
        .expect(Verdict::Drop, &["not-a-port 0"]);
}

/// The cases do not need the slot of the rule that they add.
fn ignore(_slot: u32) {}
