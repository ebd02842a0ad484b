//! Exact statistics: rule 13.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use lime_proto::v1;
use support::{Coordinator, FakeAgent, add, two_instances, until, update};
use tonic::transport::Channel;
use v1::lime_client::LimeClient;

/// What each rule has counted on a host from now on: `all` of all versions, or of those that go on.
fn count(agent: &FakeAgent, packets: u64) {
    let mut tables = agent.tables.lock().unwrap();
    let network = tables.networks.get_mut(&1).unwrap();
    let rules = network.rules.get_mut(&1).unwrap().values_mut();
    for rule in rules.filter(|r| r.to == 0) {
        rule.packets = packets;
    }
}

async fn packets(client: &mut LimeClient<Channel>, exact: bool) -> Vec<u64> {
    let request = v1::ListRulesRequest {
        network: "n".into(),
        switch: "s".into(),
        stats: true,
        exact,
    };
    let mut rules = client.list_rules(request).await.unwrap().into_inner();
    let part = rules.message().await.unwrap().unwrap();
    assert_eq!(part.exact, exact, "it says which mode is on");
    part.rules.iter().map(|r| r.packets).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_13_statistics_are_of_one_epoch() {
    let coordinator = Coordinator::start().await;
    let (a, b, mut client) = two_instances(&coordinator).await;
    client
        .update_rules(update("n", "s", vec![add(7, 1)]))
        .await
        .unwrap();
    count(&a, 10);
    count(&b, 5);
    assert_eq!(packets(&mut client, true).await, [15]);
    count(&a, 1);
    b.tables.lock().unwrap().hold_acks = true;
    let before = a.network(1).unwrap().clock;
    let mut other = client.clone();
    let cut = tokio::spawn(async move { packets(&mut other, true).await });
    until("the cut to be active on both", || async {
        let clocks = [&a, &b].map(|h| h.network(1).unwrap().clock);
        clocks.iter().all(|c| *c > before).then_some(())
    })
    .await;
    // Behind the cut, and known to the coordinator before the cut is complete.
    count(&a, 100);
    assert_eq!(packets(&mut client, false).await, [116]);
    assert!(!cut.is_finished());
    b.release_acks();
    assert_eq!(cut.await.unwrap(), [16], "what came behind it is not in it");
    assert_eq!(packets(&mut client, true).await, [116]);
    assert_eq!(a.visible(1, 1), [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_13_changes_around_a_cut_do_not_disturb_it() {
    let coordinator = Coordinator::start().await;
    let (a, b, mut client) = two_instances(&coordinator).await;
    client
        .update_rules(update("n", "s", vec![add(7, 1), add(8, 1)]))
        .await
        .unwrap();
    count(&a, 10);
    count(&b, 5);
    // All that is submitted while an epoch is being staged shares the next one.
    b.tables.lock().unwrap().hold_acks = true;
    let mut clients = [client.clone(), client.clone(), client.clone()];
    let [first, second, third] = &mut clients;
    let delete = v1::FlowMod {
        command: v1::flow_mod::Command::DeleteStrict.into(),
        ..add(7, 1)
    };
    let release = async {
        tokio::task::yield_now().await;
        b.release_acks();
    };
    let (_, cut, _, ()) = tokio::join!(
        first.update_rules(update("n", "s", vec![add(9, 1)])),
        packets(second, true),
        third.update_rules(update("n", "s", vec![delete])),
        release,
    );
    // In whichever order they came: of what is there, each has its own count.
    assert!(cut.iter().all(|n| *n == 15 || *n == 0), "{cut:?}");
    assert!(cut.contains(&15), "{cut:?}");
    assert_eq!(a.visible(1, 1), [8, 9]);
}
