//! Migrations of live networks, and of networks whose agents and coordinator die in the middle.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::Duration;

use common::{assert_reaches, flood, lab, tenant};
use lime_proto::v1::PortAttach;
use lime_proto::v1::migration::State;
use lime_tests::demo::{self, Options};
use lime_tests::lab::Lab;
use lime_tests::tenant::Tenant;
use lime_tests::traffic::{FlowReport, Origin, TcpFlow, TcpSpec, UdpFlow, UdpSpec};

async fn run_demo(attach: PortAttach, naive: bool) -> demo::Outcome {
    let options = Options {
        attach,
        naive,
        seconds: 6,
        ..Options::default()
    };
    demo::run(&options).await.unwrap_or_else(|e| panic!("{e}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_a_migration_tc() {
    let outcome = run_demo(PortAttach::Tc, false).await;
    assert!(outcome.report.ok, "{}", outcome.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_a_migration_xdp() {
    let outcome = run_demo(PortAttach::Xdp, false).await;
    assert!(outcome.report.ok, "{}", outcome.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_versions_the_application_misbehaves() {
    let outcome = run_demo(PortAttach::Tc, true).await;
    assert!(outcome.report.violations > 0, "{}", outcome.text());
    assert!(!outcome.report.explicable, "{}", outcome.text());
    assert!(!outcome.report.ok);
}

/// Two linked switches on host a with an end host each, and traffic between them.
struct Scene {
    lab: Lab,
    tenant: Tenant,
    udp: [UdpFlow; 2],
    tcp: TcpFlow,
}

impl Scene {
    async fn new() -> Self {
        let attach = PortAttach::Tc;
        let lab = lab(2, 2, attach).await;
        let mut tenant = tenant(&lab, attach).await;
        for (switch, end_host) in [("s1", "h1"), ("s2", "h2")] {
            tenant.switch(switch, "a").await.unwrap();
            tenant.port(&lab, switch, 1, end_host, "a").await.unwrap();
        }
        tenant.link(("s1", 2), ("s2", 2)).await.unwrap();
        for switch in ["s1", "s2"] {
            flood(&mut tenant, switch).await;
        }
        let [h1, h2] = lab.end_hosts() else {
            unreachable!()
        };
        assert_reaches(&lab, h1, h2, h2.ipv4());
        let origin = Origin::now();
        let udp = |port| UdpSpec {
            name: format!("udp {port}"),
            rate: 1000,
            payload: 200,
            port,
            ipv6: false,
        };
        let tcp = TcpSpec {
            name: "tcp".into(),
            rate: 500,
            port: 5002,
            ipv6: false,
        };
        let flows = tokio::task::block_in_place(|| {
            (
                [
                    UdpFlow::start(&udp(5000), h1, h2, origin).unwrap(),
                    UdpFlow::start(&udp(5001), h2, h1, origin).unwrap(),
                ],
                TcpFlow::start(&tcp, h1, h2, origin).unwrap(),
            )
        });
        Self {
            lab,
            tenant,
            udp: flows.0,
            tcp: flows.1,
        }
    }

    fn finish(self) -> (Lab, Tenant, Vec<FlowReport>) {
        let Self {
            lab,
            tenant,
            udp,
            tcp,
        } = self;
        let reports = tokio::task::block_in_place(|| {
            let mut reports: Vec<_> = udp.into_iter().map(|f| f.finish().unwrap().0).collect();
            reports.push(tcp.finish().unwrap().0);
            reports
        });
        (lab, tenant, reports)
    }
}

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Agent(&'static str),
    Coordinator,
}

/// Kills at several moments of a migration. It must end, and the network must work where it ended.
async fn survives(victim: Victim) {
    for delay_ms in [0, 30, 100, 130, 170, 250, 500] {
        let mut scene = Scene::new().await;
        let lab = &scene.lab;
        let request = scene.tenant.migration_request("a", "b");
        let id = scene.tenant.start_migration(request).await.unwrap().id;
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        match victim {
            Victim::Agent(host) => {
                lab.kill_agent(host).unwrap();
                lab.start_agent(host).unwrap();
            }
            Victim::Coordinator => {
                lab.kill_coordinator();
                lab.start_coordinator().unwrap();
            }
        }
        let ended = scene
            .tenant
            .watch_migration(id, Duration::from_secs(30), |_| ())
            .await
            .unwrap_or_else(|e| panic!("{victim:?} after {delay_ms} ms: {e}\n{}", lab.logs()));
        let at = match ended.state() {
            State::Completed => "b",
            State::RolledBack => "a",
            other => panic!(
                "{victim:?} after {delay_ms} ms: {other:?}: {}\n{}",
                ended.error,
                lab.logs()
            ),
        };
        for end_host in ["h1", "h2"] {
            let is_at = lab.plugged_at(end_host).await.unwrap();
            assert_eq!(
                is_at,
                Some(at),
                "{victim:?} after {delay_ms} ms: {end_host}"
            );
        }
        let (lab, mut tenant, reports) = scene.finish();
        for report in reports {
            assert!(
                report.is_clean(),
                "{victim:?} after {delay_ms} ms, {:?}: {report:?}\n{}",
                ended.state(),
                lab.logs()
            );
        }
        // Rules can be changed and everybody hears of it.
        lab.wait_ready().await.unwrap();
        flood(&mut tenant, "s1").await;
        let [h1, h2] = lab.end_hosts() else {
            unreachable!()
        };
        assert_reaches(&lab, h1, h2, h2.ipv6());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_survives_the_death_of_the_agent_it_leaves() {
    survives(Victim::Agent("a")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_survives_the_death_of_the_agent_it_goes_to() {
    survives(Victim::Agent("b")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_survives_the_death_of_the_coordinator() {
    survives(Victim::Coordinator).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_does_not_notice_that_everybody_is_dead() {
    let scene = Scene::new().await;
    scene.lab.kill_coordinator();
    for host in ["a", "b"] {
        scene.lab.kill_agent(host).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    scene.lab.start_coordinator().unwrap();
    for host in ["a", "b"] {
        scene.lab.start_agent(host).unwrap();
    }
    scene.lab.wait_ready().await.unwrap();
    let (lab, mut tenant, reports) = scene.finish();
    for report in reports {
        assert!(report.is_clean(), "{report:?}\n{}", lab.logs());
    }
    let ended = tenant.migrate("a", "b").await.unwrap();
    assert_eq!(ended.state(), State::Completed, "{}", ended.error);
}
