//! The same scenario through the reference and through the kernel.

use std::fmt::Write;

use lime_core::{Epoch, PortId};
use lime_reference::{Counted, Fault, Outcome, World};

use super::bed::{BOTH, Bed, Counters, Mode, Observed};
use super::scenario::{Scenario, Step, hex};

/// Tags that a frame may have and still go through the tunnel from TC.
const MAX_TUNNELLED_TAGS: usize = 2;

/// Where they differ.
pub struct Difference {
    /// Which step of the scenario.
    pub step: usize,
    pub mode: Mode,
    pub text: String,
}

/// The first difference, if there is one.
pub fn run(bed: &mut Bed, scenario: &Scenario, fault: Option<Fault>) -> Option<Difference> {
    let mut world = scenario.world(fault);
    for mode in BOTH {
        bed.prepare(mode, scenario);
    }
    for (i, step) in scenario.steps.iter().enumerate() {
        let (port, bytes) = match step {
            Step::Packet { port, bytes } => (*port, bytes),
            Step::Clock(clock) => {
                world.clock = Epoch(*clock);
                for mode in BOTH {
                    bed.go_on(mode, scenario, *clock);
                }
                continue;
            }
            Step::Port(new) => {
                for port in world.ports.iter_mut().filter(|p| p.id == new.id) {
                    *port = new.clone();
                }
                for mode in BOTH {
                    bed.set_port(mode, new);
                }
                continue;
            }
        };
        let Some(expected) = expected(&world, port, bytes) else {
            continue;
        };
        for mode in BOTH {
            let found = in_order(bed.receive(mode, port, bytes));
            if found != expected {
                return Some(Difference {
                    step: i,
                    mode,
                    text: difference(&expected, &found),
                });
            }
        }
    }
    None
}

/// What the reference says; None if that is more than the kernel promises.
fn expected(world: &World, port: PortId, bytes: &[u8]) -> Option<Observed> {
    let outcome = world.receive(port, bytes);
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
        counts: outcome.counts,
        ports: outcome
            .ports
            .into_iter()
            .map(|(id, port)| (id, counters(port)))
            .collect(),
    }
}

/// Frames of different ports have no order; of one port, and events, they do unless links or groups made copies, which may overtake.
fn in_order(mut observed: Observed) -> Observed {
    observed.sent.sort_by_key(|(port, _)| *port);
    if observed
        .ports
        .keys()
        .any(|&PortId(id)| id == 15 || id == 16 || id == 5 || id == 6)
        || observed
            .counts
            .keys()
            .any(|by| matches!(by, Counted::Group(..)))
    {
        observed.sent.sort();
        observed
            .events
            .sort_by_key(|e| (e.by, e.in_port, e.total_len, e.data.clone()));
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
        "counts",
        format!("{:?}", expected.counts),
        format!("{:?}", found.counts),
    );
    part(
        "ports",
        format!("{:?}", expected.ports),
        format!("{:?}", found.ports),
    );
    text
}
