//! Consistency rule 5 through the whole agent: outputs wait until the coordinator has the packet's events. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use lime_proto::v1::coordinator_message::Message as ToAgent;
use lime_proto::v1::{self, agent_message::Message};
use support::{Coordinator, Session, Wire, in_namespace, network, output, rule, stage};

const CONTROLLER: u32 = 0xffff_fffd;

/// A frame that no stack sends by itself, told apart by `mark`.
fn frame(mark: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.resize(64, mark);
    frame
}

fn is(mark: u8) -> impl Fn(&[u8]) -> bool {
    move |f| f.ends_with(&frame(mark)[12..])
}

/// Whether a frame with this mark has come. Nothing that comes only later is waited for: the events of a packet are read after
/// all that the programs have done with it.
fn has_come(wire: &Wire, mark: u8) -> bool {
    std::iter::from_fn(|| wire.receive()).any(|f| is(mark)(&f))
}

async fn packet_in(session: &mut Session) -> v1::Event {
    session
        .wait(|m| match m {
            Message::Event(event) => Some(event.clone()),
            _ => None,
        })
        .await
}

/// A switch with other instances.
fn one_of_several() -> v1::Configure {
    let mut wanted = network(1);
    wanted.switches[0].hold = true;
    wanted
}

async fn release(session: &Session, held_ids: Vec<u64>) {
    session
        .send(ToAgent::ReleaseHeld(v1::ReleaseHeld { held_ids }))
        .await;
}

fn in_table(table: u32, goto_table: Option<u32>, mut rule: v1::AddRule) -> v1::AddRule {
    let of = rule.rule.as_mut().unwrap();
    (of.table, of.goto_table) = (table, goto_table);
    rule
}

/// A part of group 7.
fn part(id: u64, part: v1::group_part::Part, actions: Vec<v1::Action>) -> v1::AddRule {
    let mut entry = rule(id, 0, &[]);
    entry.rule.as_mut().unwrap().actions = actions;
    entry.part = Some(v1::GroupPart {
        group_id: 7,
        part: Some(part),
    });
    entry
}

/// A rule to group 7, of type all: a copy with a tag for the controller, and one as it is for port 2.
fn group() -> Vec<v1::AddRule> {
    use v1::{action::Action, choice_op, group_part::Part};
    let action = |action| v1::Action {
        action: Some(action),
    };
    let mut to_group = rule(1, 5, &[]);
    let actions = &mut to_group.rule.as_mut().unwrap().actions;
    actions.push(action(Action::Group(v1::action::Group { group_id: 7 })));
    let bucket = v1::ChoiceOp {
        op: Some(choice_op::Op::Bucket(choice_op::Bucket::default())),
    };
    let choice = v1::GroupChoice {
        parts: 1,
        r#type: v1::GroupType::All.into(),
        buckets: 2,
        ops: vec![bucket; 2],
        ..Default::default()
    };
    let tag = action(Action::PushVlan(v1::action::PushVlan { ethertype: 0x8100 }));
    vec![
        to_group,
        part(2, Part::Head(v1::group_part::Head {}), vec![]),
        part(3, Part::Choice(choice), vec![]),
        part(4, Part::Bucket(0), vec![tag.clone(), output(CONTROLLER)]),
        part(5, Part::Bucket(1), vec![tag, output(2)]),
    ]
}

#[test]
fn held_outputs_wait_for_the_coordinator() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(one_of_several()).await.error, None);
        session
            .stage(stage(1, vec![rule(1, 5, &[CONTROLLER, 2])]))
            .await;
        session.activate(1, 1).await;
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        host1.send(&frame(1));
        let event = packet_in(&mut session).await;
        assert_ne!(event.held_id, 0);
        assert_eq!(event.packet_in.unwrap().data, frame(1));
        assert!(!has_come(&host2, 1));
        release(&session, vec![event.held_id, event.held_id, 4711]).await;
        host2.expect(is(1)).await;
        session.activate(1, 1).await;
        assert!(!has_come(&host2, 1));
        agent.stop().await;
    });
}

#[test]
fn outputs_of_several_tables_wait_for_all_that_the_controller_is_told() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(one_of_several()).await.error, None);
        let rules = vec![
            in_table(0, Some(1), rule(1, 5, &[2])),
            in_table(1, Some(2), rule(2, 5, &[CONTROLLER])),
            in_table(2, None, rule(3, 5, &[CONTROLLER])),
        ];
        assert_eq!(session.stage(stage(1, rules)).await.error, None);
        session.activate(1, 1).await;
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        host1.send(&frame(1));
        let first = packet_in(&mut session).await;
        let second = packet_in(&mut session).await;
        assert_eq!((first.rule_id, second.rule_id), (2, 3));
        assert_eq!(first.held_id, second.held_id);
        release(&session, vec![first.held_id]).await;
        session.activate(1, 1).await;
        assert!(!has_come(&host2, 1));
        release(&session, vec![second.held_id]).await;
        host2.expect(is(1)).await;
        agent.stop().await;
    });
}

#[test]
fn outputs_wait_for_what_a_group_tells_of_a_copy() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(one_of_several()).await.error, None);
        assert_eq!(session.stage(stage(1, group())).await.error, None);
        session.activate(1, 1).await;
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        for mark in 1..=3 {
            host1.send(&frame(mark));
            let event = packet_in(&mut session).await;
            assert_ne!(event.held_id, 0);
            let data = event.packet_in.unwrap().data;
            assert!(data[12..14] == [0x81, 0] && is(mark)(&data), "{data:x?}");
            session.activate(1, 1).await;
            assert!(!has_come(&host2, mark));
            release(&session, vec![event.held_id]).await;
            host2.expect(is(mark)).await;
        }
        agent.stop().await;
    });
}

/// The sum of RFC 1071 over 16-bit words, of which all are there.
fn sum(words: &[u8]) -> u16 {
    let words = words.chunks(2);
    let sum: u32 = words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The sum over the pseudo header of TCP over IPv4 (RFC 9293, 3.1).
fn pseudo(frame: &[u8]) -> u16 {
    let length = (frame.len() - 34) as u16;
    sum(&[&frame[26..34], &[0, 6], &length.to_be_bytes()].concat())
}

/// A packet of TCP over IPv4 as a local stack leaves it to be segmented.
fn to_be_segmented(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0]);
    frame.extend((40 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let checksum = !sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend([
        4, 1, 4, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    frame.extend(payload);
    let partial = pseudo(&frame);
    frame[50..52].copy_from_slice(&partial.to_be_bytes());
    frame
}

/// A stack leaves the segmentation of what it sends to devices. What waits is segmented then.
#[test]
fn a_held_packet_that_is_to_be_segmented_comes_as_segments() {
    const SEGMENT: usize = 1400;
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(one_of_several()).await.error, None);
        session
            .stage(stage(1, vec![rule(1, 5, &[CONTROLLER, 2])]))
            .await;
        session.activate(1, 1).await;
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        let payload: Vec<u8> = (0..20_000).map(|i| (i % 251) as u8).collect();
        host1.send_to_be_segmented(&to_be_segmented(&payload), SEGMENT as u16);
        let event = packet_in(&mut session).await;
        assert_ne!(event.held_id, 0);
        release(&session, vec![event.held_id]).await;
        for expected in payload.chunks(SEGMENT) {
            let segment = host2.expect(|f| f[12..14] == [8, 0]).await;
            assert_eq!(&segment[54..], expected);
            let whole = u32::from(pseudo(&segment)) + u32::from(sum(&segment[34..]));
            assert_eq!((whole & 0xffff) + (whole >> 16), 0xffff);
        }
        agent.stop().await;
    });
}

/// What waits for a coordinator that has gone does not come later.
#[test]
fn held_outputs_go_with_the_stream() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(one_of_several()).await.error, None);
        session
            .stage(stage(1, vec![rule(1, 5, &[CONTROLLER, 2])]))
            .await;
        session.activate(1, 1).await;
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        host1.send(&frame(1));
        let before = packet_in(&mut session).await.held_id;
        drop(session);
        let (mut session, _) = coordinator.accept().await;
        release(&session, vec![before]).await;
        host1.send(&frame(2));
        let event = packet_in(&mut session).await;
        assert_ne!(event.held_id, before);
        release(&session, vec![event.held_id]).await;
        host2.expect(|f| !is(1)(f) && is(2)(f)).await;
        assert!(!has_come(&host2, 1));
        agent.stop().await;
    });
}

/// Rule 9, of what groups tell: copies are of the version of their packet, and their events come before anything later is acknowledged.
#[test]
fn what_groups_tell_of_held_packets_comes_before_later_acknowledgements() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(one_of_several()).await.error, None);
        assert_eq!(session.stage(stage(1, group())).await.error, None);
        session.activate(1, 1).await;
        let host1 = Wire::open("host1");
        const LAST: u32 = 20;
        for epoch in 2..=LAST {
            session.send(ToAgent::Stage(stage(epoch, vec![]))).await;
            for _ in 0..10 {
                host1.send(&frame(1));
            }
            session
                .send(ToAgent::Activate(v1::Activate {
                    network: 1,
                    epoch,
                    past: 0,
                }))
                .await;
        }
        let (mut acknowledged, mut events) = (0, 0);
        while acknowledged < LAST {
            match session.next().await {
                Message::Activated(a) => acknowledged = a.epoch,
                Message::Event(e) => {
                    assert!(e.version >= acknowledged, "{e:?} after {acknowledged}");
                    events += 1;
                }
                _ => {}
            }
        }
        assert!(events > 0);
        agent.stop().await;
    });
}
