//! Groups: choosing a bucket, copies, versions, chains.

use super::{frames::*, tunnel::*, world::*};
use std::collections::BTreeMap;
use switch_abi::*;

/// A bucket's weight, the port slot that it watches (0: none), and its actions.
pub type Bucket<'a> = (u16, u32, &'a [Action]);

fn part(
    w: &mut World,
    group: u32,
    number: u16,
    actions: &[Action],
    change: impl FnOnce(&mut RuleEntry),
) -> u32 {
    let at = |word| {
        let mut words = [0; KEY_WORDS];
        words[0] = word;
        FlowKey::from_words(words)
    };
    let (mask, key) = (at(PART_MASK), at(part_word(group, number)));
    w.rule_with(0, mask, key, actions, |r| {
        r.table = GROUP_TABLE;
        change(r);
    })
}

/// Adds a group as the agent writes it; the slots of its head and of its buckets.
pub fn group(w: &mut World, id: u32, kind: u8, buckets: &[Bucket<'_>]) -> Vec<u32> {
    let mut slots = vec![part(w, id, PART_HEAD, &[], |_| {})];
    slots.extend(choices(w, id, kind, buckets, 1, 0));
    slots
}

/// The same without the head, visible from one clock to another.
fn choices(
    w: &mut World,
    id: u32,
    kind: u8,
    buckets: &[Bucket<'_>],
    from: u32,
    to: u32,
) -> Vec<u32> {
    let visible = |r: &mut RuleEntry| (r.valid_from, r.valid_to) = (from, to);
    let ops: Vec<Action> = buckets
        .iter()
        .map(|&(weight, watch, _)| Action {
            pad: if watch == 0 { 0 } else { BUCKET_WATCHES },
            ..act(op::BUCKET, weight, watch, &[])
        })
        .collect();
    let chunks: Vec<_> = ops.chunks(MAX_ACTIONS).collect();
    for (i, chunk) in chunks.iter().enumerate() {
        part(w, id, PART_CHOICE + i as u16, chunk, |r| {
            visible(r);
            r.metadata = choice_word(kind, chunks.len() as u8, buckets.len() as u16);
        });
    }
    let outputs = op::OUTPUT..=op::CONTROLLER;
    let buckets = buckets.iter().enumerate().map(|(i, &(_, _, actions))| {
        part(w, id, PART_BUCKET + i as u16, actions, |r| {
            visible(r);
            if actions.iter().all(|a| outputs.contains(&a.op)) {
                r.flags |= RULE_PURE;
            }
        })
    });
    buckets.collect()
}

pub fn to_group(id: u32) -> Action {
    act(op::GROUP, 0, id, &[])
}

/// Frame of a flow of its own.
fn flow(n: u16) -> Vec<u8> {
    let mut frame = udp4(b"flow");
    frame[26..28].copy_from_slice(&n.to_be_bytes());
    frame
}

/// Which port a frame went to, by its counter.
fn sent(outcome: &Outcome) -> Option<u32> {
    let mut ports = outcome.moved.keys();
    ports.find_map(|name| name.strip_prefix("tx ")?.parse().ok())
}

fn three_ports() -> World {
    let mut w = World::new();
    for slot in 2..=4 {
        w.local(slot, 2);
    }
    w
}

#[test]
fn select_is_stable_by_weight_and_leaves_out_what_is_down() {
    let mut w = three_ports();
    w.rule(1, any(), any(), &[to_group(9)]);
    let outs = [[output(2)], [output(3)], [output(4)]];
    let buckets = [(3, 2, &outs[0][..]), (1, 3, &outs[1]), (0, 4, &outs[2])];
    group(&mut w, 9, GROUP_SELECT, &buckets);
    w.commit();
    let mut before = BTreeMap::new();
    for n in 0..200 {
        let port = sent(&w.run(Mode::Tc, &flow(n))).unwrap();
        assert_eq!(sent(&w.run(Mode::Xdp, &flow(n))), Some(port));
        before.insert(n, port);
    }
    let share = before.values().filter(|&&p| p == 2).count();
    assert!((120..=180).contains(&share), "3/4 of 200 flows: {share}");
    assert!(!before.values().any(|&p| p == 4), "a weight of 0 gets none");
    // What the agent's user space would choose.
    w.port(
        2,
        PortEntry {
            id: 102,
            port_no: 12,
            kind: PORT_LOCAL,
            ifindex: 2,
            flags: PORT_DEAD,
            ..port()
        },
    );
    for n in 0..200 {
        assert_eq!(sent(&w.run(Mode::Tc, &flow(n))), Some(3));
    }
    w.local(2, 2);
    for (n, port) in before {
        assert_eq!(sent(&w.run(Mode::Xdp, &flow(n))), Some(port));
    }
}

#[test]
fn fast_failover_takes_the_first_live_bucket() {
    let mut w = three_ports();
    w.rule(1, any(), any(), &[to_group(1)]);
    // More than fit in one part; all but the last watch ports that are not there.
    let (dead, live) = ([output(2)], [output(3)]);
    let mut buckets = vec![(1, 40, &dead[..]); 20];
    buckets.push((1, 3, &live));
    buckets.push((1, 0, &dead));
    let slots = group(&mut w, 1, GROUP_FAST_FAILOVER, &buckets);
    w.commit();
    for mode in BOTH {
        let moved = [
            "rx 1",
            "rule 1",
            &format!("rule {}", slots[0]),
            &format!("rule {}", slots[21]),
            "tx 3",
        ];
        w.run(mode, &udp4(b"x")).expect(Verdict::Redirect, &moved);
    }
    w.port(
        3,
        PortEntry {
            flags: PORT_DOWN,
            kind: PORT_LOCAL,
            ..port()
        },
    );
    for mode in BOTH {
        assert_eq!(sent(&w.run(mode, &udp4(b"x"))), Some(2));
    }
}

#[test]
fn without_a_live_bucket_the_packet_is_dropped() {
    let mut w = three_ports();
    w.rule(1, any(), any(), &[to_group(1)]);
    let head = group(&mut w, 1, GROUP_SELECT, &[(1, 40, &[output(2)])])[0];
    w.commit();
    for mode in BOTH {
        let moved = ["rx 1", "rule 1", &format!("rule {head}"), "no-bucket 1"];
        w.run(mode, &udp4(b"x")).expect(Verdict::Drop, &moved);
    }
}

#[test]
fn all_buckets_work_on_copies_of_their_own() {
    let mut w = three_ports();
    let (out, recirc) = (Tap::new("outg"), Tap::new("recircg"));
    w.local(2, out.ifindex);
    this_host(&mut w, recirc.ifindex);
    w.rule(1, any(), any(), &[to_group(7)]);
    let set = |n| act(op::SET_ETH_DST, 0, 0, &[2, 0, 0, 0, 0, n]);
    let (first, second) = ([set(1), output(3)], [set(2), output(4)]);
    let buckets = [(1, 0, &first[..]), (1, 0, &[output(2)]), (1, 0, &second)];
    let slots = group(&mut w, 7, GROUP_ALL, &buckets);
    w.commit();
    w.run(Mode::Xdp, &udp4(b"all")).expect(Verdict::Pass, &[]);
    let outcome = w.run(Mode::Tc, &udp4(b"all"));
    let moved = [
        "rx 1",
        "rule 1",
        &format!("rule {}", slots[0]),
        &format!("rule {}", slots[2]),
        &format!("rule {}", slots[3]),
        "tx 2",
        "tx 4",
    ];
    outcome.expect(Verdict::Redirect, &moved);
    assert_eq!(outcome.frame[..6], [2, 0, 0, 0, 0, 2]);
    assert_eq!(out.frames(1)[0], udp4(b"all"));
    let copy = recirc.frames(1).remove(0);
    // Kind, hops, bucket 1; port; clock; group.
    assert_eq!(copy[42 + 13..42 + 16], [TUNNEL_GROUP, 8, 1]);
    assert_eq!(copy[42 + 24..42 + 28], 7u32.to_be_bytes());
    let outcome = w.receive(Mode::Tc, &copy);
    // Not received, and no packet of the group, once more.
    let moved = [&*format!("rule {}", slots[1]), "tx 3"];
    outcome.expect(Verdict::Redirect, &moved);
    let mut expected = udp4(b"all");
    expected[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    assert_eq!(outcome.frame, expected);
}

#[test]
fn a_group_that_something_comes_after_gets_a_copy() {
    let mut w = three_ports();
    let recirc = Tap::new("recircf");
    this_host(&mut w, recirc.ifindex);
    let tag = act(op::PUSH_VLAN, 0x8100, 0, &[]);
    w.rule_with(1, any(), any(), &[to_group(7), tag, output(2)], |r| {
        r.flags = 0;
    });
    let slots = group(&mut w, 7, GROUP_INDIRECT, &[(1, 0, &[output(3)])]);
    w.commit();
    w.run(Mode::Xdp, &udp4(b"x")).expect(Verdict::Pass, &[]);
    let outcome = w.run(Mode::Tc, &udp4(b"x"));
    outcome.expect(Verdict::Redirect, &["rx 1", "rule 1", "tx 2"]);
    let copy = recirc.frames(1).remove(0);
    let outcome = w.receive(Mode::Tc, &copy);
    let (head, bucket) = (format!("rule {}", slots[0]), format!("rule {}", slots[1]));
    outcome.expect(Verdict::Redirect, &[&head, &bucket, "tx 3"]);
    assert_eq!(outcome.frame, udp4(b"x"));
    // The queue goes along.
    let mut w = three_ports();
    let recirc = Tap::new("recircq");
    this_host(&mut w, recirc.ifindex);
    let queue = act(op::SET_QUEUE, 0, 77, &[]);
    w.rule_with(
        1,
        any(),
        any(),
        &[queue, to_group(7), tag, output(2)],
        |r| r.flags = 0,
    );
    group(&mut w, 7, GROUP_INDIRECT, &[(1, 0, &[output(3)])]);
    w.commit();
    w.run(Mode::Tc, &udp4(b"x"));
    let copy = recirc.frames(1).remove(0);
    w.receive(Mode::Xdp, &copy).expect(Verdict::Pass, &[]);
    assert_eq!(w.receive(Mode::Tc, &copy).priority, 0x1_004d);
    // From another host, such a frame is a forgery.
    w.recirculation(77);
    let outcome = w.receive(Mode::Tc, &copy);
    outcome.expect(Verdict::Drop, &["unknown-peer 0"]);
}

#[test]
fn a_packet_meets_the_group_of_its_clock() {
    let mut w = three_ports();
    let recirc = Tap::new("recircv");
    this_host(&mut w, recirc.ifindex);
    let udp = |k: &mut FlowKey| k.ip_proto = 17;
    w.rule(1, any(), any(), &[to_group(7)]);
    let mask = key(|k| k.ip_proto = 255);
    w.rule_with(2, mask, key(udp), &[to_group(7), output(4)], |r| {
        r.flags = 0
    });
    part(&mut w, 7, PART_HEAD, &[], |_| {});
    let (old, new) = ([output(2)], [output(3)]);
    choices(&mut w, 7, GROUP_INDIRECT, &[(1, 0, &old)], 1, 15);
    choices(&mut w, 7, GROUP_INDIRECT, &[(1, 0, &new)], 15, 0);
    w.commit();
    assert_eq!(sent(&w.run(Mode::Tc, &tcp4(b"x"))), Some(2));
    w.run(Mode::Tc, &udp4(b"x"));
    let copy = recirc.frames(1).remove(0);
    let network = NetworkEntry {
        clock: 15,
        ..w.get(maps::NETWORKS, 1)
    };
    w.network(1, network);
    for mode in BOTH {
        assert_eq!(sent(&w.run(mode, &tcp4(b"x"))), Some(3));
    }
    // The copy was made when the group was another: the other copies of its packet have met that one.
    let outcome = w.receive(Mode::Tc, &copy);
    assert_eq!(outcome.verdict, Verdict::Drop);
    assert!(outcome.moved.contains_key("group-changed 1"), "{outcome:?}");
    // One that is as new as the group passes.
    w.run(Mode::Tc, &udp4(b"x"));
    let copy = recirc.frames(1).remove(0);
    assert_eq!(sent(&w.receive(Mode::Tc, &copy)), Some(3));
}

#[test]
fn groups_run_groups_and_take_the_place_of_an_output_in_a_set() {
    let mut w = three_ports();
    let vid = act(op::SET_VLAN_VID, 5, 0, &[]);
    let push = act(op::PUSH_VLAN, 0x8100, 0, &[]);
    // Written, not applied.
    w.rule_with(1, any(), any(), &[output(2), to_group(1), push], |r| {
        (r.apply_count, r.flags) = (0, RULE_XDP);
    });
    let inner = [vid, to_group(2)];
    let first = group(&mut w, 1, GROUP_INDIRECT, &[(1, 0, &inner)]);
    let second = group(&mut w, 2, GROUP_SELECT, &[(1, 0, &[output(3)])]);
    w.commit();
    for mode in BOTH {
        let outcome = w.run(mode, &udp4(b"x"));
        let moved: Vec<String> = first
            .iter()
            .chain(&second)
            .map(|s| format!("rule {s}"))
            .collect();
        let mut moved: Vec<&str> = moved.iter().map(String::as_str).collect();
        moved.extend(["rx 1", "rule 1", "tx 3"]);
        outcome.expect(Verdict::Redirect, &moved);
        if mode == Mode::Xdp {
            assert_eq!(outcome.frame[12..16], [0x81, 0, 0, 5]);
        }
    }
}

#[test]
fn a_packet_of_a_group_for_the_controller_has_no_cookie() {
    let mut w = three_ports();
    w.rule(1, any(), any(), &[to_group(1)]);
    let controller = [act(op::CONTROLLER, 0xffff, EVENT_REASON_ACTION, &[])];
    group(
        &mut w,
        1,
        GROUP_ALL,
        &[(1, 0, &controller), (1, 0, &[output(2)])],
    );
    w.commit();
    let outcome = w.run(Mode::Tc, &udp4(b"x"));
    assert_eq!(sent(&outcome), Some(2));
    let events = w.events();
    let header = &events[0].0;
    assert_eq!((header.table, header.cookie), (0, u64::MAX));
    assert_eq!(header.in_port, 11);
}
