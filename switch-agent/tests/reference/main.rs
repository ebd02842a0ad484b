//! The kernel pipeline against the reference switch: random rules and random packets, by XDP and by TC, every byte and every counter.
//!
//! `LIME_CASES` says how many packets (20,000 by default), `LIME_SEED` where to start: a failure prints its own seed, with which it is found at once.
//! `LIME_WAYS`: how packets come in, `test-run,tap,veth` if not said otherwise.
//! `LIME_OFFLOADS`: scenarios of packets with something left to do (60).
//! A case is one packet with one set of rules, by both kinds of programs and
//! by all ways in that can carry it. Needs root, like everything that loads kernel programs.
#![allow(clippy::unwrap_used, reason = "tests panic")]

mod bed;
mod compare;
#[path = "../support/devices.rs"]
mod devices;
mod generate;
mod groups;
mod lane;
mod meters;
mod observed;
mod offload;
mod packets;
mod random;
mod rules;
mod scenario;
mod shrink;
mod ways;

use lime_core::Epoch;
use lime_reference::{Counted, Fault, Outcome};

use bed::Bed;
use compare::{IMPATIENCE, PATIENCE};
use generate::PACKETS;
use scenario::{Scenario, Step};
use ways::Way;

/// Scenarios in which a planted bug is to show, at the latest.
const MOST_SEEDS: u64 = 2000;

/// After how many scenarios a run says how far it is.
const SCENARIOS_TOLD: usize = 1000;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// `LIME_WAYS`, or all.
fn ways() -> Vec<Way> {
    let Ok(names) = std::env::var("LIME_WAYS") else {
        return Way::ALL.to_vec();
    };
    let way = |name: &str| {
        let known = Way::ALL.into_iter().find(|way| way.name() == name);
        known.unwrap_or_else(|| panic!("LIME_WAYS={names}: {name:?} is not test-run, tap or veth"))
    };
    names.split(',').map(way).collect()
}

/// The smallest scenario found for a seed where kernel and reference differ, and how they do.
fn failure(bed: &mut Bed, seed: u64, fault: Option<Fault>) -> Option<(Scenario, String)> {
    let scenario = generate::scenario(seed);
    let difference = compare::run(bed, &scenario, fault, PATIENCE)?;
    let small = shrink::shrink(scenario, difference.step, |s| {
        compare::run(bed, s, fault, IMPATIENCE).is_some()
    });
    let difference = compare::run(bed, &small, fault, IMPATIENCE).unwrap_or(difference);
    Some((
        small,
        format!("{:?}:\n{}", difference.lane, difference.text),
    ))
}

#[test]
fn the_kernel_does_what_the_reference_does() {
    let mut bed = Bed::new(&ways());
    let (first, cases) = (setting("LIME_SEED", 1), setting("LIME_CASES", 20_000));
    let scenarios = cases.div_ceil(PACKETS as u64);
    for (done, seed) in (first..first + scenarios).enumerate() {
        if done > 0 && done % SCENARIOS_TOLD == 0 {
            // For who waits, or goes on from there another day.
            println!("{} packets, on with seed {seed}", done * PACKETS);
        }
        if let Some((scenario, difference)) = failure(&mut bed, seed, None) {
            panic!(
                "LIME_SEED={seed} LIME_CASES={PACKETS} finds this again:\n{scenario}{difference}"
            );
        }
    }
    println!(
        "{} packets, seeds {first} to {}",
        scenarios * PACKETS as u64,
        first + scenarios - 1
    );
}

/// What is never reached is not compared: most packets match rules, and everything that can become of one does.
#[test]
fn scenarios_reach_everything() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 1..=100 {
        let scenario = generate::scenario(seed);
        for (outcome, bytes) in outcomes(&scenario, None).into_iter().zip(scenario.frames()) {
            let mut saw =
                |what: &'static str, yes: bool| *seen.entry(what).or_insert(0) += usize::from(yes);
            saw("rule", !outcome.counts.is_empty());
            saw("two tables or switches", outcome.counts.len() > 1);
            saw("output", !outcome.sent.is_empty());
            saw("several outputs", outcome.sent.len() > 1);
            saw(
                "other bytes",
                outcome.sent.iter().any(|s| !s.frame.starts_with(bytes)),
            );
            saw("a queue", outcome.sent.iter().any(|s| s.queue != 0));
            saw(
                "another switch",
                outcome.ports.keys().any(|p| [5, 6, 15, 16].contains(&p.0)),
            );
            saw("action set", outcome.sets > 0);
            let group = |by: &Counted| matches!(by, Counted::Group(..));
            saw("group", outcome.counts.keys().any(group));
            saw(
                "groups of groups",
                outcome.counts.keys().filter(|by| group(by)).count() > 1,
            );
            let bucket = |by: &Counted| matches!(by, Counted::Bucket(..));
            saw(
                "several buckets",
                outcome.counts.keys().filter(|by| bucket(by)).count() > 1,
            );
            saw(
                "event of a bucket",
                outcome.events.iter().any(|e| bucket(&e.by)),
            );
            let meter = |by: &Counted| matches!(by, Counted::Meter(..));
            saw("meter", outcome.counts.keys().any(meter));
            let band = |by: &Counted| matches!(by, Counted::Band(..));
            saw("band", outcome.counts.keys().any(band));
            saw("event", !outcome.events.is_empty());
            saw(
                "event of a table-miss rule",
                outcome.events.iter().any(|e| e.miss),
            );
            for port in outcome.ports.values() {
                for reason in port.drops.keys() {
                    saw(reason.name(), true);
                }
            }
        }
    }
    println!("{seen:?}");
    let least = [
        ("rule", 5000),
        ("output", 1500),
        ("several outputs", 500),
        ("other bytes", 500),
        ("event", 300),
        ("action set", 500),
        ("another switch", 500),
        ("group", 500),
        ("groups of groups", 100),
        ("several buckets", 100),
        ("event of a bucket", 30),
        ("meter", 500),
        ("band", 200),
    ];
    for (what, least) in least {
        assert!(
            seen[what] >= least,
            "{what}: {} of 10,000 packets",
            seen[what]
        );
    }
    for reason in [
        "table-miss",
        "rule-drop",
        "port-down",
        "hop-limit",
        "too-big",
        "output-to-in-port",
        "bad-set-field",
        "invalid-ttl",
        "no-bucket",
        "group-changed",
        "metered",
    ] {
        assert!(seen.contains_key(reason), "nothing is dropped for {reason}");
    }
}

/// What the reference makes of a scenario's packets.
fn outcomes(scenario: &Scenario, fault: Option<Fault>) -> Vec<Outcome> {
    let mut world = scenario.world(fault);
    let mut outcomes = vec![];
    for step in &scenario.steps {
        match step {
            Step::Packet { port, bytes } => outcomes.push(world.receive(*port, bytes)),
            Step::Clock(clock) => world.clock = Epoch(*clock),
            Step::Port(_) => {}
        }
    }
    outcomes
}

#[test]
fn planted_bugs_are_found() {
    let mut bed = Bed::new(&[Way::TestRun, Way::Tap]);
    for fault in Fault::ALL {
        // In which scenarios it shows, the reference can say itself, sooner than the kernel.
        let shows = |seed: &u64| {
            let scenario = generate::scenario(*seed);
            outcomes(&scenario, Some(fault)) != outcomes(&scenario, None)
        };
        // Where a packet's way is not promised to be as the reference's, it is not compared: then another scenario has to show it.
        let (seed, (scenario, difference)) = (1..=MOST_SEEDS)
            .filter(shows)
            .take(20)
            .find_map(|seed| Some((seed, failure(&mut bed, seed, Some(fault))?)))
            .unwrap_or_else(|| panic!("{fault:?} does not show or is not found"));
        println!("{fault:?}, found with seed {seed}:\n{scenario}{difference}");
        assert!(
            scenario.rules.len() <= 5,
            "{fault:?} is made small: {scenario}{difference}"
        );
    }
}
