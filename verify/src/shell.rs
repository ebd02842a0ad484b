//! The coordinator's shell: carries out what the sequencer decides, and tells it what happened.

use std::sync::Arc;

use lime_core::log::{Entry, EntryKind, Output, ProtocolError, Resume};
use lime_core::model::{InstanceState, MemberState, Port, desired, relay_phase};
use lime_core::promise::standing;
use lime_core::{Consistency, Epoch, HostId};

use crate::coordinator::{Coordinator, Shared, Waiter, Write};
use crate::history::Told;
use crate::host::{Down, Up};
use crate::mutation::Mutation;
use crate::scenario::Command;
use crate::world::{Setting, Step, World, assertion, host_id, port_id, switch_id};

fn number(host: HostId) -> u8 {
    (host.0 - 1) as u8
}

fn protocol(result: Result<(), ProtocolError>) -> Step {
    result.or_else(|e| assertion(e.to_string()))
}

impl World {
    /// What a host is to know, as production computes it.
    pub(crate) fn config_for(&self, host: u8) -> Shared<lime_core::model::HostConfig> {
        let last = self.coordinator.sequencer.last();
        Shared::new(desired(&self.coordinator.model, host_id(host), last, false))
    }

    pub(crate) fn tell(&mut self, host: u8, message: Down) {
        let host = &mut self.hosts[host as usize];
        if host.heard {
            host.down.push_back(message);
        }
    }

    /// Does what the sequencer has decided, until it has nothing more.
    pub(crate) fn carry_out(&mut self, setting: &Setting) -> Step {
        loop {
            let outputs = self.coordinator.sequencer.outputs();
            if outputs.is_empty() {
                return Ok(());
            }
            for output in outputs {
                self.carry_out_one(setting, output)?;
            }
        }
    }

    fn carry_out_one(&mut self, setting: &Setting, output: Output<crate::host::Event>) -> Step {
        match output {
            Output::Log(entries) => self.write_log(setting, entries),
            Output::Stage {
                host,
                entry,
                replace,
            } => return self.send_stage(setting, number(host), &entry, replace),
            Output::Activate { host, epoch, .. } => {
                return self.send_activate(setting, number(host), epoch);
            }
            Output::EnterRelay {
                host,
                epoch,
                switch,
                primary,
            } => {
                let message = Down::EnterRelay {
                    epoch,
                    switch: (switch.0 - 1) as u8,
                    primary: number(primary),
                };
                let never = setting.without(Mutation::NoRelay);
                if !never {
                    self.tell(number(host), message);
                }
                if never || setting.without(Mutation::PrimaryBeforeRelays) {
                    return protocol(self.coordinator.sequencer.relaying(host, epoch));
                }
            }
            Output::Voided(entries) => {
                for voided in entries {
                    self.removal_undone(setting, &voided.kind);
                    let mut log = self.coordinator.log.iter_mut();
                    if let Some(slot) = log.find(|e| e.epoch == voided.epoch) {
                        *slot = Arc::new(Entry::new(voided.epoch, EntryKind::Void));
                    }
                }
                self.coordinator.store.log.clone_from(&self.coordinator.log);
            }
            Output::Failed {
                ticket, unsealed, ..
            } => {
                if let Some(kind) = unsealed {
                    self.removal_undone(setting, &kind);
                }
                if let Some(Waiter::Command(c)) = self.waiter(ticket) {
                    self.history.void |= 1 << c;
                    self.controller.open &= !(1 << c);
                }
            }
            Output::Completed { ticket, epoch } => match self.waiter(ticket) {
                Some(Waiter::Command(c)) => {
                    if let Command::Cut(rule) | Command::Expire(rule) =
                        setting.scenario.commands[c as usize]
                    {
                        let counted = self.coordinator.counted.get(&(epoch.0, rule));
                        let packets = counted.copied().unwrap_or_default();
                        self.history.tell(Told::Counted(c, packets));
                    }
                    self.history.tell(Told::Done(c));
                    self.controller.open &= !(1 << c);
                }
                Some(Waiter::Operation) => self.coordinator.awaits_ticket = false,
                Some(Waiter::Admission) => self.coordinator.admits = true,
                None => {}
            },
            Output::Release(event) => self.publish(setting, event),
            Output::ReleaseHeld { host, id } => self.tell(number(host), Down::Release(id)),
            Output::SendPacketOut { id, min_clock } => self.send_out(id, min_clock, false),
            Output::LearnerFailed(host, reason) => {
                return assertion(format!("host {host} cannot learn: {reason}"));
            }
            Output::Collect(_) | Output::Settled(_) => {}
        }
        Ok(())
    }

    fn waiter(&mut self, ticket: lime_core::log::Ticket) -> Option<Waiter> {
        let waiters = &mut self.coordinator.waiters;
        let at = waiters.iter().position(|(t, _)| *t == ticket)?;
        Some(waiters.remove(at).1)
    }

    /// Rule 19: the store has an entry before anybody else.
    fn write_log(&mut self, setting: &Setting, mut entries: Vec<Arc<Entry>>) {
        let c = &mut self.coordinator;
        let mut membership = false;
        for entry in &mut entries {
            membership |= c.seal_membership(entry);
            if let EntryKind::Update { switch, .. } = entry.kind
                && c.model.consistency == Consistency::Strict
                && let Some(relay) = relay_phase(&c.model, switch)
                && let Some(whole) = c.sequencer.set_relay(entry.epoch, relay)
            {
                *entry = whole;
            }
        }
        c.log.extend(entries.iter().cloned());
        let write = Write {
            entries: entries.clone(),
            acknowledged: c.sequencer.acknowledged(),
            model: membership.then(|| c.model.clone()),
        };
        c.writes.push_back(write);
        if setting.without(Mutation::NoWriteAhead) {
            self.entries_logged(&entries);
        }
    }

    /// A write to the store is done.
    pub(crate) fn logged(&mut self, setting: &Setting) {
        if let Some(write) = self.write_done()
            && !setting.without(Mutation::NoWriteAhead)
        {
            self.entries_logged(&write.entries);
        }
    }

    fn write_done(&mut self) -> Option<Write> {
        let c = &mut self.coordinator;
        let write = c.writes.pop_front()?;
        c.store.log.extend(write.entries.iter().cloned());
        c.store.acknowledged = write.acknowledged;
        if let Some(model) = &write.model {
            c.store.model = model.clone();
        }
        Some(write)
    }

    fn entries_logged(&mut self, entries: &[Arc<Entry>]) {
        for entry in entries {
            // Rule 15: a host knows its join or retire epoch before that is staged.
            if let EntryKind::Join { host, .. } | EntryKind::Retire { host, .. } = entry.kind {
                self.configure(number(host), false);
            }
        }
        if let Some(last) = entries.last() {
            self.coordinator.sequencer.set_logged(last.epoch);
        }
    }

    pub(crate) fn configure(&mut self, host: u8, awaited: bool) {
        let config = self.config_for(host);
        self.tell(host, Down::Configure(config, awaited));
    }

    fn has_instances(&self, host: u8) -> bool {
        let mut switches = self.coordinator.model.switches.values();
        switches.any(|s| s.instances.contains_key(&host_id(host)))
    }

    fn send_stage(&mut self, setting: &Setting, h: u8, entry: &Arc<Entry>, replace: bool) -> Step {
        let c = &self.coordinator;
        let mut content = false;
        if let EntryKind::Update { switch, .. } = entry.kind {
            let state = c.model.switches.get(&switch);
            content = match state.and_then(|s| s.instances.get(&host_id(h))) {
                None => false,
                Some(state) if state.is_learning() => {
                    let at = c.clones.get(&((switch.0 - 1) as u8, h));
                    at.is_some_and(|at| at.lt(entry.epoch))
                }
                Some(_) => true,
            };
        }
        let epoch = entry.epoch;
        if setting.without(Mutation::NoNumbersWithoutInstance) && !self.has_instances(h) {
            return protocol(self.coordinator.sequencer.staged(host_id(h), epoch));
        }
        let message = Down::Stage {
            entry: Arc::clone(entry),
            content,
            replace,
        };
        self.tell(h, message);
        let last = setting.scenario.hosts - 1;
        if setting.without(Mutation::ActivateBeforeAllStaged) && h == last {
            return protocol(self.coordinator.sequencer.staged(host_id(h), epoch));
        }
        Ok(())
    }

    fn send_activate(&mut self, setting: &Setting, h: u8, epoch: Epoch) -> Step {
        let of_host = |s: &lime_core::model::Switch| s.instances.get(&host_id(h)).copied();
        let mut states = self.coordinator.model.switches.values().filter_map(of_host);
        let retiring = states.any(|s| matches!(s, InstanceState::Retiring(_)));
        let mut log = self.coordinator.log.iter();
        let elsewhere = log.any(|e| {
            let EntryKind::Update { switch, .. } = e.kind else {
                return false;
            };
            let switch = self.coordinator.model.switches.get(&switch);
            e.epoch == epoch && switch.is_some_and(|s| !s.instances.contains_key(&host_id(h)))
        });
        let skipped = setting.without(Mutation::ActivateInstancesOnly) && elsewhere;
        if !skipped {
            self.tell(h, Down::Activate(epoch));
        }
        let sequencer = &mut self.coordinator.sequencer;
        let primary = sequencer.activated().lt(epoch);
        if primary && setting.without(Mutation::OthersWithPrimary) {
            return protocol(sequencer.acknowledge(host_id(h), epoch));
        }
        if skipped || retiring && setting.without(Mutation::RetiringNotAwaited) {
            return protocol(self.coordinator.sequencer.acknowledge(host_id(h), epoch));
        }
        Ok(())
    }

    /// Rule 11.
    pub(crate) fn send_out(&mut self, id: u64, min_clock: Epoch, out_of_band: bool) {
        let Some(&pending) = self.coordinator.outs.get(&id) else {
            return;
        };
        let chosen = self.packet_out_host(pending.switch, pending.packet.port);
        let host = pending.sent_to.or(chosen);
        let Some(h) = host.filter(|h| self.hosts[*h as usize].heard) else {
            if pending.sent_to.is_none() {
                self.out_done(id);
            }
            return;
        };
        let message = Down::Out {
            id,
            min_clock,
            packet: pending.packet,
            to: pending.to,
        };
        if out_of_band {
            self.hosts[h as usize].down.push_front(message);
        } else {
            self.tell(h, message);
        }
        if let Some(pending) = self.coordinator.outs.get_mut(&id) {
            pending.sent_to = Some(h);
            pending.incarnation = self.hosts[h as usize].incarnation;
        }
    }

    pub(crate) fn out_done(&mut self, id: u64) {
        self.coordinator.outs.remove(&id);
        self.coordinator.sequencer.packet_out_done(id);
    }

    /// An instance that processes: where the ingress port is, if there is one.
    fn packet_out_host(&self, switch: u8, in_port: u8) -> Option<u8> {
        let model = &self.coordinator.model;
        let instances = &model.switches.get(&switch_id(switch))?.instances;
        let usable = |h: &HostId| {
            let state = instances.get(h);
            self.hosts[number(*h) as usize].heard && state.is_some_and(|s| !s.is_learning())
        };
        let port = model.ports.get(&port_id(in_port));
        let near = port.and_then(Port::device).map(|d| d.host);
        let found = near.filter(usable).or_else(|| {
            let mut all: Vec<_> = instances.keys().filter(|h| usable(h)).copied().collect();
            all.sort_by_key(|h| !instances.get(h).is_some_and(|i| i.is_active()));
            all.first().copied()
        });
        found.map(number)
    }

    /// The coordinator takes a host's message.
    pub(crate) fn hear(&mut self, setting: &Setting, h: u8, message: Up) -> Step {
        let host = host_id(h);
        if self.is_stranger(h) {
            // Rule 17: nobody is told of what it did.
            if let Up::Event(event) = message
                && setting.without(Mutation::EventsOfExcluded)
            {
                self.publish(setting, event);
                return Ok(());
            }
            if !matches!(message, Up::Hello { .. } | Up::Done(_) | Up::OutDone(_)) {
                return Ok(());
            }
        }
        let sequencer = &mut self.coordinator.sequencer;
        match message {
            Up::Hello { staged, clock } => self.host_up(setting, h, staged, clock),
            Up::Staged(epoch) => protocol(sequencer.staged(host, epoch)),
            Up::Refused(epoch) => {
                let reason = "no room".to_owned();
                protocol(sequencer.stage_failed(host, epoch, reason))
            }
            Up::Activated(epoch) => protocol(sequencer.acknowledge(host, epoch)),
            Up::Relaying(epoch) => protocol(sequencer.relaying(host, epoch)),
            Up::Event(event) => {
                let version = Epoch(event.version);
                let held = (event.held != 0).then_some(u64::from(event.held));
                let old = version.lt(self.coordinator.recovery)
                    && setting.without(Mutation::OldEventsAfterRecovery);
                if old || setting.without(Mutation::NoHoldBack) {
                    if let Some(id) = held {
                        self.tell(h, Down::Release(id));
                    }
                    self.publish(setting, event);
                    return Ok(());
                }
                protocol(sequencer.event(host, version, held, event))
            }
            Up::Counts(cut, counts) => {
                for (rule, n) in counts {
                    *self.coordinator.counted.entry((cut.0, rule)).or_default() += n;
                }
                Ok(())
            }
            Up::Vote(round, promised) => self.voted(setting, h, round, promised),
            Up::OutDone(id) => {
                self.out_done(id);
                Ok(())
            }
            Up::Restarted(at) => {
                sequencer.snapshot_done(host, at);
                Ok(())
            }
            Up::Done(clock) => {
                let c = &mut self.coordinator;
                c.awaited &= !(1 << h);
                if clock != Epoch::ZERO && !setting.without(Mutation::ClockBeforePause) {
                    c.paused_at = clock;
                }
                Ok(())
            }
        }
    }

    fn host_up(&mut self, setting: &Setting, h: u8, staged: Epoch, clock: Epoch) -> Step {
        self.hosts[h as usize].heard = true;
        self.round_lost(setting, h);
        let host = host_id(h);
        let c = &self.coordinator;
        let state = c.model.members.get(&host);
        if state == Some(&MemberState::Excluded) {
            // Rule 17: as one that is new, but first it is told.
            return Ok(());
        }
        if state.is_none() || c.sequencer.member(host).is_none() {
            return Ok(());
        }
        self.configure(h, false);
        self.say_what_stands(setting, h);
        match self.coordinator.sequencer.connected(host, staged, clock) {
            Ok(Resume::FromLog) => {}
            Ok(Resume::FromSnapshot(at)) => self.resync(setting, h, at)?,
            Err(e) => return assertion(e.to_string()),
        }
        // Behind the stages and activations that they were behind.
        self.carry_out(setting)?;
        let incarnation = self.hosts[h as usize].incarnation;
        let outs = self.coordinator.outs.iter();
        let sent = outs.filter(|(_, p)| p.sent_to == Some(h));
        let sent: Vec<(u64, bool)> = sent
            .map(|(id, p)| (*id, p.incarnation == incarnation && p.to.is_some()))
            .collect();
        for (id, again) in sent {
            if again {
                let min_clock = self.coordinator.sequencer.activated();
                self.send_out(id, min_clock, false);
            } else {
                self.out_done(id);
            }
        }
        Ok(())
    }

    /// The host has too little to go on from the log: its instances learn again, all in one go on its FIFO stream.
    fn resync(&mut self, setting: &Setting, h: u8, at: Epoch) -> Step {
        let last = self.coordinator.sequencer.last();
        let config = desired(&self.coordinator.model, host_id(h), last, true);
        self.tell(h, Down::Configure(Shared::new(config), false));
        // Rule 20: if it is to relay, then before it processes.
        self.carry_out(setting)?;
        let switches = self.coordinator.model.switches.values();
        let here = switches.filter(|s| s.instances.contains_key(&host_id(h)));
        let here: Vec<u8> = here.map(|s| (s.id.0 - 1) as u8).collect();
        for switch in [None].into_iter().chain(here.into_iter().map(Some)) {
            let rules = switch.map_or_else(Vec::new, |s| self.rules_at(s, at));
            if let Some(switch) = switch {
                self.coordinator.clones.insert((switch, h), at);
            }
            let message = Down::Snapshot {
                switch,
                at,
                rules,
                awaited: false,
            };
            self.tell(h, message);
        }
        self.say_what_stands(setting, h);
        self.configure(h, false);
        let min_clock = self.coordinator.sequencer.told(host_id(h));
        self.tell(h, Down::Restarted { at, min_clock });
        self.coordinator.sequencer.snapshot_sent(host_id(h), at);
        Ok(())
    }

    /// The coordinator dies, and comes back with what is on the disk.
    pub(crate) fn kill_coordinator(&mut self, setting: &Setting, durable: bool) {
        self.budget[2] -= 1;
        if durable {
            self.write_done();
        }
        for host in &mut self.hosts {
            host.cut();
        }
        let store = self.coordinator.store.clone();
        for (i, command) in setting.scenario.commands.iter().enumerate() {
            let (add, remove) = match command {
                Command::Update { add, remove, .. } => (add.as_slice(), remove.as_slice()),
                Command::Expire(rule) => (&[][..], std::slice::from_ref(rule)),
                _ => continue,
            };
            let adds = |e: &Arc<Entry>| match &e.kind {
                EntryKind::Update {
                    add: adds,
                    remove: removes,
                    ..
                } => {
                    adds.iter().any(|a| add.contains(&((a.id.0 - 1) as u8)))
                        || removes
                            .iter()
                            .any(|r| remove.contains(&((r.id.0 - 1) as u8)))
                }
                _ => false,
            };
            if self.controller.open & (1 << i) != 0 && !store.log.iter().any(adds) {
                self.history.void |= 1 << i;
            }
        }
        self.controller.open = 0;
        self.removing = !standing(store.log.iter().map(|e| &e.kind)).is_empty();
        let operation = self.coordinator.operation;
        let mut store = store;
        if setting.without(Mutation::AnotherPrimary) {
            change_primaries(&mut store.log);
        }
        self.coordinator = Coordinator::recovered(
            store,
            operation,
            !setting.without(Mutation::RecoveryDuringMove),
        );
        let c = &mut self.coordinator;
        let everything = c.sequencer.last_ticket();
        let ticket = c.sequencer.barrier(everything, []);
        c.waiters.push((ticket, Waiter::Admission));
    }
}

/// Mutation: another instance is the primary.
fn change_primaries(log: &mut [Arc<Entry>]) {
    for entry in log {
        if let Some(relay) = &mut Arc::make_mut(entry).relay
            && let Some(other) = relay.others.pop()
        {
            let before = std::mem::replace(&mut relay.primary, other);
            relay.others.push(before);
        }
    }
}
