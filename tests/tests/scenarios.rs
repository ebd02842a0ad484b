//! The scenarios of the papers, on two instances of each switch: with consistency nobody notices, and without it everybody does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use common::MODES;
use lime_proto::v1::PortAttach;
use lime_tests::record::Verdict;
use lime_tests::scenarios::{Scenario, play};

async fn holds(scenario: Scenario) {
    for attach in MODES {
        let outcome = play(scenario, attach, false).await.unwrap();
        assert_eq!(outcome.symptoms, 0, "{attach:?}: {outcome:?}");
        assert!(outcome.rounds > 0, "{attach:?}: {outcome:?}");
        match outcome.verdict {
            Verdict::Possible(summary) => assert!(summary.placed > 20, "{attach:?}: {summary:?}"),
            Verdict::Impossible(contradiction) => panic!("{attach:?}: {contradiction}"),
            Verdict::Unknown(why) => panic!("{attach:?}: {why}"),
        }
    }
}

async fn fails_without_consistency(scenario: Scenario) {
    let outcome = play(scenario, PortAttach::Tc, true).await.unwrap();
    println!(
        "{}\n{:?}",
        outcome.first.as_deref().unwrap_or(""),
        outcome.verdict
    );
    assert!(outcome.symptoms > 0, "{outcome:?}");
    let found = matches!(outcome.verdict, Verdict::Impossible(_));
    assert!(found, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_firewall_lets_answers_in() {
    holds(Scenario::Firewall).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naive_a_firewall_shuts_answers_out() {
    fails_without_consistency(Scenario::Firewall).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detector_sees_questions_first() {
    holds(Scenario::Intrusion).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naive_a_detector_blocks_a_server_for_ever() {
    fails_without_consistency(Scenario::Intrusion).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detector_with_a_table_of_its_own_sees_questions_first() {
    holds(Scenario::IntrusionTables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naive_a_detector_with_a_table_of_its_own_blocks_a_server() {
    fails_without_consistency(Scenario::IntrusionTables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detector_behind_a_group_sees_questions_first() {
    holds(Scenario::IntrusionGroup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naive_a_detector_behind_a_group_blocks_a_server() {
    fails_without_consistency(Scenario::IntrusionGroup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_pins_flows() {
    holds(Scenario::Balancer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naive_a_balancer_loses_its_pins() {
    fails_without_consistency(Scenario::Balancer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_policy_is_not_followed_by_the_old() {
    holds(Scenario::Policy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naive_an_old_policy_follows_the_new() {
    fails_without_consistency(Scenario::Policy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_is_changed_in_order() {
    holds(Scenario::Chain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naive_a_chain_is_changed_out_of_order() {
    fails_without_consistency(Scenario::Chain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learned_address_is_known() {
    holds(Scenario::Learning).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naive_a_learned_address_is_unknown() {
    fails_without_consistency(Scenario::Learning).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_ends_what_it_ends() {
    holds(Scenario::Quota).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naive_a_quota_is_exceeded() {
    fails_without_consistency(Scenario::Quota).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_20_strict_uplinks_are_of_one_switch() {
    holds(Scenario::Uplinks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naive_causal_uplinks_are_of_two() {
    let outcome = play(Scenario::Uplinks, PortAttach::Tc, true).await.unwrap();
    assert!(outcome.symptoms > 0, "{outcome:?}");
    // Nobody within the network could have told.
    assert!(
        matches!(outcome.verdict, Verdict::Possible(_)),
        "{outcome:?}"
    );
}
