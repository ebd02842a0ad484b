//! Detours of strict updates.

use lime_core::{Epoch, HostId};
use switch_abi::SwitchEntry;

use super::super::Datapath;
use super::*;

fn detour(dp: &Datapath) -> u32 {
    let entry: SwitchEntry = dp.store.maps.switches.read(dp.switches[&SWITCH].slot);
    entry.detour
}

fn generation(dp: &Datapath) -> u32 {
    dp.store.maps.networks.read(1).generation
}

#[test]
fn rule_20_a_detour_lasts_until_its_update_is_activated() {
    let mut dp = datapath();
    dp.set_members(NET, &[(HostId(2), [10, 0, 0, 2].into())])
        .unwrap();
    stage(&mut dp, 1, &[(1, to_mac(1, 1))], &[]);
    dp.raise_clock(NET, Epoch(1)).unwrap();
    stage(&mut dp, 2, &[(2, to_mac(2, 1))], &[]);
    let before = generation(&dp);
    dp.enter_relay(NET, SWITCH, Epoch(2), HostId(2)).unwrap();
    assert_ne!(detour(&dp), 0);
    assert_ne!(generation(&dp), before);
    assert!(dp.remove_peer(HostId(2)).is_err(), "in use");
    // Whatever else is said of the switch meanwhile, by whichever agent.
    dp.set_switch(NET, &instance(SWITCH)).unwrap();
    let (mut dp, _) = dp.reopen_in_memory().unwrap();
    assert_ne!(detour(&dp), 0);
    dp.leave_relay(NET, Epoch(1)).unwrap();
    assert_ne!(detour(&dp), 0);
    let before = generation(&dp);
    dp.leave_relay(NET, Epoch(2)).unwrap();
    assert_eq!(detour(&dp), 0);
    assert_ne!(generation(&dp), before);
    let before = generation(&dp);
    dp.leave_relay(NET, Epoch(3)).unwrap();
    assert_eq!(generation(&dp), before, "nothing has changed");
    assert!(dp.enter_relay(NET, OTHER, Epoch(3), HostId(2)).is_err());
}

#[test]
fn rule_20_an_instance_that_goes_takes_its_detour_along() {
    let mut dp = datapath();
    dp.enter_relay(NET, SWITCH, Epoch(2), HostId(2)).unwrap();
    let gone = SwitchSettings {
        instance: false,
        relay_host: Some(HostId(2)),
        ..instance(SWITCH)
    };
    dp.set_switch(NET, &gone).unwrap();
    assert_eq!(detour(&dp), 0);
}
