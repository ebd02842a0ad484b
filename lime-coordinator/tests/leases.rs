//! Going on without hosts that cannot be reached: rule 17.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use lime_proto::v1;
use lime_proto::v1::lime_client::LimeClient;
use support::{Coordinator, FakeAgent, add, network, switch, until, update};
use tonic::transport::Channel;

const LEASE: Duration = Duration::from_secs(2);

struct Bed {
    coordinator: Coordinator,
    a: FakeAgent,
    b: FakeAgent,
    client: LimeClient<Channel>,
}

/// Switch s of network n on a, and on b too.
async fn bed(lease: Duration, shared: bool) -> Bed {
    let coordinator = Coordinator::start_with(|c| c.lease = lease).await;
    let a = FakeAgent::start(&coordinator.url(), "a").await;
    let b = FakeAgent::start(&coordinator.url(), "b").await;
    let mut client = coordinator.client().await;
    network(&mut client, "n").await;
    switch(&mut client, "n", "s", "a").await;
    if shared {
        let request = v1::AddInstanceRequest {
            network: "n".into(),
            switch: "s".into(),
            host: "b".into(),
        };
        client.add_instance(request).await.unwrap();
    }
    client
        .update_rules(update("n", "s", vec![add(1, 1)]))
        .await
        .unwrap();
    Bed {
        coordinator,
        a,
        b,
        client,
    }
}

fn count(agent: &FakeAgent, packets: u64) {
    let mut tables = agent.tables.lock().unwrap();
    let rules = &mut tables.networks.get_mut(&1).unwrap().rules;
    for rule in rules.get_mut(&1).unwrap().values_mut() {
        rule.packets += packets;
    }
}

async fn packets(client: &mut LimeClient<Channel>) -> Vec<u64> {
    let request = v1::ListRulesRequest {
        network: "n".into(),
        switch: "s".into(),
        stats: true,
        ..Default::default()
    };
    let mut rules = client.list_rules(request).await.unwrap().into_inner();
    let part = rules.message().await.unwrap().unwrap();
    part.rules.iter().map(|r| r.packets).collect()
}

async fn is_back(agent: &FakeAgent, priorities: &[u32]) {
    until("the host to take part again", || async {
        let far = agent.network(1).is_none_or(|n| {
            let mut switches = n.config.switches.iter();
            switches.any(|s| s.join_epoch > n.clock)
        });
        (!far && agent.visible(1, 1) == priorities).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_17_updates_go_on_within_the_lease_and_the_host_comes_back_by_itself() {
    let mut bed = bed(LEASE, true).await;
    count(&bed.a, 10);
    count(&bed.b, 5);
    assert_eq!(packets(&mut bed.client).await, [15]);
    // What it counts after it was last read is not lost.
    count(&bed.b, 2);
    bed.b.kill();
    bed.client
        .update_rules(update("n", "s", vec![add(2, 1)]))
        .await
        .unwrap();
    assert_eq!(bed.a.visible(1, 1), [1, 2]);
    assert_eq!(bed.b.visible(1, 1), [1], "it is away");
    bed.client
        .update_rules(update("n", "s", vec![add(3, 1)]))
        .await
        .unwrap();
    // The coordinator's memory of it is in its store.
    bed.coordinator.restart().await;
    bed.client = bed.coordinator.client().await;
    bed.a.connected().await;
    bed.client
        .update_rules(update("n", "s", vec![add(4, 1)]))
        .await
        .unwrap();
    bed.b.revive();
    is_back(&bed.b, &[1, 2, 3, 4]).await;
    bed.client
        .update_rules(update("n", "s", vec![add(5, 1)]))
        .await
        .unwrap();
    assert_eq!(bed.b.visible(1, 1), [1, 2, 3, 4, 5], "it is waited for");
    count(&bed.b, 100);
    assert_eq!(packets(&mut bed.client).await, [100, 100, 100, 100, 117]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_17_the_last_instance_is_waited_for() {
    let mut bed = bed(LEASE, true).await;
    bed.a.kill();
    bed.client
        .update_rules(update("n", "s", vec![add(2, 1)]))
        .await
        .unwrap();
    bed.b.kill();
    let mut client = bed.client.clone();
    let waiting =
        tokio::spawn(async move { client.update_rules(update("n", "s", vec![add(3, 1)])).await });
    // It is not over when the lease is.
    tokio::time::sleep(2 * LEASE).await;
    assert!(!waiting.is_finished());
    bed.b.revive();
    waiting.await.unwrap().unwrap();
    assert_eq!(bed.b.visible(1, 1), [1, 2, 3]);
    bed.a.revive();
    is_back(&bed.a, &[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_17_a_host_whose_switches_run_nowhere_else_is_waited_for() {
    let mut bed = bed(LEASE, false).await;
    assert!(!bed.a.network(1).unwrap().config.leased);
    bed.a.kill();
    let mut client = bed.client.clone();
    let waiting =
        tokio::spawn(async move { client.update_rules(update("n", "s", vec![add(2, 1)])).await });
    tokio::time::sleep(2 * LEASE).await;
    assert!(!waiting.is_finished());
    bed.a.revive();
    waiting.await.unwrap().unwrap();
    assert_eq!(bed.a.visible(1, 1), [1, 2]);
    bed.b.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_leases_updates_wait_for_everybody() {
    let mut bed = bed(Duration::ZERO, true).await;
    assert_eq!(bed.a.tables.lock().unwrap().lease.0, 0);
    bed.a.kill();
    let mut client = bed.client.clone();
    let waiting =
        tokio::spawn(async move { client.update_rules(update("n", "s", vec![add(2, 1)])).await });
    tokio::time::sleep(2 * LEASE).await;
    assert!(!waiting.is_finished());
    bed.a.revive();
    waiting.await.unwrap().unwrap();
}
