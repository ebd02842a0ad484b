//! Idle timeouts by promise (rule 14): when rounds end without a decision, and who is told that promises are lifted or stand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use lime_proto::v1;
use lime_proto::v1::lime_client::LimeClient;
use support::{Coordinator, FakeAgent, add, one_host, two_instances, until, update};
use tonic::transport::Channel;

/// An ADD with an idle timeout of a second.
fn timed(priority: u32) -> v1::FlowMod {
    let mut m = add(priority, 1);
    m.rule.as_mut().unwrap().idle_timeout = 1;
    m
}

/// Adds the rule that the tests are about.
async fn add_timed(client: &mut LimeClient<Channel>) {
    let request = update("n", "s", vec![timed(7)]);
    client.update_rules(request).await.unwrap();
}

fn hold_votes(agent: &FakeAgent, hold: bool) {
    agent.tables.lock().unwrap().hold_votes = hold;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_14_a_host_that_does_not_vote_ends_the_round_and_promises_are_lifted() {
    let coordinator = Coordinator::start().await;
    let (a, b, mut client) = two_instances(&coordinator).await;
    hold_votes(&b, true);
    add_timed(&mut client).await;
    a.promises(1).await;
    let late = b.asked().await;
    a.promises(0).await;
    // A vote of a round that is over decides nothing.
    b.votes(&late);
    assert_eq!(a.visible(1, 1), vec![7]);
    hold_votes(&b, false);
    until("the rule to go", || async {
        (a.visible(1, 1).is_empty() && b.visible(1, 1).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_14_a_host_that_goes_ends_the_round_and_is_told_what_stands() {
    let coordinator = Coordinator::start().await;
    let (a, mut b, mut client) = two_instances(&coordinator).await;
    // A has voted, b has promised and its vote is lost with its stream.
    hold_votes(&b, true);
    add_timed(&mut client).await;
    a.promises(1).await;
    let ask = b.asked().await;
    b.kill();
    b.tables.lock().unwrap().vote(&ask);
    a.promises(0).await;
    assert_eq!(a.visible(1, 1), vec![7]);
    b.revive();
    b.promises(0).await;
    hold_votes(&b, false);
    until("the rule to go", || async {
        b.visible(1, 1).is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_14_promises_of_a_decided_removal_stand_over_restarts() {
    let mut coordinator = Coordinator::start().await;
    let (a, mut b, mut client) = two_instances(&coordinator).await;
    hold_votes(&b, true);
    add_timed(&mut client).await;
    let ask = b.asked().await;
    // The removal is decided, and b is killed before it has staged it.
    b.tables.lock().unwrap().hold_stages = true;
    b.votes(&ask);
    b.holds_a_stage().await;
    b.kill();
    a.promises(1).await;
    coordinator.restart().await;
    let told = |agent: &FakeAgent| {
        let tables = agent.tables.lock().unwrap();
        tables.seen.contains(&"standing_promises").then_some(())
    };
    until("a to be told", || async { told(&a) }).await;
    a.promises(1).await;
    // Also for one that has forgotten.
    {
        let mut tables = b.tables.lock().unwrap();
        tables.promised.clear();
        tables.held_stages.clear();
    }
    b.revive();
    b.promises(1).await;
    b.release_stages();
    until("the rule to go", || async {
        (a.visible(1, 1).is_empty() && b.visible(1, 1).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_14_a_rule_that_is_modified_meanwhile_stays() {
    let coordinator = Coordinator::start().await;
    let (a, b, mut client) = two_instances(&coordinator).await;
    hold_votes(&b, true);
    add_timed(&mut client).await;
    let ask = b.asked().await;
    let mut modify = timed(7);
    modify.set_command(v1::flow_mod::Command::Modify);
    modify.rule.as_mut().unwrap().actions = add(7, 2).rule.unwrap().actions;
    client
        .update_rules(update("n", "s", vec![modify]))
        .await
        .unwrap();
    b.votes(&ask);
    a.promises(0).await;
    b.promises(0).await;
    assert_eq!(a.visible(1, 1), vec![7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_14_promises_for_a_removal_that_is_void_are_lifted() {
    let coordinator = Coordinator::start().await;
    let (a, mut client) = one_host(&coordinator).await;
    hold_votes(&a, true);
    add_timed(&mut client).await;
    let ask = a.asked().await;
    // The removal waits behind an update that is refused.
    a.tables.lock().unwrap().really_free = 0;
    a.tables.lock().unwrap().hold_stages = true;
    let mut other = coordinator.client().await;
    let refused =
        tokio::spawn(async move { other.update_rules(update("n", "s", vec![add(9, 1)])).await });
    a.holds_a_stage().await;
    a.votes(&ask);
    a.promises(1).await;
    a.tables.lock().unwrap().asked.clear();
    a.release_stages();
    refused.await.unwrap().unwrap_err();
    a.promises(0).await;
    assert_eq!(a.visible(1, 1), vec![7]);
}
