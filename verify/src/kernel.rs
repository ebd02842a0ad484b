//! The kernel's half: packets at ports, frames in tunnels, versions and tags.

use lime_core::Epoch;

use crate::host::{Event, Frame, Matched, Packet, Role};
use crate::mutation::Mutation;
use crate::world::{Setting, Step, World, assertion};

impl World {
    /// A packet to be processed as come in by its port.
    pub(crate) fn enter(&mut self, setting: &Setting, h: u8, packet: Packet) {
        let switch = setting.scenario.ports[packet.port as usize].switch;
        let (at_once, for_ever) = (
            setting.without(Mutation::JoinAtOnce),
            setting.without(Mutation::RetireIgnored),
        );
        let host = &mut self.hosts[h as usize];
        if host.lapsed && !setting.without(Mutation::LeaseIgnored) {
            // Rule 17.
            return;
        }
        // Rule 1: once.
        let version = host.clock;
        match host.role(switch, version, at_once, for_ever) {
            Role::None => {}
            Role::Active => host.take(packet, version),
            // Rule 4.
            Role::Relay(to) => {
                let untagged = setting.without(Mutation::UntaggedRelay);
                let tag = if untagged { Epoch::ZERO } else { version };
                self.launch(setting, to, false, tag, packet);
            }
        }
    }

    /// A kernel program has looked the packet up and does what the rule says.
    pub(crate) fn finish(&mut self, setting: &Setting, h: u8, i: u8) {
        let mut in_hand = self.hosts[h as usize].in_hand.remove(i.into());
        if setting.scenario.idle().is_some() && in_hand.matched == Matched::Unknown {
            let version = Epoch(in_hand.version);
            let found = self.look_up(setting, h, in_hand.packet, version);
            if found.is_some_and(|rule| self.waits(setting, h, rule)) {
                let host = &mut self.hosts[h as usize];
                host.waiting.push_back(in_hand.packet);
                return;
            }
            in_hand.matched = found.map_or(Matched::None, Matched::Rule);
            let host = &mut self.hosts[h as usize];
            host.in_hand.push(in_hand);
            host.in_hand.sort_unstable();
            return;
        }
        let entry = setting.scenario.ports[in_hand.packet.port as usize].switch;
        // Of what would be a contradiction only together with more than the worlds have, the cause is.
        self.trespassed |= self.is_out(h, entry);
        let version = Epoch(in_hand.version);
        match in_hand.matched {
            Matched::Unknown => self.process(setting, h, in_hand.packet, version),
            Matched::None => {}
            Matched::Rule(rule) => self.run(setting, h, in_hand.packet, version, rule),
        }
    }

    fn process(&mut self, setting: &Setting, h: u8, packet: Packet, version: Epoch) {
        if let Some(rule) = self.look_up(setting, h, packet, version) {
            self.run(setting, h, packet, version, rule);
        }
    }

    fn look_up(&self, setting: &Setting, h: u8, packet: Packet, version: Epoch) -> Option<u8> {
        let switch = setting.scenario.ports[packet.port as usize].switch;
        let host = &self.hosts[h as usize];
        let at = if setting.without(Mutation::TwoClockReads) {
            host.clock
        } else {
            version
        };
        let visible = |rule| host.rules.iter().any(|v| v.rule == rule && v.visible(at));
        let scenario = &setting.scenario;
        scenario.best(0, switch, packet.kind, packet.port, visible)
    }

    /// Counts the rule and those that it goes on to, and does what they say.
    fn run(&mut self, setting: &Setting, h: u8, packet: Packet, version: Epoch, number: u8) {
        let scenario = &setting.scenario;
        let switch = scenario.ports[packet.port as usize].switch;
        if scenario.idle().is_some_and(|(idle, _)| idle == number) {
            self.idle_rule_matched(h);
        }
        let host = &mut self.hosts[h as usize];
        let visible = |rule| {
            let mut versions = host.rules.iter();
            versions.any(|v| v.rule == rule && v.visible(version))
        };
        let met = scenario.from(number, packet.kind, packet.port, visible);
        if scenario.counts() {
            for &rule in &met {
                host.count(rule, version);
            }
        }
        // Counted here: the instance's last value must not have been read.
        host.miscounted |= host.finals;
        let (out, controller) = scenario.does(&met, packet.port);
        let hold = controller
            && out != 0
            && host.holds(switch)
            && !setting.without(Mutation::NoHeldOutputs);
        if controller {
            let held = if hold {
                host.hold(packet, out, version)
            } else {
                0
            };
            let event = Event {
                version: version.0,
                switch,
                packet,
                held,
            };
            host.ring.push_back(event);
            if !setting.scenario.ring && host.greeted {
                self.read(h);
            }
        }
        if !hold {
            self.output(setting, h, packet, out, version, true);
        }
    }

    /// Outputs to these ports, at this version; into a link in the same run, if that can be.
    pub(crate) fn output(
        &mut self,
        setting: &Setting,
        h: u8,
        packet: Packet,
        out: u8,
        version: Epoch,
        same_run: bool,
    ) {
        let tag = version;
        for port in (0..8).filter(|p| out & (1 << p) != 0) {
            use lime_core::model::PortPlace;
            let Some(place) = self.hosts[h as usize].place(port).cloned() else {
                continue;
            };
            match place {
                PortPlace::Local(_) => self.deliver(setting, h, packet, port),
                PortPlace::Remote(to) => {
                    let packet = Packet { port, ..packet };
                    self.launch(setting, (to.0 - 1) as u8, true, tag, packet);
                }
                PortPlace::Link(other) => {
                    let port = (other.0 - 1) as u8;
                    let packet = Packet { port, ..packet };
                    let switch = setting.scenario.ports[port as usize].switch;
                    let role = self.hosts[h as usize].role(switch, version, false, false);
                    match role {
                        // Rule 1: at the same version, in the same run.
                        Role::Active if same_run && out.count_ones() == 1 => {
                            self.process(setting, h, packet, version);
                        }
                        Role::Active => self.launch(setting, h, false, tag, packet),
                        Role::Relay(to) => self.launch(setting, to, false, tag, packet),
                        Role::None => {}
                    }
                }
            }
        }
    }

    pub(crate) fn launch(
        &mut self,
        setting: &Setting,
        to: u8,
        deliver: bool,
        tag: Epoch,
        packet: Packet,
    ) {
        let tag = if setting.without(Mutation::NoTags) {
            0
        } else {
            tag.0
        };
        self.frames.push(Frame {
            to,
            deliver,
            tag,
            packet,
        });
        self.frames.sort_unstable();
    }

    /// A tunnel frame arrives.
    pub(crate) fn arrive(&mut self, setting: &Setting, frame: Frame) -> Step {
        let tag = Epoch(frame.tag);
        if tag != Epoch::ZERO {
            // Rule 3.
            let host = &self.hosts[frame.to as usize];
            if !tag.le(host.staged) && !setting.without(Mutation::NoTagCheck) {
                if frame.packet.id == u8::MAX || self.may_miss_frames(frame.to) {
                    return Ok(());
                }
                return assertion(format!(
                    "no frame of a peer is lost by an update: one of {tag} is dropped at host {}, which has {} staged",
                    frame.to, host.staged
                ));
            }
            let host = &mut self.hosts[frame.to as usize];
            // Rule 2: before anything else.
            if setting.without(Mutation::RaiseAfterDelivery) {
                if host.clock.lt(tag) {
                    host.late_raises.push(tag.0);
                }
            } else {
                host.clock = host.clock.max(tag);
            }
        }
        if !frame.deliver {
            self.enter(setting, frame.to, frame.packet);
            return Ok(());
        }
        let port = frame.packet.port;
        match self.hosts[frame.to as usize].place(port).cloned() {
            Some(lime_core::model::PortPlace::Local(_)) => {
                self.deliver(setting, frame.to, frame.packet, port);
            }
            // Rule 6: with its tag.
            Some(lime_core::model::PortPlace::Remote(to)) => {
                self.launch(setting, (to.0 - 1) as u8, true, tag, frame.packet);
            }
            _ => {}
        }
        Ok(())
    }
}
