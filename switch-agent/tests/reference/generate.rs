//! Random scenarios: a network, rules that overlap and hit, and packets that come in while both change.

use lime_core::flow::Match;
use lime_core::{Epoch, PortId, RuleId};
use lime_reference::{Installed, Place, Port};

use super::groups;
use super::meters::{self, METERS};
use super::packets;
use super::random::Random;
use super::rules;
use super::scenario::{LOCAL, SWITCHES, Scenario, Step, ports, switch_of};

/// Packets of one scenario.
pub const PACKETS: usize = 100;
/// Of those, different ones. The others are repeated, alike or nearly so.
const FRESH: usize = 65;

/// MTUs that some packets fit and others do not.
const MTUS: [u32; 3] = [40, 68, 100];

pub fn scenario(seed: u64) -> Scenario {
    let mut random = Random::new(seed);
    // Most rules are about some of these packets.
    let packets: Vec<Vec<u8>> = (0..FRESH).map(|_| packets::packet(&mut random)).collect();
    let mut scenario = network(&mut random, &packets);
    for port in &mut scenario.ports {
        if port.place == Place::Remote && random.chance(10) {
            port.mtu = random.pick(&MTUS);
        }
    }
    if random.chance(20) {
        add_chain(&mut random, &mut scenario);
    }
    steps(&mut random, &mut scenario, packets);
    scenario
}

/// A network with rules, most of which are about some of these packets; nothing happens in it.
pub fn network(random: &mut Random, packets: &[Vec<u8>]) -> Scenario {
    let mut ports = ports();
    for port in &mut ports {
        settings(random, port);
    }
    let mut scenario = Scenario {
        ports,
        staged: 2 + random.below(7) as u32,
        late: random.chance(50),
        collects: random.chance(10),
        ..Scenario::default()
    };
    if random.chance(70) {
        groups::add(random, &mut scenario, packets);
    }
    if random.chance(40) {
        meters::add(random, &mut scenario);
    }
    for i in 0..4 + random.below(40) {
        add_rule(random, &mut scenario, i as u64 + 1, packets);
    }
    scenario
}

/// Rules that write metadata one after the other, and rules that match what then is there: by chance they seldom come together.
fn add_chain(random: &mut Random, scenario: &mut Scenario) {
    for (i, rule) in rules::metadata_chain(random).into_iter().enumerate() {
        scenario.rules.push(Installed {
            id: RuleId(2001 + i as u64),
            switch: SWITCHES[0],
            rule,
            from: Epoch(1),
            to: None,
        });
    }
}

fn settings(random: &mut Random, port: &mut Port) {
    port.down = random.chance(6);
    port.dead = random.chance(4);
    port.no_flood = random.chance(15);
    port.mtu = if !matches!(port.place, Place::Link(_)) && random.chance(10) {
        random.pick(&MTUS)
    } else {
        0
    };
}

/// Packets, and between them clocks and ports that change. Many packets come again, before and after such changes.
fn steps(random: &mut Random, scenario: &mut Scenario, packets: Vec<Vec<u8>>) {
    let mut clock = 1;
    let mut sent: Vec<(PortId, Vec<u8>)> = vec![];
    let mut fresh = packets.into_iter();
    while sent.len() < PACKETS {
        if clock < scenario.staged && random.below(PACKETS) < scenario.staged as usize {
            // Now and then by more than one.
            clock = (clock + random.pick(&[1, 1, 1, 2])).min(scenario.staged);
            scenario.steps.push(Step::Clock(clock));
        }
        if random.chance(2) {
            let mut port = scenario.ports[random.below(scenario.ports.len())].clone();
            settings(random, &mut port);
            scenario.steps.push(Step::Port(port));
        }
        let left = PACKETS - sent.len();
        let new = sent.is_empty() || random.below(left) < fresh.len();
        let (mut port, bytes) = match fresh.next().filter(|_| new) {
            Some(bytes) => (random.pick(&LOCAL), bytes),
            None => {
                let (port, bytes) = &sent[random.below(sent.len())];
                (*port, packets::like(random, bytes))
            }
        };
        if random.chance(5) {
            port = random.pick(&LOCAL);
        }
        sent.push((port, bytes.clone()));
        scenario.steps.push(Step::Packet { port, bytes });
    }
}

fn add_rule(random: &mut Random, scenario: &mut Scenario, id: u64, packets: &[Vec<u8>]) {
    let switch = random.pick(&[SWITCHES[0], SWITCHES[0], SWITCHES[1]]);
    let table = random.pick(&[0, 0, 0, 0, 1, 1, 1, 2, 5, 31]);
    // Which of two rules of one priority wins is nobody's promise, so that none have the same.
    let mut priority = if random.chance(12) {
        0
    } else {
        random.below(50) as u16
    };
    let taken = |p: u16| {
        scenario
            .rules
            .iter()
            .any(|r| r.switch == switch && r.rule.table == table && r.rule.priority == p)
    };
    while taken(priority) {
        priority += 1;
    }
    let about = &packets[random.below(packets.len())];
    let matching = match random.below(10) {
        _ if priority == 0 => Match::any(),
        // Who comes to a later table is seldom to end there without a rule.
        0..4 if table > 0 => Match::any(),
        0 => Match::any(),
        1..7 => rules::matching_about(random, table, about),
        _ => rules::matching(random, table),
    };
    let mut rule = rules::rule(random, table, priority, matching);
    if !scenario.meters.is_empty() && random.chance(25) {
        rule.meter = Some(random.pick(&METERS));
    }
    // Most are there from the start; some end, and have a successor from the same epoch on.
    let epochs: Vec<u32> = (1..=scenario.staged)
        .filter(|&e| switch_of(e) == switch)
        .collect();
    let first = if random.chance(60) {
        0
    } else {
        random.below(epochs.len())
    };
    let last = (random.chance(40) && first + 1 < epochs.len())
        .then(|| Epoch(epochs[first + 1 + random.below(epochs.len() - first - 1)]));
    if let Some(from) = last.filter(|_| random.chance(60)) {
        let successor = rules::rule(random, table, priority, rule.matching.clone());
        scenario.rules.push(Installed {
            id: RuleId(id + 1000),
            switch,
            rule: successor,
            from,
            to: None,
        });
    }
    scenario.rules.push(Installed {
        id: RuleId(id),
        switch,
        rule,
        from: Epoch(epochs[first]),
        to: last,
    });
}
