//! Larger worlds.

use crate::scenario::{Command, Operation, Scenario};
use crate::scenarios::{
    at, chain, coordinator_crash, end, firewall, migration, rule, update, updates,
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

    vec![firewall, updates, migration, chain, crash]
}
