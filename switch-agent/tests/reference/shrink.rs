//! Makes a failing scenario smaller, for as long as it still fails.

use lime_core::flow::{Group, GroupMod, Meter, MeterMod};
use lime_reference::Installed;

use super::scenario::{Scenario, Step, plain};

/// `fails` says whether a scenario still shows the difference, which is at the step with this number.
pub fn shrink(
    mut scenario: Scenario,
    step: usize,
    mut fails: impl FnMut(&Scenario) -> bool,
) -> Scenario {
    scenario.steps.truncate(step + 1);
    // Usually it takes but the one packet, and what clocks and ports were before it.
    let mut alone = scenario.clone();
    alone.steps.retain(|s| !matches!(s, Step::Packet { .. }));
    alone.steps.push(scenario.steps[step].clone());
    if fails(&alone) {
        scenario = alone;
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

/// One thing less each, many at a time first.
fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = vec![];
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut candidate = scenario.clone();
        change(&mut candidate);
        all.push(candidate);
    };
    // The last step is where it differs.
    let steps = scenario.steps.len() - 1;
    for range in parts(steps) {
        with(&|s| drop(s.steps.drain(range.clone())));
    }
    for range in parts(scenario.rules.len()) {
        with(&|s| drop(s.rules.drain(range.clone())));
    }
    for range in parts(scenario.groups.len()) {
        with(&|s| drop(s.groups.drain(range.clone())));
    }
    for (i, change) in scenario.groups.iter().enumerate() {
        if let GroupMod::Add(group) | GroupMod::Modify(group) = &change.change {
            simpler_group(i, group, &mut with);
        }
    }
    for range in parts(scenario.meters.len()) {
        with(&|s| drop(s.meters.drain(range.clone())));
    }
    for (i, change) in scenario.meters.iter().enumerate() {
        if let MeterMod::Add(meter) | MeterMod::Modify(meter) = &change.change {
            simpler_meter(i, meter, &mut with);
        }
    }
    for (flag, clear) in [
        (scenario.late, clear_late as fn(&mut Scenario)),
        (scenario.collects, clear_collects),
    ] {
        if flag {
            with(&clear);
        }
    }
    for (i, rule) in scenario.rules.iter().enumerate() {
        simpler_rule(i, rule, &mut with);
    }
    for (i, port) in scenario.ports.iter().enumerate() {
        if !plain(port) {
            with(&|s| {
                let port = &mut s.ports[i];
                (port.down, port.dead, port.no_flood, port.mtu) = (false, false, false, 0);
            });
        }
    }
    if let Some(Step::Packet { bytes, .. }) = scenario.steps.last() {
        let length = bytes.len();
        for less in [(length - 14) / 2, 1] {
            if less > 0 && length >= 22 + less {
                with(&|s| {
                    if let Some(Step::Packet { bytes, .. }) = s.steps.last_mut() {
                        bytes.truncate(length - less);
                    }
                });
            }
        }
    }
    all.retain(|s| s.sound() && s.rules.iter().all(|r| r.rule.check().is_ok()));
    all
}

fn clear_late(scenario: &mut Scenario) {
    scenario.late = false;
}

fn clear_collects(scenario: &mut Scenario) {
    scenario.collects = false;
}

/// Parts of a list to leave out: halves, quarters, and each one.
fn parts(length: usize) -> Vec<std::ops::Range<usize>> {
    let mut parts = vec![];
    for count in [2, 4] {
        let size = length / count;
        if size > 1 {
            parts.extend((0..count).map(|i| i * size..(i + 1) * size));
        }
    }
    parts.extend((0..length).map(|i| i..i + 1));
    parts
}

fn simpler_rule(i: usize, installed: &Installed, with: &mut impl FnMut(&dyn Fn(&mut Scenario))) {
    let rule = &installed.rule;
    for a in 0..rule.actions.len() {
        with(&|s| _ = s.rules[i].rule.actions.remove(a));
    }
    for a in 0..rule.write_actions.len() {
        with(&|s| _ = s.rules[i].rule.write_actions.remove(a));
    }
    if rule.meter.is_some() {
        with(&|s| s.rules[i].rule.meter = None);
    }
    if rule.write_metadata.is_some() {
        with(&|s| s.rules[i].rule.write_metadata = None);
    }
    if rule.clear_actions {
        with(&|s| s.rules[i].rule.clear_actions = false);
    }
    if installed.to.is_some() {
        with(&|s| s.rules[i].to = None);
    }
    if rule.goto_table.is_some() {
        with(&|s| s.rules[i].rule.goto_table = None);
    }
}

fn simpler_group(i: usize, group: &Group, with: &mut impl FnMut(&dyn Fn(&mut Scenario))) {
    let mut change = |change: &dyn Fn(&mut Group)| {
        with(&|s| {
            if let GroupMod::Add(group) | GroupMod::Modify(group) = &mut s.groups[i].change {
                change(group);
            }
        });
    };
    for (b, bucket) in group.buckets.iter().enumerate() {
        change(&|g| _ = g.buckets.remove(b));
        for a in 0..bucket.actions.len() {
            change(&|g| _ = g.buckets[b].actions.remove(a));
        }
        if bucket.watch_port.is_some() {
            change(&|g| g.buckets[b].watch_port = None);
        }
        if bucket.watch_group.is_some() {
            change(&|g| g.buckets[b].watch_group = None);
        }
        if bucket.weight > 1 {
            change(&|g| g.buckets[b].weight = 1);
        }
    }
}

fn simpler_meter(i: usize, meter: &Meter, with: &mut impl FnMut(&dyn Fn(&mut Scenario))) {
    for b in 0..meter.bands.len() {
        with(&|s| {
            if let MeterMod::Add(meter) | MeterMod::Modify(meter) = &mut s.meters[i].change {
                meter.bands.remove(b);
            }
        });
    }
}
