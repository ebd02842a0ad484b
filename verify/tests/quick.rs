//! The quick set: every scenario whole, or as far as there is time; and every mutation.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use lime_verify::explore::{Limits, explore, shortest};
use lime_verify::mutation::Mutation;
use lime_verify::scenarios;
use lime_verify::world::Setting;

/// Those with more states than 100,000.
const LARGE: [&str; 3] = ["updates", "refused", "cut-packet-out-table"];
/// Of which a part is walked through: hosts that are cut off, and statistics.
const PARTLY: [&str; 4] = ["cut-off", "cut-off-refused", "cut-off-relay", "statistics"];
/// Of which a smaller part is: idle rules.
const IDLE: [&str; 5] = [
    "idle-replaced",
    "idle-agent-crash",
    "idle-coordinator-crash",
    "idle-join",
    "idle-refused",
];
/// Strict networks, of which a part is walked through.
const STRICT: [&str; 2] = ["strict-cut-off", "strict-agent-crash"];
const LARGEST: &str = "migration-crash";

/// Walks through these scenarios; gives the number of states.
fn check(wanted: impl Fn(&str) -> bool, states: u64) -> u64 {
    let limits = Limits {
        states,
        time: Duration::from_secs(300),
        threads: 1,
        seed: 0,
        progress: None,
    };
    let mut total = 0;
    for scenario in scenarios::all().into_iter().filter(|s| wanted(s.name)) {
        let name = scenario.name;
        let report = explore(&Setting::new(scenario, None), &limits);
        assert!(report.trace.is_none(), "{name}: {:?}", report.trace);
        assert!(
            report.complete || report.states >= states,
            "{name}: no time"
        );
        total += report.states;
    }
    total
}

#[test]
fn small_worlds_show_what_one_switch_could_have_shown() {
    let states = check(
        |n| {
            let partly = [&PARTLY[..], &IDLE, &STRICT].concat().contains(&n);
            !LARGE.contains(&n) && !partly && n != LARGEST
        },
        u64::from(u32::MAX) >> 12,
    );
    assert!(states > 200_000, "{states}");
}

#[test]
fn large_worlds_show_what_one_switch_could_have_shown() {
    let states = check(|n| LARGE.contains(&n), 1 << 20);
    assert!(states > 550_000, "{states}");
}

#[test]
fn cut_off_hosts_and_statistics_show_what_one_switch_could_have_shown() {
    let states = check(|n| PARTLY.contains(&n), 200_000);
    assert!(states >= 800_000, "{states}");
}

#[test]
fn idle_rules_go_by_promises_that_nobody_breaks() {
    let states = check(|n| IDLE.contains(&n), 60_000);
    assert!(states >= 300_000, "{states}");
}

#[test]
fn strict_worlds_with_faults_show_what_one_switch_could_have_shown_in_real_time() {
    let states = check(|n| STRICT.contains(&n), 100_000);
    assert!(states >= 200_000, "{states}");
}

#[test]
fn a_migration_with_a_dying_coordinator_shows_what_one_switch_could_have_shown() {
    let states = check(|n| n == LARGEST, 400_000);
    assert!(states >= 400_000, "{states}");
}

/// Rule 5, where the output and what the controller is told are not of one rule, and where the output goes through another switch.
#[test]
fn outputs_that_are_not_held_are_missed_in_tables_and_chains() {
    let mutation = Mutation::NoHeldOutputs;
    for name in ["hold-tables", "hold-chain"] {
        let mut all = scenarios::all().into_iter();
        let scenario = all.find(|s| s.name == name).expect("a scenario");
        let setting = Setting::new(scenario, Some(mutation));
        let report = shortest(&setting, 400_000, Duration::from_secs(120));
        assert!(report.trace.is_some(), "{name}");
    }
}

#[test]
fn every_rule_taken_out_is_missed() {
    for mutation in Mutation::ALL {
        let mut all = scenarios::all().into_iter();
        let scenario = all.find(|s| s.name == mutation.scenario());
        let setting = Setting::new(scenario.expect("a scenario"), Some(mutation));
        let report = shortest(&setting, 400_000, Duration::from_secs(120));
        assert!(report.trace.is_some(), "{mutation:?} is not caught");
    }
}
