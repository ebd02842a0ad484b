//! The worlds that are checked.

use crate::scenario::{Command, End, EndHost, Operation, Port, Rule, Scenario};

pub(crate) fn at(host: u8) -> Port {
    Port {
        switch: 0,
        end: End::Host(host),
    }
}

pub(crate) fn rule(priority: u8, kind: u8, out: &[u8], controller: bool) -> Rule {
    Rule {
        switch: 0,
        priority,
        kind: Some(kind),
        in_port: None,
        out: out.iter().fold(0, |a, p| a | 1 << p),
        controller,
        table: 0,
        goto: None,
    }
}

pub(crate) fn end(port: u8, sends: &[u8], replies: &[(u8, u8)]) -> EndHost {
    EndHost {
        port,
        sends: sends.to_vec(),
        replies: replies.to_vec(),
    }
}

pub(crate) fn update(add: &[u8], remove: &[u8]) -> Command {
    Command::Update {
        switch: 0,
        add: add.to_vec(),
        remove: remove.to_vec(),
    }
}

/// A policy change; an end host that has seen the new policy speaks.
fn policy() -> Scenario {
    Scenario {
        name: "policy",
        about: "two instances, an update that changes two rules; an end host that has got a packet by the new way answers at the other host",
        hosts: 2,
        members: 2,
        instances: vec![vec![0, 1]],
        ports: vec![at(0), at(1), at(1)],
        ends: vec![
            end(0, &[0, 0], &[]),
            end(1, &[], &[(0, 1)]),
            end(2, &[], &[(0, 1)]),
        ],
        rules: vec![
            rule(1, 0, &[1], false),
            rule(1, 1, &[0], false),
            rule(2, 0, &[2], false),
            rule(2, 1, &[], true),
        ],
        initial: vec![0, 1],
        commands: vec![update(&[2, 3], &[])],
        script: vec![0],
        ..Default::default()
    }
}

/// A reactive firewall.
pub(crate) fn firewall() -> Scenario {
    Scenario {
        name: "firewall",
        about: "two instances, a reactive firewall: the first packet makes a rule and is sent on; its answer must be let in",
        hosts: 2,
        members: 2,
        instances: vec![vec![0, 1]],
        ports: vec![at(0), at(1)],
        ends: vec![end(0, &[0, 0], &[]), end(1, &[], &[(0, 1)])],
        rules: vec![
            rule(1, 0, &[], true),
            rule(1, 1, &[], true),
            rule(2, 0, &[1], false),
            rule(2, 1, &[0], false),
        ],
        initial: vec![0, 1],
        commands: vec![
            update(&[2, 3], &[]),
            Command::Out {
                switch: 0,
                in_port: 0,
                kind: 0,
                to: Some(1),
            },
        ],
        reactions: vec![(0, vec![0, 1])],
        ..Default::default()
    }
}

/// Events of both hosts, of before and after an update.
pub(crate) fn events() -> Scenario {
    Scenario {
        name: "events",
        about: "two instances, packet-ins of two hosts, before and after an update, out of the event rings",
        hosts: 2,
        members: 2,
        instances: vec![vec![0, 1]],
        ports: vec![at(0), at(1), at(1)],
        ends: vec![end(0, &[0], &[]), end(1, &[1], &[]), end(2, &[], &[])],
        rules: vec![
            rule(1, 0, &[], true),
            rule(1, 1, &[2], false),
            rule(2, 0, &[2], false),
            rule(2, 1, &[], true),
        ],
        initial: vec![0, 1],
        commands: vec![update(&[2, 3], &[]), Command::Barrier],
        script: vec![0, 1],
        ring: true,
        ..Default::default()
    }
}

/// Exact statistics.
fn statistics() -> Scenario {
    Scenario {
        name: "statistics",
        about: "two instances, statistics in front of an update and behind it; an end host that has got a packet by the new rules answers at the other host",
        hosts: 2,
        members: 2,
        instances: vec![vec![0, 1]],
        ports: vec![at(0), at(1)],
        ends: vec![end(0, &[0, 1], &[]), end(1, &[1], &[(0, 1)])],
        rules: vec![
            rule(1, 0, &[], false),
            rule(1, 1, &[], true),
            rule(2, 0, &[1], false),
        ],
        initial: vec![0, 1],
        commands: vec![Command::Cut(1), update(&[2], &[]), Command::Cut(1)],
        script: vec![0, 1, 2],
        ..Default::default()
    }
}

/// Two updates and a barrier, with packets of both hosts.
pub(crate) fn updates() -> Scenario {
    let mut s = events();
    s.name = "updates";
    s.about = "two instances, three updates of which some share an epoch, a barrier, packet-ins and deliveries";
    s.rules.push(rule(3, 0, &[], true));
    s.rules.push(rule(4, 1, &[2], false));
    s.commands = vec![
        update(&[2, 3], &[]),
        update(&[4], &[0]),
        Command::Barrier,
        update(&[5], &[]),
    ];
    s.script = vec![0, 1, 2, 3];
    s.ring = false;
    s
}

/// A rule that outputs and tells the controller.
fn hold() -> Scenario {
    Scenario {
        name: "hold",
        about: "two instances, a rule with output and packet-in: the answer's packet-in at the other host must not come first",
        hosts: 2,
        members: 2,
        instances: vec![vec![0, 1]],
        ports: vec![at(0), at(1)],
        ends: vec![end(0, &[0], &[]), end(1, &[], &[(0, 1)])],
        rules: vec![
            rule(1, 0, &[1], true),
            rule(1, 1, &[0], true),
            rule(2, 1, &[], true),
        ],
        initial: vec![0, 1],
        commands: vec![update(&[2], &[])],
        script: vec![0],
        ..Default::default()
    }
}

/// A rule that outputs, and one of a later table that tells the controller.
fn hold_tables() -> Scenario {
    let outputs = Rule {
        goto: Some(1),
        ..rule(1, 0, &[1], false)
    };
    let tells = Rule {
        table: 1,
        ..rule(1, 0, &[], true)
    };
    Scenario {
        name: "hold-tables",
        about: "as hold, but a rule of a later table tells the controller",
        rules: vec![
            outputs,
            rule(1, 1, &[0], true),
            rule(2, 1, &[], true),
            tells,
        ],
        initial: vec![0, 1, 3],
        ..hold()
    }
}

/// A rule that outputs into a link, and tells the controller.
fn hold_chain() -> Scenario {
    let of_second = |kind, port| Rule {
        switch: 1,
        ..rule(1, kind, &[port], false)
    };
    let port = |switch, end| Port { switch, end };
    Scenario {
        name: "hold-chain",
        about: "as hold, but the output goes through a second switch, and so does the answer",
        instances: vec![vec![0, 1], vec![0, 1]],
        ports: vec![
            at(0),
            port(0, End::Link(2)),
            port(1, End::Link(1)),
            port(1, End::Host(1)),
        ],
        ends: vec![end(0, &[0], &[]), end(3, &[], &[(0, 1)])],
        rules: vec![
            rule(1, 0, &[1], true),
            rule(1, 1, &[0], true),
            rule(2, 1, &[], true),
            of_second(0, 3),
            of_second(1, 2),
        ],
        initial: vec![0, 1, 3, 4],
        ..hold()
    }
}

/// A third host without an instance.
fn relay() -> Scenario {
    Scenario {
        name: "relay",
        about: "two instances and a host without one: it relays with its clock",
        hosts: 3,
        members: 3,
        instances: vec![vec![0, 1]],
        ports: vec![at(1), at(2)],
        ends: vec![end(0, &[0], &[]), end(1, &[], &[(0, 1)])],
        rules: vec![
            rule(1, 0, &[], true),
            rule(1, 1, &[0], false),
            rule(2, 0, &[1], false),
            rule(2, 1, &[], true),
        ],
        initial: vec![0, 1],
        commands: vec![update(&[2, 3], &[])],
        script: vec![0],
        ..Default::default()
    }
}

/// Packet-outs between updates.
fn packet_out() -> Scenario {
    Scenario {
        name: "packet-out",
        about: "two instances, a packet-out behind an update: its answer must meet the update",
        hosts: 2,
        members: 2,
        instances: vec![vec![0, 1]],
        ports: vec![at(0), at(0), at(1)],
        ends: vec![end(0, &[], &[]), end(1, &[], &[(2, 1)]), end(2, &[], &[])],
        rules: vec![
            rule(1, 1, &[0], false),
            rule(2, 1, &[2], false),
            rule(3, 1, &[0], false),
        ],
        initial: vec![0],
        commands: vec![
            update(&[1], &[]),
            Command::Out {
                switch: 0,
                in_port: 0,
                kind: 2,
                to: Some(1),
            },
            Command::Barrier,
            update(&[2], &[]),
        ],
        script: vec![0, 1, 2, 3],
        ..Default::default()
    }
}

/// A packet-out through the table, between two updates.
pub(crate) fn packet_out_table() -> Scenario {
    let mut s = packet_out();
    s.name = "packet-out-table";
    s.about = "two instances, a packet-out through the table between updates: it must meet just those before it";
    s.rules.push(rule(4, 1, &[2], false));
    s.commands = vec![
        update(&[1], &[]),
        update(&[2], &[]),
        Command::Out {
            switch: 0,
            in_port: 1,
            kind: 1,
            to: None,
        },
        update(&[3], &[]),
    ];
    s
}

/// An instance joins.
fn join() -> Scenario {
    Scenario {
        name: "join",
        about: "an instance joins while rules are replaced",
        hosts: 2,
        members: 2,
        instances: vec![vec![0]],
        ports: vec![at(0), at(1), at(0)],
        ends: vec![end(0, &[], &[]), end(1, &[0], &[]), end(2, &[], &[])],
        rules: vec![
            rule(0, 0, &[], true),
            rule(1, 0, &[0], false),
            rule(1, 0, &[2], false),
        ],
        initial: vec![0, 1],
        commands: vec![update(&[2], &[1])],
        script: vec![0],
        operations: vec![Operation::Join { switch: 0, host: 1 }],
        ..Default::default()
    }
}

/// An instance retires.
fn retire() -> Scenario {
    let mut s = events();
    s.name = "retire";
    s.about = "an instance retires while rules change and packet-ins are under way";
    s.commands = vec![update(&[2, 3], &[])];
    s.script = vec![0];
    s.operations = vec![Operation::Retire { switch: 0, host: 0 }];
    s.ring = false;
    s
}

/// An end host moves.
fn moving(name: &'static str, plug: bool) -> Scenario {
    Scenario {
        name,
        about: if plug {
            "an end host that sends on by its old device moves while rules change"
        } else {
            "an end host is paused, moves and is resumed while rules change"
        },
        hosts: 2,
        members: 2,
        instances: vec![vec![0, 1]],
        ports: vec![at(0), at(0)],
        ends: vec![end(0, &[], &[(0, 1)]), end(1, &[0], &[])],
        rules: vec![
            rule(1, 0, &[], true),
            rule(1, 1, &[1], false),
            rule(2, 0, &[0], false),
            rule(2, 1, &[], true),
        ],
        initial: vec![0, 1],
        commands: vec![update(&[2, 3], &[])],
        script: vec![0],
        operations: vec![Operation::Move {
            port: 0,
            to: 1,
            plug,
        }],
        ..Default::default()
    }
}

/// An end host that sends on moves, and the coordinator dies.
fn move_crash() -> Scenario {
    let mut s = moving("move-crash", true);
    s.about = "as move-plug, and the coordinator dies and comes back";
    s.coordinator_crashes = 1;
    s
}

/// All of a migration.
pub(crate) fn migration() -> Scenario {
    Scenario {
        name: "migration",
        about: "a host becomes a member, an instance joins there, the end host moves there, the old instance retires; meanwhile rules change",
        hosts: 2,
        members: 1,
        instances: vec![vec![0]],
        ports: vec![at(0), at(0)],
        ends: vec![end(0, &[], &[(0, 1)]), end(1, &[0], &[])],
        rules: vec![
            rule(1, 0, &[], true),
            rule(1, 1, &[1], false),
            rule(2, 0, &[0], false),
            rule(2, 1, &[], true),
        ],
        initial: vec![0, 1],
        commands: vec![update(&[2, 3], &[0])],
        script: vec![0],
        operations: vec![
            Operation::Member(1),
            Operation::Join { switch: 0, host: 1 },
            Operation::Move {
                port: 0,
                to: 1,
                plug: true,
            },
            Operation::Retire { switch: 0, host: 0 },
        ],
        ..Default::default()
    }
}

/// Two switches in a chain.
pub(crate) fn chain() -> Scenario {
    let on_second = |priority, kind, out: &[u8], controller| Rule {
        switch: 1,
        ..rule(priority, kind, out, controller)
    };
    Scenario {
        name: "chain",
        about: "two switches in a chain on two hosts, updates of both, packets through both",
        hosts: 2,
        members: 2,
        instances: vec![vec![0], vec![0, 1]],
        ports: vec![
            at(0),
            Port {
                switch: 0,
                end: End::Link(2),
            },
            Port {
                switch: 1,
                end: End::Link(1),
            },
            Port {
                switch: 1,
                end: End::Host(1),
            },
        ],
        ends: vec![end(0, &[0], &[]), end(3, &[1], &[(0, 1)])],
        rules: vec![
            rule(1, 0, &[], true),
            rule(1, 1, &[0], false),
            on_second(1, 0, &[3], false),
            on_second(1, 1, &[2], false),
            rule(2, 0, &[1], false),
            on_second(2, 1, &[], true),
        ],
        initial: vec![0, 1, 2, 3],
        commands: vec![
            Command::Update {
                switch: 1,
                add: vec![5],
                remove: vec![],
            },
            update(&[4], &[]),
        ],
        script: vec![0, 1],
        ..Default::default()
    }
}

/// An agent dies.
fn agent_crash() -> Scenario {
    let mut s = policy();
    s.name = "agent-crash";
    s.about = "as policy, and an agent dies and comes back";
    s.ends[0].sends = vec![0];
    s.ends[1].replies.clear();
    s.agent_crashes = 1;
    s.cuts = 1;
    s.ring = true;
    s
}

/// An agent dies with packet-outs under way.
fn agent_crash_packet_out() -> Scenario {
    let mut s = packet_out();
    s.name = "agent-crash-packet-out";
    s.about =
        "as packet-out, and an agent dies and comes back: no packet-out may be executed twice";
    s.script = vec![0, 1];
    s.agent_crashes = 1;
    s.cuts = 1;
    s
}

/// Streams break with a packet-out through the table under way.
fn cut_packet_out_table() -> Scenario {
    let mut s = packet_out_table();
    s.name = "cut-packet-out-table";
    s.about = "as packet-out-table, and a stream breaks";
    s.cuts = 1;
    s
}

/// The coordinator dies.
pub(crate) fn coordinator_crash() -> Scenario {
    let mut s = events();
    s.name = "coordinator-crash";
    s.about = "as events, and the coordinator dies and comes back";
    s.commands = vec![update(&[2, 3], &[])];
    s.script = vec![0];
    s.coordinator_crashes = 1;
    s
}

/// A host cannot stage an update.
fn refused() -> Scenario {
    let mut s = updates();
    s.name = "refused";
    s.about =
        "a host cannot take an update: it and what was decided on top of it are undone everywhere";
    s.commands = vec![update(&[2, 3], &[]), update(&[4], &[0]), update(&[5], &[])];
    s.script = vec![0, 1, 2];
    s.refuses = Some((1, 4));
    s
}

/// A host is cut off from the coordinator for longer than its lease.
pub(crate) fn cut_off() -> Scenario {
    let mut s = events();
    s.name = "cut-off";
    s.about = "as events, and a host is cut off from the coordinator, for longer than its lease or not, and comes back";
    s.commands = vec![update(&[2, 3], &[])];
    s.script = vec![0];
    s.partitions = 1;
    s
}

/// The same, while an update is refused that the host that is cut off has staged.
fn cut_off_refused() -> Scenario {
    let mut s = policy();
    s.name = "cut-off-refused";
    s.about = "a host is cut off that has an update which another refuses: nobody may ever meet its rules";
    s.ends[0].sends = vec![0];
    s.ends[1].replies.clear();
    s.ends[2].sends = vec![1];
    s.refuses = Some((1, 2));
    s.rules.push(rule(3, 1, &[], true));
    s.commands.push(update(&[4], &[]));
    s.script = vec![0, 1];
    s.partitions = 1;
    s
}

/// A host without an instance is cut off.
fn cut_off_relay() -> Scenario {
    let mut s = relay();
    s.name = "cut-off-relay";
    s.about = "as relay, and a host is cut off: the one that relays, or an instance";
    s.ends[1].replies.clear();
    s.partitions = 1;
    s
}

/// Lost and forged frames.
fn forged() -> Scenario {
    let mut s = policy();
    s.name = "forged";
    s.about = "as policy, and frames are lost, and one with a tag of the future comes from nowhere";
    s.ends[0].sends = vec![0];
    s.losses = 1;
    s.forgeries = 1;
    s
}

/// A migration with everything dying.
fn migration_crash() -> Scenario {
    let mut s = migration();
    s.name = "migration-crash";
    s.about = "as migration, and the coordinator dies and comes back";
    s.coordinator_crashes = 1;
    s
}

/// An idle rule, and packets that come at any time.
pub(crate) fn idle() -> Scenario {
    Scenario {
        name: "idle",
        about: "two instances, a rule that times out by their promises, packets of both hosts at any time",
        hosts: 2,
        members: 2,
        instances: vec![vec![0, 1]],
        ports: vec![at(0), at(1)],
        ends: vec![end(0, &[0], &[]), end(1, &[1], &[(0, 1)])],
        rules: vec![
            rule(1, 0, &[], true),
            rule(1, 1, &[], true),
            Rule {
                kind: None,
                ..rule(2, 0, &[0, 1], false)
            },
        ],
        initial: vec![0, 1, 2],
        commands: vec![Command::Expire(2)],
        rounds: 1,
        ..Default::default()
    }
}

/// The same, while the controller takes another rule's place.
fn idle_replaced() -> Scenario {
    let mut s = idle();
    s.name = "idle-replaced";
    s.about =
        "as idle, while the controller puts another rule in its place: the promise ends with it";
    s.ends[1].replies.clear();
    s.rules.push(rule(3, 0, &[1], false));
    s.commands.push(update(&[3], &[2]));
    s.script = vec![1];
    s
}

/// An agent dies, or its stream breaks.
fn idle_agent_crash() -> Scenario {
    let mut s = idle();
    s.name = "idle-agent-crash";
    s.about = "as idle, and an agent dies and comes back, or its stream breaks";
    s.ends[1] = end(1, &[0], &[]);
    s.agent_crashes = 1;
    s.cuts = 1;
    s
}

/// The coordinator dies.
fn idle_coordinator_crash() -> Scenario {
    let mut s = idle();
    s.name = "idle-coordinator-crash";
    s.about = "as idle, and the coordinator dies and comes back: it says which promises stand";
    s.ends[1] = end(1, &[0], &[]);
    s.coordinator_crashes = 1;
    s
}

/// An instance joins between votes and removal.
fn idle_join() -> Scenario {
    let mut s = idle();
    s.name = "idle-join";
    s.about = "as idle, and an instance joins: it has promised too, or nothing is removed";
    s.ends[1] = end(1, &[0], &[]);
    s.instances = vec![vec![0]];
    s.operations = vec![Operation::Join { switch: 0, host: 1 }];
    s
}

/// The removal shares its batch with an update that a host refuses.
fn idle_refused() -> Scenario {
    let mut s = idle();
    s.name = "idle-refused";
    s.about =
        "as idle, and an update is refused that takes the removal with it: the promises are lifted";
    s.ends[1].replies.clear();
    s.rules.push(rule(3, 1, &[0], false));
    s.commands.push(update(&[3], &[]));
    s.script = vec![1];
    s.refuses = Some((1, 3));
    s
}

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    let mut all = vec![
        policy(),
        firewall(),
        events(),
        updates(),
        statistics(),
        hold(),
        hold_tables(),
        hold_chain(),
        relay(),
        packet_out(),
        packet_out_table(),
        join(),
        retire(),
        moving("move-plug", true),
        moving("move-paused", false),
        move_crash(),
        migration(),
        chain(),
        agent_crash(),
        agent_crash_packet_out(),
        cut_packet_out_table(),
        coordinator_crash(),
        refused(),
        cut_off(),
        cut_off_refused(),
        cut_off_relay(),
        forged(),
        migration_crash(),
        idle(),
        idle_replaced(),
        idle_agent_crash(),
        idle_coordinator_crash(),
        idle_join(),
        idle_refused(),
    ];
    all.extend(crate::scenarios_strict::all());
    all
}
