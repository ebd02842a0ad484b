//! What the operator does, step by step as the coordinator's operations do it.

use lime_core::Epoch;
use lime_core::log::EntryKind;
use lime_core::model::{InstanceState, MemberState, Moving, Place};

use crate::coordinator::Waiter;
use crate::host::Down;
use crate::mutation::Mutation;
use crate::scenario::Operation;
use crate::world::{Setting, World, device, host_id, port_id, switch_id};

impl World {
    pub(crate) fn may_operate(&self, setting: &Setting) -> bool {
        let c = &self.coordinator;
        let more = usize::from(c.operation) < setting.scenario.operations.len()
            || self.next_to_rejoin().is_some();
        let admits = c.admits || c.sequencer.is_suspended();
        more && c.awaited == 0 && !c.awaits_ticket && admits && self.all_heard(setting)
    }

    /// A host that the operation under way speaks to, excluded or not.
    fn is_spoken_to(&self, setting: &Setting, h: u8) -> bool {
        let c = &self.coordinator;
        if c.rejoining.is_some() || c.step == 0 && self.next_to_rejoin().is_some() {
            return false;
        }
        match setting.scenario.operations.get(c.operation as usize) {
            Some(Operation::Member(host) | Operation::Join { host, .. }) => h == *host,
            Some(Operation::Retire { host, .. }) => h == *host,
            Some(Operation::Move { to, .. }) => h == *to || c.step > 0 && h == c.from,
            None => false,
        }
    }

    /// An operation fails when a host is away, and is begun again when it is back.
    fn all_heard(&self, setting: &Setting) -> bool {
        let members = &self.coordinator.model.members;
        let excluded = |h| members.get(&host_id(h)) == Some(&MemberState::Excluded);
        let mut hosts = self.hosts.iter().zip(0u8..);
        hosts.all(|(host, h)| host.heard || excluded(h) && !self.is_spoken_to(setting, h))
    }

    pub(crate) fn restart_operation(&mut self) {
        let c = &mut self.coordinator;
        c.step = 0;
        c.rejoining = None;
        c.awaited = 0;
        c.awaits_ticket = false;
        c.waiters.retain(|(_, w)| *w != Waiter::Operation);
        if let Some(ticket) = c.freeze.take() {
            c.sequencer.unfreeze(ticket);
        }
    }

    /// The next step of the operation under way.
    pub(crate) fn operate(&mut self, setting: &Setting) {
        if self.coordinator.step == 0 {
            self.coordinator.rejoining = self.next_to_rejoin();
        }
        let step = self.coordinator.step;
        self.coordinator.step += 1;
        if let Some((host, switch)) = self.coordinator.rejoining {
            let done = match switch {
                None => self.rejoin(step, host),
                Some(switch) => self.join(step, switch, host),
            };
            if done {
                self.coordinator.step = 0;
                self.coordinator.rejoining = None;
            }
            return;
        }
        let done = match setting.scenario.operations[self.coordinator.operation as usize] {
            Operation::Member(host) => self.member(step, host),
            Operation::Join { switch, host } => self.join(step, switch, host),
            Operation::Retire { switch, host } => self.retire(step, switch, host),
            Operation::Move { port, to, plug } => self.move_port(setting, step, port, to, plug),
        };
        if done {
            self.coordinator.step = 0;
            self.coordinator.operation += 1;
        }
    }

    /// Sends a request that the operation waits for.
    pub(crate) fn request(&mut self, host: u8, message: Down) {
        self.coordinator.awaited |= 1 << host;
        self.tell(host, message);
    }

    pub(crate) fn configure_one(&mut self, host: u8) {
        self.coordinator.awaited |= 1 << host;
        self.configure(host, true);
    }

    pub(crate) fn configure_all(&mut self) {
        // Those that are excluded are told when they come back.
        let members = self.coordinator.model.members.iter();
        let told = members.filter(|(_, m)| **m != MemberState::Excluded);
        let hosts: Vec<u8> = told.map(|(h, _)| (h.0 - 1) as u8).collect();
        for host in hosts {
            self.configure_one(host);
        }
    }

    fn submit(&mut self, kind: EntryKind) {
        let c = &mut self.coordinator;
        let ticket = c.sequencer.submit(kind);
        c.waiters.push((ticket, Waiter::Operation));
        c.awaits_ticket = true;
    }

    fn all_acknowledged(&mut self) {
        let c = &mut self.coordinator;
        let everything = c.sequencer.last_ticket();
        let ticket = c.sequencer.barrier(everything, []);
        c.waiters.push((ticket, Waiter::Operation));
        c.awaits_ticket = true;
    }

    fn freeze(&mut self) {
        let c = &mut self.coordinator;
        let ticket = c.sequencer.freeze();
        c.freeze = Some(ticket);
        c.waiters.push((ticket, Waiter::Operation));
        c.awaits_ticket = true;
    }

    /// Changes the model, on the disk too.
    pub(crate) fn change(&mut self, f: impl FnOnce(&mut lime_core::model::Network)) {
        let c = &mut self.coordinator;
        c.model.change(f);
        c.store.model = c.model.clone();
    }

    fn instance(&self, switch: u8, host: u8) -> Option<InstanceState> {
        let switch = self.coordinator.model.switches.get(&switch_id(switch));
        switch
            .and_then(|s| s.instances.get(&host_id(host)))
            .copied()
    }

    pub(crate) fn set_instance(&mut self, switch: u8, host: u8, to: Option<InstanceState>) {
        self.change(|n| {
            if let Some(s) = n.switches.get_mut(&switch_id(switch)) {
                match to {
                    Some(to) => s.instances.insert(host_id(host), to),
                    None => s.instances.remove(&host_id(host)),
                };
            }
        });
    }

    pub(crate) fn member(&mut self, step: u8, host: u8) -> bool {
        match step {
            0 => {
                let members = &self.coordinator.model.members;
                if members.get(&host_id(host)) == Some(&MemberState::Full) {
                    self.coordinator.step = 3;
                    return false;
                }
                self.change(|n| {
                    n.members.insert(host_id(host), MemberState::Learning);
                });
                self.configure_one(host);
            }
            1 => {
                self.coordinator.sequencer.remove_member(host_id(host));
                let at = self.coordinator.sequencer.add_learner(host_id(host));
                let rules = Vec::new();
                let switch = None;
                let awaited = true;
                let message = Down::Snapshot {
                    switch,
                    at,
                    rules,
                    awaited,
                };
                self.request(host, message);
            }
            2 => self.submit(EntryKind::Join {
                switch: None,
                host: host_id(host),
            }),
            3 => self.configure_all(),
            _ => return true,
        }
        false
    }

    fn join(&mut self, step: u8, switch: u8, host: u8) -> bool {
        match step {
            0 => match self.instance(switch, host) {
                Some(InstanceState::Active(Some(_))) => self.coordinator.step = 3,
                Some(InstanceState::Active(None)) => self.coordinator.step = 4,
                Some(InstanceState::Excluded { .. }) => self.configure_all(),
                _ => {
                    self.set_instance(switch, host, Some(InstanceState::Learning));
                    // Rule 5 holds from here on.
                    self.configure_all();
                }
            },
            1 => {
                let at = self.coordinator.sequencer.logged();
                let rules = self.rules_at(switch, at);
                self.coordinator.clones.insert((switch, host), at);
                let switch = Some(switch);
                let awaited = true;
                let message = Down::Snapshot {
                    switch,
                    at,
                    rules,
                    awaited,
                };
                self.request(host, message);
            }
            2 => self.submit(EntryKind::Join {
                switch: Some(switch_id(switch)),
                host: host_id(host),
            }),
            3 => self.all_acknowledged(),
            4 => {
                self.set_instance(switch, host, Some(InstanceState::Active(None)));
                self.configure_all();
            }
            _ => return true,
        }
        false
    }

    fn retire(&mut self, step: u8, switch: u8, host: u8) -> bool {
        match step {
            0 => match self.instance(switch, host) {
                None => return true,
                Some(InstanceState::Retiring(_)) => self.configure_all(),
                Some(_) => {
                    self.set_instance(switch, host, Some(InstanceState::Retiring(None)));
                    // New packets go elsewhere ...
                    self.configure_all();
                }
            },
            1 => match self.instance(switch, host) {
                Some(InstanceState::Retiring(Some(_))) => self.all_acknowledged(),
                _ => self.submit(EntryKind::Retire {
                    switch: Some(switch_id(switch)),
                    host: host_id(host),
                }),
            },
            2 => self.request(host, Down::Finals),
            3 => {
                self.set_instance(switch, host, None);
                self.configure_all();
            }
            _ => return true,
        }
        false
    }

    fn set_place(&mut self, port: u8, at: u8, moving: Option<Moving>) {
        self.change(|n| {
            if let Some(port) = n.ports.get_mut(&port_id(port)) {
                port.place = Place::Device(device(at));
                port.moving = moving;
            }
        });
    }

    /// Rule 16.
    fn move_port(&mut self, setting: &Setting, step: u8, port: u8, to: u8, plug: bool) -> bool {
        let unfrozen = setting.without(Mutation::ClockBeforePause)
            || setting.without(Mutation::NoClockTransfer);
        match step {
            0 => {
                let known = self.coordinator.model.ports.get(&port_id(port));
                let at = known
                    .and_then(|p| p.device())
                    .map_or(0, |d| d.host.0 as u8 - 1);
                let moving = known.is_some_and(|p| p.moving.is_some());
                self.coordinator.from = at;
                self.coordinator.plug = plug;
                if at == to {
                    if !moving {
                        return true;
                    }
                    // Interrupted after its turning point: on.
                    if !self.coordinator.sequencer.is_suspended() {
                        self.freeze();
                    }
                    self.coordinator.step = 10;
                    return false;
                }
                self.set_place(port, at, Some(Moving::To(device(to))));
                if unfrozen {
                    self.coordinator.paused_at = self.hosts[at as usize].clock;
                } else {
                    // All clocks are equal and stay so until the end host runs again.
                    self.freeze();
                }
            }
            1 | 10 => self.configure_one(to),
            2 => {
                let from = self.coordinator.from;
                self.request(from, Down::Pause(port));
            }
            3 => {
                // The turning point.
                let from = self.coordinator.from;
                let leaving = plug.then(|| Moving::From(device(from)));
                self.set_place(port, to, leaving);
                if !plug {
                    self.configure_one(from);
                }
            }
            4 => {
                let clock = if setting.without(Mutation::NoClockTransfer) {
                    Epoch::ZERO
                } else {
                    self.coordinator.paused_at
                };
                self.request(to, Down::Resume(port, clock));
            }
            11 => {
                let clock = self.coordinator.sequencer.activated();
                self.request(to, Down::Resume(port, clock));
                self.coordinator.step = 5;
            }
            5 => {
                self.set_place(port, to, None);
                self.configure_all();
            }
            _ => {
                if let Some(ticket) = self.coordinator.freeze.take() {
                    self.coordinator.sequencer.unfreeze(ticket);
                }
                self.coordinator.sequencer.resume_activations();
                return true;
            }
        }
        false
    }
}
