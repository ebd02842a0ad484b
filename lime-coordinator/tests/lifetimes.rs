//! Rules that time out, what is told of their end, and whose counts go on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use lime_proto::v1;
use support::{Coordinator, FakeAgent, add, one_host, two_instances, until, update};
use tonic::transport::Channel;
use v1::flow_mod::Command;
use v1::flow_removed::Reason;
use v1::lime_client::LimeClient;

/// An ADD with timeouts (seconds) whose end is told.
fn timed(priority: u32, idle: u32, hard: u32) -> v1::FlowMod {
    let mut m = add(priority, 1);
    let rule = m.rule.as_mut().unwrap();
    rule.idle_timeout = idle;
    rule.hard_timeout = hard;
    rule.send_flow_removed = true;
    rule.cookie = 0xc0;
    m
}

/// What the rule of this priority has counted on a host from now on, and since when it was not used.
fn count(agent: &FakeAgent, priority: u32, packets: u64, idle_ms: Option<u64>) {
    let mut tables = agent.tables.lock().unwrap();
    let network = tables.networks.get_mut(&1).unwrap();
    let rules = network.rules.get_mut(&1).unwrap().values_mut();
    for rule in rules.filter(|r| r.priority == priority && r.to == 0) {
        rule.packets = packets;
        rule.idle_ms = idle_ms;
    }
}

async fn rules(client: &mut LimeClient<Channel>) -> Vec<v1::RuleStats> {
    let request = v1::ListRulesRequest {
        network: "n".into(),
        switch: "s".into(),
        stats: true,
        ..Default::default()
    };
    let mut stream = client.list_rules(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        all.extend(part.rules);
    }
    all
}

async fn watch(client: &mut LimeClient<Channel>) -> tonic::Streaming<v1::ControllerEvent> {
    let request = v1::WatchEventsRequest {
        network: "n".into(),
        switch: String::new(),
    };
    client.watch_events(request).await.unwrap().into_inner()
}

async fn removed(events: &mut tonic::Streaming<v1::ControllerEvent>) -> (u32, v1::FlowRemoved) {
    let event = events.message().await.unwrap().unwrap();
    (event.version, event.flow_removed.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_timeouts_end_rules_everywhere_with_the_counts_of_all() {
    let coordinator = Coordinator::start().await;
    let (a, b, mut client) = two_instances(&coordinator).await;
    let mut events = watch(&mut client).await;
    let mods = vec![timed(7, 0, 1), add(8, 1)];
    client.update_rules(update("n", "s", mods)).await.unwrap();
    count(&a, 7, 20, Some(0));
    count(&b, 7, 3, Some(0));
    let (version, end) = removed(&mut events).await;
    assert_eq!(end.reason(), Reason::HardTimeout);
    assert_eq!((end.packets, end.bytes), (23, 2300));
    assert!(end.duration_ms >= 1000, "{}", end.duration_ms);
    assert_eq!(end.rule.as_ref().unwrap().cookie, 0xc0);
    for host in [&a, &b] {
        assert_eq!(host.visible(1, 1), vec![8]);
        assert!(host.network(1).unwrap().clock >= version);
    }
    assert_eq!(rules(&mut client).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_rule_goes_only_when_all_instances_say_so() {
    let coordinator = Coordinator::start().await;
    let (a, b, mut client) = two_instances(&coordinator).await;
    let mut events = watch(&mut client).await;
    let mods = vec![timed(7, 1, 0), timed(9, 1, 3)];
    client.update_rules(update("n", "s", mods)).await.unwrap();
    // Busy on b, never used on a: only the hard timeout ends it.
    count(&b, 9, 4, Some(0));
    // Used long ago on a.
    count(&a, 7, 2, Some(1500));
    let (first, end) = removed(&mut events).await;
    assert_eq!(end.reason(), Reason::IdleTimeout);
    assert_eq!(end.rule.as_ref().unwrap().priority, 7);
    assert_eq!(end.packets, 2);
    let (second, end) = removed(&mut events).await;
    assert_eq!(end.reason(), Reason::HardTimeout);
    assert_eq!((end.rule.as_ref().unwrap().priority, end.packets), (9, 4));
    assert!(first < second);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_are_told_and_replacements_are_not() {
    let coordinator = Coordinator::start().await;
    let (a, mut client) = one_host(&coordinator).await;
    let mut events = watch(&mut client).await;
    let mods = vec![timed(7, 0, 0), timed(8, 0, 0)];
    client.update_rules(update("n", "s", mods)).await.unwrap();
    count(&a, 7, 5, None);
    count(&a, 8, 6, None);
    // One goes on in another's place, one begins anew.
    let mut reset = timed(8, 0, 0);
    reset.reset_counts = true;
    reset.rule.as_mut().unwrap().cookie = 0xc1;
    let mut keep = timed(7, 0, 0);
    keep.rule.as_mut().unwrap().cookie = 0xc1;
    let mods = vec![keep, reset];
    client.update_rules(update("n", "s", mods)).await.unwrap();
    count(&a, 7, 10, None);
    let shown = rules(&mut client).await;
    let counts: Vec<u64> = shown.iter().map(|r| r.packets).collect();
    assert_eq!(counts, [0, 15], "priority 8, then 7");
    let mut delete = timed(0, 0, 0);
    delete.set_command(Command::Delete);
    let done = client.update_rules(update("n", "s", vec![delete])).await;
    let epoch = done.unwrap().into_inner().epoch;
    let mut ends = [removed(&mut events).await, removed(&mut events).await];
    ends.sort_by_key(|(_, e)| e.rule.as_ref().unwrap().priority);
    let ends = ends.iter().map(|(v, e)| (*v, e.reason(), e.packets));
    let ends: Vec<_> = ends.collect();
    assert_eq!(
        ends,
        [(epoch, Reason::Delete, 15), (epoch, Reason::Delete, 0)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modified_rule_keeps_its_counts_over_restarts_and_retirements() {
    let mut coordinator = Coordinator::start().await;
    let (a, b, mut client) = two_instances(&coordinator).await;
    let mods = vec![timed(7, 0, 0)];
    client.update_rules(update("n", "s", mods)).await.unwrap();
    let mut expected = 0;
    for round in 1..=3u64 {
        count(&a, 7, 10, None);
        count(&b, 7, round, None);
        expected += 10 + round;
        let mut modify = timed(7, 0, 0);
        modify.set_command(Command::Modify);
        let rule = modify.rule.as_mut().unwrap();
        rule.actions = if round % 2 == 1 {
            vec![]
        } else {
            add(7, 2).rule.unwrap().actions
        };
        client
            .update_rules(update("n", "s", vec![modify]))
            .await
            .unwrap();
    }
    count(&b, 7, 100, None);
    let shown = rules(&mut client).await;
    assert_eq!((shown.len(), shown[0].packets), (1, expected + 100));
    let aged = shown[0].duration_ms;

    coordinator.restart().await;
    let mut client = coordinator.client().await;
    until("both to be back", || async {
        let hosts = coordinator
            .client()
            .await
            .list_hosts(v1::ListHostsRequest {})
            .await;
        let hosts = hosts.unwrap().into_inner().hosts;
        hosts.iter().all(|h| h.connected).then_some(())
    })
    .await;
    let shown = rules(&mut client).await;
    assert_eq!((shown.len(), shown[0].packets), (1, expected + 100));
    assert!(shown[0].duration_ms >= aged, "{shown:?} after {aged} ms");
    let retire = v1::RemoveInstanceRequest {
        network: "n".into(),
        switch: "s".into(),
        host: "b".into(),
    };
    client.remove_instance(retire).await.unwrap();
    let mut events = watch(&mut client).await;
    let mut delete = timed(0, 0, 0);
    delete.set_command(Command::Delete);
    client
        .update_rules(update("n", "s", vec![delete]))
        .await
        .unwrap();
    let (_, end) = removed(&mut events).await;
    assert_eq!(end.packets, expected + 100);
    assert!(end.duration_ms >= aged);
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_go_on_while_the_coordinator_is_away() {
    let mut coordinator = Coordinator::start().await;
    let (a, mut client) = one_host(&coordinator).await;
    let mods = vec![timed(7, 0, 2), timed(8, 2, 0), timed(9, 300, 300)];
    client.update_rules(update("n", "s", mods)).await.unwrap();
    coordinator.restart().await;
    until("both rules to go", || async {
        (a.visible(1, 1) == vec![9]).then_some(())
    })
    .await;
}
