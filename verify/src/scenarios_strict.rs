//! Worlds with strict networks.

use crate::scenario::{Command, End, Operation, Port, Rule, Scenario};
use crate::scenarios::{
    at, coordinator_crash, cut_off, end, events, migration, packet_out_table, rule, update,
};

fn from(port: u8, priority: u8, kind: u8, out: &[u8]) -> Rule {
    Rule {
        in_port: Some(port),
        ..rule(priority, kind, out, false)
    }
}

/// End hosts on two hosts who know of each other by another way than LIME.
pub(crate) fn strict() -> Scenario {
    Scenario {
        name: "strict",
        about: "two instances, an update while end hosts at both talk to others at the same host: in real time",
        hosts: 2,
        members: 2,
        instances: vec![vec![0, 1]],
        ports: vec![at(0), at(1), at(0), at(1)],
        ends: vec![
            end(0, &[0], &[]),
            end(1, &[0], &[]),
            end(2, &[], &[]),
            end(3, &[], &[]),
        ],
        rules: vec![
            from(0, 1, 0, &[3]),
            from(1, 1, 0, &[3]),
            from(0, 2, 0, &[2]),
            from(1, 2, 0, &[2]),
        ],
        initial: vec![0, 1],
        commands: vec![update(&[2, 3], &[])],
        script: vec![0],
        strict: true,
        ..Default::default()
    }
}

/// The same behind another switch.
fn chain() -> Scenario {
    let port = |switch, end| Port { switch, end };
    Scenario {
        name: "strict-chain",
        about: "a packet of host B passes a switch before the one that is updated",
        hosts: 2,
        members: 2,
        instances: vec![vec![0, 1], vec![0, 1]],
        ports: vec![
            at(0),
            at(0),
            port(1, End::Host(1)),
            port(1, End::Link(4)),
            port(0, End::Link(3)),
            at(1),
        ],
        ends: vec![
            end(0, &[0], &[]),
            end(1, &[], &[]),
            end(2, &[0], &[]),
            end(5, &[], &[]),
        ],
        rules: vec![
            Rule {
                switch: 1,
                ..from(2, 1, 0, &[3])
            },
            from(4, 1, 0, &[5]),
            from(0, 2, 0, &[1]),
            from(4, 2, 0, &[]),
        ],
        initial: vec![0, 1],
        commands: vec![update(&[2, 3], &[])],
        script: vec![0],
        strict: true,
        ..Default::default()
    }
}

/// Both switches of a chain are updated.
fn chain_updates() -> Scenario {
    let mut s = crate::scenarios::chain();
    s.name = "strict-chain-updates";
    s.about = "as chain, both switches on both hosts: in real time";
    s.instances = vec![vec![0, 1], vec![0, 1]];
    s.strict = true;
    s
}

fn strictly(mut s: Scenario, name: &'static str, about: &'static str) -> Scenario {
    s.name = name;
    s.about = about;
    s.strict = true;
    s
}

/// What is asked for during an update.
fn membership(name: &'static str, about: &'static str, operation: Operation) -> Scenario {
    let mut s = strictly(strict(), name, about);
    s.operations = vec![operation];
    s
}

/// An instance joins.
fn join() -> Scenario {
    let join = Operation::Join { switch: 0, host: 1 };
    let mut s = membership(
        "strict-join",
        "as strict, and one of the instances joins",
        join,
    );
    s.instances = vec![vec![0]];
    s
}

/// A host without an instance.
fn relay() -> Scenario {
    let mut s = strictly(
        strict(),
        "strict-relay",
        "as strict, and a third host relays to an instance",
    );
    s.hosts = 3;
    s.members = 3;
    s.instances = vec![vec![1, 2]];
    s
}

fn moving() -> Scenario {
    let moves = Operation::Move {
        port: 0,
        to: 1,
        plug: true,
    };
    membership("strict-move", "as strict, and an end host moves", moves)
}

/// Statistics are a cut in real time, too.
fn statistics() -> Scenario {
    let mut s = strictly(
        strict(),
        "strict-statistics",
        "as strict, with exact statistics for an update",
    );
    // Two ports that are counted by one rule.
    s.rules[0] = rule(1, 0, &[2], false);
    s.initial = vec![0];
    s.commands = vec![Command::Cut(0)];
    s
}

/// A packet-out through the table at a host that is not the primary.
fn packet_out() -> Scenario {
    let mut s = strictly(
        packet_out_table(),
        "strict-packet-out",
        "as packet-out-table, in real time: what is relayed must not come behind the next update",
    );
    s.ports = vec![at(0), at(1), at(0)];
    s
}

fn agent_crash() -> Scenario {
    let mut s = strictly(
        strict(),
        "strict-agent-crash",
        "as strict, and an agent dies and comes back, or its stream breaks",
    );
    s.agent_crashes = 1;
    s.cuts = 1;
    s
}

fn cut_off_strict() -> Scenario {
    let mut s = strictly(
        strict(),
        "strict-cut-off",
        "as strict, and a host is cut off for longer than its lease or not: the primary, or another",
    );
    s.partitions = 1;
    s
}

fn crash() -> Scenario {
    let mut s = strictly(
        strict(),
        "strict-coordinator-crash",
        "as strict, and the coordinator dies and comes back",
    );
    s.coordinator_crashes = 1;
    s
}

/// All of them, small ones first.
pub fn all() -> Vec<Scenario> {
    vec![
        strict(),
        chain(),
        chain_updates(),
        strictly(events(), "strict-events", "as events, in real time"),
        packet_out(),
        join(),
        membership(
            "strict-retire",
            "as strict, and an instance retires",
            Operation::Retire { switch: 0, host: 0 },
        ),
        relay(),
        moving(),
        statistics(),
        agent_crash(),
        cut_off_strict(),
        crash(),
    ]
}

/// Three instances, updates of which each concerns them all, and a host that is cut off.
fn three() -> Scenario {
    let mut s = strictly(
        strict(),
        "strict-three-long",
        "as strict with three instances, two updates, packet-ins, and a host that is cut off",
    );
    s.hosts = 3;
    s.members = 3;
    s.instances = vec![vec![0, 1, 2]];
    s.ports[3] = at(2);
    s.rules.push(rule(3, 0, &[], true));
    s.commands.push(update(&[4], &[2]));
    s.script = vec![0, 1];
    s.partitions = 1;
    s
}

/// Larger than there is time for at each build.
pub fn long() -> Vec<Scenario> {
    let mut both = crash();
    both.name = "strict-crashes-long";
    both.about = "as strict, and the coordinator and an agent die and come back";
    both.agent_crashes = 1;
    vec![
        strictly(
            migration(),
            "strict-migration-long",
            "as migration, in real time",
        ),
        strictly(
            coordinator_crash(),
            "strict-events-crash-long",
            "as coordinator-crash, in real time",
        ),
        strictly(
            cut_off(),
            "strict-cut-off-events-long",
            "as cut-off, in real time",
        ),
        both,
        three(),
    ]
}
