//! The network's generation, by which programs know what they remember of flows to be void.

use lime_core::{Epoch, HostId};

use super::super::{Datapath, SnapshotRule};
use super::*;

fn generation(dp: &Datapath) -> u32 {
    // The only network; its slot is the first also after it was made again.
    dp.store.maps.networks.read(1).generation
}

#[test]
fn every_change_makes_programs_forget() {
    let local = |ifindex| port(1, SWITCH, Place::Local { ifindex });
    let down = PortSettings {
        down: true,
        ..local(33)
    };
    let short = PortSettings {
        mtu: 1400,
        ..local(33)
    };
    let elsewhere = port(1, SWITCH, Place::Remote(HostId(2)));
    let relay = SwitchSettings {
        instance: false,
        relay_host: Some(HostId(2)),
        ..instance(SWITCH)
    };
    let hold = SwitchSettings {
        hold: true,
        ..instance(SWITCH)
    };
    let learner = SwitchSettings {
        join_epoch: Epoch(9),
        ..instance(SWITCH)
    };
    let retiring = SwitchSettings {
        retire_epoch: Epoch(9),
        ..instance(SWITCH)
    };
    type Change<'a> = &'a dyn Fn(&mut Datapath);
    let changes: [(&str, Change<'_>); 17] = [
        ("a port", &|dp| dp.set_port(NET, &local(33)).unwrap()),
        ("a port that is down", &|dp| {
            dp.set_port(NET, &down).unwrap();
        }),
        ("its MTU", &|dp| dp.set_port(NET, &short).unwrap()),
        ("its device", &|dp| dp.set_port(NET, &local(34)).unwrap()),
        ("a port that moves away", &|dp| {
            dp.set_port(NET, &elsewhere).unwrap();
        }),
        ("and back", &|dp| dp.set_port(NET, &local(33)).unwrap()),
        ("one end of a link", &|dp| {
            let end = port(2, SWITCH, Place::Link(PortId(3)));
            dp.set_port(NET, &end).unwrap();
        }),
        ("the other end", &|dp| {
            let end = port(3, SWITCH, Place::Link(PortId(2)));
            dp.set_port(NET, &end).unwrap();
        }),
        ("an end that goes", &|dp| {
            dp.remove_port(NET, PortId(3)).unwrap();
        }),
        ("several instances", &|dp| {
            dp.set_switch(NET, &hold).unwrap();
        }),
        ("an instance that retires", &|dp| {
            dp.set_switch(NET, &retiring).unwrap();
        }),
        ("one that relays", &|dp| dp.set_switch(NET, &relay).unwrap()),
        ("one that joins", &|dp| {
            dp.set_switch(NET, &learner).unwrap();
        }),
        ("the beginning of a snapshot", &|dp| {
            dp.begin_snapshot(NET, SWITCH, Epoch(8)).unwrap();
        }),
        ("its end", &|dp| {
            let rule = SnapshotRule {
                id: id(50),
                rule: to_mac(1, 1),
                from: Epoch(1),
                to: None,
            };
            dp.add_snapshot(NET, SWITCH, &[rule]).unwrap();
            dp.finish_snapshot(NET, SWITCH).unwrap();
        }),
        ("a switch that goes", &|dp| {
            dp.remove_switch(NET, SWITCH).unwrap();
        }),
        ("a network in the place of another", &|dp| {
            dp.remove_network(NET).unwrap();
            dp.set_network(NET, 100, false).unwrap();
        }),
    ];
    let mut dp = datapath();
    for (what, change) in changes {
        let before = generation(&dp);
        change(&mut dp);
        assert_ne!(generation(&dp), before, "{what}");
    }
    let before = generation(&dp);
    let (dp, _) = dp.reopen_in_memory().unwrap();
    assert_ne!(generation(&dp), before, "another agent");
}

/// What an epoch brings is told by the clock, so that flows of other packets need not be looked at anew before it comes.
#[test]
fn staging_makes_nobody_forget() {
    let mut dp = datapath();
    let before = generation(&dp);
    dp.stage(NET, Epoch(1), Some(SWITCH), &[(id(1), to_mac(1, 1))], &[])
        .unwrap();
    dp.stage(NET, Epoch(2), Some(SWITCH), &[], &[id(1)])
        .unwrap();
    dp.raise_clock(NET, Epoch(2)).unwrap();
    dp.collect(NET, Epoch(2)).unwrap();
    assert_eq!(generation(&dp), before);
}
