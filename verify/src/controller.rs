//! The controller: what it issues, and what it gets.

use lime_core::Epoch;

use crate::coordinator::Waiter;
use crate::history::{FROM_CONTROLLER, Told};
use crate::host::{Event, Packet, Version};
use crate::mutation::Mutation;
use crate::scenario::Command;
use crate::world::{Setting, World, apply};

impl World {
    pub(crate) fn issue(&mut self, setting: &Setting, command: u8) {
        let scenario = &setting.scenario;
        if matches!(scenario.commands[command as usize], Command::Await) {
            return;
        }
        self.history.tell(Told::Issued(command));
        let c = &mut self.coordinator;
        let open = 1 << command;
        match &scenario.commands[command as usize] {
            Command::Update {
                switch,
                add,
                remove,
            } => {
                let kind = setting.update(*switch, add, remove);
                let ticket = c.sequencer.submit(kind);
                c.last = ticket;
                c.waiters.push((ticket, Waiter::Command(command)));
                self.controller.open |= open;
            }
            Command::Out {
                switch,
                in_port,
                kind,
                to,
            } => {
                let packet = Packet {
                    id: FROM_CONTROLLER + command,
                    kind: *kind,
                    port: *in_port,
                };
                let pending = crate::coordinator::PendingOut {
                    packet,
                    switch: *switch,
                    to: *to,
                    sent_to: None,
                    incarnation: 0,
                };
                let id = u64::from(command);
                c.outs.insert(id, pending);
                let last = c.last;
                if setting.without(Mutation::PacketOutOutOfBand) {
                    self.send_out(id, Epoch::ZERO, true);
                } else {
                    c.sequencer.packet_out(last, id, to.is_none());
                }
            }
            Command::Cut(rule) => {
                let switch = scenario.rules[*rule as usize].switch;
                let ticket = c.sequencer.submit(setting.cut(switch));
                c.last = ticket;
                c.waiters.push((ticket, Waiter::Command(command)));
                self.controller.open |= open;
            }
            Command::Barrier => {
                if setting.without(Mutation::BarrierAtOnce) {
                    self.history.tell(Told::Done(command));
                    return;
                }
                let outs: Vec<u64> = c.outs.keys().copied().collect();
                let ticket = c.sequencer.barrier(c.last, outs);
                c.waiters.push((ticket, Waiter::Command(command)));
                self.controller.open |= open;
            }
            // The coordinator's own: `crate::promise`.
            Command::Expire(_) | Command::Await => {}
        }
    }

    /// The controller gets an event.
    pub(crate) fn publish(&mut self, setting: &Setting, event: Event) {
        if !self.coordinator.admits && self.coordinator.recovery != Epoch::ZERO {
            // Nobody is connected.
            if !setting.without(Mutation::OldEventsAfterRecovery) {
                return;
            }
        }
        let packet = event.packet;
        self.history.tell(Told::Event {
            packet: packet.id,
            kind: packet.kind,
            switch: event.switch,
        });
        let reactions = setting.scenario.reactions.iter();
        for (kind, commands) in reactions {
            if *kind == packet.kind && self.controller.reacted & (1 << kind) == 0 {
                self.controller.reacted |= 1 << kind;
                self.controller.reactions.extend(commands);
            }
        }
    }

    /// Rules of a switch as of an epoch, by replaying the log.
    pub(crate) fn rules_at(&self, switch: u8, at: Epoch) -> Vec<Version> {
        let mut rules: Vec<Version> = Vec::new();
        for entry in self.coordinator.log.iter().filter(|e| e.epoch.le(at)) {
            apply(&mut rules, entry, Some(switch));
            rules.retain(|v| v.to == 0);
        }
        rules
    }
}
