//! The same scenario through the reference and through the kernel.

use std::fmt::Write;
use std::time::{Duration, Instant};

use lime_core::{Epoch, PortId};
use lime_reference::{Counted, Fault, Outcome, World};

use super::bed::Bed;
use super::lane::Mode;
use super::observed::{Counters, Observed};
use super::scenario::{Scenario, Step, hex};
use super::ways::Way;

/// Tags that a frame may have and still go through the tunnel from TC.
const MAX_TUNNELLED_TAGS: usize = 2;

/// How long a packet may take to where it goes by veth pairs: at first, and where it is known not to get there and only looked for in what less.
pub const PATIENCE: Duration = Duration::from_secs(5);
pub const IMPATIENCE: Duration = Duration::from_millis(50);

/// Where they differ.
pub struct Difference {
    /// Which step of the scenario.
    pub step: usize,
    /// By which way, and with which programs.
    pub lane: (Way, Mode),
    pub text: String,
}

/// The first difference, if there is one.
pub fn run(
    bed: &mut Bed,
    scenario: &Scenario,
    fault: Option<Fault>,
    patience: Duration,
) -> Option<Difference> {
    let mut world = scenario.world(fault);
    bed.prepare(scenario);
    for (i, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Packet { port, bytes } => {
                if let Some((lane, text)) = packet(bed, &world, *port, bytes, patience) {
                    let step = i;
                    return Some(Difference { step, lane, text });
                }
            }
            Step::Clock(clock) => {
                world.clock = Epoch(*clock);
                bed.go_on(scenario, *clock);
            }
            Step::Port(new) => {
                for port in world.ports.iter_mut().filter(|p| p.id == new.id) {
                    *port = new.clone();
                }
                bed.set_port(new);
            }
        }
    }
    None
}

/// The same packet on all lanes.
fn packet(
    bed: &mut Bed,
    world: &World,
    port: PortId,
    bytes: &[u8],
    patience: Duration,
) -> Option<((Way, Mode), String)> {
    let expected = expected(world, port, bytes)?;
    for (lane, (way, mode)) in bed.lanes().into_iter().enumerate() {
        let Some(mut observed) = bed.receive(lane, port, bytes) else {
            continue;
        };
        let deadline = Instant::now() + patience;
        let found = loop {
            let last = way != Way::Veth || Instant::now() > deadline;
            if last || observed.sent.len() >= expected.sent.len() {
                let mut found = in_order(observed.clone());
                found.fill_hidden(&expected);
                let found = in_order(found);
                if last || found == expected {
                    break found;
                }
            }
            std::thread::yield_now();
            bed.look(lane, &mut observed);
        };
        if found != expected {
            return Some(((way, mode), difference(&expected, &found)));
        }
    }
    None
}

/// What the reference says; None if that is more than the kernel promises.
fn expected(world: &World, port: PortId, bytes: &[u8]) -> Option<Observed> {
    let outcome = world.receive(port, bytes);
    let tags = outcome.tags_tunnelled.last().copied().unwrap_or(0);
    let promised = tags <= MAX_TUNNELLED_TAGS && !outcome.incomplete;
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
    observed.sent.sort_by_key(|s| s.port);
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
            .map(|s| match s.queue {
                0 => format!("{}: {} ", s.port, hex(&s.frame)),
                queue => format!("{} by queue {queue}: {} ", s.port, hex(&s.frame)),
            })
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
