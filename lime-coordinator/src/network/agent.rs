//! Agents come, go and speak.

use lime_core::log::Resume;
use lime_core::model::{MemberState, Place, PortPlace, desired};
use lime_core::{Epoch, HostId, PortId, SwitchId};
use lime_proto::v1;
use tracing::{info, warn};
use v1::agent_message::Message as FromAgent;
use v1::coordinator_message::Message;

use super::misbehaved;
use super::state::State;
use super::wire;
use crate::agents::{Session, Waiting};

impl State {
    /// A host's stream is open: it gets its desired state, and what it has missed of the log.
    pub(super) fn host_up(&mut self, session: &Session, adopted: Option<&v1::AdoptedNetwork>) {
        let host = session.host;
        if session.cancel.is_cancelled() {
            // It has gone again, and what tells so is behind or was before this.
            return;
        }
        self.end_rounds_of(host);
        self.sessions.insert(host, session.clone());
        match self.model.members.get(&host) {
            // Rule 17: it is taken in again as one that is new.
            None | Some(MemberState::Excluded) => return,
            Some(_) => {}
        }
        let adopted = adopted.cloned().unwrap_or_default();
        if self.seq.member(host).is_none() {
            // A learner of an operation that a restart interrupted: that operation begins again.
            return;
        }
        let rules_lost = self.model.switches.values().any(|s| {
            let mine = s.instances.get(&host);
            mine.is_some_and(|i| !i.is_learning()) && !adopted.switches.contains(&s.id.0)
        });
        let staged = if rules_lost {
            Epoch::ZERO
        } else {
            Epoch(adopted.staged)
        };
        // Configure first: Stage and Activate would be of an unknown network.
        match self.resume(host, staged, Epoch(adopted.clock), rules_lost) {
            Ok(()) => {}
            Err(e) => misbehaved(session, &e),
        }
        // Rule 11: behind the stages and activations that they were behind.
        self.carry_out();
        self.resend_packet_outs(session);
    }

    fn resume(
        &mut self,
        host: HostId,
        staged: Epoch,
        clock: Epoch,
        rules_lost: bool,
    ) -> Result<(), lime_core::log::ProtocolError> {
        let name = self.shared.hosts.name(host);
        if rules_lost {
            // It must not go on from the log: its instances would lack what they had.
            self.seq.connected_empty(host)?;
        } else {
            self.reconfigure(host, "configuring a host that has come back");
            self.say_what_stands(host);
            match self.seq.connected(host, staged, clock)? {
                Resume::FromLog => {
                    info!(network = %self.model.name, host = %name, %staged, %clock, "host goes on from the log");
                    return Ok(());
                }
                Resume::FromSnapshot(_) => {}
            }
        }
        self.resync(host);
        Ok(())
    }

    /// The host has lost what it had (a reboot): its instances learn again, all in one go on its FIFO stream.
    fn resync(&mut self, host: HostId) {
        let at = self.seq.logged();
        let Some(session) = self.sessions.get(&host).cloned() else {
            return;
        };
        warn!(network = %self.model.name, host = %session.name, %at, "host has lost its state: sending snapshots");
        self.counters_lost(host);
        let id = session.next_id();
        session.expect(
            id,
            Waiting::Nobody("configuring a host that lost its state"),
        );
        session.send(Message::Configure(self.configure(host, id, true)));
        // Rule 20: if it is to relay, then before it processes.
        self.carry_out();
        let with_rules: Vec<_> = self
            .model
            .switches
            .values()
            .filter(|s| s.instances.contains_key(&host))
            .map(|s| s.id)
            .collect();
        let mut answers = vec![self.send_snapshot(&session, None, at).0];
        for switch in with_rules {
            answers.push(self.send_snapshot(&session, Some(switch), at).0);
        }
        // Before it processes anything.
        self.say_what_stands(host);
        let id = session.next_id();
        session.expect(
            id,
            Waiting::Nobody("configuring a host that lost its state"),
        );
        let mut configure = self.configure(host, id, false);
        configure.min_clock = self.seq.told(host).0;
        session.send(Message::Configure(configure));
        self.seq.snapshot_sent(host, at);
        let done = async move {
            for answer in answers {
                match answer.await {
                    Ok(done) if done.error.is_none() => {}
                    _ => return false,
                }
            }
            true
        };
        self.later(done, move |state, ok| {
            if ok {
                state.seq.snapshot_done(host, at);
            } else {
                warn!(network = %state.model.name, "the snapshots for a host that lost its state did not arrive");
            }
        });
    }

    /// What the host had counted when it was last read is all that is known of it.
    fn counters_lost(&mut self, host: HostId) {
        let mut changes = Vec::new();
        for (what, version) in self.counters.live_on(host) {
            self.counters.finish(host, what, version, None);
            changes.push(self.kept(what));
        }
        drop(self.shared.store.commit(changes));
    }

    /// A host's stream has ended.
    pub(super) fn host_down(&mut self, session: &Session) {
        let current = self.sessions.get(&session.host);
        if current.is_some_and(|s| s.number == session.number) {
            self.sessions.remove(&session.host);
            self.seq.disconnected(session.host);
            self.end_rounds_of(session.host);
        }
    }

    /// An agent said something about this network.
    pub(super) fn heard(&mut self, session: &Session, message: FromAgent) {
        let host = session.host;
        let current = self.sessions.get(&host);
        if current.is_none_or(|s| s.number != session.number) {
            // The rest of a stream that another has replaced: rule 18, a new incarnation.
            return;
        }
        let excluded = self.model.members.get(&host) == Some(&MemberState::Excluded);
        if self
            .seq
            .member(host)
            .is_none_or(|m| excluded && m.since.is_some())
        {
            // Of what it did before it was excluded, nobody is told but of its counters (rule 17).
            return;
        }
        let result = match message {
            FromAgent::Staged(m) => match m.error {
                None => self.seq.staged(host, Epoch(m.epoch)),
                Some(e) => self.seq.stage_failed(host, Epoch(m.epoch), e.message),
            },
            FromAgent::Activated(m) => self.seq.acknowledge(host, Epoch(m.epoch)),
            FromAgent::Relaying(m) => self.seq.relaying(host, Epoch(m.epoch)),
            FromAgent::EndedRules(m) => {
                self.observe_rules(host, &m.rules);
                Ok(())
            }
            FromAgent::IdleVote(m) => {
                self.voted(host, &m);
                Ok(())
            }
            FromAgent::Event(m) => self.event(host, m),
            FromAgent::PortStatus(m) => self.port_status(host, &m),
            _ => Ok(()),
        };
        if let Err(e) = result {
            misbehaved(session, &e);
        }
    }

    /// Of a port's device. The controller is told of changes, in the order of versions.
    fn port_status(
        &mut self,
        host: HostId,
        status: &v1::PortStatus,
    ) -> Result<(), lime_core::log::ProtocolError> {
        let (id, up) = (PortId(status.port_id), status.up && !status.missing);
        let Some(port) = self.model.ports.get(&id) else {
            self.down.remove(&id);
            self.device_mtus.remove(&id);
            return Ok(());
        };
        // While a port moves, both of its devices are reported.
        let elsewhere = matches!(&port.place, Place::Device(device) if device.host != host);
        let resized = !elsewhere && {
            let (made_for, before) = (port.mtu, self.mtu(id, port.mtu));
            match status.mtu {
                0 => self.device_mtus.remove(&id),
                mtu => self.device_mtus.insert(id, mtu),
            };
            self.mtu(id, made_for) != before
        };
        let changed = !elsewhere
            && if up {
                self.down.remove(&id)
            } else {
                self.down.insert(id)
            };
        let groups = self.rules.groups(port.switch);
        let watched = changed && groups.is_some_and(|g| g.watched().contains(&port.no));
        let (switch, no) = (port.switch, port.no);
        if watched || resized {
            self.tell_port_states();
        }
        let switch = self.model.switches.get(&switch);
        let (Some(switch), Some(member), true) = (switch, self.seq.member(host), changed) else {
            return Ok(());
        };
        let out = v1::ControllerEvent {
            network: self.model.name.clone(),
            switch: switch.name.clone(),
            version: status.version,
            port_status: Some(v1::PortStatusChange { port_no: no.0, up }),
            ..Default::default()
        };
        // A host that has only joined is behind what it need not acknowledge.
        let version = Epoch(status.version).max(member.acknowledged);
        self.seq.event(host, version, None, out)
    }

    fn event(
        &mut self,
        host: HostId,
        event: v1::Event,
    ) -> Result<(), lime_core::log::ProtocolError> {
        let switch = self.model.switches.get(&lime_core::SwitchId(event.switch));
        let Some(switch) = switch else {
            return Ok(());
        };
        let out = v1::ControllerEvent {
            network: self.model.name.clone(),
            switch: switch.name.clone(),
            version: event.version,
            packet_in: event.packet_in,
            ..Default::default()
        };
        let held = (event.held_id != 0).then_some(event.held_id);
        self.seq.event(host, Epoch(event.version), held, out)
    }

    /// The host's desired state, for an operation that waits for it.
    pub fn desired_message(&self, host: HostId, request_id: u64) -> v1::Configure {
        self.configure(host, request_id, false)
    }

    /// Groups of the switch have changed: if they watch a port that is down, its state may not be known everywhere.
    pub(super) fn tell_dead_ports(&mut self, switch: SwitchId) {
        let Some(groups) = self.rules.groups(switch) else {
            return;
        };
        let watched = groups.watched();
        let mut down = self.down.iter().filter_map(|id| self.model.ports.get(id));
        if down.any(|p| p.switch == switch && watched.contains(&p.no)) {
            self.tell_port_states();
        }
    }

    fn tell_port_states(&mut self) {
        let hosts: Vec<HostId> = self.sessions.keys().copied().collect();
        for host in hosts {
            if self.model.members.contains_key(&host) {
                self.reconfigure(host, "telling the state of a port");
            }
        }
    }

    /// The host's desired state, as a message.
    pub(super) fn configure(
        &self,
        host: HostId,
        request_id: u64,
        learn_again: bool,
    ) -> v1::Configure {
        let mut config = desired(&self.model, host, self.seq.last(), learn_again);
        for port in &mut config.ports {
            // Of its own devices it knows more.
            if matches!(port.place, PortPlace::Remote(_)) {
                port.mtu = self.mtu(port.port, port.mtu);
            }
        }
        let address = |h| {
            let hosts = self.shared.hosts.lock();
            hosts
                .get(&h)
                .map(|host| host.record.underlay_address.clone())
                .unwrap_or_default()
        };
        v1::Configure {
            request_id,
            network: self.model.id.0,
            generation: self.shared.ids.generation(),
            vni: self.model.vni,
            consistency: v1::Consistency::from(self.model.consistency).into(),
            min_clock: 0,
            ..wire::configure(config, address, |port| self.down.contains(&port))
        }
    }
}
