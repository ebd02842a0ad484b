//! What an agent leaves behind when it dies at any point is taken up, or undone.

use std::mem::offset_of;

use lime_core::{Epoch, HostId, PortId};
use switch_abi::{RULE_LIVE, RuleEntry, SWITCH_LOADING, SwitchEntry};

use super::super::{AdoptedNetwork, Datapath, SnapshotRule};
use super::*;

fn furnished() -> Datapath {
    let mut dp = datapath();
    let relay = SwitchSettings {
        instance: false,
        relay_host: Some(HostId(2)),
        ..instance(OTHER)
    };
    dp.set_switch(NET, &relay).unwrap();
    dp.set_members(NET, &[(HostId(2), [10, 0, 0, 2].into())])
        .unwrap();
    dp.set_port(NET, &port(1, SWITCH, Place::Local { ifindex: 33 }))
        .unwrap();
    dp.set_port(NET, &port(2, SWITCH, Place::Link(PortId(3))))
        .unwrap();
    dp.set_port(NET, &port(3, OTHER, Place::Link(PortId(2))))
        .unwrap();
    dp.set_port(NET, &port(4, OTHER, Place::Remote(HostId(2))))
        .unwrap();
    stage(&mut dp, 1, &[(1, to_mac(1, 1)), (2, to_mac(2, 77))], &[]);
    dp.raise_clock(NET, Epoch(1)).unwrap();
    stage(&mut dp, 2, &[(3, to_mac(3, 1))], &[1]);
    dp
}

#[test]
fn everything_is_as_before() {
    let dp = furnished();
    let slot = dp.network(NET).unwrap().rules.get(id(2)).unwrap();
    let counters = switch_abi::RuleCounters {
        packets: 5,
        bytes: 500,
    };
    dp.store.maps.rule_counters.write(slot, &counters);
    let (ports, capacity) = (dp.ports(NET).unwrap(), dp.capacity());
    let (mut dp, adopted) = dp.reopen_in_memory().unwrap();
    assert_eq!(
        adopted.networks,
        [AdoptedNetwork {
            id: NET,
            clock: Epoch(1),
            staged: Epoch(2),
            switches: vec![SWITCH],
        }]
    );
    assert_eq!(dp.ports(NET).unwrap(), ports);
    assert_eq!(dp.capacity(), capacity);
    assert_eq!(dp.listed(SWITCH), [1, 2]);
    assert_eq!(
        (found(&dp, 1, 1), found(&dp, 1, 2), found(&dp, 3, 2)),
        (Some(1), None, Some(3))
    );
    let counts = dp.rule_counters(NET, Some(SWITCH)).unwrap();
    assert!(
        counts
            .iter()
            .any(|c| (c.rule, c.packets, c.bytes) == (id(2), 5, 500))
    );
    assert_eq!(counts.len(), 3);

    dp.raise_clock(NET, Epoch(2)).unwrap();
    assert_eq!(dp.collect(NET, Epoch(2)).unwrap(), 1);
    stage(&mut dp, 3, &[(4, to_mac(1, 2))], &[2]);
    assert_eq!((found(&dp, 1, 3), found(&dp, 2, 3)), (Some(4), None));
    dp.remove_network(NET).unwrap();
    let empty = Datapath::in_memory(&limits()).unwrap();
    assert_eq!(dp.capacity(), empty.capacity());
}

#[test]
fn an_epoch_that_was_being_staged_is_undone() {
    let mut dp = furnished();
    // As stage(3) leaves it when the agent dies just before the number is stored.
    stage(&mut dp, 3, &[(5, to_mac(5, 1))], &[2]);
    let slot = dp.network(NET).unwrap().slot;
    dp.set_staged(slot, Epoch(2));
    let (mut dp, _) = dp.reopen_in_memory().unwrap();
    assert_eq!((found(&dp, 5, 3), found(&dp, 2, 3)), (None, Some(2)));
    stage(&mut dp, 3, &[(5, to_mac(5, 1))], &[2]);
    assert_eq!((found(&dp, 5, 3), found(&dp, 2, 3)), (Some(5), None));
}

#[test]
fn slots_that_were_being_written_are_free() {
    let dp = furnished();
    let capacity = dp.capacity();
    // Complete but not linked, and linked but not complete.
    let entry = RuleEntry {
        live: RULE_LIVE,
        rule_id: 99,
        valid_from: 1,
        ..RuleEntry::default()
    };
    dp.store.maps.rules.write(3999, &entry);
    let linked = dp.network(NET).unwrap().rules.get(id(2)).unwrap();
    dp.store
        .maps
        .rules
        .publish(linked, offset_of!(RuleEntry, live), 0);
    let (dp, _) = dp.reopen_in_memory().unwrap();
    assert_eq!(dp.capacity().rules, capacity.rules + 1);
    assert_eq!(dp.store.maps.rules.read(3999).live, 0);
    assert_eq!(found(&dp, 2, 2), None);
}

#[test]
fn half_a_snapshot_counts_as_no_instance() {
    let mut dp = furnished();
    let learner = SwitchSettings {
        join_epoch: Epoch(1 << 30),
        relay_host: Some(HostId(2)),
        ..instance(OTHER)
    };
    dp.set_switch(NET, &learner).unwrap();
    dp.begin_snapshot(NET, OTHER, Epoch(2)).unwrap();
    let rule = SnapshotRule {
        id: id(50),
        rule: to_mac(1, 1),
        from: Epoch(1),
        to: None,
    };
    dp.add_snapshot(NET, OTHER, &[rule]).unwrap();
    dp.set_switch(NET, &learner).unwrap();
    let (mut dp, adopted) = dp.reopen_in_memory().unwrap();
    assert_eq!(adopted.networks[0].switches, [SWITCH]);
    assert_eq!(dp.rule_counters(NET, Some(OTHER)).unwrap().len(), 0);
    let entry: SwitchEntry = dp.store.maps.switches.read(dp.switches[&OTHER].slot);
    assert_eq!(
        (entry.state, entry.flags & SWITCH_LOADING),
        (switch_abi::SWITCH_RELAY, 0)
    );
    dp.set_switch(NET, &learner).unwrap();
    dp.begin_snapshot(NET, OTHER, Epoch(2)).unwrap();
    dp.finish_snapshot(NET, OTHER).unwrap();
}

#[test]
fn damaged_maps_do_no_more_than_their_damage() {
    let mut seed = 1u64;
    for round in 0..200 {
        let dp = furnished();
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u32
        };
        // Two stray words somewhere in the structures.
        for _ in 0..2 {
            let value = if random() % 2 == 0 {
                random()
            } else {
                random() % 64
            };
            let maps = &dp.store.maps;
            match random() % 6 {
                0 => maps
                    .rules
                    .publish(1 + random() % 4, 4 * (random() % 30) as usize, value),
                1 => maps
                    .buckets
                    .publish(random() % maps.buckets.len(), 0, value),
                2 => maps
                    .tuples
                    .publish(1 + random() % 4, 4 * (random() % 18) as usize, value),
                3 => maps
                    .ports
                    .publish(1 + random() % 6, 4 * (random() % 12) as usize, value),
                4 => maps
                    .switches
                    .publish(1 + random() % 2, 4 * (random() % 8) as usize, value),
                _ => maps
                    .tables
                    .publish(random() % 96, 4 * (random() % 2) as usize, value),
            }
        }
        let Ok((mut dp, adopted)) = dp.reopen_in_memory() else {
            panic!("round {round}: not adopted");
        };
        for network in adopted.networks {
            dp.remove_network(network.id).unwrap();
        }
        let mut empty = Datapath::in_memory(&limits()).unwrap();
        assert_eq!(free(&mut dp), free(&mut empty), "round {round}");
    }
}
