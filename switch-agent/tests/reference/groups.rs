//! Random groups: of all types, that run and watch others, and that change.

use lime_core::flow::{Action, Bucket, Group, GroupMod, GroupType, Match};
use lime_core::{Epoch, PortNo};
use lime_reference::GroupChange;

use super::random::Random;
use super::rules;
use super::scenario::{SWITCHES, Scenario, switch_of};

/// Their numbers; not all of them are always there. Groups run and watch those before them.
pub const GROUPS: [u32; 5] = [1, 2, 7, 64, 0xffff_ff00];

/// Gives both switches groups, most from the start, of which some change and a few go.
pub fn add(random: &mut Random, scenario: &mut Scenario, packets: &[Vec<u8>]) {
    for switch in SWITCHES {
        let epochs: Vec<u32> = (1..=scenario.staged)
            .filter(|&epoch| switch_of(epoch) == switch)
            .collect();
        let mut changes = vec![];
        for (at, &number) in GROUPS.iter().enumerate() {
            if random.chance(10) {
                continue;
            }
            let first = if random.chance(85) {
                0
            } else {
                random.below(epochs.len())
            };
            changes.push((epochs[first], GroupMod::Add(group(random, at, packets))));
            for &epoch in &epochs[first + 1..] {
                if random.chance(30) {
                    changes.push((epoch, GroupMod::Modify(group(random, at, packets))));
                } else if random.chance(3) {
                    changes.push((epoch, GroupMod::Delete(Some(number))));
                    break;
                }
            }
        }
        changes.sort_by_key(|(epoch, _)| *epoch);
        for (epoch, change) in changes {
            scenario.groups.push(GroupChange {
                switch,
                from: Epoch(epoch),
                change,
            });
            // What uses a group that is not there, or still runs one that is to go, is refused.
            if !scenario.sound() {
                scenario.groups.pop();
            }
        }
    }
    scenario.groups.sort_by_key(|change| change.from.0);
}

fn group(random: &mut Random, at: usize, packets: &[Vec<u8>]) -> Group {
    let kind = random.pick(&[
        GroupType::All,
        GroupType::All,
        GroupType::Select,
        GroupType::Select,
        GroupType::FastFailover,
        GroupType::Indirect,
    ]);
    let count = match kind {
        GroupType::Indirect => 1,
        // Some have more than fit into one part.
        GroupType::Select | GroupType::FastFailover if random.chance(10) => 17 + random.below(6),
        _ => random.pick(&[0, 1, 2, 2, 3, 4]),
    };
    let buckets = (0..count).map(|_| bucket(random, kind, at, packets));
    Group {
        id: GROUPS[at],
        kind,
        buckets: buckets.collect(),
    }
}

fn bucket(random: &mut Random, kind: GroupType, at: usize, packets: &[Vec<u8>]) -> Bucket {
    // Buckets match nothing; that what they set is there now and then, they are made for some packet.
    let about = &packets[random.below(packets.len())];
    let matching = match random.below(3) {
        0 => Match::any(),
        _ => rules::matching_about(random, 0, about),
    };
    let mut actions = vec![];
    for _ in 0..random.pick(&[0, 1, 1, 2, 3]) {
        let action = rules::action(random, &matching);
        if !matches!(action, Action::Group(_)) {
            actions.push(action);
        }
    }
    if at > 0 && random.chance(20) {
        actions.push(Action::Group(GROUPS[random.below(at)]));
    }
    if random.chance(50) {
        actions.push(rules::output(random));
    }
    let mut bucket = Bucket::new(actions);
    if kind == GroupType::Select {
        bucket.weight = random.pick(&[0, 1, 1, 2, 100, u16::MAX]);
    }
    if matches!(kind, GroupType::Select | GroupType::FastFailover) {
        if random.chance(50) {
            bucket.watch_port = Some(PortNo(random.pick(&[1, 2, 3, 4, 5, 7, 9])));
        }
        if at > 0 && random.chance(20) {
            bucket.watch_group = Some(GROUPS[random.below(at)]);
        }
    }
    bucket
}
