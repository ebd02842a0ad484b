//! Looks for the run: a graph of what comes before what, and the least version for each step.

use std::collections::HashMap;
use std::rc::Rc;

use lime_core::SwitchId;

use crate::contradiction::{Contradiction, Tell};
use crate::headers;
use crate::outcomes::{Outcomes, Segment, anything};
use crate::record::{Answer, History, Nanos, Summary, Told, What};
use crate::steps::{Entry, Steps, Stop};
use crate::tables::Tables;

/// Something with a place in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// An instance at one of its stops.
    Step {
        /// Which.
        instance: u32,
        /// Its stop.
        stop: u32,
    },
    /// What an end host knows when it has got a packet.
    Got {
        /// Which.
        end: usize,
        /// Its observation.
        index: usize,
    },
    /// What a controller knows when it has been told of a packet, or of the end of a rule.
    Heard {
        /// Where.
        channel: usize,
        /// The observation.
        index: usize,
    },
    /// What a controller has been told of a switch when it is told of the end of a rule: all of it was before that.
    Ending {
        /// Where.
        channel: usize,
        /// The observation.
        index: usize,
    },
    /// What had come out at some time, of a strict network.
    Moment {
        /// When.
        at: Nanos,
    },
}

/// Why a node's bound is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// It has none.
    Nothing,
    /// This command of its channel, or this answer that had come.
    Command(usize),
    /// It comes after another node.
    After(u32),
}

#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) node: Node,
    pub(crate) low: u32,
    pub(crate) because: Because,
    /// Highest version possible.
    pub(crate) high: u32,
    /// Found.
    pub(crate) place: u32,
}

/// The graph.
pub(crate) struct Graph<'a> {
    pub(crate) history: &'a History,
    pub(crate) steps: &'a Steps,
    pub(crate) tables: &'a Tables,
    pub(crate) bounds: Vec<Bound>,
    pub(crate) edges: Vec<(u32, u32)>,
    pub(crate) of: HashMap<(u32, u32), u32>,
}

/// Whether ordinary switches could have shown this; and if not, why.
pub fn check(history: &History) -> Result<Summary, Contradiction> {
    let tables = Tables::new(history).map_err(Contradiction::plain)?;
    let mut steps = match Steps::new(history) {
        Ok(steps) => steps,
        Err(odd) => return Err(Contradiction::odd(history, odd)),
    };
    let mut outcomes = Outcomes::new(history, &tables);
    headers::follow(history, &mut steps, &mut outcomes);
    let mut graph = Graph::new(history, &steps, &tables);
    graph.place(&mut outcomes)?;
    Ok(Summary {
        packets: steps.packets,
        placed: graph.bounds.len(),
        versions: tables.last() as usize,
        ambiguous: steps.ambiguous,
        unknown: steps.unknown,
    })
}

impl<'a> Graph<'a> {
    fn new(history: &'a History, steps: &'a Steps, tables: &'a Tables) -> Self {
        let mut graph = Self {
            history,
            steps,
            tables,
            bounds: Vec::new(),
            edges: Vec::new(),
            of: HashMap::new(),
        };
        for n in 0..steps.instances.len() as u32 {
            graph.add_instance(n);
        }
        graph.order_end_hosts();
        graph.order_channels();
        if history.real_time {
            graph.order_in_time();
        }
        graph
    }

    pub(crate) fn add(&mut self, node: Node, low: (u32, Because), high: u32) -> u32 {
        self.bounds.push(Bound {
            node,
            low: low.0,
            because: low.1,
            high,
            place: 0,
        });
        self.bounds.len() as u32 - 1
    }

    /// An instance of which anything was seen.
    fn add_instance(&mut self, n: u32) {
        let instance = &self.steps.instances[n as usize];
        let (low, high) = match instance.entry {
            Entry::Sent { .. } => {
                let (version, command) = self.tables.answered_before(instance.at);
                (from_command(version, command), u32::MAX)
            }
            Entry::Out { channel, index, .. } => self.of_packet_out(channel, index),
        };
        let sent_out = matches!(instance.entry, Entry::Out { .. });
        for (i, stop) in instance.stops.iter().enumerate() {
            let seen = stop.need.event || !stop.need.ports.is_empty();
            if !seen && !sent_out {
                continue;
            }
            let high = match i {
                0 => high.min(self.tables.possible_at(stop.seen)),
                _ => self.tables.possible_at(stop.seen),
            };
            let low = if i == 0 { low } else { (0, Because::Nothing) };
            let node = Node::Step {
                instance: n,
                stop: i as u32,
            };
            let at = self.add(node, low, high);
            self.of.insert((n, i as u32), at);
            if let Some(before) = stop.before.and_then(|b| self.of.get(&(n, b as u32))) {
                self.edges.push((*before, at));
            }
        }
    }

    /// A packet-out's place is between the commands before and behind it.
    fn of_packet_out(&self, channel: usize, index: usize) -> ((u32, Because), u32) {
        let channel = &self.history.channels[channel];
        let (issued, told) = channel.seen[index];
        let (mut low, mut because) = self.tables.answered_before(issued);
        let mut high = u32::MAX;
        if channel.fifo {
            let version = |(_, t): &(u64, Told)| match t {
                Told::Issued(c) => self.tables.of.get(c).map(|v| (*v, *c)),
                _ => None,
            };
            if let Some((version, command)) = channel.seen[..index].iter().rev().find_map(version)
                && version > low
            {
                (low, because) = (version, command);
            }
            if let Some((version, _)) = channel.seen[index..].iter().find_map(version) {
                high = version - 1;
            }
        }
        if let Told::Issued(command) = told {
            let done = |(_, t): &&(u64, Told)| *t == Told::Answered(command, Answer::Done);
            if let Some((at, _)) = channel.seen[index..].iter().find(done) {
                high = high.min(self.tables.possible_at(*at));
            }
        }
        (from_command(low, because), high)
    }

    /// The node of an instance at a switch.
    pub(crate) fn at(&self, instance: u32, switch: SwitchId) -> Option<u32> {
        let stops = &self.steps.instances[instance as usize].stops;
        let stop = stops.iter().position(|s| s.switch == switch)?;
        self.of.get(&(instance, stop as u32)).copied()
    }

    /// What an end host sends comes after what it had got.
    fn order_end_hosts(&mut self) {
        for end in 0..self.history.ends.len() {
            let mut known: Option<u32> = None;
            for index in 0..self.history.ends[end].seen.len() {
                if let Some(n) = self.steps.got[end][index] {
                    let last = self.steps.instances[n as usize].stops.iter();
                    let here = self.switch_of(end);
                    let stop = last.map(|s| s.switch).find(|s| Some(*s) == here);
                    let Some(step) = stop.and_then(|s| self.at(n, s)) else {
                        continue;
                    };
                    let node = Node::Got { end, index };
                    let got = self.add(node, (0, Because::Nothing), u32::MAX);
                    self.edges.push((step, got));
                    self.edges.extend(known.map(|k| (k, got)));
                    known = Some(got);
                } else if let Some(n) = self.steps.sent[end][index] {
                    let step = self.of.get(&(n, 0)).copied();
                    self.edges.extend(known.zip(step));
                }
            }
        }
    }

    pub(crate) fn switch_of(&self, end: usize) -> Option<SwitchId> {
        let leads = crate::Leads::EndHost(end);
        let port = self.history.ports.iter().find(|p| p.leads == leads);
        port.map(|p| p.switch)
    }

    /// What controllers were told, and what they said.
    fn order_channels(&mut self) {
        for channel in 0..self.history.channels.len() {
            let fifo = self.history.channels[channel].fifo;
            let mut known: Option<u32> = None;
            let mut last: HashMap<SwitchId, u32> = HashMap::new();
            let mut answered = (0, Because::Nothing);
            let mut issued = (0, Because::Nothing);
            for index in 0..self.history.channels[channel].seen.len() {
                let (_, told) = self.history.channels[channel].seen[index];
                match told {
                    Told::Event { switch, .. } => {
                        let step = self.steps.told[channel][index];
                        let Some(step) = step.and_then(|n| self.at(n, switch)) else {
                            continue;
                        };
                        self.raise(step, answered);
                        self.edges
                            .extend(last.insert(switch, step).map(|l| (l, step)));
                        let node = Node::Heard { channel, index };
                        let heard = self.add(node, (0, Because::Nothing), u32::MAX);
                        self.edges.push((step, heard));
                        self.edges.extend(known.map(|k| (k, heard)));
                        known = Some(heard);
                    }
                    Told::Removed { switch, epoch, .. } => {
                        let Some((first, end)) = self.tables.of_epoch(epoch) else {
                            continue;
                        };
                        let nothing = (0, Because::Nothing);
                        let before = self.add(Node::Ending { channel, index }, nothing, end - 1);
                        let low = (first, Because::Nothing);
                        let heard = self.add(Node::Heard { channel, index }, low, u32::MAX);
                        self.edges
                            .extend(last.insert(switch, heard).map(|l| (l, before)));
                        self.edges.extend(known.map(|k| (k, heard)));
                        known = Some(heard);
                    }
                    Told::Issued(command) => {
                        // That an update is behind what its controller had been told of follows from the time: see `possible_at`.
                        if let Some(&version) = self.tables.of.get(&command) {
                            issued = (version, Because::Command(command));
                        } else if let Some(n) = self.steps.told[channel][index] {
                            let step = self.of.get(&(n, 0)).copied();
                            self.edges.extend(known.zip(step));
                        }
                    }
                    Told::Answered(command, Answer::Updated(_)) => {
                        let version = self.tables.of.get(&command).copied().unwrap_or(0);
                        if version > answered.0 {
                            answered = (version, Because::Command(command));
                        }
                    }
                    Told::Answered(command, Answer::Done) => {
                        let barrier = matches!(self.history.commands[command].what, What::Barrier);
                        if fifo
                            && barrier
                            && issued.0 > answered.0
                            && self.is_last(channel, index, command)
                        {
                            answered = issued;
                        }
                    }
                    Told::Answered(..) => {}
                }
            }
        }
    }

    /// Whether no update was issued between a barrier and its answer: then the latest is known to be before it.
    fn is_last(&self, channel: usize, index: usize, barrier: usize) -> bool {
        let seen = &self.history.channels[channel].seen[..index];
        let since = seen.iter().rev();
        since
            .map(|(_, t)| *t)
            .take_while(|t| *t != Told::Issued(barrier))
            .all(|t| !matches!(t, Told::Issued(c) if self.tables.of.contains_key(&c)))
    }

    fn raise(&mut self, node: u32, to: (u32, Because)) {
        let bound = &mut self.bounds[node as usize];
        if to.0 > bound.low {
            (bound.low, bound.because) = to;
        }
    }

    /// Gives each node the least version that is left to it.
    fn place(&mut self, outcomes: &mut Outcomes<'_>) -> Result<(), Contradiction> {
        let nodes = self.bounds.len();
        self.edges.sort_unstable();
        self.edges.dedup();
        let mut first = vec![0u32; nodes + 1];
        let mut waits = vec![0u32; nodes];
        for &(from, to) in &self.edges {
            first[from as usize + 1] += 1;
            waits[to as usize] += 1;
        }
        for i in 0..nodes {
            first[i + 1] += first[i];
        }
        let mut ready: Vec<u32> = (0..nodes as u32)
            .filter(|&n| waits[n as usize] == 0)
            .collect();
        let mut placed = 0;
        while let Some(n) = ready.pop() {
            placed += 1;
            let place = self.place_one(n, outcomes)?;
            self.bounds[n as usize].place = place;
            for e in first[n as usize]..first[n as usize + 1] {
                let to = self.edges[e as usize].1;
                self.raise(to, (place, Because::After(n)));
                waits[to as usize] -= 1;
                if waits[to as usize] == 0 {
                    ready.push(to);
                }
            }
        }
        if placed < nodes {
            let stuck: Vec<u32> = (0..nodes as u32)
                .filter(|&n| waits[n as usize] > 0)
                .collect();
            return Err(Tell::new(self, outcomes).circle(&stuck));
        }
        Ok(())
    }

    fn place_one(&self, n: u32, outcomes: &mut Outcomes<'_>) -> Result<u32, Contradiction> {
        let bound = &self.bounds[n as usize];
        match bound.node {
            Node::Step { .. } => {
                let ways = self.ways(bound.node, outcomes);
                let need = &self.stop(bound.node).need;
                let found = least(&ways, bound.low, |s| s.fits(need));
                match found {
                    Some(place) if place <= bound.high => Ok(place),
                    _ => Err(Tell::new(self, outcomes).nowhere(n)),
                }
            }
            Node::Ending { .. } if bound.low > bound.high => {
                Err(Tell::new(self, outcomes).too_late(n))
            }
            _ => Ok(bound.low),
        }
    }

    pub(crate) fn stop(&self, node: Node) -> &'a Stop {
        let Node::Step { instance, stop } = node else {
            unreachable!("only steps have stops");
        };
        &self.steps.instances[instance as usize].stops[stop as usize]
    }

    /// What the switch may do with the packet of a step, for each port that it may have come in by.
    pub(crate) fn ways(&self, node: Node, outcomes: &mut Outcomes<'_>) -> Vec<Rc<[Segment]>> {
        let Node::Step { instance, stop } = node else {
            return Vec::new();
        };
        let of = &self.steps.instances[instance as usize];
        let stop = &of.stops[stop as usize];
        if let (None, Entry::Out { command, .. }) = (stop.before, of.entry) {
            return vec![sent_out(self.history, command, outcomes)];
        }
        match stop.shape {
            Some(shape) => stop.ports.iter().map(|&p| outcomes.of(p, shape)).collect(),
            None => vec![anything().into()],
        }
    }
}

/// What becomes of a packet-out at the switch that it is sent to.
pub(crate) fn sent_out(
    history: &History,
    command: usize,
    outcomes: &mut Outcomes<'_>,
) -> Rc<[Segment]> {
    let command = &history.commands[command];
    match &command.what {
        What::PacketOut {
            in_port,
            actions,
            shape,
            ..
        } => outcomes.of_packet_out(command.switch, *in_port, actions, *shape),
        _ => anything().into(),
    }
}

fn from_command(version: u32, command: usize) -> (u32, Because) {
    match version {
        0 => (0, Because::Nothing),
        _ => (version, Because::Command(command)),
    }
}

/// The least version from `low` on in a segment of that kind.
pub(crate) fn least(
    ways: &[Rc<[Segment]>],
    low: u32,
    fits: impl Fn(&Segment) -> bool,
) -> Option<u32> {
    let in_one = |segments: &Rc<[Segment]>| {
        let first = segments
            .partition_point(|s| s.from <= low)
            .saturating_sub(1);
        let found = segments[first..].iter().find(|s| fits(s))?;
        Some(found.from.max(low))
    };
    ways.iter().filter_map(in_one).min()
}
