//! What end hosts and controllers see is recorded and judged: nothing is found where there is nothing, and what is planted is found.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::lab;
use lime_proto::v1::{Consistency, PortAttach};
use lime_tests::firewall::{App, PROBE_PORT, Policy, Prober};
use lime_tests::lab::Lab;
use lime_tests::record::Verdict;
use lime_tests::rules::{FLOOD, RuleSpec};
use lime_tests::soak::{self, Options};
use lime_tests::tenant::Tenant;
use lime_tests::traffic::Echo;

/// A firewall with an instance on each of two hosts, an end host at each, and traffic that goes through the controller.
struct Scene {
    lab: Lab,
    prober: Option<Prober>,
    _echo: Echo,
    _app: App,
    _tenant: Tenant,
}

impl Scene {
    async fn new(consistency: Consistency) -> Self {
        let attach = PortAttach::Tc;
        let lab = lab(2, 2, attach).await;
        let mut tenant = Tenant::create(&lab, "net", consistency, attach)
            .await
            .unwrap();
        tenant.switch("s1", "a").await.unwrap();
        tenant.port(&lab, "s1", 1, "h1", "a").await.unwrap();
        tenant.port(&lab, "s1", 2, "h2", "b").await.unwrap();
        tenant.clone_switch("s1", "b").await.unwrap();
        let (inside, outside) = (&lab.end_hosts()[0], &lab.end_hosts()[1]);
        let policy = Policy {
            network: "net".into(),
            switch: "s1".into(),
            inside: HashMap::from([(inside.ipv4(), 1)]),
            outside: 2,
        };
        let mut rules = policy.base_rules();
        rules.push(RuleSpec::new(50).arp().output(FLOOD).add());
        tenant.rules("s1", rules).await.unwrap();
        let app = App::start(lab.controller().unwrap(), policy).await.unwrap();
        let echo = Echo::start(outside, (outside.ipv4(), PROBE_PORT).into()).unwrap();
        let targets = vec![outside.ipv4()];
        let prober = Prober::start(inside, targets, Duration::from_millis(5)).unwrap();
        Self {
            lab,
            prober: Some(prober),
            _echo: echo,
            _app: app,
            _tenant: tenant,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_instances_show_one_could_have_shown() {
    let mut scene = Scene::new(Consistency::Causal).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let prober = scene.prober.take().unwrap();
    let report = tokio::task::block_in_place(|| prober.finish()).unwrap();
    let Verdict::Possible(summary) = scene.lab.verdict("net") else {
        panic!("{:?}", scene.lab.verdict("net"));
    };
    // Each flow is a packet there and one back, a packet-in, an update and a packet-out, and all of that was seen and placed.
    let flows = report.answered as usize;
    assert!(flows > 50, "{report:?}");
    assert_eq!(summary.packets, 2 * report.started as usize, "{summary:?}");
    assert!(summary.placed >= 5 * flows, "{summary:?}");
    assert!(summary.versions > flows / 50, "{summary:?}");
    assert_eq!((summary.ambiguous, summary.unknown), (0, 0), "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_planted_contradiction_is_found() {
    let scene = Scene::new(Consistency::None).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let contradiction = loop {
        match scene.lab.verdict("net") {
            Verdict::Impossible(contradiction) => break contradiction,
            verdict => assert!(Instant::now() < deadline, "nothing is found: {verdict:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let text = contradiction.to_string();
    println!("{text}");
    assert!(
        text.contains("packet") && text.contains("version"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_lives_show_nothing_amiss() {
    // `cargo xtask soak` goes on from others.
    let options = Options {
        time: Duration::from_secs(600),
        lives: 4,
        seed: 8,
    };
    let report = soak::run(&options, |_, _| ()).await.unwrap();
    assert!(report.wrong.is_empty(), "{report:?}");
    assert_eq!(report.lives, 4);
    assert!(report.placed > 1000 && report.updates > 4, "{report:?}");
}
