//! Consistency rule 5: outputs of packets that the controller is told of wait.

use super::{frames::*, groups::*, tunnel::*, world::*};
use switch_abi::*;

fn tell(max_len: u16) -> Action {
    act(op::CONTROLLER, max_len, EVENT_REASON_ACTION, &[])
}

fn set_source(n: u8) -> Action {
    act(op::SET_ETH_SRC, 0, 0, &[n; 6])
}

/// The frame with the source address that [`set_source`] makes.
fn from(n: u8, frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[6..12].copy_from_slice(&[n; 6]);
    frame
}

/// Makes a switch one of several instances, with these flags too.
fn hold(w: &mut World, slot: u32, flags: u32) {
    let switch = SwitchEntry {
        flags: SWITCH_HOLD | flags,
        ..w.get(maps::SWITCHES, slot)
    };
    w.switch(slot, switch);
}

/// Local ports 2 and 3 on an instance beside others.
fn world() -> World {
    let mut w = World::new();
    w.local(2, 2);
    w.local(3, 2);
    hold(&mut w, 1, 0);
    w
}

/// A link, ports 8 and 9, to a second switch.
fn linked(w: &mut World) {
    w.join((8, 18), (9, 19));
}

/// What is in the ring: all of one packet, and its end comes last.
#[track_caller]
fn held(w: &mut World) -> Vec<(EventHeader, Vec<u8>)> {
    let mut events = w.events();
    let name = events[0].0.hold;
    assert_ne!(name, 0);
    assert!(events.iter().all(|(h, _)| h.hold == name), "{events:?}");
    let (end, data) = events.pop().unwrap();
    assert_eq!((end.kind, end.network, data.len()), (EVENT_HELD, 7, 0));
    events
}

/// Output to a port: its slot.
#[track_caller]
fn assert_output(event: &(EventHeader, Vec<u8>), port: u32, frame: &[u8]) {
    let (header, data) = event;
    let found = (header.kind, header.table, header.reason, header.version);
    assert_eq!(found, (EVENT_OUTPUT, TUNNEL_DELIVER, 100 + port, 10));
    assert_eq!(data, frame);
}

#[test]
fn with_several_instances_outputs_wait_for_the_event() {
    let mut w = world();
    let actions = [output(2), set_source(2), tell(60), output(2)];
    w.rule_with(1, any(), any(), &actions, |r| r.goto_table = 1);
    w.rule_with(1, any(), any(), &[set_source(3), output(3)], |r| {
        r.table = 1;
    });
    w.commit();
    let frame = udp4(&[7; 1000]);
    w.run(Mode::Xdp, &frame).expect(Verdict::Pass, &[]);
    // Counted once, and not as sent before it is.
    w.run(Mode::Tc, &frame)
        .expect(Verdict::Drop, &["rx 1", "rule 1", "rule 2"]);
    let events = held(&mut w);
    assert_eq!(events.len(), 4);
    assert_output(&events[0], 2, &frame);
    assert_eq!(events[1].0.kind, EVENT_PACKET_IN);
    assert_eq!(events[1].1, from(2, &frame)[..60]);
    assert_output(&events[2], 2, &from(2, &frame));
    assert_output(&events[3], 3, &from(3, &frame));
    let first = events[0].0.hold;
    // Each packet has a name of its own.
    w.run(Mode::Tc, &frame);
    assert_ne!(held(&mut w)[0].0.hold, first);
    // Without other instances nothing waits.
    let alone = SwitchEntry {
        flags: 0,
        ..w.get(maps::SWITCHES, 1)
    };
    w.switch(1, alone);
    let tap = Tap::new("alone");
    w.local(2, tap.ifindex);
    w.run(Mode::Tc, &frame).expect(
        Verdict::Redirect,
        &["rx 1", "rule 1", "rule 2", "tx 2=2", "tx 3"],
    );
    let events = w.events();
    assert_eq!((events.len(), events[0].0.hold), (1, 0));
}

#[test]
fn what_is_to_be_segmented_is_held_whole() {
    let mut w = world();
    w.rule(1, any(), any(), &[tell(60), output(2)]);
    w.commit();
    let frame = tcp4(&[5; 3000]);
    w.run_gso(&frame, 1448)
        .expect(Verdict::Drop, &["rx 1", "rule 1"]);
    let events = held(&mut w);
    assert_output(&events[1], 2, &frame);
    assert_eq!(events[1].0.cookie, 1448);
}

#[test]
fn an_output_waits_for_what_a_later_table_tells() {
    let mut w = world();
    w.rule_with(1, any(), any(), &[output(2)], |r| r.goto_table = 1);
    w.rule_with(1, any(), any(), &[tell(60)], |r| r.table = 1);
    w.commit();
    for _ in 0..3 {
        w.run(Mode::Xdp, &udp4(b"x")).expect(Verdict::Pass, &[]);
        w.run(Mode::Tc, &udp4(b"x"))
            .expect(Verdict::Drop, &["rx 1", "rule 1", "rule 2"]);
        let events = held(&mut w);
        assert_output(&events[0], 2, &udp4(b"x"));
        assert_eq!((events.len(), events[1].0.kind), (2, EVENT_PACKET_IN));
    }
}

#[test]
fn an_output_waits_where_the_later_table_is_not_known_yet() {
    let mut w = world();
    let push = act(op::PUSH_MPLS, 0x8847, 0, &[]);
    w.rule_with(1, any(), any(), &[output(2), push], |r| r.goto_table = 1);
    w.rule_with(1, any(), any(), &[tell(0xffff)], |r| r.table = 1);
    w.commit();
    w.run(Mode::Tc, &udp4(b"x"))
        .expect(Verdict::Drop, &["rx 1", "rule 1", "rule 2"]);
    let events = held(&mut w);
    assert_output(&events[0], 2, &udp4(b"x"));
    assert_eq!((events.len(), events[1].0.kind), (2, EVENT_PACKET_IN));
    assert_eq!(events[1].1.len(), udp4(b"x").len() + 4);
}

#[test]
fn the_action_set_waits_too() {
    let mut w = world();
    w.rule_with(1, any(), any(), &[tell(60), output(2)], |r| {
        r.apply_count = 1;
    });
    w.commit();
    w.run(Mode::Tc, &udp4(b"x"))
        .expect(Verdict::Drop, &["rx 1", "rule 1"]);
    let events = held(&mut w);
    assert_eq!((events.len(), events[0].0.kind), (2, EVENT_PACKET_IN));
    assert_output(&events[1], 2, &udp4(b"x"));
}

#[test]
fn packets_that_are_only_output_or_only_told_of_do_not_wait() {
    let mut w = world();
    let mask = key(|k| k.ip_proto = 255);
    w.rule(2, mask, key(|k| k.ip_proto = 6), &[output(2)]);
    w.rule(1, any(), any(), &[tell(60)]);
    w.commit();
    for mode in BOTH {
        let outcome = w.run(mode, &tcp4(b"x"));
        outcome.expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 2"]);
    }
    w.run(Mode::Tc, &udp4(b"x"));
    let events = w.events();
    assert_eq!((events.len(), events[0].0.hold), (1, 0));
}

#[test]
fn a_held_packet_crosses_a_link_later() {
    let mut w = world();
    linked(&mut w);
    let mask = key(|k| k.ip_proto = 255);
    w.rule(2, mask, key(|k| k.ip_proto = 17), &[tell(60), output(8)]);
    w.rule(1, any(), any(), &[output(8)]);
    w.rule_with(1, any(), any(), &[output(3)], |r| r.switch_slot = 2);
    w.commit();
    w.run(Mode::Tc, &udp4(b"x"))
        .expect(Verdict::Drop, &["rx 1", "rule 1", "tx 8"]);
    let events = held(&mut w);
    let (header, data) = &events[1];
    assert_eq!((header.kind, header.table), (EVENT_OUTPUT, TUNNEL_PROCESS));
    assert_eq!((header.reason, header.hops), (109, TUNNEL_HOPS));
    assert_eq!(data, &udp4(b"x"));
    // One that is not told of crosses at once.
    let crossed = ["rx 1", "rule 2", "tx 8", "rx 9", "rule 3", "tx 3"];
    for mode in BOTH {
        w.run(mode, &tcp4(b"x")).expect(Verdict::Redirect, &crossed);
    }
}

#[test]
fn only_the_switch_that_tells_has_its_outputs_wait() {
    let mut w = world();
    linked(&mut w);
    hold(&mut w, 2, 0);
    w.rule(1, any(), any(), &[output(2), output(8)]);
    w.rule_with(1, any(), any(), &[tell(60)], |r| r.switch_slot = 2);
    w.commit();
    let moved = ["rx 1", "rule 1", "tx 2", "tx 8", "rx 9", "rule 2"];
    w.run(Mode::Tc, &udp4(b"x"))
        .expect(Verdict::Redirect, &moved);
    assert_eq!(w.events()[0].0.hold, 0);
}

/// The copy that the agent sends back, of a packet with this name.
fn sent_back(event: &(EventHeader, Vec<u8>), name: u16) -> Vec<u8> {
    let (header, inner) = event;
    assert_eq!((header.kind, header.table), (EVENT_OUTPUT, TUNNEL_GROUP));
    let mut frame = arriving(
        inner,
        TUNNEL_GROUP,
        header.hops,
        header.reason,
        header.version,
    );
    frame[26] = 127;
    frame[34..36].copy_from_slice(&(header.rule_id as u16).to_be_bytes());
    frame[40..42].copy_from_slice(&name.to_be_bytes());
    frame[57] = header.rule_slot as u8;
    frame[66..70].copy_from_slice(&header.in_port.to_be_bytes());
    frame
}

/// What [`sent_back`] makes is of this host.
fn this_hosts(w: &mut World) {
    w.recirculation(DEVICE);
    w.allow(&[127, THERE[1], THERE[2], THERE[3]], 0x12_3456, 1);
}

#[test]
fn an_output_waits_for_what_a_group_tells_of_a_copy() {
    let mut w = world();
    this_hosts(&mut w);
    w.rule(1, any(), any(), &[to_group(7)]);
    let told = [set_source(4), tell(0xffff), output(3)];
    let buckets = [
        (1, 0, &told[..]),
        (1, 0, &[set_source(5), output(2)]),
        (1, 0, &[output(3)]),
    ];
    let slots = group(&mut w, 7, GROUP_ALL, &buckets);
    w.commit();
    w.run(Mode::Xdp, &udp4(b"x")).expect(Verdict::Pass, &[]);
    let rule = |i: usize| format!("rule {}", slots[i]);
    let moved = ["rx 1", "rule 1", &rule(0), &rule(2), &rule(3)];
    w.run(Mode::Tc, &udp4(b"x")).expect(Verdict::Drop, &moved);
    let events = held(&mut w);
    assert_eq!(events.len(), 3);
    let of_this = |e: &&(EventHeader, Vec<u8>)| e.0.table == TUNNEL_GROUP;
    let copy = sent_back(events.iter().find(of_this).unwrap(), 0x1234);
    // Meanwhile there is another version of everything; the copy is of the one that its packet has met.
    let network = NetworkEntry {
        clock: 15,
        ..w.get(maps::NETWORKS, 1)
    };
    w.network(1, network);
    w.receive(Mode::Xdp, &copy).expect(Verdict::Pass, &[]);
    w.receive(Mode::Tc, &copy)
        .expect(Verdict::Drop, &[&rule(1)]);
    let events = held(&mut w);
    assert_eq!((events[0].0.hold, events[0].0.version), (0x1234, 10));
    assert_eq!(events[0].0.kind, EVENT_PACKET_IN);
    assert_eq!(events[0].1, from(4, &udp4(b"x")));
    assert_output(&events[1], 3, &from(4, &udp4(b"x")));
    assert_eq!(events.len(), 2);
}

/// One that waited for a promise (rule 14) could not enter again at its version.
#[test]
fn a_copy_of_a_held_packet_meets_no_promised_rule() {
    let mut w = world();
    this_hosts(&mut w);
    linked(&mut w);
    w.rule(1, any(), any(), &[to_group(7)]);
    let buckets = [
        (1, 0, &[set_source(4), output(8)][..]),
        (1, 0, &[set_source(5), tell(60)]),
        (1, 0, &[output(3)]),
    ];
    group(&mut w, 7, GROUP_ALL, &buckets);
    w.rule_with(1, any(), any(), &[output(2)], |r| {
        r.switch_slot = 2;
        r.flags |= RULE_PROMISED;
    });
    w.commit();
    w.run(Mode::Tc, &udp4(b"x"));
    let events = held(&mut w);
    let copies = events.iter().filter(|e| e.0.table == TUNNEL_GROUP);
    let copies: Vec<_> = copies.map(|e| sent_back(e, 7)).collect();
    let mut crossings = 0;
    for copy in copies {
        w.receive(Mode::Tc, &copy);
        for (header, data) in held(&mut w) {
            if header.kind == EVENT_OUTPUT && header.table == TUNNEL_PROCESS {
                crossings += 1;
                assert_eq!((header.reason, data), (109, from(4, &udp4(b"x"))));
            }
        }
    }
    assert_eq!(crossings, 1);
}

#[test]
fn a_group_that_something_comes_after_may_tell() {
    let mut w = world();
    this_hosts(&mut w);
    let actions = [to_group(7), set_source(2), output(2)];
    w.rule_with(1, any(), any(), &actions, |r| r.flags |= RULE_COPIES);
    group(&mut w, 7, GROUP_INDIRECT, &[(1, 0, &[tell(60)])]);
    w.commit();
    hold(&mut w, 1, SWITCH_GROUP_TELLS);
    w.run(Mode::Tc, &udp4(b"x"))
        .expect(Verdict::Drop, &["rx 1", "rule 1"]);
    let events = held(&mut w);
    assert_output(&events[1], 2, &from(2, &udp4(b"x")));
    w.receive(Mode::Tc, &sent_back(&events[0], 9));
    let events = held(&mut w);
    assert_eq!((events.len(), events[0].0.kind), (1, EVENT_PACKET_IN));
    assert_eq!(events[0].0.hold, 9);
}

#[test]
fn other_hosts_cannot_name_held_packets() {
    let mut w = world();
    w.allow(&THERE, 0x12_3456, 1);
    w.rule(1, any(), any(), &[tell(60)]);
    w.commit();
    let mut frame = arriving(&udp4(b"x"), TUNNEL_PROCESS, 8, 101, 10);
    frame[40..42].copy_from_slice(&[1, 2]);
    w.receive(Mode::Tc, &frame);
    let events = w.events();
    assert_eq!((events.len(), events[0].0.hold), (1, 0));
}

#[test]
fn what_cannot_wait_is_a_drop_with_a_name() {
    let mut w = world();
    w.rule(1, any(), any(), &[tell(60), output(2)]);
    w.commit();
    // Outputs are charged to the switch, as events are.
    let limited = SwitchEntry {
        event_budget: 100,
        event_burst: 100,
        ..w.get(maps::SWITCHES, 1)
    };
    w.switch(1, limited);
    w.run(Mode::Tc, &udp4(b"x"))
        .expect(Verdict::Drop, &["rx 1", "rule 1", "not-held 2"]);
    assert_eq!(held(&mut w).len(), 1);
}
