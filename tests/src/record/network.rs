//! What is known of one network: its switches and ports, and what its controllers said and heard.

use std::collections::HashMap;

use lime_core::{Epoch, PortId, PortNo, SwitchId};
use lime_history::{
    Answer, Channel, Command, EndHost, History, Leads, Port, Removed, Shapes, Told, What,
};

use lime_proto::v1::Consistency;

use super::now;

/// First id of links' ends, which the coordinator does not tell the ids of.
const FIRST_LINK: u32 = 0x4000_0000;

/// One network.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) consistency: Consistency,
    switches: HashMap<String, SwitchId>,
    ports: Vec<Port>,
    channels: Vec<Channel>,
    commands: Vec<Command>,
    removed: Vec<Removed>,
    /// Something happened that histories do not know.
    unknown: Option<String>,
}

impl Network {
    pub(super) fn new(consistency: Consistency) -> Self {
        Self {
            consistency,
            // The first channel is of requests of their own.
            channels: vec![Channel::default()],
            ..Self::default()
        }
    }

    pub(super) fn give_up(&mut self, why: String) {
        self.unknown.get_or_insert(why);
    }

    pub(super) fn add_switch(&mut self, name: &str, id: u32) {
        self.switches.insert(name.to_owned(), SwitchId(id));
    }

    pub(super) fn switch(&self, name: &str) -> Option<SwitchId> {
        self.switches.get(name).copied()
    }

    /// A port with a device; `end`: the end host behind it.
    pub(super) fn add_port(&mut self, switch: &str, number: u32, id: u32, end: Option<usize>) {
        let leads = end.map_or(Leads::Nowhere, Leads::EndHost);
        self.add(switch, number, PortId(id), leads);
    }

    pub(super) fn add_link(&mut self, a: (&str, u32), b: (&str, u32)) {
        let first = FIRST_LINK + self.ports.len() as u32;
        let (one, two) = (PortId(first), PortId(first + 1));
        self.add(a.0, a.1, one, Leads::Link(two));
        self.add(b.0, b.1, two, Leads::Link(one));
    }

    fn add(&mut self, switch: &str, number: u32, id: PortId, leads: Leads) {
        let Some(switch) = self.switch(switch) else {
            return self.give_up(format!(
                "a port of switch {switch}, of which nothing is known"
            ));
        };
        let number = PortNo(number);
        let same = |p: &&Port| p.switch == switch && p.number == number;
        match self.ports.iter().find(same) {
            None => self.ports.push(Port {
                id,
                switch,
                number,
                leads,
            }),
            Some(known) if known.leads == leads => {}
            Some(_) => self.give_up(format!("port {number} has led to two places")),
        }
    }

    /// A further channel, by its place.
    pub(super) fn open(&mut self, fifo: bool) -> usize {
        self.channels.push(Channel {
            fifo,
            ..Channel::default()
        });
        self.channels.len() - 1
    }

    pub(super) fn tell(&mut self, channel: usize, told: Told) {
        self.channels[channel].seen.push((now(), told));
    }

    /// A controller was told that a rule has gone with this epoch.
    pub(super) fn tell_removed(
        &mut self,
        channel: usize,
        switch: SwitchId,
        epoch: Epoch,
        removed: Removed,
    ) {
        let rule = self.removed.len();
        self.removed.push(removed);
        let told = Told::Removed {
            switch,
            rule,
            epoch,
        };
        self.tell(channel, told);
    }

    /// A command went out. None: to a switch of which nothing is known.
    pub(super) fn issue(
        &mut self,
        channel: usize,
        switch: Option<SwitchId>,
        what: What,
    ) -> Option<usize> {
        let switch = switch?;
        self.commands.push(Command { switch, what });
        let command = self.commands.len() - 1;
        self.tell(channel, Told::Issued(command));
        Some(command)
    }

    pub(super) fn answer(&mut self, channel: usize, command: usize, answer: Answer) {
        self.tell(channel, Told::Answered(command, answer));
    }

    pub(super) fn history(&self, ends: Vec<EndHost>, shapes: Shapes) -> Result<History, String> {
        if let Some(why) = &self.unknown {
            return Err(why.clone());
        }
        let switches = self.switches.iter().map(|(name, id)| (*id, name.clone()));
        Ok(History {
            real_time: self.consistency == Consistency::Strict,
            switches: switches.collect(),
            ports: self.ports.clone(),
            ends,
            channels: self.channels.clone(),
            commands: self.commands.clone(),
            removed: self.removed.clone(),
            shapes,
        })
    }
}
