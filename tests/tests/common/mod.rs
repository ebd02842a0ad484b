//! What the end-to-end tests share.
#![allow(dead_code, reason = "each test program uses some of it")]

use std::net::IpAddr;
use std::process::Output;
use std::time::{Duration, Instant};

use lime_proto::v1::{Consistency, PortAttach};
use lime_tests::lab::{EndHost, Lab};
use lime_tests::rules::{FLOOD, RuleSpec};
use lime_tests::tenant::Tenant;
use lime_tests::traffic::reach;

/// Attach modes that every data path test runs in.
pub const MODES: [PortAttach; 2] = [PortAttach::Tc, PortAttach::Xdp];

/// How long a reachable end host may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A lab for ports in this mode.
pub async fn lab(hosts: usize, end_hosts: usize, attach: PortAttach) -> Lab {
    Lab::builder()
        .hosts(hosts)
        .end_hosts(end_hosts)
        .xdp(attach == PortAttach::Xdp)
        .build()
        .await
        .unwrap_or_else(|e| panic!("{e}"))
}

/// An empty network.
pub async fn tenant(lab: &Lab, attach: PortAttach) -> Tenant {
    Tenant::create(lab, "net", Consistency::Causal, attach)
        .await
        .unwrap_or_else(|e| panic!("{e}\n{}", lab.logs()))
}

/// A switch `s1` on host a, with end host n behind port n.
pub async fn one_switch(lab: &Lab, attach: PortAttach) -> Tenant {
    let mut tenant = tenant(lab, attach).await;
    tenant.switch("s1", "a").await.unwrap();
    for (end_host, port) in lab.end_hosts().iter().zip(1..) {
        tenant
            .port(lab, "s1", port, end_host.name(), "a")
            .await
            .unwrap();
    }
    tenant
}

/// Makes a switch flood everything.
pub async fn flood(tenant: &mut Tenant, switch: &str) {
    tenant
        .rules(switch, vec![RuleSpec::new(1).output(FLOOD).add()])
        .await
        .unwrap();
}

/// Fails unless an answer comes.
pub fn assert_reaches(lab: &Lab, from: &EndHost, to: &EndHost, target: impl Into<IpAddr>) {
    let target = target.into();
    let reached = tokio::task::block_in_place(|| reach(from, to, target, PATIENCE)).unwrap();
    assert!(
        reached.yes(),
        "{} does not reach {} at {target}\n{}",
        from.name(),
        to.name(),
        lab.logs()
    );
}

/// Fails if an answer comes.
pub fn assert_does_not_reach(from: &EndHost, to: &EndHost, target: impl Into<IpAddr>) {
    let target = target.into();
    let wait = Duration::from_millis(400);
    let reached = tokio::task::block_in_place(|| reach(from, to, target, wait)).unwrap();
    assert!(
        !reached.yes(),
        "{} reaches {} at {target}",
        from.name(),
        to.name()
    );
}

/// Waits for a condition.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs the command line.
pub fn lime(lab: &Lab, arguments: &[&str]) -> Output {
    let mut command = lab.command("core", "lime").unwrap();
    command.args(arguments).output().unwrap()
}

/// What the command line prints; it must succeed.
#[track_caller]
pub fn lime_ok(lab: &Lab, arguments: &[&str]) -> String {
    let output = lime(lab, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    let logs = lab.logs();
    assert!(
        output.status.success(),
        "lime {arguments:?}: {text}{error}\n{logs}"
    );
    text
}
