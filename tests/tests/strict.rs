//! Strict networks: switches on two hosts that act as one in real time. What was seen is judged by time, too, when a lab goes down.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::{Duration, Instant};

use common::{MODES, PATIENCE, flood, lab};
use lime_proto::v1::migration::State;
use lime_proto::v1::{Consistency, PortAttach, UpdateRulesRequest, flow_mod};
use lime_tests::lab::Lab;
use lime_tests::rules::RuleSpec;
use lime_tests::tenant::Tenant;
use lime_tests::traffic::{FlowReport, Origin, UdpFlow, UdpSpec, reach};

/// A switch on hosts a and b, with an end host at each, and traffic both ways.
struct Scene {
    flows: Vec<UdpFlow>,
    tenant: Tenant,
    updates: u32,
    lab: Lab,
}

impl Scene {
    async fn new(attach: PortAttach) -> Self {
        let lab = lab(2, 2, attach).await;
        let mut tenant = Tenant::create(&lab, "net", Consistency::Strict, attach)
            .await
            .unwrap();
        tenant.switch("s1", "a").await.unwrap();
        for (port, end_host, host) in [(1, "h1", "a"), (2, "h2", "b")] {
            tenant.port(&lab, "s1", port, end_host, host).await.unwrap();
        }
        flood(&mut tenant, "s1").await;
        tenant.clone_switch("s1", "b").await.unwrap();
        let [h1, h2] = lab.end_hosts() else {
            unreachable!()
        };
        let flows = tokio::task::block_in_place(|| {
            assert!(reach(h1, h2, h2.ipv4().into(), PATIENCE).unwrap().yes());
            let origin = Origin::now();
            [(5000, h1, h2), (5001, h2, h1)].map(|(port, from, to)| {
                let spec = UdpSpec {
                    name: format!("udp {port}"),
                    rate: 1000,
                    payload: 200,
                    port,
                    ipv6: false,
                };
                UdpFlow::start(&spec, from, to, origin).unwrap()
            })
        });
        Self {
            flows: flows.into(),
            tenant,
            updates: 0,
            lab,
        }
    }

    /// Replaces the very rules that the packets meet.
    fn next(&mut self) -> UpdateRulesRequest {
        self.updates += 1;
        let n = self.updates;
        let to = |from, to| RuleSpec::new(10 + n % 2).in_port(from).output(to).add();
        let mut mods = vec![to(1, 2), to(2, 1)];
        for port in [1, 2] {
            let mut old = RuleSpec::new(10 + (n + 1) % 2).in_port(port).delete();
            old.command = flow_mod::Command::DeleteStrict.into();
            mods.push(old);
        }
        UpdateRulesRequest {
            network: self.tenant.network().to_owned(),
            switch: "s1".to_owned(),
            mods,
        }
    }

    async fn update(&mut self) {
        let request = self.next();
        self.tenant.client().update_rules(request).await.unwrap();
    }

    /// Updates without a pause, for a while.
    async fn update_for(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.update().await;
        }
    }

    fn finish(self) -> (Lab, Vec<FlowReport>) {
        let flows = self.flows.into_iter();
        let reports = tokio::task::block_in_place(|| {
            flows.map(|f| f.finish().unwrap().0).collect::<Vec<_>>()
        });
        (self.lab, reports)
    }

    fn assert_clean(self, about: &str) {
        let updates = self.updates;
        let (lab, reports) = self.finish();
        for report in reports {
            assert!(
                report.is_clean(),
                "{about}, {updates} updates: {report:?}\n{}",
                lab.logs()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_20_strict_updates_lose_no_packet() {
    for attach in MODES {
        let mut scene = Scene::new(attach).await;
        scene.update_for(Duration::from_secs(2)).await;
        assert!(scene.updates > 10, "{attach:?}: {}", scene.updates);
        scene.assert_clean(&format!("{attach:?}"));
    }
}

/// Kills somebody at several moments of an update; all goes on when it is back.
async fn survives(kill: impl Fn(&Lab)) {
    let mut scene = Scene::new(PortAttach::Tc).await;
    for delay_ms in [0, 1, 2, 3, 5, 8] {
        scene.update_for(Duration::from_millis(100)).await;
        let mut client = scene.tenant.client();
        let request = scene.next();
        // Answered or not: when the coordinator dies, nobody may be told.
        let update = tokio::spawn(async move { client.update_rules(request).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        kill(&scene.lab);
        update.await.unwrap();
        scene.lab.wait_ready().await.unwrap();
    }
    scene.update_for(Duration::from_millis(200)).await;
    scene.assert_clean("after the deaths");
}

fn kill_agent(lab: &Lab, host: &str) {
    lab.kill_agent(host).unwrap();
    lab.start_agent(host).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_20_a_strict_update_survives_the_death_of_the_primarys_agent() {
    // With as many ports as the other it is the first.
    survives(|lab| kill_agent(lab, "a")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_20_a_strict_update_survives_the_death_of_another_agent() {
    survives(|lab| kill_agent(lab, "b")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_20_a_strict_update_survives_the_death_of_the_coordinator() {
    survives(|lab| {
        lab.kill_coordinator();
        lab.start_coordinator().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_network_migrates_without_loss() {
    let mut scene = Scene::new(PortAttach::Tc).await;
    // The host that stays has an instance and a port already.
    let mut request = scene.tenant.migration_request("b", "a");
    request.ports.retain(|p| p.port_no == 2);
    let id = scene.tenant.start_migration(request).await.unwrap().id;
    scene.update_for(Duration::from_millis(500)).await;
    let ended = scene
        .tenant
        .watch_migration(id, Duration::from_secs(30), |_| ())
        .await
        .unwrap_or_else(|e| panic!("{e}\n{}", scene.lab.logs()));
    assert_eq!(ended.state(), State::Completed, "{}", ended.error);
    scene.update().await;
    scene.assert_clean("after the migration");
}
