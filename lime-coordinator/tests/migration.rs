//! Migrations of an ensemble: their good course, and everything that can happen in the middle.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use lime_proto::v1;
use support::{Coordinator, FakeAgent, add, network, port_request, switch, until, update};
use tonic::Code;
use tonic::transport::Channel;
use v1::lime_client::LimeClient;
use v1::migration::State;

struct Lab {
    coordinator: Coordinator,
    a: FakeAgent,
    b: FakeAgent,
}

impl Lab {
    /// Two linked switches with a port each, all on host a.
    async fn new() -> Self {
        let coordinator =
            Coordinator::start_with(|c| c.step_timeout = Duration::from_secs(2)).await;
        let a = FakeAgent::start(&coordinator.url(), "a").await;
        let b = FakeAgent::start(&coordinator.url(), "b").await;
        let mut client = coordinator.client().await;
        network(&mut client, "n").await;
        for (name, device) in [("s", "vm-1"), ("t", "vm-2")] {
            switch(&mut client, "n", name, "a").await;
            client
                .create_port(port_request("n", name, "a", device))
                .await
                .unwrap();
            client
                .update_rules(update("n", name, vec![add(1, 1), add(2, 1)]))
                .await
                .unwrap();
        }
        client
            .create_link(v1::CreateLinkRequest {
                network: "n".into(),
                switch_a: "s".into(),
                port_a: 9,
                switch_b: "t".into(),
                port_b: 9,
            })
            .await
            .unwrap();
        Self { coordinator, a, b }
    }

    async fn client(&self) -> LimeClient<Channel> {
        self.coordinator.client().await
    }

    async fn begin(&self) -> u64 {
        let mut client = self.client().await;
        client
            .start_migration(request())
            .await
            .unwrap()
            .into_inner()
            .id
    }

    /// Waits until the migration has ended.
    async fn end(&self, id: u64) -> v1::Migration {
        until("the migration to end", || async {
            let mut client = self.client().await;
            let found = client.get_migration(v1::GetMigrationRequest { id }).await;
            let found = found.ok()?.into_inner();
            let over = !matches!(found.state(), State::Running | State::RollingBack);
            over.then_some(found)
        })
        .await
    }

    /// Everything is on exactly one of the hosts, works there, and nothing is left on the other.
    async fn is_on(&self, here: &FakeAgent, gone: &FakeAgent) {
        let mut client = self.client().await;
        let all = v1::ListPortsRequest::default();
        let ports = client.list_ports(all).await.unwrap().into_inner().ports;
        let devices: Vec<&v1::Port> = ports.iter().filter(|p| p.link.is_empty()).collect();
        assert_eq!(devices.len(), 2);
        for port in devices {
            assert_eq!(port.host, here.name);
            let n = here.network(1).unwrap();
            assert!(
                n.running.contains(&port.id),
                "port {} does not run",
                port.id
            );
            assert!(n.config.ports.iter().any(|p| p.port_id == port.id
                && matches!(p.place, Some(v1::port_state::Place::Local(_)))));
        }
        let all = v1::ListSwitchesRequest::default();
        let switches = client.list_switches(all).await.unwrap().into_inner();
        for s in &switches.switches {
            assert_eq!(s.instances, vec![here.name.clone()]);
            client
                .update_rules(update("n", &s.name, vec![add(3, 1)]))
                .await
                .unwrap();
            assert_eq!(here.visible(1, s.id), vec![1, 2, 3]);
        }
        until("the other host to forget the network", || async {
            gone.network(1).is_none().then_some(())
        })
        .await;
        self.a.check();
        self.b.check();
    }

    /// The migration has ended one way or the other, and all is well.
    async fn is_whole(&self, id: u64) -> State {
        let ended = self.end(id).await;
        match ended.state() {
            State::Completed => self.is_on(&self.b, &self.a).await,
            State::RolledBack => self.is_on(&self.a, &self.b).await,
            other => panic!("{other:?}: {}", ended.error),
        }
        ended.state()
    }
}

fn request() -> v1::MigrationRequest {
    v1::MigrationRequest {
        network: "n".into(),
        from: "a".into(),
        to: "b".into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_moves() {
    let lab = Lab::new().await;
    let mut client = lab.client().await;
    let plan = client.plan_migration(request()).await.unwrap().into_inner();
    assert_eq!((plan.steps.len(), plan.rules), (7, 4));
    let id = lab.begin().await;
    let mut watch = client
        .watch_migration(v1::GetMigrationRequest { id })
        .await
        .unwrap()
        .into_inner();
    let mut last = None;
    while let Some(m) = watch.message().await.unwrap() {
        last = Some(m);
    }
    let last = last.unwrap();
    assert_eq!(last.state(), State::Completed, "{}", last.error);
    assert_eq!((last.rules_cloned, last.port_moves.len()), (4, 2));
    let names: Vec<&str> = last.phases.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["prepare", "move", "retire"]);
    assert!(last.phases.iter().all(|p| p.done));
    assert_eq!(lab.is_whole(id).await, State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_before_anything_changes() {
    let lab = Lab::new().await;
    let mut client = lab.client().await;
    let mut refused = async |change: fn(&mut v1::MigrationRequest)| {
        let mut r = request();
        change(&mut r);
        let status = client.start_migration(r).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    assert_eq!(refused(|r| r.network = "x".into()).await.0, Code::NotFound);
    assert_eq!(refused(|r| r.to = "x".into()).await.0, Code::NotFound);
    assert_eq!(
        refused(|r| r.to = "a".into()).await.0,
        Code::InvalidArgument
    );
    assert_eq!(
        refused(|r| r.from = "b".into()).await.0,
        Code::InvalidArgument
    );
    assert_eq!(
        refused(|r| r.switches = vec!["x".into()]).await.0,
        Code::NotFound
    );
    lab.b
        .tables
        .lock()
        .unwrap()
        .devices_missing
        .insert("vm-2".into());
    let (code, text) = refused(|_| {}).await;
    assert_eq!(code, Code::NotFound);
    assert!(text.contains("host b") && text.contains("vm-2"), "{text}");
    lab.b.tables.lock().unwrap().devices_missing.clear();
    let mut client = lab.client().await;
    client
        .cordon_host(v1::CordonHostRequest {
            name: "b".into(),
            cordoned: true,
        })
        .await
        .unwrap();
    let status = client.start_migration(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(lab.b.network(1).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_step_is_rolled_back() {
    for kind in ["configure", "snapshot", "pause_port", "resume_port"] {
        let lab = Lab::new().await;
        for agent in [&lab.a, &lab.b] {
            agent.tables.lock().unwrap().fail.insert(kind, 1);
        }
        let id = lab.begin().await;
        let state = lab.is_whole(id).await;
        assert_eq!(state, State::RolledBack, "{kind}");
        let mut client = lab.client().await;
        let asked = v1::GetMigrationRequest { id };
        let ended = client.get_migration(asked).await.unwrap().into_inner();
        assert!(
            ended.error.contains("told to fail"),
            "{kind}: {}",
            ended.error
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_and_comes_back_does_not_matter() {
    for kind in [
        "configure",
        "snapshot",
        "stage",
        "activate",
        "pause_port",
        "resume_port",
        "read_counters",
        "forget",
    ] {
        for host in ["a", "b"] {
            let lab = Lab::new().await;
            let agent = if host == "a" { &lab.a } else { &lab.b };
            agent.tables.lock().unwrap().die_at = Some(kind);
            let id = lab.begin().await;
            let state = lab.is_whole(id).await;
            tracing::info!("{kind} on {host}: {state:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stays_away_sends_it_back() {
    let mut lab = Lab::new().await;
    lab.b.tables.lock().unwrap().hold_acks = true;
    let id = lab.begin().await;
    until("the host to learn of the network", || async {
        lab.b.network(1).map(|_| ())
    })
    .await;
    lab.b.kill();
    until("the migration to turn back", || async {
        let mut client = lab.client().await;
        let asked = v1::GetMigrationRequest { id };
        let m = client.get_migration(asked).await.unwrap().into_inner();
        (m.state() == State::RollingBack).then_some(())
    })
    .await;
    lab.b.tables.lock().unwrap().hold_acks = false;
    lab.b.revive();
    assert_eq!(lab.is_whole(id).await, State::RolledBack);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_turns_it_back() {
    let lab = Lab::new().await;
    let mut client = lab.client().await;
    // Held at its first acknowledgement on b.
    lab.b.tables.lock().unwrap().hold_acks = true;
    let id = lab.begin().await;
    let refused = client.start_migration(request()).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    let refused = client.create_port(port_request("n", "s", "a", "x")).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    client
        .rollback_migration(v1::GetMigrationRequest { id })
        .await
        .unwrap();
    lab.b.release_acks();
    assert_eq!(lab.is_whole(id).await, State::RolledBack);
}

/// The coordinator stops at every single commit of a migration in turn, and is started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_dies_at_any_commit_goes_on() {
    let mut outcomes = Vec::new();
    for commits in 1.. {
        let mut lab = Lab::new().await;
        lab.coordinator.commits.store(commits, Ordering::SeqCst);
        let started = lab.client().await.start_migration(request()).await;
        if let Ok(started) = started {
            let id = started.into_inner().id;
            let crashed = until("an end or a crash", || async {
                if lab.coordinator.has_crashed() {
                    return Some(true);
                }
                let channel = Channel::from_shared(lab.coordinator.url()).unwrap();
                let mut client = LimeClient::new(channel.connect().await.ok()?);
                let asked = v1::GetMigrationRequest { id };
                let m = client.get_migration(asked).await.ok()?.into_inner();
                (m.state() != State::Running).then_some(false)
            })
            .await;
            if !crashed {
                break;
            }
            lab.coordinator.restart().await;
            outcomes.push(lab.is_whole(id).await);
        } else {
            lab.coordinator.restart().await;
        }
    }
    assert!(outcomes.len() > 10, "{outcomes:?}");
    assert!(outcomes.contains(&State::Completed));
}
