//! The same scenario through the reference and through the kernel.

use std::fmt::Write;

use lime_core::{Epoch, PortId};
use lime_reference::{Fault, Outcome, World};

use super::bed::{BOTH, Bed, Counters, Mode, Observed};
use super::scenario::{Packet, Scenario, hex};

/// Tags that a frame may have and still go through the tunnel from TC.
const MAX_TUNNELLED_TAGS: usize = 2;

/// Where they differ.
pub struct Difference {
    /// Which packet of the scenario.
    pub packet: usize,
    pub mode: Mode,
    pub text: String,
}

/// The first difference, if there is one.
pub fn run(bed: &mut Bed, scenario: &Scenario, fault: Option<Fault>) -> Option<Difference> {
    let mut world = scenario.world(fault);
    for mode in BOTH {
        bed.prepare(mode, scenario);
    }
    for (i, packet) in scenario.packets.iter().enumerate() {
        if world.clock != Epoch(packet.clock) {
            world.clock = Epoch(packet.clock);
            for mode in BOTH {
                bed.raise_clock(mode, packet.clock);
            }
        }
        let Some(expected) = expected(&world, packet) else {
            continue;
        };
        for mode in BOTH {
            let found = in_order(bed.receive(mode, packet.port, &packet.bytes));
            if found != expected {
                return Some(Difference {
                    packet: i,
                    mode,
                    text: difference(&expected, &found),
                });
            }
        }
    }
    None
}

/// What the reference says; None if that is more than the kernel promises.
fn expected(world: &World, packet: &Packet) -> Option<Observed> {
    let outcome = world.receive(packet.port, &packet.bytes);
    let promised = outcome.most_tags_tunnelled <= MAX_TUNNELLED_TAGS && !outcome.incomplete;
    promised.then(|| in_order(observed(outcome)))
}

fn observed(outcome: Outcome) -> Observed {
    let counters = |port: lime_reference::PortCount| Counters {
        received: port.received,
        sent: port.sent,
        drops: port
            .drops
            .iter()
            .map(|(reason, &n)| (reason.name(), n))
            .collect(),
    };
    Observed {
        sent: outcome.sent,
        events: outcome.events,
        rules: outcome.rules,
        ports: outcome
            .ports
            .into_iter()
            .map(|(id, port)| (id, counters(port)))
            .collect(),
    }
}

/// Frames of different ports have no order; of one port, and events, they do unless links made copies, which may overtake.
fn in_order(mut observed: Observed) -> Observed {
    observed.sent.sort_by_key(|(port, _)| *port);
    if observed
        .ports
        .keys()
        .any(|&PortId(id)| id == 15 || id == 16 || id == 5 || id == 6)
    {
        observed.sent.sort();
        observed
            .events
            .sort_by_key(|e| (e.rule, e.in_port, e.total_len, e.data.clone()));
    }
    observed
}

fn difference(expected: &Observed, found: &Observed) -> String {
    let mut text = String::new();
    let mut part = |name: &str, expected: String, found: String| {
        if expected != found {
            let _ = writeln!(
                text,
                "  {name}:\n    reference: {expected}\n    kernel:    {found}"
            );
        }
    };
    let frames = |o: &Observed| {
        o.sent
            .iter()
            .map(|(port, f)| format!("{port}: {} ", hex(f)))
            .collect::<String>()
    };
    part("sent", frames(expected), frames(found));
    part(
        "events",
        format!("{:?}", expected.events),
        format!("{:?}", found.events),
    );
    part(
        "rules",
        format!("{:?}", expected.rules),
        format!("{:?}", found.rules),
    );
    part(
        "ports",
        format!("{:?}", expected.ports),
        format!("{:?}", found.ports),
    );
    text
}
