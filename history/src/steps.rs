//! Whose each observation is: which packet, on which way through which switches, and what each of those must have done with it.

use std::collections::{HashMap, HashSet};

use lime_core::flow::Action;
use lime_core::{PortId, PortNo, SwitchId};

use crate::outcomes::Need;
use crate::packet::PacketId;
use crate::record::{History, Leads, Nanos, ShapeId, Told, What};

/// How a packet came into the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// An end host sent it.
    Sent {
        /// Which.
        end: usize,
        /// Its observation.
        index: usize,
    },
    /// A controller did.
    Out {
        /// The command.
        command: usize,
        /// Where it was given.
        channel: usize,
        /// Its place there.
        index: usize,
    },
}

/// One packet that came into the network once.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) packet: PacketId,
    pub(crate) entry: Entry,
    pub(crate) at: Nanos,
    pub(crate) shape: ShapeId,
    /// The switch it came into.
    pub(crate) switch: SwitchId,
    /// What switches must have done with it, from that one on; where it came in, and from which switch.
    pub(crate) stops: Vec<Stop>,
    delivered: Vec<usize>,
    told: Vec<(usize, SwitchId)>,
    /// It may come out by these ports only, or go anywhere.
    direct: Option<Vec<PortNo>>,
}

/// A switch on a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) switch: SwitchId,
    /// Ports it may have come in by.
    pub(crate) ports: Vec<PortId>,
    /// The stop before, by its place.
    pub(crate) before: Option<usize>,
    pub(crate) need: Need,
    /// Its headers when it came in; None: there is more than one possibility.
    pub(crate) shape: Option<ShapeId>,
    /// When the first of it was seen.
    pub(crate) seen: Nanos,
}

/// An observation that makes no sense by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Odd {
    /// An end host got a packet more often than it was sent.
    Twice { end: usize, index: usize },
}

/// All packets, and whose the observations are.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) instances: Vec<Instance>,
    /// By end host and observation: the instance that it got.
    pub(crate) got: Vec<Vec<Option<u32>>>,
    /// By end host and observation: the instance that it sent.
    pub(crate) sent: Vec<Vec<Option<u32>>>,
    /// By channel and observation: the instance that it was told of or that it sent out.
    pub(crate) told: Vec<Vec<Option<u32>>>,
    pub(crate) packets: usize,
    pub(crate) ambiguous: usize,
    pub(crate) unknown: usize,
    of: HashMap<PacketId, Vec<u32>>,
    plugs: Vec<Plug>,
}

/// Where an end host is.
#[derive(Debug, Default)]
struct Plug {
    switch: Option<SwitchId>,
    ports: Vec<PortId>,
}

/// Where each end host is plugged in: one switch, or it is not followed.
fn plugs(history: &History) -> Vec<Plug> {
    let plug = |end: usize| {
        let at = |p: &&crate::Port| p.leads == Leads::EndHost(end);
        let ports: Vec<_> = history.ports.iter().filter(at).collect();
        let switches: HashSet<SwitchId> = ports.iter().map(|p| p.switch).collect();
        let one = (switches.len() == 1).then(|| ports[0].switch);
        Plug {
            switch: one,
            ports: ports.iter().map(|p| p.id).collect(),
        }
    };
    (0..history.ends.len()).map(plug).collect()
}

impl Steps {
    pub(crate) fn new(history: &History) -> Result<Self, Odd> {
        let mut steps = Self {
            plugs: plugs(history),
            ..Self::default()
        };
        steps.note_sent(history);
        steps.note_packet_outs(history);
        steps.note_told(history);
        steps.note_got(history)?;
        Ok(steps)
    }

    fn add(&mut self, instance: Instance) -> u32 {
        let n = self.instances.len() as u32;
        self.of.entry(instance.packet).or_default().push(n);
        self.instances.push(instance);
        n
    }

    fn note_sent(&mut self, history: &History) {
        let mut seen = HashSet::new();
        let mut twice = HashSet::new();
        for s in history.ends.iter().flat_map(|e| &e.seen).filter(|s| s.sent) {
            if !seen.insert(s.packet) {
                twice.insert(s.packet);
            }
        }
        self.packets = seen.len();
        self.ambiguous = twice.len();
        for (end, host) in history.ends.iter().enumerate() {
            let mut sent = vec![None; host.seen.len()];
            let plug = &self.plugs[end];
            let (switch, ports) = (plug.switch, plug.ports.clone());
            for (index, s) in host.seen.iter().enumerate() {
                let Some(switch) = switch.filter(|_| s.sent && !twice.contains(&s.packet)) else {
                    continue;
                };
                let entry = Entry::Sent { end, index };
                let instance = Instance::new(s.packet, entry, s.at, s.shape, switch, &ports);
                sent[index] = Some(self.add(instance));
            }
            self.sent.push(sent);
        }
        // Nothing can be said of them.
        for packet in twice {
            self.of.insert(packet, Vec::new());
        }
    }

    fn note_packet_outs(&mut self, history: &History) {
        for (channel, c) in history.channels.iter().enumerate() {
            let mut told = vec![None; c.seen.len()];
            for (index, &(at, seen)) in c.seen.iter().enumerate() {
                let Told::Issued(command) = seen else {
                    continue;
                };
                let switch = history.commands[command].switch;
                let What::PacketOut {
                    in_port,
                    actions,
                    packet,
                    shape,
                } = &history.commands[command].what
                else {
                    continue;
                };
                let among = |p: &&crate::Port| p.switch == switch && p.number == *in_port;
                let ports: Vec<PortId> = history.ports.iter().filter(among).map(|p| p.id).collect();
                let entry = Entry::Out {
                    command,
                    channel,
                    index,
                };
                let mut instance = Instance::new(*packet, entry, at, *shape, switch, &ports);
                instance.direct = direct(actions);
                // Of a packet that cannot be told from others nothing can be said here either.
                if self.of.get(packet).is_none_or(|of| !of.is_empty()) {
                    told[index] = Some(self.add(instance));
                }
            }
            self.told.push(told);
        }
    }

    fn note_told(&mut self, history: &History) {
        for (channel, c) in history.channels.iter().enumerate() {
            for (index, &(at, seen)) in c.seen.iter().enumerate() {
                let Told::Event { switch, packet } = seen else {
                    continue;
                };
                let free =
                    |i: &Instance| !i.told.contains(&(channel, switch)) && i.tells() && i.by(at);
                if let Some(n) = self.choose(packet, free) {
                    let instance = &mut self.instances[n as usize];
                    instance.told.push((channel, switch));
                    if instance.pass(history, switch, at, |need| need.event = true) {
                        self.told[channel][index] = Some(n);
                    }
                }
            }
        }
    }

    fn note_got(&mut self, history: &History) -> Result<(), Odd> {
        let complete = history.ends.iter().all(|e| !e.incomplete);
        for (end, host) in history.ends.iter().enumerate() {
            let mut got = vec![None; host.seen.len()];
            for (index, s) in host.seen.iter().enumerate().filter(|(_, s)| !s.sent) {
                let Some(switch) = self.plugs[end].switch else {
                    continue;
                };
                let ports = self.plugs[end].ports.clone();
                let numbers: Vec<PortNo> = history
                    .ports
                    .iter()
                    .filter(|p| ports.contains(&p.id))
                    .map(|p| p.number)
                    .collect();
                // By each of its ports once: floods take all.
                let free = |i: &Instance| {
                    let before = i.delivered.iter().filter(|d| **d == end).count();
                    before < ports.len() && i.by(s.at) && i.reaches(switch, &numbers)
                };
                match self.choose(s.packet, free) {
                    Some(n) => {
                        let instance = &mut self.instances[n as usize];
                        instance.delivered.push(end);
                        let need = |need: &mut Need| need.ports.push((ports, Some(s.shape)));
                        if instance.pass(history, switch, s.at, need) {
                            got[index] = Some(n);
                        }
                    }
                    None => match self.of.get(&s.packet) {
                        None => self.unknown += 1,
                        Some(of) if of.is_empty() || !complete => {}
                        Some(_) => return Err(Odd::Twice { end, index }),
                    },
                }
            }
            self.got.push(got);
        }
        Ok(())
    }

    /// The instance of a packet that an observation is of: the latest that it can be. What a controller sent out again is seen behind that; a
    /// controller that does so with packets which the switch outputs as well cannot be followed.
    fn choose(&self, packet: PacketId, free: impl Fn(&Instance) -> bool) -> Option<u32> {
        let of = self.of.get(&packet)?;
        let candidates = of.iter().copied();
        candidates
            .filter(|&n| free(&self.instances[n as usize]))
            .max_by_key(|&n| {
                let instance = &self.instances[n as usize];
                (matches!(instance.entry, Entry::Out { .. }), instance.at)
            })
    }
}

/// Port numbers that a packet-out names; None: it may go anywhere.
fn direct(actions: &[Action]) -> Option<Vec<PortNo>> {
    let outputs = actions.iter().filter_map(|a| match a {
        Action::Output { port, .. } => Some(*port),
        _ => None,
    });
    let ports: Vec<PortNo> = outputs.collect();
    let groups = actions.iter().any(|a| matches!(a, Action::Group(_)));
    (!groups && ports.iter().all(|p| p.is_port())).then_some(ports)
}

impl Instance {
    fn new(
        packet: PacketId,
        entry: Entry,
        at: Nanos,
        shape: ShapeId,
        switch: SwitchId,
        ports: &[PortId],
    ) -> Self {
        Self {
            packet,
            entry,
            at,
            shape,
            switch,
            stops: vec![Stop {
                switch,
                ports: ports.to_vec(),
                before: None,
                need: Need::default(),
                shape: Some(shape),
                seen: Nanos::MAX,
            }],
            delivered: Vec::new(),
            told: Vec::new(),
            direct: None,
        }
    }

    /// Whether it was in the network by then.
    fn by(&self, at: Nanos) -> bool {
        matches!(self.entry, Entry::Sent { .. }) || self.at <= at
    }

    /// Whether a switch may tell the controller of it.
    fn tells(&self) -> bool {
        self.direct.is_none()
    }

    /// Whether it may come to an end host at these ports.
    fn reaches(&self, switch: SwitchId, ports: &[PortNo]) -> bool {
        let Some(direct) = &self.direct else {
            return true;
        };
        switch != self.switch || direct.iter().any(|p| ports.contains(p))
    }

    /// Something was seen of it at a switch. False: there is no way there.
    fn pass(
        &mut self,
        history: &History,
        switch: SwitchId,
        seen: Nanos,
        add: impl FnOnce(&mut Need),
    ) -> bool {
        let Some(at) = self.stop(history, switch) else {
            return false;
        };
        let stop = &mut self.stops[at];
        stop.seen = stop.seen.min(seen);
        add(&mut stop.need);
        true
    }

    /// The stop at a switch, and those on the way there.
    fn stop(&mut self, history: &History, switch: SwitchId) -> Option<usize> {
        if let Some(known) = self.stops.iter().position(|s| s.switch == switch) {
            return Some(known);
        }
        for (out, into) in way(history, self.switch, switch)? {
            let from = self.stops.iter().position(|s| s.switch == out.switch)?;
            let need = &mut self.stops[from].need.ports;
            if !need.iter().any(|(any, _)| any[..] == [out.id]) {
                need.push((vec![out.id], None));
            }
            if self.stops.iter().all(|s| s.switch != into.switch) {
                self.stops.push(Stop {
                    switch: into.switch,
                    ports: vec![into.id],
                    before: Some(from),
                    need: Need::default(),
                    shape: None,
                    seen: Nanos::MAX,
                });
            }
        }
        self.stops.iter().position(|s| s.switch == switch)
    }
}

/// The links from a switch to another: out by the one port, in by the other.
fn way(history: &History, from: SwitchId, to: SwitchId) -> Option<Vec<(crate::Port, crate::Port)>> {
    let mut ways: Vec<(SwitchId, Vec<(crate::Port, crate::Port)>)> = vec![(from, Vec::new())];
    let mut next = 0;
    while let Some((switch, way)) = ways.get(next).cloned() {
        if switch == to {
            return Some(way);
        }
        next += 1;
        for out in history.ports.iter().filter(|p| p.switch == switch) {
            let Leads::Link(peer) = out.leads else {
                continue;
            };
            let Some(into) = history.ports.iter().find(|p| p.id == peer) else {
                continue;
            };
            if ways.iter().all(|(known, _)| *known != into.switch) {
                let mut longer = way.clone();
                longer.push((*out, *into));
                ways.push((into.switch, longer));
            }
        }
    }
    None
}
