//! What was seen.

use std::collections::HashMap;

use lime_core::flow::{Action, Match, SwitchMod};
use lime_core::{Epoch, PortId, PortNo, SwitchId};

use crate::PacketId;

/// Nanoseconds of one clock, the same for all observers.
pub type Nanos = u64;

/// Headers of packets, in [`Shapes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShapeId(pub u32);

/// All headers there were, each once.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    all: Vec<Vec<u8>>,
    known: HashMap<Vec<u8>, ShapeId>,
}

impl Shapes {
    /// The id of headers.
    pub fn id(&mut self, shape: Vec<u8>) -> ShapeId {
        if let Some(id) = self.known.get(&shape) {
            return *id;
        }
        let id = ShapeId(self.all.len() as u32);
        self.all.push(shape.clone());
        self.known.insert(shape, id);
        id
    }

    /// Headers by id.
    pub fn get(&self, id: ShapeId) -> &[u8] {
        &self.all[id.0 as usize]
    }
}

/// What is behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// This end host, by its place in [`History::ends`]. One that is plugged in elsewhere at times has several ports, of one switch.
    EndHost(usize),
    /// This port of another switch.
    Link(PortId),
    /// Nobody who is observed.
    Nowhere,
}

/// A port of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Which.
    pub id: PortId,
    /// Of which switch.
    pub switch: SwitchId,
    /// Its number there.
    pub number: PortNo,
    /// What is behind it.
    pub leads: Leads,
}

/// A packet at an end host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Nanos,
    /// The end host sent it; otherwise it got it.
    pub sent: bool,
    /// The packet.
    pub packet: PacketId,
    /// Its headers there.
    pub shape: ShapeId,
}

/// What an end host saw.
#[derive(Clone, Debug, Default)]
pub struct EndHost {
    /// Its name.
    pub name: String,
    /// In its order.
    pub seen: Vec<Seen>,
    /// Some of it is missing.
    pub incomplete: bool,
}

/// How a command was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An update that took effect with this epoch.
    Updated(Epoch),
    /// Another command is done.
    Done,
    /// It was refused, and has no effect.
    Refused,
    /// Nobody knows.
    Lost,
}

/// One entry of a control channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A command went out, by its place in [`History::commands`].
    Issued(usize),
    /// It was answered.
    Answered(usize, Answer),
    /// A packet-in.
    Event {
        /// The switch.
        switch: SwitchId,
        /// The packet.
        packet: PacketId,
    },
    /// A flow-removed.
    Removed {
        /// The switch.
        switch: SwitchId,
        /// The rule, by its place in [`History::removed`].
        rule: usize,
        /// The epoch that it ended with.
        epoch: Epoch,
    },
}

/// A rule that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its table.
    pub table: u8,
    /// Its priority.
    pub priority: u16,
    /// What it matched.
    pub matching: Match,
    /// It timed out; otherwise a command had removed it.
    pub timed_out: bool,
}

/// What went out and came back by a control channel.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// Commands are taken in the order in which they were given. Otherwise they are requests of their own, of which one comes behind another
    /// only if that had been answered.
    pub fifo: bool,
    /// In its order.
    pub seen: Vec<(Nanos, Told)>,
}

/// What a command says.
#[derive(Clone, Debug)]
pub enum What {
    /// Changes of rules, groups and meters, each on top of those before it, and all at once.
    Update(Vec<SwitchMod>),
    /// A packet to send out.
    PacketOut {
        /// Ingress port, or CONTROLLER.
        in_port: PortNo,
        /// What to do with it.
        actions: Vec<Action>,
        /// The packet.
        packet: PacketId,
        /// Its headers.
        shape: ShapeId,
    },
    /// An answer when all before has taken effect.
    Barrier,
}

/// A command to a switch.
#[derive(Clone, Debug)]
pub struct Command {
    /// To which; barriers are to all.
    pub switch: SwitchId,
    /// What.
    pub what: What,
}

/// Everything that was seen of one network.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The switches are to be found as they act in real time: the network is strict.
    pub real_time: bool,
    /// Names of switches.
    pub switches: HashMap<SwitchId, String>,
    /// Ports of switches. The links between switches make no circle.
    pub ports: Vec<Port>,
    /// Observers.
    pub ends: Vec<EndHost>,
    /// Observers.
    pub channels: Vec<Channel>,
    /// What controllers wanted.
    pub commands: Vec<Command>,
    /// Rules whose end controllers were told.
    pub removed: Vec<Removed>,
    /// Headers.
    pub shapes: Shapes,
}

/// What a check that found nothing has looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets that end hosts sent, each once.
    pub packets: usize,
    /// Deliveries, packet-ins and commands whose place was found.
    pub placed: usize,
    /// Versions of the tables.
    pub versions: usize,
    /// Packets that were left out, because others were like them.
    pub ambiguous: usize,
    /// Packets that somebody got and nobody was seen to send.
    pub unknown: usize,
}
