//! A world: hosts, the frames between them, end hosts, the controller, the coordinator; and every step that it can take.

use std::collections::VecDeque;
use std::sync::Arc;

use lime_core::flow::RemovedReason;
use lime_core::log::{Added, Entry, EntryKind, Removed};
use lime_core::model::{
    Device, InstanceState, MemberState, Network, PacketIns, Place, Port, Switch,
};
use lime_core::promise::Round;
use lime_core::{
    Consistency, Epoch, HostId, NetworkId, PortAttach, PortId, PortNo, RuleId, SwitchId,
};

use crate::coordinator::Coordinator;
use crate::history::{History, Seen};
use crate::host::{After, Frame, Host, Packet, Version};
use crate::mutation::Mutation;
use crate::scenario::{Command, End, Scenario};

/// What is checked: a scenario, whole or with one rule of the protocol taken out.
#[derive(Debug)]
pub struct Setting {
    /// The scenario.
    pub scenario: Scenario,
    /// What is taken out.
    pub mutation: Option<Mutation>,
    /// The contents of all rules: what they do is in the scenario.
    rule: Arc<lime_core::flow::Rule>,
}

impl Setting {
    /// Of a scenario.
    pub fn new(scenario: Scenario, mutation: Option<Mutation>) -> Self {
        Self {
            scenario,
            mutation,
            rule: Arc::default(),
        }
    }

    pub(crate) fn without(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Rule 13: an entry that stands for another version of each of the switch's rules.
    pub(crate) fn cut(&self, switch: u8) -> EntryKind {
        EntryKind::Update {
            switch: switch_id(switch),
            add: Vec::new(),
            remove: Vec::new(),
            passed: vec![Removed::new(CUT, Arc::clone(&self.rule), None)],
        }
    }

    /// Rule 14: an idle rule goes.
    pub(crate) fn expire(&self, rule: u8) -> EntryKind {
        let mut kind = self.update(self.scenario.rules[rule as usize].switch, &[], &[rule]);
        if let EntryKind::Update { remove, .. } = &mut kind {
            for removed in remove {
                removed.why = Some(RemovedReason::IdleTimeout);
            }
        }
        kind
    }

    pub(crate) fn update(&self, switch: u8, add: &[u8], remove: &[u8]) -> EntryKind {
        let id = |r: &u8| RuleId(u64::from(*r) + 1);
        EntryKind::Update {
            switch: SwitchId(u32::from(switch) + 1),
            add: add
                .iter()
                .map(|r| Added::new(id(r), Arc::clone(&self.rule)))
                .collect(),
            remove: remove
                .iter()
                .map(|r| Removed::new(id(r), Arc::clone(&self.rule), None))
                .collect(),
            passed: Vec::new(),
        }
    }
}

/// No rule's: [`Setting::cut`].
pub(crate) const CUT: RuleId = RuleId(0);

/// Something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// No reference switch could have shown this.
    Contradiction(String),
    /// An assertion of the protocol does not hold.
    Assertion(String),
    /// Nothing can happen any more, and something is not done.
    Stuck(String),
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An end host sends by itself.
    Send(u8),
    /// An end host answers.
    Reply(u8),
    /// A kernel program finishes a packet: host, which one.
    Finish(u8, u8),
    /// A tunnel frame arrives.
    Arrive(u8),
    /// A tunnel frame is lost.
    Lose(u8),
    /// An agent takes the next message.
    Down(u8),
    /// The coordinator takes the next message of a host.
    Up(u8),
    /// A grace period has passed.
    Grace(u8),
    /// An agent reads its ring.
    Read(u8),
    /// A write to the store is done.
    Logged,
    /// The controller issues its next command.
    Script,
    /// The controller issues what an event made it do.
    React,
    /// The operation goes on.
    Operate,
    /// An agent dies.
    Kill(u8),
    /// The stream between an agent and the coordinator breaks.
    Cut(u8),
    /// An agent's stream opens.
    Connect(u8),
    /// The coordinator sees that a stream has ended.
    Notice(u8),
    /// A host is cut off from the coordinator.
    Partition(u8),
    /// It can be reached again.
    Heal(u8),
    /// Rule 17: its lease is over.
    Lapse(u8),
    /// Rule 17: the coordinator goes on without it.
    Exclude(u8),
    /// The coordinator dies; whether the write under way is on the disk.
    KillCoordinator(bool),
    /// Rule 14: the coordinator asks about the idle rule.
    Ask,
    /// Rule 14: it does not wait for votes any more.
    GiveUp,
    /// A frame with a tag of the future comes to this host.
    Forge(u8),
    /// Mutation: a raise that came late.
    LateRaise(u8),
}

/// An end host.
#[derive(Clone, Debug, Hash)]
pub struct EndState {
    /// Packets sent.
    pub sent: u8,
    /// Of them, by itself.
    pub spontaneous: u8,
    /// Answers to be sent.
    pub answers: VecDeque<u8>,
    /// Where it runs; `None`: it is paused.
    pub at: Option<u8>,
    /// Packets that reach it by any device of its port.
    pub plug: bool,
}

/// The controller.
#[derive(Clone, Debug, Default, Hash)]
pub struct Controller {
    /// Next of the script.
    pub next: u8,
    /// What events made it do.
    pub reactions: VecDeque<u8>,
    /// Kinds it has reacted to, as bits.
    pub reacted: u64,
    /// Commands issued and not answered.
    pub open: u64,
}

/// A state.
#[derive(Clone, Debug, Hash)]
pub struct World {
    /// The coordinator.
    pub coordinator: Coordinator,
    /// By number.
    pub hosts: Vec<Host>,
    /// Under way, sorted.
    pub frames: Vec<Frame>,
    /// By number.
    pub ends: Vec<EndState>,
    /// The controller.
    pub controller: Controller,
    /// What was seen.
    pub history: History,
    /// Frames that may still be lost, agents and coordinators that may still die, frames that may
    /// still be forged, streams that may still break, hosts that may still be cut off.
    pub budget: [u8; 6],
    /// Rounds of votes that may still be begun.
    pub rounds: u8,
    /// Rule 14: the round of the newest promise.
    pub promised_in: Round,
    /// The idle rule was matched after the first promise of that round.
    pub matched_since: bool,
    /// Its removal as idle is decided.
    pub removing: bool,
    /// It was matched after that.
    pub broken: bool,
    /// An excluded instance has processed a packet.
    pub trespassed: bool,
}

/// The outcome of a step.
pub type Step = Result<(), Violation>;

pub(crate) fn host_id(host: u8) -> HostId {
    HostId(u32::from(host) + 1)
}

pub(crate) fn switch_id(switch: u8) -> SwitchId {
    SwitchId(u32::from(switch) + 1)
}

pub(crate) fn port_id(port: u8) -> PortId {
    PortId(u32::from(port) + 1)
}

pub(crate) fn device(host: u8) -> Device {
    Device {
        host: host_id(host),
        name: String::new(),
        attach: PortAttach::Tc,
        driver: String::new(),
    }
}

fn network(setting: &Setting) -> Network {
    let scenario = &setting.scenario;
    let consistency = if scenario.strict && !setting.without(Mutation::CausalOnly) {
        Consistency::Strict
    } else {
        Consistency::Causal
    };
    let mut network = Network::new(NetworkId(1), String::new(), consistency, 1);
    for (s, instances) in scenario.instances.iter().enumerate() {
        let id = switch_id(s as u8);
        let instances = instances
            .iter()
            .map(|h| (host_id(*h), InstanceState::Active(None)));
        let switch = Switch {
            id,
            name: String::new(),
            instances: instances.collect(),
            packet_ins: PacketIns::default(),
        };
        network.switches.insert(id, switch);
    }
    for (p, port) in scenario.ports.iter().enumerate() {
        let id = port_id(p as u8);
        let place = match port.end {
            End::Host(host) => Place::Device(device(host)),
            End::Link(other) => Place::Link(port_id(other)),
        };
        let port = Port {
            id,
            switch: switch_id(port.switch),
            no: PortNo(id.0),
            place,
            moving: None,
            mtu: 1500,
            no_flood: false,
            external: false,
            since: 0,
        };
        network.ports.insert(id, port);
    }
    for host in 0..scenario.members {
        network.members.insert(host_id(host), MemberState::Full);
    }
    network
}

impl World {
    /// The first state: members have joined and the first rules are active everywhere.
    pub fn new(setting: &Setting) -> Result<Self, Violation> {
        let scenario = &setting.scenario;
        let ends = scenario.ends.iter().map(|e| EndState {
            sent: 0,
            spontaneous: 0,
            answers: VecDeque::new(),
            at: match scenario.ports[e.port as usize].end {
                End::Host(host) => Some(host),
                End::Link(_) => None,
            },
            plug: false,
        });
        let mut world = Self {
            coordinator: Coordinator::new(network(setting)),
            hosts: vec![Host::default(); scenario.hosts.into()],
            frames: Vec::new(),
            ends: ends.collect(),
            controller: Controller::default(),
            history: History::new(scenario.ends.len(), scenario.strict),
            budget: [
                scenario.losses,
                scenario.agent_crashes,
                scenario.coordinator_crashes,
                scenario.forgeries,
                scenario.cuts,
                scenario.partitions,
            ],
            rounds: scenario.rounds,
            promised_in: Round::default(),
            matched_since: false,
            removing: false,
            broken: false,
            trespassed: false,
        };
        let whole = Setting::new(scenario.clone(), None);
        for host in 0..scenario.hosts {
            let h = &mut world.hosts[host as usize];
            (h.open, h.greeted, h.heard) = (true, true, true);
        }
        for host in 0..scenario.members {
            let config = world.config_for(host);
            world.hosts[host as usize].config = Some(config);
            let sequencer = &mut world.coordinator.sequencer;
            sequencer.add_learner(host_id(host));
            sequencer.submit(EntryKind::Join {
                switch: None,
                host: host_id(host),
            });
            world.carry_out(&whole)?;
            world.settle(&whole)?;
        }
        for switch in 0..scenario.instances.len() as u8 {
            let of = |r: &&u8| scenario.rules[**r as usize].switch == switch;
            let rules: Vec<u8> = scenario.initial.iter().filter(of).copied().collect();
            if !rules.is_empty() {
                let kind = whole.update(switch, &rules, &[]);
                world.coordinator.sequencer.submit(kind);
                world.carry_out(&whole)?;
                world.settle(&whole)?;
            }
        }
        for host in 0..scenario.members {
            // Joins and retirements of before are not of interest.
            let mut network = Network::clone(&world.coordinator.model);
            for switch in network.switches.values_mut() {
                for state in switch.instances.values_mut() {
                    *state = InstanceState::Active(None);
                }
            }
            world.coordinator.model = crate::coordinator::Model::new(network);
            world.coordinator.store.model = world.coordinator.model.clone();
            world.hosts[host as usize].config = Some(world.config_for(host));
        }
        Ok(world)
    }

    /// Lets everything come to rest, in one order.
    fn settle(&mut self, setting: &Setting) -> Step {
        loop {
            let quiet = |a: &Action| {
                matches!(
                    a,
                    Action::Logged | Action::Down(_) | Action::Up(_) | Action::Grace(_)
                )
            };
            let Some(action) = self.actions(setting).into_iter().find(quiet) else {
                return Ok(());
            };
            self.act(setting, action)?;
        }
    }

    /// All steps that are possible.
    pub fn actions(&self, setting: &Setting) -> Vec<Action> {
        let scenario = &setting.scenario;
        let mut all = Vec::new();
        if !self.coordinator.writes.is_empty() {
            all.push(Action::Logged);
            if scenario.coordinator_crashes == 0 && !setting.without(Mutation::NoWriteAhead) {
                // The disk's delay shows in nothing but what a crash leaves.
                return all;
            }
        }
        for (h, host) in self.hosts.iter().enumerate() {
            let h = h as u8;
            if !host.down.is_empty() {
                all.push(Action::Down(h));
            }
            if !host.up.is_empty() {
                all.push(Action::Up(h));
            }
            if host.open && self.grace_passed(setting, h) {
                all.push(Action::Grace(h));
            }
            if host.greeted && !host.ring.is_empty() {
                all.push(Action::Read(h));
            }
            for i in 0..host.in_hand.len() {
                if i == 0 || host.in_hand[i] != host.in_hand[i - 1] {
                    all.push(Action::Finish(h, i as u8));
                }
            }
            if !host.open && !host.away {
                all.push(Action::Connect(h));
            }
            self.partition_actions(setting, h, &mut all);
            let member = self.coordinator.sequencer.member(host_id(h));
            if !host.heard && member.is_some_and(|m| m.connected) {
                all.push(Action::Notice(h));
            }
            if self.budget[1] > 0 && host.heard && h < scenario.members {
                all.push(Action::Kill(h));
            }
            if self.budget[4] > 0 && host.heard && h < scenario.members {
                all.push(Action::Cut(h));
            }
            if self.budget[3] > 0 && !scenario.ends.is_empty() {
                all.push(Action::Forge(h));
            }
            if !host.late_raises.is_empty() {
                all.push(Action::LateRaise(h));
            }
        }
        for i in 0..self.frames.len() {
            if i > 0 && self.frames[i] == self.frames[i - 1] {
                continue;
            }
            all.push(Action::Arrive(i as u8));
            if self.budget[0] > 0 {
                all.push(Action::Lose(i as u8));
            }
        }
        for (e, end) in self.ends.iter().enumerate() {
            if end.at.is_none() {
                continue;
            }
            if usize::from(end.spontaneous) < scenario.ends[e].sends.len() {
                all.push(Action::Send(e as u8));
            }
            if !end.answers.is_empty() {
                all.push(Action::Reply(e as u8));
            }
        }
        if self.coordinator.admits {
            if let Some(&command) = scenario.script.get(self.controller.next as usize) {
                let waits = matches!(scenario.commands[command as usize], Command::Await);
                if !waits || self.controller.open == 0 {
                    all.push(Action::Script);
                }
            }
            if !self.controller.reactions.is_empty() {
                all.push(Action::React);
            }
        }
        if self.may_operate(setting) {
            all.push(Action::Operate);
        }
        self.idle_actions(setting, &mut all);
        if self.budget[2] > 0 {
            all.push(Action::KillCoordinator(false));
            if !self.coordinator.writes.is_empty() {
                all.push(Action::KillCoordinator(true));
            }
        }
        all
    }

    /// Takes a step, and checks what is to hold after it.
    pub fn act(&mut self, setting: &Setting, action: Action) -> Step {
        let seen = self.history.len;
        self.take(setting, action)?;
        self.carry_out(setting)?;
        for (h, host) in self.hosts.iter().enumerate() {
            if !host.clock.le(host.staged) {
                return assertion(format!(
                    "clock <= staged: host {h} is at {} and has {} staged",
                    host.clock, host.staged
                ));
            }
        }
        if let Some(h) = self.hosts.iter().position(|h| h.miscounted) {
            return assertion(format!(
                "host {h} counts a packet after its final counters were read"
            ));
        }
        if self.broken {
            return assertion(
                "no packet matches a rule after the first promise of the round that removes it as idle"
                    .to_owned(),
            );
        }
        if let Some((switch, a, b)) = self.circle() {
            return assertion(format!(
                "hosts {a} and {b} send the packets of switch {switch} to each other"
            ));
        }
        if self.trespassed {
            return assertion("an instance that is no member processes nothing".to_owned());
        }
        if self.history.len != seen
            && let Some(why) = self.history.contradiction(&setting.scenario)
        {
            return Err(Violation::Contradiction(why));
        }
        Ok(())
    }

    /// Rule 20: two hosts that both take the other for the primary.
    fn circle(&self) -> Option<(u8, u8, u8)> {
        let hosts = self.hosts.iter().zip(0u8..);
        let mut detours = hosts.flat_map(|(host, h)| host.detours.iter().map(move |d| (h, d)));
        detours.find_map(|(h, d)| {
            let mut there = self.hosts[d.to as usize].detours.iter();
            let back = there.any(|other| other.switch == d.switch && other.to == h);
            back.then_some((d.switch, h, d.to))
        })
    }

    /// Nothing can happen any more: is everything done?
    pub fn at_rest(&self, setting: &Setting) -> Step {
        let stuck = |what: String| Err(Violation::Stuck(what));
        let c = &self.coordinator;
        if self.controller.open != 0 {
            return stuck(format!(
                "commands {:#b} are never answered",
                self.controller.open
            ));
        }
        if usize::from(self.controller.next) < setting.scenario.script.len() {
            return stuck("the controller never gets on with its script".to_owned());
        }
        if usize::from(c.operation) < setting.scenario.operations.len() {
            return stuck(format!(
                "operation {} stays at step {}",
                c.operation, c.step
            ));
        }
        let s = &c.sequencer;
        if s.acknowledged() != s.last() || s.held_events().0 != 0 {
            return stuck(format!(
                "the log ends at {}, and only {} is acknowledged; {} events are held",
                s.last(),
                s.acknowledged(),
                s.held_events().0
            ));
        }
        self.nobody_waits()
    }

    fn take(&mut self, setting: &Setting, action: Action) -> Step {
        match action {
            Action::Send(e) => {
                let end = &mut self.ends[e as usize];
                let kind = setting.scenario.ends[e as usize].sends[end.spontaneous as usize];
                end.spontaneous += 1;
                self.send(setting, e, kind);
            }
            Action::Reply(e) => {
                if let Some(kind) = self.ends[e as usize].answers.pop_front() {
                    self.send(setting, e, kind);
                }
            }
            Action::Finish(h, i) => self.finish(setting, h, i),
            Action::Arrive(i) => {
                let frame = self.frames.remove(i.into());
                return self.arrive(setting, frame);
            }
            Action::Lose(i) => {
                self.budget[0] -= 1;
                self.frames.remove(i.into());
            }
            Action::Down(h) => {
                if let Some(message) = self.hosts[h as usize].down.pop_front() {
                    return self.command(setting, h, message);
                }
            }
            Action::Up(h) => {
                if let Some(message) = self.hosts[h as usize].up.pop_front() {
                    return self.hear(setting, h, message);
                }
            }
            Action::Grace(h) => {
                self.grace(setting, h);
                self.release_waiting(setting, h);
            }
            Action::Read(h) => self.read(h),
            Action::Logged => self.logged(setting),
            Action::Script => {
                let command = setting.scenario.script[self.controller.next as usize];
                self.controller.next += 1;
                self.issue(setting, command);
            }
            Action::React => {
                if let Some(command) = self.controller.reactions.pop_front() {
                    self.issue(setting, command);
                }
            }
            Action::Operate => self.operate(setting),
            Action::Kill(h) => self.kill(setting, h),
            Action::Cut(h) => {
                self.budget[4] -= 1;
                self.cut(h);
            }
            Action::Connect(h) => {
                let host = &mut self.hosts[h as usize];
                host.open = true;
                let clock = host.clock;
                host.lapsed &= !setting.without(Mutation::LeaseAtGreeting);
                host.after.push_back(After::Hello(clock));
            }
            Action::Ask => self.ask(setting),
            Action::GiveUp => self.give_up(setting),
            Action::Notice(h) => {
                self.coordinator.sequencer.disconnected(host_id(h));
                self.round_lost(setting, h);
            }
            Action::Partition(h) => {
                self.budget[5] -= 1;
                self.hosts[h as usize].away = true;
                self.cut(h);
            }
            Action::Heal(h) => self.hosts[h as usize].away = false,
            Action::Lapse(h) => self.hosts[h as usize].lapsed = true,
            Action::Exclude(h) => self.exclude(h),
            Action::KillCoordinator(durable) => self.kill_coordinator(setting, durable),
            Action::Forge(h) => {
                self.budget[3] -= 1;
                let port = setting.scenario.ends[0].port;
                let tag = self.hosts[h as usize].staged.next();
                // Of no packet that anybody sent: its tag is all it is about.
                let packet = Packet {
                    id: u8::MAX,
                    kind: u8::MAX,
                    port,
                };
                let frame = Frame {
                    to: h,
                    deliver: true,
                    tag: tag.0,
                    packet,
                };
                return self.arrive(setting, frame);
            }
            Action::LateRaise(h) => {
                let host = &mut self.hosts[h as usize];
                let tag = Epoch(host.late_raises.remove(0));
                host.clock = host.clock.max(tag);
            }
        }
        Ok(())
    }

    // ---- end hosts ----

    fn send(&mut self, setting: &Setting, e: u8, kind: u8) {
        let end = &mut self.ends[e as usize];
        let packet = Packet {
            id: 8 * e + end.sent,
            kind,
            port: setting.scenario.ends[e as usize].port,
        };
        end.sent += 1;
        let at = end.at;
        self.history.see(e, Seen::Sent(kind));
        if let Some(host) = at {
            self.enter(setting, host, packet);
        }
    }

    /// A packet reaches the end host behind a port, by this host's device.
    pub(crate) fn deliver(&mut self, setting: &Setting, host: u8, packet: Packet, port: u8) {
        let mut ends = setting.scenario.ends.iter();
        let Some(e) = ends.position(|e| e.port == port) else {
            return;
        };
        let end = &mut self.ends[e];
        if packet.id == u8::MAX || !(end.plug || end.at == Some(host)) {
            return;
        }
        let replies = &setting.scenario.ends[e].replies;
        let answers = replies.iter().filter(|(got, _)| *got == packet.kind);
        end.answers.extend(answers.map(|(_, answer)| *answer));
        self.history.see(e as u8, Seen::Got(packet.id, packet.kind));
    }
}

/// Stages an entry into tables.
pub(crate) fn apply(rules: &mut Vec<Version>, entry: &Entry, only: Option<u8>) {
    let EntryKind::Update {
        switch,
        add,
        remove,
        ..
    } = &entry.kind
    else {
        return;
    };
    if only.is_some_and(|s| switch_id(s) != *switch) {
        return;
    }
    for removed in remove {
        let mut versions = rules.iter_mut();
        if let Some(v) = versions.find(|v| u64::from(v.rule) + 1 == removed.id.0) {
            v.to = entry.epoch.0;
        }
    }
    for added in add {
        rules.push(Version {
            rule: (added.id.0 - 1) as u8,
            from: entry.epoch.0,
            to: 0,
        });
    }
    rules.sort_unstable();
}

pub(crate) fn assertion<T>(what: String) -> Result<T, Violation> {
    Err(Violation::Assertion(what))
}
