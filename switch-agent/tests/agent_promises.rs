//! Votes whether rules are idle, promises, and packets that wait for the decision (consistency rule 14). Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use lime_proto::v1::coordinator_message::Message as ToAgent;
use lime_proto::v1::{self, agent_message::Message};
use support::{Coordinator, Session, Wire, in_namespace, network, rule, stage};

fn frame(mark: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.resize(64, mark);
    frame
}

/// A rule with an idle timeout, seconds.
fn timed(id: u64, idle: u32) -> v1::AddRule {
    let mut timed = rule(id, 5, &[2]);
    timed.rule.as_mut().unwrap().idle_timeout = idle;
    timed
}

async fn ask(session: &mut Session, round: u64, rules: &[u64]) -> v1::IdleVote {
    session
        .send(ToAgent::AskIdle(v1::AskIdle {
            network: 1,
            round,
            rule_ids: rules.to_vec(),
        }))
        .await;
    session
        .wait(|m| match m {
            Message::IdleVote(vote) if vote.round == round => Some(vote.clone()),
            _ => None,
        })
        .await
}

fn promised(vote: &v1::IdleVote) -> Vec<(u64, u64)> {
    vote.promised
        .iter()
        .map(|c| (c.rule_id, c.packets))
        .collect()
}

/// Asks until the rule is promised.
async fn until_promised(session: &mut Session, first: u64, rule: u64) -> v1::IdleVote {
    for round in first..first + 1000 {
        let vote = ask(session, round, &[rule]).await;
        if !vote.promised.is_empty() {
            return vote;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("rule {rule} is never idle");
}

fn lift(rules: &[u64]) -> ToAgent {
    ToAgent::LiftPromises(v1::LiftPromises {
        network: 1,
        rule_ids: rules.to_vec(),
    })
}

fn standing(rules: &[u64]) -> ToAgent {
    ToAgent::StandingPromises(v1::StandingPromises {
        network: 1,
        rule_ids: rules.to_vec(),
        more: false,
    })
}

/// What rule 1 has counted.
async fn packets(session: &mut Session) -> u64 {
    let read = |request_id| {
        ToAgent::ReadCounters(v1::ReadCounters {
            request_id,
            network: 1,
            switch_id: 10,
            rules: true,
            rule_ids: vec![1],
            devices: false,
        })
    };
    match session.request(read).await.result {
        Some(v1::done::Result::Counters(c)) => c.rules[0].packets,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_would_match_a_promised_rule_waits_until_it_is_lifted() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(network(1)).await.error, None);
        session.stage(stage(1, vec![timed(1, 1)])).await;
        session.activate(1, 1).await;
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        host1.send(&frame(1));
        host2.expect(|f| f.ends_with(&frame(1)[12..])).await;
        let vote = ask(&mut session, 1, &[1, 99]).await;
        assert_eq!(promised(&vote), [], "it has just been used");
        assert_eq!((vote.used.len(), vote.used[0].packets), (1, 1));
        // So it is not held up.
        host1.send(&frame(2));
        host2.expect(|f| f.ends_with(&frame(2)[12..])).await;
        let vote = until_promised(&mut session, 2, 1).await;
        assert_eq!(promised(&vote), [(1, 2)]);
        for mark in 3..10 {
            host1.send(&frame(mark));
        }
        assert_eq!(packets(&mut session).await, 2, "they wait");
        session.send(lift(&[1])).await;
        for mark in 3..10 {
            let next = host2.expect(|f| f[12..14] == [0x88, 0xb5]).await;
            assert_eq!(next[14], mark, "in their order");
        }
        assert_eq!(packets(&mut session).await, 9);
        agent.stop().await;
    });
}

#[test]
fn what_waited_for_a_rule_that_goes_meets_the_next() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(network(1)).await.error, None);
        world.more_ports(3);
        session
            .stage(stage(1, vec![timed(1, 1), rule(2, 1, &[1])]))
            .await;
        session.activate(1, 1).await;
        until_promised(&mut session, 1, 1).await;
        let host1 = Wire::open("host1");
        host1.send(&frame(1));
        let removed = v1::Stage {
            remove: vec![1],
            report: vec![1],
            ..stage(2, vec![rule(3, 2, &[2])])
        };
        session.stage(removed).await;
        let host2 = Wire::open("host2");
        session.activate(1, 2).await;
        host2.expect(|f| f.ends_with(&frame(1)[12..])).await;
        let ended = session
            .wait(|m| match m {
                Message::EndedRules(e) if !e.rules.is_empty() => Some(e.rules[0]),
                _ => None,
            })
            .await;
        assert_eq!((ended.rule_id, ended.packets), (1, 0));
        agent.stop().await;
    });
}

#[test]
fn promises_outlive_the_agent_and_the_next_is_told_which_stand() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(network(1)).await.error, None);
        session.stage(stage(1, vec![timed(1, 1)])).await;
        session.activate(1, 1).await;
        until_promised(&mut session, 1, 1).await;
        agent.stop().await;
        drop(session);

        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        host1.send(&frame(1));
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(packets(&mut session).await, 0, "it waits in the ring");
        session.send(standing(&[1])).await;
        assert_eq!(packets(&mut session).await, 0, "it stands");
        host1.send(&frame(2));
        session.send(standing(&[])).await;
        for mark in [1, 2] {
            host2.expect(|f| f.ends_with(&frame(mark)[12..])).await;
        }
        assert_eq!(packets(&mut session).await, 2);
        // And what is said to stand is not matched, whoever promised it.
        session.send(standing(&[1])).await;
        assert_eq!(packets(&mut session).await, 2);
        host1.send(&frame(3));
        assert_eq!(packets(&mut session).await, 2);
        session.send(lift(&[1])).await;
        host2.expect(|f| f.ends_with(&frame(3)[12..])).await;
        agent.stop().await;
    });
}

#[test]
fn a_promise_that_is_lifted_before_the_vote_is_none() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(network(1)).await.error, None);
        session.stage(stage(1, vec![timed(1, 1)])).await;
        session.activate(1, 1).await;
        let asked = |round| {
            ToAgent::AskIdle(v1::AskIdle {
                network: 1,
                round,
                rule_ids: vec![1],
            })
        };
        session.send(asked(1)).await;
        session.send(lift(&[1])).await;
        let vote = session
            .wait(|m| match m {
                Message::IdleVote(vote) => Some(vote.clone()),
                _ => None,
            })
            .await;
        assert_eq!((vote.promised.len(), vote.used.len()), (0, 0));
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        host1.send(&frame(1));
        host2.expect(|f| f.ends_with(&frame(1)[12..])).await;
        agent.stop().await;
    });
}
