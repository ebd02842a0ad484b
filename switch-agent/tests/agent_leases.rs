//! A host that is not heard of stops when its lease is over, whether its agent lives or not: rule 17. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::{Duration, Instant};

use lime_proto::v1::coordinator_message::Message as ToAgent;
use lime_proto::v1::{self, agent_message::Message};
use support::{Coordinator, Session, Wire, in_namespace, network, rule, stage};

fn frame(mark: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.resize(64, mark);
    frame
}

/// Whether a frame passes from the first end host to the second.
async fn passes(host1: &Wire, host2: &Wire) -> bool {
    while host2.receive().is_some() {}
    host1.send(&frame(7));
    // On the way there are no queues but those of veth devices: when the second such wait is over, it has been dropped.
    let deadline = Instant::now() + Duration::from_millis(50);
    while Instant::now() < deadline {
        match host2.receive() {
            Some(got) if got.ends_with(&frame(7)[12..]) => return true,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    false
}

/// Sends frames until they pass, or until so many in a row do not that this is not for want of time.
async fn until_passes(host1: &Wire, host2: &Wire, wanted: bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut row, enough) = (0, if wanted { 1 } else { 20 });
    while row < enough {
        let as_wanted = passes(host1, host2).await == wanted;
        row = if as_wanted { row + 1 } else { 0 };
        assert!(Instant::now() < deadline, "waited for passing: {wanted}");
    }
}

fn shared(generation: u64) -> v1::Configure {
    v1::Configure {
        leased: true,
        ..network(generation)
    }
}

async fn renewal(session: &mut Session) -> u64 {
    session
        .wait(|m| match m {
            Message::RenewLease(renewal) => Some(renewal.number),
            _ => None,
        })
        .await
}

#[test]
fn rule_17_the_data_path_stops_with_its_lease_and_the_agent_is_dead() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        // Much longer than what happens until the agent is dead.
        let (mut session, _) = coordinator.accept_with_lease(20_000).await;
        assert_eq!(session.configure(shared(1)).await.error, None);
        session.stage(stage(1, vec![rule(1, 5, &[2])])).await;
        session.activate(1, 1).await;
        assert_eq!(renewal(&mut session).await, 1, "at once");
        until_passes(&host1, &host2, true).await;
        agent.stop().await;
        drop(session);
        // The lease goes on.
        until_passes(&host1, &host2, true).await;

        // A short one, which is not renewed.
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept_with_lease(300).await;
        assert_eq!(session.configure(shared(2)).await.error, None);
        assert_eq!(renewal(&mut session).await, 1);
        let grant = |number, milliseconds| {
            ToAgent::Lease(v1::Lease {
                number,
                milliseconds,
            })
        };
        session.send(grant(1, 300)).await;
        renewal(&mut session).await;
        agent.stop().await;
        drop(session);
        until_passes(&host1, &host2, false).await;

        // Back: it goes on when it is told what it is to process, not before.
        let agent = world.agent(&coordinator.address);
        let (mut session, hello) = coordinator.accept_with_lease(60_000).await;
        assert_eq!(hello.networks[0].clock, 1);
        assert_eq!(renewal(&mut session).await, 1);
        session.send(grant(1, 60_000)).await;
        assert!(!passes(&host1, &host2).await, "others may have gone on");
        assert_eq!(session.configure(shared(3)).await.error, None);
        until_passes(&host1, &host2, true).await;
        agent.stop().await;
    });
}

#[test]
fn rule_17_an_answer_that_was_long_under_way_is_no_lease() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        let (mut session, _) = coordinator.accept_with_lease(400).await;
        assert_eq!(session.configure(shared(1)).await.error, None);
        session.stage(stage(1, vec![rule(1, 5, &[2])])).await;
        session.activate(1, 1).await;
        let asked = renewal(&mut session).await;
        until_passes(&host1, &host2, false).await;
        let late = ToAgent::Lease(v1::Lease {
            number: asked,
            milliseconds: 400,
        });
        session.send(late).await;
        // What is behind it in the stream is done, so that is, too.
        let staged = session.stage(stage(2, vec![])).await;
        assert_eq!(staged.error, None);
        assert!(!passes(&host1, &host2).await);
        // A network that nobody else processes is not concerned.
        assert_eq!(session.configure(network(2)).await.error, None);
        until_passes(&host1, &host2, true).await;
        agent.stop().await;
    });
}
