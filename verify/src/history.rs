//! What the observers saw, each in its own order, and whether one reference switch could have shown it.
//!
//! The reference: each switch is one, handles one packet at a time, and takes the controller's commands one at a time in the order in which they
//! were issued. The network may lose and reorder packets. A history can be produced by it if its steps (each packet at each switch that
//! it was seen to have passed, and each command) can be put in one order such that
//!
//! - an end host's packets are handled after everything that it had got when it sent them,
//! - a switch's events reach the controller in the order of its packets,
//! - a command is handled after all events that the controller had when it issued it, and after the commands before it,
//! - what happens after a reply that the controller has got comes after the command,
//! - each packet meets the table as it is at its place in that order.
//!
//! In a strict world real time counts, too, whoever saw it: what was sent or issued after a packet had come out somewhere, or after a reply, comes
//! after that.
//!
//! Tables change by commands only, so a packet's place is the number of commands before it. Each step is given the least place that its
//! predecessors and what was seen of it allow; if that fails, nothing succeeds.

use crate::real_time::{RealTime, Times};
use crate::scenario::{Command, End, Scenario};

/// Packets of end hosts are `8 * end host + number`, packet-outs `FROM_CONTROLLER + command`.
pub type PacketId = u8;

/// First id of packet-outs.
pub const FROM_CONTROLLER: PacketId = 64;

/// What an end host saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// It sent its next packet, of this kind.
    Sent(u8),
    /// It got this one, of this kind.
    Got(PacketId, u8),
}

/// What the controller saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// It issued this command.
    Issued(u8),
    /// A packet-in.
    Event {
        /// The packet.
        packet: PacketId,
        /// Its kind.
        kind: u8,
        /// Where.
        switch: u8,
    },
    /// This command is done.
    Done(u8),
    /// Rule 13: statistics: what its rule had counted at the command's place.
    Counted(u8, u8),
}

/// All that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// By end host.
    pub ends: Vec<Vec<Seen>>,
    /// The controller's.
    pub controller: Vec<Told>,
    /// Commands that were undone, or lost with a connection: they never happened.
    pub void: u64,
    /// Observations in all.
    pub len: u32,
    /// In real time, of strict worlds.
    pub times: Option<Times>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Step {
    /// Must have been output to these ports.
    out: u8,
    /// Must have been a packet-in.
    event: bool,
    pub(crate) seen: bool,
    pub(crate) before: u128,
    /// Commands that come before.
    pub(crate) after_command: u8,
}

pub(crate) const STEPS: usize = 112;

impl History {
    /// Nothing was seen yet.
    pub fn new(ends: usize, real_time: bool) -> Self {
        Self {
            ends: vec![Vec::new(); ends],
            times: real_time.then(|| Times::new(ends)),
            ..Default::default()
        }
    }

    /// An end host saw something.
    pub fn see(&mut self, end: u8, seen: Seen) {
        if let Some(times) = &mut self.times {
            times.see(end, &seen);
        }
        self.ends[end as usize].push(seen);
        self.len += 1;
    }

    /// The controller saw something.
    pub fn tell(&mut self, told: Told) {
        if let Some(times) = &mut self.times {
            times.tell(&told);
        }
        self.controller.push(told);
        self.len += 1;
    }

    /// Why no reference switch could have shown this.
    pub fn contradiction(&self, world: &Scenario) -> Option<String> {
        Check::new(self, world).run().err()
    }
}

/// Steps: 0..56 packets of end hosts at each of two switches, 56..112 packet-outs through tables or links.
pub(crate) struct Check<'a> {
    pub(crate) world: &'a Scenario,
    pub(crate) history: &'a History,
    commands: Vec<u8>,
    pub(crate) steps: [Step; STEPS],
    /// By place in `commands`: steps that come before.
    pub(crate) before_command: Vec<u128>,
    pub(crate) kinds: [Option<(u8, u8)>; 128],
}

pub(crate) fn index(packet: PacketId, switch: u8) -> usize {
    // Up to 7 end hosts with 4 packets, or 28 packet-outs, at two switches.
    let n = if packet >= FROM_CONTROLLER {
        28 + usize::from(packet - FROM_CONTROLLER)
    } else {
        usize::from(packet >> 3) * 4 + usize::from(packet & 7)
    };
    2 * n + usize::from(switch)
}

impl<'a> Check<'a> {
    fn new(history: &'a History, world: &'a Scenario) -> Self {
        let issued = history.controller.iter().filter_map(|t| match t {
            Told::Issued(c) => Some(*c),
            _ => None,
        });
        let commands: Vec<u8> = issued.collect();
        let before_command = vec![0; commands.len()];
        Self {
            world,
            history,
            commands,
            steps: [Step::default(); STEPS],
            before_command,
            kinds: [None; 128],
        }
    }

    /// Where a packet enters: kind and port.
    fn note_packets(&mut self) {
        for (e, seen) in self.history.ends.iter().enumerate() {
            let port = self.world.ends[e].port;
            let sent = seen.iter().filter_map(|s| match s {
                Seen::Sent(kind) => Some(*kind),
                Seen::Got(..) => None,
            });
            for (n, kind) in sent.enumerate() {
                self.kinds[8 * e + n] = Some((kind, port));
            }
        }
        for &c in &self.commands {
            if let Command::Out { in_port, kind, .. } = self.world.commands[c as usize] {
                self.kinds[usize::from(FROM_CONTROLLER + c)] = Some((kind, in_port));
            }
        }
    }

    pub(crate) fn place_of(&self, command: u8) -> Option<usize> {
        self.commands.iter().position(|c| *c == command)
    }

    /// The packet must have been output by this port (or, `None`, been a packet-in at the switch). Gives its step there; `Err`: its
    /// command, when that outputs by itself.
    fn require(&mut self, packet: PacketId, switch: u8, port: Option<u8>) -> Result<usize, u8> {
        let (_, entry) = self.kinds[packet as usize].expect("what was seen was sent");
        let entry_switch = self.world.ports[entry as usize].switch;
        if packet >= FROM_CONTROLLER
            && let Command::Out { to: Some(to), .. } =
                self.world.commands[usize::from(packet - FROM_CONTROLLER)]
        {
            // Out by the port it says; through a link, into the other switch.
            if port == Some(to) {
                return Err(packet - FROM_CONTROLLER);
            }
            let at = index(packet, switch);
            self.mark(at, port);
            let place = self.place_of(packet - FROM_CONTROLLER).unwrap_or(0);
            self.steps[at].after_command = self.steps[at].after_command.max(place as u8 + 1);
            return Ok(at);
        }
        let at = index(packet, switch);
        self.mark(at, port);
        if switch != entry_switch {
            let link = self.link(entry_switch);
            let first = index(packet, entry_switch);
            self.mark(first, Some(link));
            self.steps[at].before |= 1 << first;
        }
        Ok(at)
    }

    fn mark(&mut self, at: usize, port: Option<u8>) {
        let step = &mut self.steps[at];
        step.seen = true;
        match port {
            Some(port) => step.out |= 1 << port,
            None => step.event = true,
        }
    }

    /// The port of the switch that leads to the other one.
    fn link(&self, switch: u8) -> u8 {
        let mut ports = self.world.ports.iter();
        let found = ports.position(|p| p.switch == switch && matches!(p.end, End::Link(_)));
        found.map_or(0, |p| p as u8)
    }

    /// What the table does with a packet after `place` commands: ports, packet-in.
    fn outcome(&self, switch: u8, kind: u8, in_port: u8, place: usize) -> (u8, bool) {
        let met = self.matching(switch, kind, in_port, place);
        self.world.does(&met, in_port)
    }

    /// The rules that a packet meets after `place` commands.
    fn matching(&self, switch: u8, kind: u8, in_port: u8, place: usize) -> Vec<u8> {
        let mut rules: u64 = self.world.initial.iter().fold(0, |a, r| a | 1 << r);
        for &c in &self.commands[..place] {
            if self.history.void & (1 << c) != 0 {
                continue;
            }
            if let Command::Expire(rule) = self.world.commands[c as usize] {
                rules &= !(1 << rule);
            }
            if let Command::Update { add, remove, .. } = &self.world.commands[c as usize] {
                rules = remove.iter().fold(rules, |a, r| a & !(1 << r));
                rules = add.iter().fold(rules, |a, r| a | 1 << r);
            }
        }
        let there = |rule: u8| rules & (1 << rule) != 0;
        let first = self.world.best(0, switch, kind, in_port, there);
        first.map_or_else(Vec::new, |r| self.world.from(r, kind, in_port, there))
    }

    fn collect(&mut self) -> Result<(), String> {
        self.note_packets();
        for (e, seen) in self.history.ends.iter().enumerate() {
            let port = self.world.ends[e].port;
            let switch = self.world.ports[port as usize].switch;
            let (mut before, mut after_command, mut sent) = (0u128, 0u8, 0u8);
            let mut got: u128 = 0;
            for s in seen {
                match *s {
                    Seen::Got(packet, _) => {
                        if got & (1 << packet) != 0 {
                            return Err(format!("end host {e} got packet {packet} twice"));
                        }
                        got |= 1 << packet;
                        match self.require(packet, switch, Some(port)) {
                            Ok(step) => before |= 1 << step,
                            Err(command) => {
                                let place = self.place_of(command).unwrap_or(0) as u8;
                                after_command = after_command.max(place + 1);
                            }
                        }
                    }
                    Seen::Sent(_) => {
                        let step = &mut self.steps[index(8 * e as u8 + sent, switch)];
                        step.before |= before;
                        step.after_command = after_command;
                        sent += 1;
                    }
                }
            }
        }
        let mut events: [u128; 2] = [0; 2];
        let (mut place, mut done) = (0, 0u8);
        for told in &self.history.controller {
            match *told {
                Told::Event { packet, switch, .. } => {
                    if let Ok(at) = self.require(packet, switch, None) {
                        let all = &mut events[switch as usize];
                        if *all & (1 << at) != 0 {
                            return Err(format!(
                                "two events of packet {packet} at switch {switch}"
                            ));
                        }
                        self.steps[at].before |= *all;
                        *all |= 1 << at;
                        let step = &mut self.steps[at];
                        step.after_command = step.after_command.max(done);
                    }
                }
                Told::Issued(_) => {
                    self.before_command[place] = events[0] | events[1];
                    place += 1;
                }
                Told::Counted(..) => {}
                Told::Done(command) => {
                    let place = self.place_of(command).unwrap_or(0) as u8;
                    done = done.max(place + 1);
                }
            }
        }
        Ok(())
    }

    fn run(mut self) -> Result<(), String> {
        self.collect()?;
        if let Some(times) = &self.history.times {
            RealTime::of(&self, times).bind(&mut self);
        }
        let mut placed: u128 = 0;
        let mut least = [0u8; STEPS];
        let mut todo: Vec<usize> = (0..STEPS).filter(|&i| self.steps[i].seen).collect();
        // What was sent but not seen again may have been lost: it orders nothing.
        let seen: u128 = todo.iter().fold(0, |a, i| a | 1 << i);
        while !todo.is_empty() {
            let before = todo.len();
            for i in 0..STEPS {
                let step = self.steps[i];
                if !step.seen || placed & (1 << i) != 0 || step.before & seen & !placed != 0 {
                    continue;
                }
                let mut from = step.after_command;
                for (j, place) in least.iter().enumerate() {
                    if step.before & seen & (1 << j) != 0 {
                        from = from.max(*place);
                    }
                }
                least[i] = self.place(i, from)?;
                placed |= 1 << i;
            }
            todo.retain(|i| placed & (1 << i) == 0);
            if todo.len() == before {
                return Err("what was seen goes in a circle".to_owned());
            }
        }
        for (c, steps) in self.before_command.iter().enumerate() {
            for (i, place) in least.iter().enumerate() {
                if steps & (1 << i) != 0 && usize::from(*place) > c {
                    let (packet, switch) = self.name(i);
                    return Err(format!(
                        "the controller had packet {packet} of switch {switch} before it issued command {}, and the packet was handled after command {}",
                        self.commands[c],
                        self.commands[usize::from(*place) - 1],
                    ));
                }
            }
        }
        self.check_counts(&least)
    }

    /// Whether counters can have been read as they were at the places of the commands that asked for them: at least what was certainly handled
    /// before, at most what may have been. For end hosts' packets at their own switch.
    fn check_counts(&self, least: &[u8; STEPS]) -> Result<(), String> {
        for told in &self.history.controller {
            let &Told::Counted(command, counted) = told else {
                continue;
            };
            let (Command::Cut(rule) | Command::Expire(rule)) =
                self.world.commands[command as usize]
            else {
                continue;
            };
            let cut = self.place_of(command).unwrap_or(0);
            let mut certain = self.before_command[cut];
            for _ in 0..STEPS {
                let steps = (0..STEPS).filter(|i| certain & (1 << i) != 0);
                certain |= steps.fold(0, |a, i| a | self.steps[i].before);
            }
            let (mut must, mut may) = (0u8, 0u8);
            for (id, entered) in self.kinds.iter().enumerate().take(FROM_CONTROLLER.into()) {
                let Some((kind, port)) = *entered else {
                    continue;
                };
                let switch = self.world.ports[port as usize].switch;
                if switch != self.world.rules[rule as usize].switch {
                    continue;
                }
                let i = index(id as u8, switch);
                let step = &self.steps[i];
                let mut from = if step.seen {
                    least[i]
                } else {
                    step.after_command
                };
                let before = (0..STEPS).filter(|j| step.before & (1 << j) != 0);
                from = before.fold(from, |a, j| a.max(least[j]));
                let counts = |place: &usize| {
                    let fits = self.outcome(switch, kind, port, *place);
                    let seen = step.out & !fits.0 == 0 && (fits.1 || !step.event);
                    seen && self.matching(switch, kind, port, *place).contains(&rule)
                };
                let mut places = usize::from(from)..=cut;
                let always = places.clone().all(|p| counts(&p));
                may += u8::from(places.any(|p| counts(&p)));
                must += u8::from(always && certain & (1 << i) != 0 && usize::from(from) <= cut);
            }
            if counted < must || counted > may {
                return Err(format!(
                    "statistics of rule {rule} say {counted} packets, and one switch would have had at least {must} and at most {may} at that place"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn name(&self, step: usize) -> (PacketId, u8) {
        let n = (step / 2) as u8;
        let packet = if n >= 28 {
            FROM_CONTROLLER + n - 28
        } else {
            8 * (n / 4) + n % 4
        };
        (packet, (step % 2) as u8)
    }

    /// The first place from `from` on where the packet would have been handled as it was.
    fn place(&self, step: usize, from: u8) -> Result<u8, String> {
        let (packet, switch) = self.name(step);
        let (kind, entry) = self.kinds[packet as usize].expect("what was seen was sent");
        let entry_switch = self.world.ports[entry as usize].switch;
        let in_port = if switch == entry_switch {
            entry
        } else {
            self.link(switch)
        };
        let last = self.commands.len();
        // A packet-out through the table is handled in its own place.
        let own = (packet >= FROM_CONTROLLER && switch == entry_switch)
            .then(|| self.place_of(packet - FROM_CONTROLLER))
            .flatten();
        let (first, last) = own.map_or((usize::from(from), last), |own| (own, own));
        let wanted = self.steps[step];
        let fits = |place: &usize| {
            let (out, event) = self.outcome(switch, kind, in_port, *place);
            wanted.out & !out == 0 && (event || !wanted.event)
        };
        let found = (first..=last).find(fits);
        let found = found.filter(|&place| place >= usize::from(from));
        // What comes after a packet-out comes after its command.
        let found = found.map(|place| if own.is_some() { place + 1 } else { place });
        found.map(|place| place as u8).ok_or_else(|| {
            format!(
                "packet {packet} (kind {kind}) at switch {switch} went out by ports {:#b}{}; at no place from command {from} on does the table do that",
                wanted.out,
                if wanted.event { " and to the controller" } else { "" },
            )
        })
    }
}
