//! Epochs one by one.

use lime_core::Epoch;
use lime_core::flow::{Action, Field, GroupPart, GroupPiece, Part};
use switch_abi::{FlowKey, MAX_CHAIN, MAX_TUPLES, SWITCH_GROUP_TELLS, SWITCH_HOLD};

use super::super::{DatapathError, SnapshotRule};
use super::*;

#[test]
fn an_epoch_is_invisible_until_the_clock_is_there() {
    let mut dp = datapath();
    stage(&mut dp, 1, &[(1, to_mac(1, 2))], &[]);
    assert_eq!((found(&dp, 1, 0), found(&dp, 1, 1)), (None, Some(1)));
    assert_eq!(dp.raise_clock(NET, Epoch(1)).unwrap(), Epoch(1));
    stage(&mut dp, 2, &[(2, to_mac(1, 3))], &[1]);
    assert_eq!((found(&dp, 1, 1), found(&dp, 1, 2)), (Some(1), Some(2)));
    assert_eq!(dp.collect(NET, Epoch(2)).unwrap(), 0, "the clock is at 1");
    dp.raise_clock(NET, Epoch(2)).unwrap();
    assert_eq!(dp.collect(NET, Epoch(2)).unwrap(), 1);
    assert_eq!(found(&dp, 1, 2), Some(2));
}

#[test]
fn epochs_come_without_gaps_and_again_without_effect() {
    let mut dp = datapath();
    dp.stage(NET, Epoch(5), None, &[], &[]).unwrap();
    assert!(matches!(
        dp.stage(NET, Epoch(7), None, &[], &[]),
        Err(DatapathError::Invalid { .. })
    ));
    dp.stage(NET, Epoch(6), None, &[], &[]).unwrap();
    stage(&mut dp, 6, &[(1, to_mac(1, 2))], &[]);
    assert!(found(&dp, 1, 6).is_none());
    assert!(matches!(
        dp.raise_clock(NET, Epoch(7)),
        Err(DatapathError::Invalid { .. })
    ));
    dp.raise_clock(NET, Epoch(6)).unwrap();
    assert_eq!(dp.raise_clock(NET, Epoch(5)).unwrap(), Epoch(6));
    assert_eq!(
        (dp.clock(NET).unwrap(), dp.staged(NET).unwrap()),
        (Epoch(6), Epoch(6))
    );
}

#[test]
fn a_refused_epoch_leaves_nothing() {
    let mut dp = datapath();
    let before = dp.capacity();
    let bad = vec![
        (id(1), to_mac(1, 2)),
        (id(2), rule(3, vec![], 4)),
        (id(1), to_mac(2, 2)),
    ];
    assert!(dp.stage(NET, Epoch(1), Some(SWITCH), &bad, &[]).is_err());
    assert!(
        dp.stage(NET, Epoch(1), Some(SWITCH), &bad[..2], &[id(9)])
            .is_err()
    );
    let many = (0..limits().rules + 1).map(|n| (id(u64::from(n) + 1), to_mac(u128::from(n), 1)));
    let many: Vec<_> = many.collect();
    assert!(matches!(
        dp.stage(NET, Epoch(1), Some(SWITCH), &many, &[]),
        Err(DatapathError::NoSpace { .. })
    ));
    assert_eq!(dp.staged(NET).unwrap(), Epoch::ZERO);
    assert_eq!(dp.capacity(), before);
    assert!(found(&dp, 1, 1).is_none());
    dp.stage(NET, Epoch(1), Some(SWITCH), &many[..4000], &[])
        .unwrap();
    assert_eq!(dp.capacity().rules, 0);
    assert_eq!(found(&dp, 200, 1), Some(201));
}

#[test]
fn masks_and_chains_have_their_limits() {
    let mut dp = datapath();
    let rules: Vec<_> = (0..MAX_TUPLES + 1).map(masked).collect();
    let all = MAX_TUPLES as usize;
    assert!(matches!(
        dp.stage(NET, Epoch(1), Some(SWITCH), &rules, &[]),
        Err(DatapathError::NoSpace { limit: 64, .. })
    ));
    dp.stage(NET, Epoch(1), Some(SWITCH), &rules[..all], &[])
        .unwrap();
    let same = |n: u32| {
        (
            id(u64::from(n) + 1000),
            rule(n as u16, vec![masked_field()], 1),
        )
    };
    let chain: Vec<_> = (0..MAX_CHAIN).map(same).collect();
    assert!(matches!(
        dp.stage(NET, Epoch(2), Some(SWITCH), &chain, &[]),
        Err(DatapathError::NoSpace { limit: 64, .. })
    ));
    dp.stage(NET, Epoch(2), Some(SWITCH), &chain[..40], &[])
        .unwrap();
    let best = dp.lookup(SWITCH, 0, &FlowKey::default(), Epoch(2)).unwrap();
    assert_eq!(best.1.priority, 39);

    fn masked_field() -> FieldMatch {
        FieldMatch {
            field: Field::EthDst,
            value: 0,
            mask: 1,
        }
    }
}

#[test]
fn an_epoch_can_be_replaced_and_taken_back() {
    let mut dp = datapath();
    stage(&mut dp, 1, &[(1, to_mac(1, 2))], &[]);
    dp.raise_clock(NET, Epoch(1)).unwrap();
    stage(&mut dp, 2, &[(2, to_mac(1, 3))], &[1]);
    stage(&mut dp, 3, &[(3, to_mac(2, 3))], &[]);
    dp.restage(NET, Epoch(2), Some(SWITCH), &[], &[]).unwrap();
    assert_eq!(dp.staged(NET).unwrap(), Epoch(3));
    assert_eq!((found(&dp, 1, 3), found(&dp, 2, 3)), (Some(1), Some(3)));
    dp.unstage(NET, Epoch(3)).unwrap();
    assert_eq!(dp.staged(NET).unwrap(), Epoch(2));
    assert!(found(&dp, 2, 3).is_none());
    assert!(dp.unstage(NET, Epoch(3)).is_err());
    dp.unstage(NET, Epoch(2)).unwrap();
    assert!(dp.unstage(NET, Epoch(1)).is_err(), "the clock is there");
    assert!(dp.restage(NET, Epoch(1), None, &[], &[]).is_err());
}

#[test]
fn a_replacement_that_is_refused_takes_the_later_epochs_with_it() {
    let mut dp = datapath();
    let before = dp.capacity();
    for n in 1..=3u32 {
        let add = [(id(n.into()), to_mac(n.into(), 2))];
        dp.stage(NET, Epoch(n), Some(SWITCH), &add, &[]).unwrap();
    }
    dp.raise_clock(NET, Epoch(1)).unwrap();
    let refused = dp.restage(NET, Epoch(2), Some(SWITCH), &[], &[id(77)]);
    assert!(matches!(refused, Err(DatapathError::NotFound { .. })));
    assert_eq!(dp.staged(NET).unwrap(), Epoch(1));
    assert_eq!(dp.capacity().rules, before.rules - 1);
    dp.stage(NET, Epoch(2), None, &[], &[]).unwrap();
    let again = [(id(3), to_mac(3, 2))];
    dp.stage(NET, Epoch(3), Some(SWITCH), &again, &[id(1)])
        .unwrap();
    assert_eq!((found(&dp, 1, 3), found(&dp, 3, 3)), (None, Some(3)));
}

#[test]
fn only_the_number_counts_without_an_instance() {
    let mut dp = datapath();
    let relay = SwitchSettings {
        instance: false,
        ..instance(OTHER)
    };
    dp.set_switch(NET, &relay).unwrap();
    let unfit = vec![(
        id(1),
        Rule {
            actions: vec![Action::Group(1)],
            ..to_mac(1, 1)
        },
    )];
    dp.stage(NET, Epoch(1), Some(OTHER), &unfit, &[id(77)])
        .unwrap();
    dp.stage(NET, Epoch(2), Some(SwitchId(99)), &unfit, &[])
        .unwrap();
    assert_eq!(dp.staged(NET).unwrap(), Epoch(2));
}

#[test]
fn a_snapshot_replaces_and_stages_its_epoch() {
    let mut dp = datapath();
    let learner = SwitchSettings {
        join_epoch: Epoch(1 << 30),
        ..instance(SWITCH)
    };
    let part = |n: u64, to: Option<u32>| SnapshotRule {
        id: id(n),
        rule: to_mac(u128::from(n), 1),
        from: Epoch(3),
        to: to.map(Epoch),
    };
    assert!(
        matches!(
            dp.begin_snapshot(NET, SWITCH, Epoch(40)),
            Err(DatapathError::InUse { .. })
        ),
        "it processes packets"
    );
    dp.set_switch(NET, &learner).unwrap();
    dp.begin_snapshot(NET, SWITCH, Epoch(40)).unwrap();
    dp.add_snapshot(NET, SWITCH, &[part(1, None), part(2, Some(39))])
        .unwrap();
    assert!(
        dp.add_snapshot(NET, SWITCH, &[part(3, None), part(1, None)])
            .is_err()
    );
    assert!(dp.add_snapshot(NET, SWITCH, &[part(3, Some(41))]).is_err());
    assert!(
        dp.stage(NET, Epoch(41), Some(SWITCH), &[], &[]).is_err(),
        "not before it is complete"
    );
    dp.finish_snapshot(NET, SWITCH).unwrap();
    assert_eq!(dp.staged(NET).unwrap(), Epoch(40));
    assert_eq!(
        (found(&dp, 1, 40), found(&dp, 2, 40), found(&dp, 3, 40)),
        (Some(1), None, None)
    );
    stage(&mut dp, 41, &[(9, to_mac(9, 1))], &[1]);
    dp.raise_clock(NET, Epoch(41)).unwrap();
    assert_eq!(dp.collect(NET, Epoch(41)).unwrap(), 2);
    dp.begin_snapshot(NET, SWITCH, Epoch(41)).unwrap();
    dp.finish_snapshot(NET, SWITCH).unwrap();
    assert!(found(&dp, 9, 41).is_none());
    assert!(dp.begin_snapshot(NET, SWITCH, Epoch(40)).is_err());
}

#[test]
fn old_bounds_are_brought_forward_before_serial_numbers_wrap() {
    let mut dp = datapath();
    stage(&mut dp, 1, &[(1, to_mac(1, 2))], &[]);
    let mut epoch = 1u32;
    for _ in 0..12 {
        epoch = epoch.wrapping_add(1 << 29).max(1);
        dp.raise_clock(NET, dp.staged(NET).unwrap()).unwrap();
        let slot = dp.network(NET).unwrap().slot;
        dp.set_staged(slot, Epoch(epoch));
        dp.raise_clock(NET, Epoch(epoch)).unwrap();
        dp.collect(NET, Epoch(epoch)).unwrap();
        assert_eq!(found(&dp, 1, epoch), Some(1), "at epoch {epoch}");
    }
}

/// Where a walk does not see what a group does, it must know that one may tell the controller before it does.
#[test]
fn a_switch_whose_groups_tell_the_controller_says_so_from_the_staging_on() {
    let mut dp = datapath();
    let flags = |dp: &Datapath| {
        let slot = dp.switches[&SWITCH].slot;
        dp.store.maps.switches.read(slot).flags
    };
    let bucket = |index, port| {
        let part = GroupPart {
            group: 1,
            what: GroupPiece::Bucket(index),
        };
        Rule {
            actions: vec![Action::output(port)],
            part: Some(Box::new(Part::Group(part))),
            ..Rule::default()
        }
    };
    stage(&mut dp, 1, &[(1, bucket(0, PortNo(1)))], &[]);
    assert_eq!(flags(&dp), 0);
    stage(&mut dp, 2, &[(2, bucket(1, PortNo::CONTROLLER))], &[]);
    assert_eq!(flags(&dp), SWITCH_GROUP_TELLS);
    let hold = SwitchSettings {
        hold: true,
        ..instance(SWITCH)
    };
    dp.set_switch(NET, &hold).unwrap();
    assert_eq!(flags(&dp), SWITCH_GROUP_TELLS | SWITCH_HOLD);
}
