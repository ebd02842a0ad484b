//! Makes a failing scenario smaller, for as long as it still fails.

use super::scenario::Scenario;

/// `fails` says whether a scenario (with one packet) still shows the difference.
pub fn shrink(
    mut scenario: Scenario,
    packet: usize,
    mut fails: impl FnMut(&Scenario) -> bool,
) -> Scenario {
    let all = scenario.clone();
    scenario.packets = vec![all.packets[packet].clone()];
    if !fails(&scenario) {
        // It takes the packets before it.
        return all;
    }
    let mut progress = true;
    while progress {
        progress = false;
        for candidate in simpler(&scenario) {
            if fails(&candidate) {
                scenario = candidate;
                progress = true;
                break;
            }
        }
    }
    scenario
}

/// One thing less each.
fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = vec![];
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut candidate = scenario.clone();
        change(&mut candidate);
        all.push(candidate);
    };
    let rules = scenario.rules.len();
    for half in [0..rules / 2, rules / 2..rules] {
        if !half.is_empty() && rules > 3 {
            with(&|s| drop(s.rules.drain(half.clone())));
        }
    }
    for i in 0..rules {
        with(&|s| drop(s.rules.remove(i)));
    }
    for (i, rule) in scenario.rules.iter().enumerate() {
        for a in 0..rule.rule.actions.len() {
            with(&|s| {
                s.rules[i].rule.actions.remove(a);
            });
        }
        if rule.to.is_some() {
            with(&|s| s.rules[i].to = None);
        }
        if rule.rule.goto_table.is_some() {
            with(&|s| s.rules[i].rule.goto_table = None);
        }
    }
    for (i, port) in scenario.ports.iter().enumerate() {
        if port.down || port.no_flood || port.mtu != 0 {
            with(&|s| {
                let port = &mut s.ports[i];
                (port.down, port.no_flood, port.mtu) = (false, false, 0);
            });
        }
    }
    let length = scenario.packets[0].bytes.len();
    for less in [(length - 14) / 2, 1] {
        if less > 0 && length >= 22 + less {
            with(&|s| s.packets[0].bytes.truncate(length - less));
        }
    }
    all.retain(|s| s.rules.iter().all(|r| r.rule.check().is_ok()));
    all
}
