//! Rules that are written by the batch, against the same rules one at a time.

use std::mem::offset_of;

use lime_core::Epoch;
use lime_core::flow::{Action, Field, MetadataWrite};
use switch_abi::{FlowKey, MAX_TUPLES, RuleCounters, RuleEntry};

use super::super::{Datapath, DatapathError};
use super::random::Random;
use super::*;

/// Rules of few masks and few kinds of actions, some of them with the same match.
fn random_rules(random: &mut Random, count: u64) -> Vec<(RuleId, Rule)> {
    let one = |n| {
        let mut rule = random.rule();
        for _ in 0..random.below(4) {
            let port = PortNo(random.below(4) as u32 + 1);
            let more = match random.below(4) {
                0 => Action::output(port),
                1 => Action::PopVlan,
                2 => Action::SetField {
                    field: Field::EthDst,
                    value: u128::from(random.below(3)),
                },
                _ => Action::output(PortNo::CONTROLLER),
            };
            rule.actions.insert(0, more);
        }
        if random.below(4) == 0 {
            rule.goto_table = Some(rule.table + 1);
            rule.write_metadata = Some(MetadataWrite { value: 1, mask: 3 });
        }
        if random.below(4) == 0 {
            rule.write_actions = vec![Action::output(PortNo(random.below(3) as u32 + 1))];
        }
        rule.cookie = random.below(1000);
        (id(n + 1), rule)
    };
    (0..count).map(one).collect()
}

/// What a program makes of a rule that it has found.
fn meaning(
    dp: &Datapath,
    key: &FlowKey,
    table: u8,
    clock: u32,
) -> Option<impl PartialEq + std::fmt::Debug + use<>> {
    let (id, entry) = dp.lookup(SWITCH, table, key, Epoch(clock))?;
    let actions = entry.actions[..entry.action_count as usize].iter();
    let ports = dp.store.maps.ports.len();
    // Slots of ports depend on the order in which the ports were first named.
    let named = |a: &switch_abi::Action| match a.port_slot() {
        Some(slot) if slot < ports => {
            let port_no = dp.store.maps.ports.read(slot).port_no;
            switch_abi::Action { b: port_no, ..*a }
        }
        _ => *a,
    };
    let actions: Vec<_> = actions.map(named).collect();
    let head = (
        entry.priority,
        entry.table,
        entry.goto_table,
        entry.flags,
        entry.apply_count,
    );
    let rest = (
        entry.cookie,
        entry.metadata,
        entry.metadata_mask,
        entry.live,
    );
    Some((id, head, rest, actions))
}

#[test]
fn a_batch_means_what_its_rules_mean_one_at_a_time() {
    for seed in 1..=40u64 {
        println!("seed {seed}");
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let count = random.below(300) + 1;
        let rules = random_rules(&mut random, count);
        let (mut together, mut apart) = (datapath(), datapath());
        let last = Epoch(count as u32);
        // As much that is free: the batch is the last of as many epochs.
        for epoch in 1..count as u32 {
            together.stage(NET, Epoch(epoch), None, &[], &[]).unwrap();
        }
        together
            .stage(NET, last, Some(SWITCH), &rules, &[])
            .unwrap();
        for (rule, epoch) in rules.chunks(1).zip(1..) {
            apart
                .stage(NET, Epoch(epoch), Some(SWITCH), rule, &[])
                .unwrap();
        }
        for _ in 0..200 {
            let (key, table) = (random.key(), random.below(2) as u8);
            assert_eq!(
                meaning(&together, &key, table, last.0),
                meaning(&apart, &key, table, last.0)
            );
        }
        assert_eq!(together.capacity(), apart.capacity());
    }
}

#[test]
fn masks_of_one_batch_count_before_they_have_rules() {
    let mut dp = datapath();
    let rules: Vec<_> = (0..MAX_TUPLES + 10).map(masked).collect();
    dp.stage(NET, Epoch(1), Some(SWITCH), &rules[..50], &[])
        .unwrap();
    let before = dp.capacity();
    let refused = dp.stage(NET, Epoch(2), Some(SWITCH), &rules[50..], &[]);
    assert!(matches!(
        refused,
        Err(DatapathError::NoSpace { limit: 64, .. })
    ));
    assert_eq!(dp.capacity(), before);
    let room = MAX_TUPLES as usize;
    dp.stage(NET, Epoch(2), Some(SWITCH), &rules[50..room], &[])
        .unwrap();
}

#[test]
fn a_slot_that_is_used_again_shows_nothing_of_the_rule_before() {
    let mut dp = datapath();
    let long = Rule {
        actions: (1..=16).map(|n| Action::output(PortNo(n))).collect(),
        ..to_mac(1, 2)
    };
    stage(&mut dp, 1, &[(1, long)], &[]);
    let slot = dp.network(NET).unwrap().rules.get(id(1)).unwrap();
    count(&dp, slot);
    stage(&mut dp, 2, &[], &[1]);
    dp.raise_clock(NET, Epoch(2)).unwrap();
    dp.collect(NET, Epoch(2)).unwrap();
    stage(&mut dp, 3, &[(2, to_mac(1, 3))], &[]);
    assert_eq!(dp.network(NET).unwrap().rules.get(id(2)).unwrap(), slot);
    let (_, entry) = dp.lookup(SWITCH, 0, &key(1), Epoch(3)).unwrap();
    assert_eq!((entry.action_count, entry.apply_count), (1, 1));
    assert!(counters(&dp, slot).iter().all(|c| c.packets == 0));
}

#[test]
fn slots_that_an_agent_left_behind_have_no_counts() {
    let mut dp = datapath();
    stage(&mut dp, 1, &[(1, to_mac(1, 2))], &[]);
    let slot = dp.network(NET).unwrap().rules.get(id(1)).unwrap();
    count(&dp, slot);
    // Unlinked, and then it died.
    dp.writer(NET, SWITCH).unwrap().remove(id(1));
    let live = |dp: &Datapath| dp.store.maps.rules.get(slot, offset_of!(RuleEntry, live));
    assert_ne!(live(&dp), 0);
    let (dp, _) = dp.reopen_in_memory().unwrap();
    assert_eq!(live(&dp), 0);
    assert!(counters(&dp, slot).iter().all(|c| c.packets == 0));
}

/// Packets have matched the rule in a slot, on all CPUs.
fn count(dp: &Datapath, slot: u32) {
    for cpu in 0..dp.store.cpus {
        let counters = RuleCounters {
            packets: 1,
            bytes: 60,
        };
        let at = cpu * dp.store.rule_stride + slot;
        dp.store.maps.rule_counters.write(at, &counters);
    }
}

fn counters(dp: &Datapath, slot: u32) -> Vec<RuleCounters> {
    let at = |cpu| cpu * dp.store.rule_stride + slot;
    let read = |cpu| dp.store.maps.rule_counters.read(at(cpu));
    (0..dp.store.cpus).map(read).collect()
}
