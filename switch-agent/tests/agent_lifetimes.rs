//! What the agent says of rules that end, and of rules that are not used. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use lime_proto::v1::coordinator_message::Message as ToAgent;
use lime_proto::v1::{self, agent_message::Message};
use support::{Coordinator, Session, Wire, in_namespace, network, rule, stage};

fn frame(mark: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.resize(64, mark);
    frame
}

/// The next report of ended rules; it must come before the acknowledgement of its epoch.
async fn ended(session: &mut Session, epoch: u32) -> Vec<(u64, u64)> {
    session
        .wait(|m| match m {
            Message::EndedRules(e) => {
                Some(e.rules.iter().map(|r| (r.rule_id, r.packets)).collect())
            }
            Message::Activated(a) => {
                assert!(a.epoch < epoch, "acknowledged without a report");
                None
            }
            _ => None,
        })
        .await
}

fn activate(epoch: u32) -> ToAgent {
    ToAgent::Activate(v1::Activate {
        network: 1,
        epoch,
        past: 0,
    })
}

#[test]
fn the_last_counts_of_a_rule_come_before_its_end_is_acknowledged() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(network(1)).await.error, None);
        session.stage(stage(1, vec![rule(1, 5, &[2])])).await;
        session.activate(1, 1).await;
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        for mark in 1..=3 {
            host1.send(&frame(mark));
            host2.expect(|f| f.ends_with(&frame(mark)[12..])).await;
        }
        let replaced = v1::Stage {
            remove: vec![1],
            report: vec![1],
            ..stage(2, vec![rule(2, 5, &[2])])
        };
        session.stage(replaced).await;
        session.send(activate(2)).await;
        assert_eq!(ended(&mut session, 2).await, [(1, 3)]);
        // A stream that has not heard of it is told, whoever asked.
        drop(session);
        let (mut session, _) = coordinator.accept().await;
        session.send(activate(2)).await;
        assert_eq!(ended(&mut session, 2).await, [(1, 3)]);
        agent.stop().await;
    });
}

/// How long rule 1 was not used, as the agent says.
async fn idle(session: &mut Session) -> Option<u64> {
    let done = session
        .request(|request_id| {
            ToAgent::ReadCounters(v1::ReadCounters {
                request_id,
                network: 1,
                switch_id: 10,
                rules: true,
                rule_ids: vec![1],
                devices: false,
            })
        })
        .await;
    let Some(v1::done::Result::Counters(counters)) = done.result else {
        panic!("{done:?}");
    };
    assert_eq!((counters.rules.len(), counters.ports.len()), (1, 0));
    counters.rules[0].idle_ms
}

#[test]
fn an_idle_rules_last_use_is_known_also_to_the_next_agent() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(network(1)).await.error, None);
        let mut timed = rule(1, 5, &[2]);
        timed.rule.as_mut().unwrap().idle_timeout = 60;
        session.stage(stage(1, vec![timed])).await;
        session.activate(1, 1).await;
        assert_eq!(idle(&mut session).await, None);
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        host1.send(&frame(1));
        host2.expect(|f| f.ends_with(&frame(1)[12..])).await;
        let first = idle(&mut session).await.unwrap();
        let mut later = idle(&mut session).await.unwrap();
        while later <= first {
            later = idle(&mut session).await.unwrap();
        }
        // Asked just after a packet, the agent knows of it.
        let before = std::time::Instant::now();
        host1.send(&frame(2));
        host2.expect(|f| f.ends_with(&frame(2)[12..])).await;
        let used = idle(&mut session).await.unwrap();
        assert!(u128::from(used) <= before.elapsed().as_millis());
        agent.stop().await;

        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert!(idle(&mut session).await.is_some(), "it has been used");
        agent.stop().await;
    });
}
