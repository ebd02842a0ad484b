//! Larger worlds.

use crate::scenario::{Command, Operation, Scenario};
use crate::scenarios::{
    at, chain, coordinator_crash, end, events, firewall, migration, rule, update, updates,
};

/// Larger worlds, for those who have the time.
pub fn long() -> Vec<Scenario> {
    let mut firewall = firewall();
    firewall.name = "firewall-long";
    firewall.about = "as firewall, with a third host that relays, more packets, and one lost";
    firewall.hosts = 3;
    firewall.members = 3;
    firewall.ports.push(at(2));
    firewall.ends.push(end(2, &[0, 1], &[(0, 1)]));
    firewall.ends[0].sends = vec![0, 0, 0];
    firewall.losses = 1;

    let mut updates = updates();
    updates.name = "updates-long";
    updates.about = "as updates, with more packets, out of the rings, and a stream that breaks";
    updates.ends[0].sends = vec![0, 0];
    updates.ends[1].sends = vec![1, 1];
    updates.ring = true;
    updates.cuts = 1;

    let mut migration = migration();
    migration.name = "migration-long";
    migration.about =
        "as migration, with more packets, another update, a barrier and a stream that breaks";
    migration.ends[1].sends = vec![0, 0];
    migration.ends[0].sends = vec![1];
    migration.rules.push(rule(3, 1, &[1], false));
    migration.commands = vec![update(&[2, 3], &[0]), Command::Barrier, update(&[4], &[1])];
    migration.script = vec![0, 1, 2];
    migration.operations[2] = Operation::Move {
        port: 0,
        to: 1,
        plug: false,
    };
    migration.cuts = 1;

    let mut chain = chain();
    chain.name = "chain-long";
    chain.about = "as chain, with more packets, a barrier, and a coordinator that dies";
    chain.ends[0].sends = vec![0, 0, 0];
    chain.commands.push(Command::Barrier);
    chain.script = vec![0, 1, 2];
    chain.coordinator_crashes = 1;

    let mut crash = coordinator_crash();
    crash.name = "coordinator-crash-long";
    crash.about =
        "as coordinator-crash, with two updates and a barrier, and an agent that dies too";
    crash.rules.push(rule(3, 0, &[], true));
    crash.commands = vec![update(&[2, 3], &[]), Command::Barrier, update(&[4], &[])];
    crash.script = vec![0, 1, 2];
    crash.agent_crashes = 1;

    let mut all = vec![firewall, updates, migration, chain, crash];
    all.extend(cut_off());
    all
}

/// Hosts that are cut off, in worlds with more going on.
fn cut_off() -> Vec<Scenario> {
    let mut events = events();
    events.name = "cut-off-long";
    events.about = "three instances, updates, packet-ins and a barrier; one host is cut off, another one's agent dies, and frames are lost";
    events.hosts = 3;
    events.members = 3;
    events.instances = vec![vec![0, 1, 2]];
    events.ports.push(at(2));
    events.ends.push(end(3, &[0], &[(0, 1)]));
    events.partitions = 1;
    events.agent_crashes = 1;
    events.losses = 1;

    let mut firewall = firewall();
    firewall.name = "cut-off-firewall-long";
    firewall.about = "as firewall, with a third host; two hosts are cut off, one after the other or both at once";
    firewall.hosts = 3;
    firewall.members = 3;
    firewall.instances = vec![vec![0, 1, 2]];
    firewall.partitions = 2;

    let mut chain = chain();
    chain.name = "cut-off-chain-long";
    chain.about =
        "as chain with both switches on both hosts; a host is cut off, and a stream breaks";
    chain.instances = vec![vec![0, 1], vec![0, 1]];
    chain.partitions = 1;
    chain.cuts = 1;

    let mut migration = migration();
    migration.name = "cut-off-migration-long";
    migration.about = "as migration, and a host is cut off in the middle, or before, or after";
    migration.partitions = 1;

    let mut crash = coordinator_crash();
    crash.name = "cut-off-crash-long";
    crash.about = "as coordinator-crash, and a host is cut off: the coordinator dies before it goes on without it, then, or while it takes it in again";
    crash.partitions = 1;

    vec![events, firewall, chain, migration, crash]
}
