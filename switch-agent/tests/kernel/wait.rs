//! Promised rules (consistency rule 14): what would match one goes to the agent as it came in, and nothing of it is done or counted.

use super::{
    cache::stay_on_one_cpu,
    frames::*,
    tunnel::{arriving, world as with_peers},
    world::*,
};
use switch_abi::*;

fn promise(w: &mut World, slot: u32, promised: bool) {
    let mut entry: RuleEntry = w.get(maps::RULES, slot);
    entry.flags = entry.flags & !RULE_PROMISED | if promised { RULE_PROMISED } else { 0 };
    w.store(maps::RULES, slot, entry);
    let mut network: NetworkEntry = w.get(maps::NETWORKS, 1);
    network.generation += 1;
    w.store(maps::NETWORKS, 1, network);
}

/// A world where a packet of port 1 passes rule 1 in table 0 and rule 2 in table 1, which outputs to port 2.
fn world() -> World {
    let mut w = World::new();
    w.local(2, 2);
    w.rule_with(1, any(), any(), &[], |r| r.goto_table = 1);
    w.rule_with(1, any(), any(), &[output(2)], |r| {
        r.table = 1;
        r.idle_timeout = 1;
    });
    w.commit();
    w
}

const BOTH_RULES: [&str; 4] = ["rx 1", "rule 1", "rule 2", "tx 2"];

fn waiting(port: u32, frame: &[u8]) -> EventHeader {
    EventHeader {
        kind: EVENT_WAITING,
        table: TUNNEL_PROCESS,
        hops: 0,
        reason: 0,
        network: 7,
        switch: 5,
        version: 10,
        in_port: port,
        rule_slot: 2,
        hold: 0,
        rule_id: 1002,
        cookie: 0,
        total_len: frame.len() as u32,
        data_len: frame.len() as u32,
    }
}

#[test]
fn a_packet_that_would_match_a_promised_rule_waits_whole_and_uncounted() {
    stay_on_one_cpu();
    let mut w = world();
    let id = w.get::<PortEntry>(maps::PORTS, IN).id;
    for frame in [
        udp4(&[7; 1000]),
        tagged(&udp6(b"tag"), 0x8100, 100),
        arp(),
        ethernet(0x88b5, &[3; 50]),
    ] {
        promise(&mut w, 2, true);
        w.run(Mode::Xdp, &frame).expect(Verdict::Pass, &[]);
        assert!(w.events().is_empty());
        w.run(Mode::Tc, &frame).expect(Verdict::Drop, &[]);
        assert_eq!(w.events(), [(waiting(id, &frame), frame.clone())]);
        promise(&mut w, 2, false);
        for mode in BOTH {
            w.run(mode, &frame).expect(Verdict::Redirect, &BOTH_RULES);
        }
        assert!(w.events().is_empty());
    }
}

#[test]
fn a_flow_that_is_remembered_does_not_match_a_promised_rule() {
    stay_on_one_cpu();
    let frame = udp4(b"remembered");
    for mode in BOTH {
        let mut w = world();
        for _ in 0..3 {
            w.run(mode, &frame).expect(Verdict::Redirect, &BOTH_RULES);
        }
        promise(&mut w, 2, true);
        let verdict = match mode {
            Mode::Xdp => Verdict::Pass,
            Mode::Tc => Verdict::Drop,
        };
        for _ in 0..3 {
            w.run(mode, &frame).expect(verdict, &[]);
        }
        promise(&mut w, 2, false);
        for _ in 0..3 {
            w.run(mode, &frame).expect(Verdict::Redirect, &BOTH_RULES);
        }
    }
}

#[test]
fn a_packet_out_of_a_tunnel_waits_as_the_tenants_frame() {
    stay_on_one_cpu();
    let mut w = with_peers();
    let local = w.get::<PortEntry>(maps::PORTS, 4).id;
    w.rule(0, any(), any(), &[]);
    w.rule(1, any(), any(), &[output(4)]);
    w.commit();
    promise(&mut w, 2, true);
    for frame in [udp4(b"tunnelled"), tagged(&udp4(b"tunnelled"), 0x8100, 7)] {
        let outer = arriving(&frame, TUNNEL_PROCESS, 3, local, 10);
        w.receive(Mode::Xdp, &outer).expect(Verdict::Pass, &[]);
        w.receive(Mode::Tc, &outer).expect(Verdict::Drop, &[]);
        assert_eq!(w.events(), [(waiting(local, &frame), frame)]);
    }
}

#[test]
fn what_is_to_be_segmented_waits_whole() {
    stay_on_one_cpu();
    let mut w = world();
    let id = w.get::<PortEntry>(maps::PORTS, IN).id;
    promise(&mut w, 2, true);
    let frame = tcp4(&[5; 3000]);
    w.run_gso(&frame, 1448).expect(Verdict::Drop, &[]);
    let header = EventHeader {
        reason: 1448,
        ..waiting(id, &frame)
    };
    assert_eq!(w.events(), [(header, frame)]);
}

#[test]
fn behind_what_has_changed_a_packet_it_is_dropped_with_a_name() {
    stay_on_one_cpu();
    let mut w = World::new();
    w.local(2, 2);
    let pop = act(op::POP_MPLS, 0x0800, 0, &[]);
    w.rule_with(1, any(), any(), &[pop], |r| r.goto_table = 1);
    w.rule_with(1, any(), any(), &[output(2)], |r| r.table = 1);
    w.commit();
    let inner = udp4(b"labelled");
    let frame = ethernet(0x8847, &[&[0, 1, 0x01, 64][..], &inner[14..]].concat());
    w.run(Mode::Tc, &frame)
        .expect(Verdict::Redirect, &["rx 1", "rule 1", "rule 2", "tx 2"]);
    promise(&mut w, 2, true);
    w.run(Mode::Tc, &frame)
        .expect(Verdict::Drop, &["rx 1", "rule 1", "promised 1"]);
    assert!(w.events().is_empty());
}

#[test]
fn what_finds_no_room_to_wait_is_dropped_with_a_name() {
    stay_on_one_cpu();
    let mut w = world();
    promise(&mut w, 2, true);
    let frame = udp4(&[7; 1400]);
    let mut lost = 0;
    for _ in 0..1000 {
        let outcome = w.run(Mode::Tc, &frame);
        assert_eq!(outcome.verdict, Verdict::Drop);
        lost += outcome.moved.get("promised 1").copied().unwrap_or_default();
    }
    assert_eq!(lost + w.events().len() as u64, 1000);
    assert!(lost > 0);
}
