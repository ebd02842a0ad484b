//! The flow cache: what is remembered does what the whole pipeline does, and is forgotten when anything that it depends on changes.
//!
//! Whether a packet was done from memory shows when something is changed behind the programs' backs, without a new generation.

use super::{frames::*, world::*};
use switch_abi::*;

/// Makes the rule in a slot (not its place in a table) output to another port, or nowhere, unknown to programs that remember.
fn change_secretly(w: &mut World, slot: u32, actions: &[Action]) {
    let mut entry: RuleEntry = w.get(maps::RULES, slot);
    entry.actions[..actions.len()].copy_from_slice(actions);
    w.store(maps::RULES, slot, entry);
}

/// A world where port 1 outputs to 2 by way of two tables, and whose third packet is the first to be done from memory.
fn world() -> World {
    let mut w = World::new();
    w.local(2, 2);
    w.local(3, 3);
    w.rule_with(1, any(), any(), &[], |r| r.goto_table = 1);
    w.rule_with(1, any(), any(), &[output(2)], |r| r.table = 1);
    w.commit();
    w
}

const BOTH_RULES: [&str; 4] = ["rx 1", "rule 1", "rule 2", "tx 2"];
const OTHER_PORT: [&str; 4] = ["rx 1", "rule 1", "rule 2", "tx 3"];

#[test]
fn the_third_packet_of_a_flow_is_done_from_memory_with_the_same_counters() {
    stay_on_one_cpu();
    for frame in [
        udp4(b"again"),
        udp6(b"again"),
        tagged(&udp4(b"again"), 0x8100, 7),
    ] {
        for mode in BOTH {
            let mut w = world();
            let first = w.run(mode, &frame);
            first.expect(Verdict::Redirect, &BOTH_RULES);
            w.run(mode, &frame).expect(Verdict::Redirect, &BOTH_RULES);
            change_secretly(&mut w, 2, &[output(3)]);
            let third = w.run(mode, &frame);
            third.expect(Verdict::Redirect, &BOTH_RULES);
            assert_eq!(third.moved, first.moved, "bytes too");
            assert_eq!(third.frame, first.frame);
            // Another flow is not the same.
            let mut other = frame.clone();
            other[6] ^= 1;
            w.run(mode, &other).expect(Verdict::Redirect, &OTHER_PORT);
        }
    }
}

#[test]
fn each_field_that_a_rule_may_match_tells_flows_apart() {
    stay_on_one_cpu();
    let mut w = world();
    let frame = udp4(b"which");
    for _ in 0..3 {
        w.run(Mode::Tc, &frame)
            .expect(Verdict::Redirect, &BOTH_RULES);
    }
    change_secretly(&mut w, 2, &[output(3)]);
    // Addresses, TOS, protocol (TCP would be too short: no port is seen then), IPv4 addresses and ports.
    for at in [0, 5, 6, 11, 15, 26, 29, 30, 33, 34, 35, 36, 37] {
        let mut other = frame.clone();
        other[at] ^= 0x10;
        w.run(Mode::Tc, &other)
            .expect(Verdict::Redirect, &OTHER_PORT);
    }
    // What no rule sees does not: identification, TTL, checksum, data.
    for at in [18, 22, 24, 42] {
        let mut same = frame.clone();
        same[at] ^= 0x10;
        w.run(Mode::Tc, &same)
            .expect(Verdict::Redirect, &BOTH_RULES);
    }
}

#[test]
fn drops_are_remembered_with_their_reason() {
    stay_on_one_cpu();
    for (actions, reason) in [(&[][..], "rule-drop 1")] {
        let mut w = World::new();
        w.local(2, 2);
        w.rule(1, any(), any(), actions);
        w.commit();
        for _ in 0..2 {
            w.run(Mode::Xdp, &udp4(b"x"))
                .expect(Verdict::Drop, &["rx 1", "rule 1", reason]);
        }
        w.store(maps::TABLES, MAX_TABLES, 0u64);
        w.run(Mode::Xdp, &udp4(b"x"))
            .expect(Verdict::Drop, &["rx 1", "rule 1", reason]);
    }
    let mut w = World::new();
    for _ in 0..2 {
        w.run(Mode::Xdp, &udp4(b"x"))
            .expect(Verdict::Drop, &["rx 1", "table-miss 1"]);
    }
    let port: PortEntry = w.get(maps::PORTS, IN);
    let nowhere = PortEntry {
        switch_slot: 3,
        ..port
    };
    w.store(maps::PORTS, IN, nowhere);
    w.run(Mode::Xdp, &udp4(b"x"))
        .expect(Verdict::Drop, &["rx 1", "table-miss 1"]);
}

/// What makes programs forget: the clock either way that it moves, and the generation.
#[test]
fn a_new_clock_or_generation_is_a_new_look() {
    stay_on_one_cpu();
    let mut w = world();
    let mut network: NetworkEntry = w.get(maps::NETWORKS, 1);
    let changes: [fn(&mut NetworkEntry); 2] = [|n| n.clock += 1, |n| n.generation += 1];
    for (i, change) in changes.into_iter().enumerate() {
        for _ in 0..3 {
            w.run(Mode::Tc, &udp4(b"x"))
                .expect(Verdict::Redirect, &BOTH_RULES);
        }
        change_secretly(&mut w, 2, &[output(3)]);
        w.run(Mode::Tc, &udp4(b"x"))
            .expect(Verdict::Redirect, &BOTH_RULES);
        change(&mut network);
        w.store(maps::NETWORKS, 1, network);
        w.run(Mode::Tc, &udp4(b"x"))
            .expect(Verdict::Redirect, &OTHER_PORT);
        println!("change {i} was seen");
        change_secretly(&mut w, 2, &[output(2)]);
        network.generation += 1;
        w.store(maps::NETWORKS, 1, network);
    }
}

#[test]
fn what_depends_on_more_than_the_flow_is_not_remembered() {
    stay_on_one_cpu();
    let cases: [(&str, &[Action], &[&str]); 3] = [
        (
            "a change",
            &[act(op::SET_ETH_DST, 0, 0, &[1; 6]), output(2)],
            &["rx 1", "rule 1", "tx 2"],
        ),
        (
            "two outputs",
            &[output(2), output(2)],
            // The copy, since the device is down.
            &["rx 1", "rule 1", "redirect-failed 2", "tx 2"],
        ),
        (
            "an event",
            &[act(op::CONTROLLER, 0xffff, 0, &[]), output(2)],
            &["rx 1", "rule 1", "tx 2"],
        ),
    ];
    for (what, actions, moved) in cases {
        let mut w = World::new();
        w.local(2, DEVICE);
        w.rule(1, any(), any(), actions);
        w.commit();
        for _ in 0..3 {
            println!("{what}");
            w.run(Mode::Tc, &udp4(b"x"))
                .expect(Verdict::Redirect, moved);
        }
        let nothing = [act(op::END, 0, 0, &[]); 2];
        change_secretly(&mut w, 1, &nothing[..actions.len()]);
        let outcome = w.run(Mode::Tc, &udp4(b"x"));
        assert!(
            !outcome.moved.contains_key("tx 2"),
            "{what}: {:?}",
            outcome.moved
        );
    }
}

#[test]
fn what_is_dropped_before_a_link_is_dropped_again() {
    stay_on_one_cpu();
    let mut w = World::new();
    w.link();
    let down = PortEntry {
        kind: PORT_LOCAL,
        flags: PORT_DOWN,
        ..port()
    };
    w.port(7, down);
    w.rule_with(1, any(), any(), &[output(7), output(4)], |r| r.flags = 0);
    w.rule_with(1, any(), any(), &[output(6)], |r| r.switch_slot = 2);
    w.commit();
    for _ in 0..4 {
        let moved = [
            "rx 1",
            "rule 1",
            "port-down 7",
            "tx 4",
            "rx 5",
            "rule 2",
            "tx 6",
        ];
        w.run(Mode::Tc, &udp4(b"again"))
            .expect(Verdict::Redirect, &moved);
    }
}

#[test]
fn a_packet_that_is_too_long_is_dropped_though_its_flow_is_remembered() {
    stay_on_one_cpu();
    for mode in BOTH {
        let mut w = world();
        w.port(
            2,
            PortEntry {
                id: 102,
                port_no: 12,
                kind: PORT_LOCAL,
                ifindex: 2,
                mtu: 40,
                ..port()
            },
        );
        for _ in 0..3 {
            w.run(mode, &udp4(b"short"))
                .expect(Verdict::Redirect, &BOTH_RULES);
        }
        w.run(mode, &udp4(&[7; 100]))
            .expect(Verdict::Drop, &["rx 1", "rule 1", "rule 2", "too-big 2"]);
        w.run(mode, &udp4(b"short"))
            .expect(Verdict::Redirect, &BOTH_RULES);
    }
}

/// A scan: every packet is of a flow of its own, and those that are remembered stay so.
#[test]
fn a_scan_does_not_push_out_what_is_remembered() {
    stay_on_one_cpu();
    let mut w = world();
    for _ in 0..3 {
        w.run(Mode::Xdp, &udp4(b"kept"))
            .expect(Verdict::Redirect, &BOTH_RULES);
    }
    change_secretly(&mut w, 2, &[output(3)]);
    for i in 0..4 * FLOWS {
        w.run(Mode::Xdp, &scan(i))
            .expect(Verdict::Redirect, &OTHER_PORT);
        // Often enough that it goes on being looked for.
        if i % 8 == 7 {
            w.run(Mode::Xdp, &udp4(b"kept"))
                .expect(Verdict::Redirect, &BOTH_RULES);
        }
    }
}

#[test]
fn a_long_scan_stops_the_looking_for_a_while() {
    stay_on_one_cpu();
    for mode in BOTH {
        let mut w = world();
        for _ in 0..3 {
            w.run(mode, &udp4(b"kept"))
                .expect(Verdict::Redirect, &BOTH_RULES);
        }
        change_secretly(&mut w, 2, &[output(3)]);
        for i in 0..64 {
            w.run(mode, &scan(i)).expect(Verdict::Redirect, &OTHER_PORT);
        }
        // For so many packets nothing is looked for.
        let kept = udp4(b"kept");
        let other_port = ["rx 1=1024", "rule 1=1024", "rule 2=1024", "tx 3=1024"];
        w.run_times(mode, &kept, 1024)
            .expect(Verdict::Redirect, &other_port);
        let both_rules = ["rx 1=100", "rule 1=100", "rule 2=100", "tx 2=100"];
        w.run_times(mode, &kept, 100)
            .expect(Verdict::Redirect, &both_rules);
    }
}

/// A packet of a flow that no other packet is of.
fn scan(number: u32) -> Vec<u8> {
    let mut frame = udp4(b"scan");
    frame[26..30].copy_from_slice(&(0x0b00_0000 + number).to_be_bytes());
    frame
}

/// Each CPU remembers for itself.
pub fn stay_on_one_cpu() {
    let mut cpus = nix::sched::CpuSet::new();
    cpus.set(nix::sched::sched_getcpu().unwrap()).unwrap();
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).unwrap();
}

#[test]
fn packets_that_match_nothing_are_counted_by_table_from_memory_too() {
    stay_on_one_cpu();
    for mode in BOTH {
        let mut w = World::new();
        let udp = FlowKey {
            ip_proto: 0xff,
            ..FlowKey::default()
        };
        let is_udp = FlowKey {
            ip_proto: 17,
            ..FlowKey::default()
        };
        w.rule_with(1, udp, is_udp, &[], |r| r.goto_table = 3);
        w.commit();
        for n in 1..=4 {
            w.run(mode, &udp4(b"x"))
                .expect(Verdict::Drop, &["rx 1", "rule 1", "table-miss 1"]);
            assert_eq!((w.misses(1, 3), w.misses(1, 0)), (n, 0), "{mode:?}");
        }
        for n in 1..=4 {
            w.run(mode, &tcp4(b"x"))
                .expect(Verdict::Drop, &["rx 1", "table-miss 1"]);
            assert_eq!((w.misses(1, 3), w.misses(1, 0)), (4, n), "{mode:?}");
        }
        assert_eq!(w.misses(2, 0), 0);
    }
}
