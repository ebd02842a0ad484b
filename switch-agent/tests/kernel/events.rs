//! Packet-ins: the event ring.

use super::{frames::*, world::*};
use switch_abi::*;

fn controller(max_len: u16) -> Action {
    act(op::CONTROLLER, max_len, EVENT_REASON_ACTION, &[])
}

#[test]
fn an_event_says_where_and_at_what_version_and_carries_the_packet() {
    let mut w = World::new();
    let rule = w.rule_with(1, any(), any(), &[controller(0xffff)], |r| r.table = 0);
    w.commit();
    let frame = udp4(&[7; 1000]);
    w.run(Mode::Xdp, &frame).expect(Verdict::Pass, &[]);
    assert!(w.events().is_empty());
    w.run(Mode::Tc, &frame)
        .expect(Verdict::Drop, &["rx 1", "rule 1"]);
    let events = w.events();
    let header = EventHeader {
        kind: EVENT_PACKET_IN,
        table: 0,
        hops: 0,
        reason: EVENT_REASON_ACTION,
        network: 7,
        switch: 5,
        version: 10,
        in_port: 11,
        rule_slot: rule,
        hold: 0,
        rule_id: 1000 + rule as u64,
        cookie: 2000 + rule as u64,
        total_len: frame.len() as u32,
        data_len: frame.len() as u32,
    };
    assert_eq!(events, [(header, frame)]);
}

#[test]
fn an_event_is_cut_at_max_len_and_shows_the_packet_as_it_is_then() {
    let mut w = World::new();
    w.local(2, 2);
    let tag = [
        act(op::PUSH_VLAN, 0x8100, 0, &[]),
        act(op::SET_VLAN_VID, 100, 0, &[]),
    ];
    w.rule(
        1,
        any(),
        any(),
        &[&tag[..], &[controller(60), output(2)]].concat(),
    );
    w.commit();
    let frame = udp4(&[7; 1000]);
    w.run(Mode::Tc, &frame)
        .expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 2"]);
    let events = w.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1, tagged(&frame, 0x8100, 100)[..60]);
    assert_eq!(
        (events[0].0.total_len, events[0].0.data_len),
        (frame.len() as u32 + 4, 60)
    );
}

#[test]
fn a_full_ring_is_a_drop_with_a_name() {
    let mut w = World::new();
    w.rule(1, any(), any(), &[controller(0xffff)]);
    w.commit();
    let frame = udp4(&[7; 3000]);
    let mut lost = 0;
    for _ in 0..500 {
        let outcome = w.run(Mode::Tc, &frame);
        assert_eq!(outcome.verdict, Verdict::Drop);
        if outcome.moved.contains_key("event-ring-full 1") {
            lost += 1;
        }
    }
    assert!(lost > 0);
    assert_eq!(w.events().len() + lost, 500);
}

/// The budget of a switch's slot.
fn budget(w: &World, slot: u32) -> i32 {
    w.get::<SwitchEntry>(maps::SWITCHES, slot).event_budget
}

#[test]
fn a_switch_sends_what_its_budget_allows_and_others_go_on() {
    let mut w = World::new();
    w.instance(2, 6);
    w.rule(1, any(), any(), &[controller(100)]);
    w.rule_with(1, any(), any(), &[controller(100)], |r| r.switch_slot = 2);
    w.commit();
    // Each event takes 164 bytes. The third takes more than is left.
    let limited = SwitchEntry {
        event_budget: 400,
        event_burst: 400,
        ..w.get(maps::SWITCHES, 1)
    };
    w.switch(1, limited);
    let frame = udp4(&[7; 1000]);
    for left in [236, 72, -92] {
        w.run(Mode::Tc, &frame)
            .expect(Verdict::Drop, &["rx 1", "rule 1"]);
        assert_eq!((w.events().len(), budget(&w, 1)), (1, left));
    }
    for _ in 0..3 {
        w.run(Mode::Tc, &frame)
            .expect(Verdict::Drop, &["rx 1", "rule 1", "packet-in-limit 1"]);
        assert_eq!((w.events().len(), budget(&w, 1)), (0, -92));
    }
    let port: PortEntry = w.get(maps::PORTS, IN);
    w.port(
        IN,
        PortEntry {
            switch_slot: 2,
            ..port
        },
    );
    w.run(Mode::Tc, &frame)
        .expect(Verdict::Drop, &["rx 1", "rule 2"]);
    assert_eq!((w.events().len(), budget(&w, 2)), (1, 0));
}

/// What did not get into the ring costs nothing.
#[test]
fn an_event_for_which_the_ring_has_no_room_is_not_charged() {
    let mut w = World::new();
    w.rule(1, any(), any(), &[controller(0xffff)]);
    w.commit();
    let limited = SwitchEntry {
        event_budget: 1 << 30,
        event_burst: 1 << 30,
        ..w.get(maps::SWITCHES, 1)
    };
    w.switch(1, limited);
    let frame = udp4(&[7; 1400]);
    let cost = event_cost(frame.len() as u32) as i32;
    let mut sent = 0;
    while !w
        .run(Mode::Tc, &frame)
        .moved
        .contains_key("event-ring-full 1")
    {
        sent += 1;
    }
    assert_eq!(budget(&w, 1), (1 << 30) - sent * cost);
    assert_eq!(w.events().len(), sent as usize);
}
