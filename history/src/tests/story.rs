//! Tells a history: a switch with end hosts 1, 2 and 3 behind ports 1, 2 and 3, and behind port 9 another with end host 4 at port 4.

use lime_core::flow::{
    Action, Bucket, Field, FieldMatch, FlowMod, Group, GroupType, Match, Rule, SwitchMod,
};
use lime_core::{Epoch, PortId, PortNo, SwitchId};

use crate::{
    Answer, Channel, Command, Contradiction, EndHost, History, Leads, MARK, Packet, Port, Removed,
    Seen, Summary, Told, What, check,
};

pub const S1: SwitchId = SwitchId(1);
pub const S2: SwitchId = SwitchId(2);

pub struct Story {
    pub history: History,
    now: u64,
    epoch: u32,
}

/// A packet's frame: from end host 1 .. 4 to another, with a number of its own.
pub fn frame(from: u8, to: u8, number: u64) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0];
    f.extend([0x45, 0, 0, 44, 0, number as u8, 0x40, 0, 64, 17, 0, 0]);
    f.extend([10, 0, 0, from, 10, 0, 0, to]);
    f.extend([0x13, 0x88, 0x13, 0x88, 0, 24, 0xab, 0xcd]);
    f.extend(MARK);
    f.extend(number.to_be_bytes());
    f
}

/// What comes in by one port and is IPv4 goes out by these.
pub fn rule(in_port: u32, out: &[PortNo]) -> Rule {
    let exact = |field: Field, value: u32| FieldMatch {
        field,
        value: value.into(),
        mask: field.full_mask(),
    };
    let fields = [exact(Field::InPort, in_port), exact(Field::EthType, 0x0800)];
    Rule {
        priority: 10,
        matching: Match::new(fields).unwrap(),
        actions: out.iter().map(|p| Action::output(*p)).collect(),
        ..Rule::default()
    }
}

pub fn add(rule: Rule) -> SwitchMod {
    SwitchMod::Rule(FlowMod::Add(rule))
}

/// What comes in by a port goes to a group.
pub fn to_group(in_port: u32, group: u32) -> Rule {
    let mut rule = rule(in_port, &[]);
    rule.actions = vec![Action::Group(group)];
    rule
}

/// A group with a bucket for each of these ports, which watches it in one of type fast failover.
pub fn group(id: u32, kind: GroupType, ports: &[u32]) -> Group {
    let bucket = |port: &u32| {
        let mut bucket = Bucket::new(vec![Action::output(PortNo(*port))]);
        bucket.weight = u16::from(kind == GroupType::Select);
        bucket.watch_port = (kind == GroupType::FastFailover).then_some(PortNo(*port));
        bucket
    };
    Group {
        id,
        kind,
        buckets: ports.iter().map(bucket).collect(),
    }
}

pub fn to(port: u32) -> Vec<PortNo> {
    vec![PortNo(port)]
}

pub fn to_controller() -> Vec<PortNo> {
    vec![PortNo::CONTROLLER]
}

impl Story {
    pub fn new() -> Self {
        let port = |id, switch, leads| Port {
            id: PortId(id),
            switch,
            number: PortNo(id % 100),
            leads,
        };
        let mut ports: Vec<Port> = (0..3)
            .map(|n| port(n as u32 + 1, S1, Leads::EndHost(n)))
            .collect();
        ports.push(port(4, S2, Leads::EndHost(3)));
        ports.push(port(109, S1, Leads::Link(PortId(209))));
        ports.push(port(209, S2, Leads::Link(PortId(109))));
        let end = |n: usize| EndHost {
            name: format!("h{}", n + 1),
            ..EndHost::default()
        };
        let history = History {
            switches: [(S1, "s1".to_owned()), (S2, "s2".to_owned())].into(),
            ports,
            ends: (0..4).map(end).collect(),
            channels: vec![Channel {
                fifo: true,
                ..Channel::default()
            }],
            ..History::default()
        };
        Self {
            history,
            now: 0,
            epoch: 0,
        }
    }

    fn tick(&mut self) -> u64 {
        self.now += 1000;
        self.now
    }

    fn see(&mut self, end: u8, from: u8, dest: u8, number: u64, sent: bool) {
        self.see_frame(end, &frame(from, dest, number), sent);
    }

    pub fn see_frame(&mut self, end: u8, frame: &[u8], sent: bool) {
        let packet = Packet::read(frame).unwrap();
        let shape = self.history.shapes.id(packet.shape);
        let seen = Seen {
            at: self.tick(),
            sent,
            packet: packet.id,
            shape,
        };
        self.history.ends[end as usize - 1].seen.push(seen);
    }

    /// So much later that nobody doubts it.
    pub fn later(&mut self) {
        self.now += 1_000_000;
    }

    pub fn sent(&mut self, from: u8, dest: u8, number: u64) {
        self.see(from, from, dest, number, true);
    }

    pub fn got(&mut self, end: u8, from: u8, dest: u8, number: u64) {
        self.see(end, from, dest, number, false);
    }

    pub fn tell(&mut self, told: Told) {
        let at = self.tick();
        self.history.channels[0].seen.push((at, told));
    }

    pub fn told(&mut self, switch: SwitchId, from: u8, dest: u8, number: u64) {
        let packet = Packet::read(&frame(from, dest, number)).unwrap().id;
        self.tell(Told::Event { switch, packet });
    }

    fn issue(&mut self, switch: SwitchId, what: What) -> usize {
        self.history.commands.push(Command { switch, what });
        let command = self.history.commands.len() - 1;
        self.tell(Told::Issued(command));
        command
    }

    pub fn update(&mut self, switch: SwitchId, rules: Vec<Rule>) -> usize {
        self.change(switch, rules.into_iter().map(add).collect())
    }

    /// An update of rules, groups and meters.
    pub fn change(&mut self, switch: SwitchId, mods: Vec<SwitchMod>) -> usize {
        self.issue(switch, What::Update(mods))
    }

    /// The same, and its answer.
    pub fn changed(&mut self, switch: SwitchId, mods: Vec<SwitchMod>) {
        let command = self.change(switch, mods);
        self.answered(command);
    }

    pub fn answered(&mut self, command: usize) {
        self.epoch += 1;
        let answer = Answer::Updated(Epoch(self.epoch));
        self.tell(Told::Answered(command, answer));
    }

    pub fn lost(&mut self, command: usize) {
        self.tell(Told::Answered(command, Answer::Lost));
    }

    /// An epoch with which a rule times out; the controller has not been told.
    pub fn times_out(&mut self) -> Epoch {
        self.epoch += 1;
        Epoch(self.epoch)
    }

    /// The controller is told that a rule has timed out.
    pub fn told_gone(&mut self, switch: SwitchId, rule: &Rule, epoch: Epoch) {
        self.history.removed.push(Removed {
            table: rule.table,
            priority: rule.priority,
            matching: rule.matching.clone(),
            timed_out: true,
        });
        let rule = self.history.removed.len() - 1;
        self.tell(Told::Removed {
            switch,
            rule,
            epoch,
        });
    }

    /// An update and its answer.
    pub fn updated(&mut self, switch: SwitchId, rules: Vec<Rule>) {
        let command = self.update(switch, rules);
        self.answered(command);
    }

    pub fn packet_out(&mut self, out: PortNo, from: u8, dest: u8, number: u64) {
        self.packet_out_with(vec![Action::output(out)], from, dest, number);
    }

    pub fn packet_out_with(&mut self, actions: Vec<Action>, from: u8, dest: u8, number: u64) {
        let packet = Packet::read(&frame(from, dest, number)).unwrap();
        let shape = self.history.shapes.id(packet.shape);
        let what = What::PacketOut {
            in_port: PortNo(from.into()),
            actions,
            packet: packet.id,
            shape,
        };
        self.issue(S1, what);
    }

    pub fn check(&self) -> Result<Summary, Contradiction> {
        check(&self.history)
    }

    #[track_caller]
    pub fn possible(&self) -> Summary {
        self.check().unwrap_or_else(|c| panic!("{c}"))
    }

    #[track_caller]
    pub fn impossible(&self) -> String {
        match self.check() {
            Ok(summary) => panic!("nothing was found: {summary:?}"),
            Err(c) => c.to_string(),
        }
    }
}
