//! A host that the coordinator cannot reach: updates go on without it, and it comes back by itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::{Duration, Instant};

use common::{MODES, assert_does_not_reach, assert_reaches, eventually, flood, tenant};
use lime_proto::v1::ListNetworksRequest;
use lime_tests::lab::Lab;
use lime_tests::rules::RuleSpec;
use lime_tests::tenant::Tenant;

/// Seconds.
const LEASE: u32 = 4;

/// Switch s1 on a and b, with an end host behind a port of each.
async fn bed(attach: lime_proto::v1::PortAttach) -> (Lab, Tenant) {
    let lab = Lab::builder()
        .hosts(2)
        .end_hosts(2)
        .xdp(attach == MODES[1])
        .lease(LEASE)
        .build()
        .await
        .unwrap();
    let mut tenant = tenant(&lab, attach).await;
    tenant.switch("s1", "a").await.unwrap();
    tenant.port(&lab, "s1", 1, "h1", "a").await.unwrap();
    tenant.port(&lab, "s1", 2, "h2", "b").await.unwrap();
    flood(&mut tenant, "s1").await;
    tenant.clone_switch("s1", "b").await.unwrap();
    (lab, tenant)
}

/// Updates are answered, at the latest some time after the lease: the rest is for a slow machine.
async fn updates_go_on(lab: &Lab, tenant: &mut Tenant, priority: u32) {
    let begun = Instant::now();
    let rule = RuleSpec::new(priority).in_port(9).output(1).add();
    let answer =
        tokio::time::timeout(Duration::from_secs(25), tenant.rules("s1", vec![rule])).await;
    let answered = answer.is_ok_and(|a| a.is_ok());
    assert!(answered, "{:?}\n{}", begun.elapsed(), lab.logs());
}

async fn takes_part_again(lab: &Lab, tenant: &mut Tenant) {
    let [h1, h2] = lab.end_hosts() else {
        unreachable!()
    };
    let client = tenant.client();
    // Waited for again: nobody is excluded, and nothing is waited for.
    eventually("both hosts to have everything", || {
        let mut client = client.clone();
        async move {
            let networks = client.list_networks(ListNetworksRequest {}).await.unwrap();
            let network = networks.into_inner().networks.remove(0);
            network.excluded.is_empty() && network.waiting_for.is_empty()
        }
    })
    .await;
    assert_reaches(lab, h2, h1, h1.ipv4());
    // The rule that came while it was away is there, and counts what both hosts do.
    let drop = RuleSpec::new(100).in_port(2).add();
    tenant.rules("s1", vec![drop]).await.unwrap();
    assert_does_not_reach(h2, h1, h1.ipv4());
    let stats = tenant.rule_stats("s1").await.unwrap();
    let dropped = stats
        .iter()
        .find(|s| s.rule.as_ref().is_some_and(|r| r.priority == 100));
    assert!(dropped.unwrap().packets > 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_17_a_host_that_is_cut_off_stops_and_updates_go_on() {
    for attach in MODES {
        let (lab, mut tenant) = bed(attach).await;
        let [h1, h2] = lab.end_hosts() else {
            unreachable!()
        };
        assert_reaches(&lab, h2, h1, h1.ipv4());
        lab.cut_management("b").await.unwrap();
        updates_go_on(&lab, &mut tenant, 9).await;
        // Answered, so the host that does not know of it processes nothing: whatever its end host sends.
        assert_does_not_reach(h2, h1, h1.ipv4());
        updates_go_on(&lab, &mut tenant, 10).await;
        lab.mend_management("b").await.unwrap();
        takes_part_again(&lab, &mut tenant).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_17_a_host_whose_agent_hangs_stops_and_updates_go_on() {
    let (lab, mut tenant) = bed(MODES[0]).await;
    let [h1, h2] = lab.end_hosts() else {
        unreachable!()
    };
    assert_reaches(&lab, h2, h1, h1.ipv4());
    lab.suspend_agent("b").unwrap();
    updates_go_on(&lab, &mut tenant, 9).await;
    assert_does_not_reach(h2, h1, h1.ipv4());
    lab.resume_agent("b").unwrap();
    takes_part_again(&lab, &mut tenant).await;
}
