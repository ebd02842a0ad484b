//! Packet-outs: rule 11.

use lime_core::flow::{Action, PacketOut};
use lime_core::log::Ticket;
use lime_core::{Epoch, HostId, PortNo, SwitchId};
use lime_proto::v1;
use tokio::sync::oneshot;
use tonic::Status;
use v1::coordinator_message::Message;

use super::state::State;
use crate::agents::{Session, Waiting};

/// Packet-outs that may be under way in one network.
const MAX_OUTSTANDING: usize = 16_384;

/// A packet-out that is not known to be done.
#[derive(Debug)]
pub(super) struct PendingPacketOut {
    switch: SwitchId,
    in_port: PortNo,
    packet: v1::PacketOut,
    /// It goes through tables or to the controller.
    exact: bool,
    /// The host that has it: it goes to no other.
    pub(super) sent_to: Option<HostId>,
    /// The agent process that has it.
    incarnation: u64,
    reply: Option<oneshot::Sender<Result<(), Status>>>,
}

impl State {
    /// Queues a packet-out behind the submissions up to `after`. Answers with its id, and when it is done.
    pub fn packet_out(
        &mut self,
        switch: &str,
        packet: PacketOut,
        after: Ticket,
    ) -> Result<(u64, oneshot::Receiver<Result<(), Status>>), Status> {
        if self.packet_outs.len() >= MAX_OUTSTANDING {
            return Err(Status::resource_exhausted(format!(
                "{MAX_OUTSTANDING} packet-outs of network {} are under way: wait for them",
                self.model.name
            )));
        }
        let switch = self.switch(switch)?;
        let in_port = packet.in_port;
        let id = switch.id;
        let name = switch.name.clone();
        if switch.instances.is_empty() {
            return Err(Status::failed_precondition(format!(
                "switch {}/{name} has no instance",
                self.model.name
            )));
        }
        if in_port.is_port() && self.model.port_at(id, in_port).is_none() {
            return Err(Status::invalid_argument(format!(
                "in_port: switch {}/{name} has no port {in_port}",
                self.model.name
            )));
        }
        if let Some(group) = self.rules.missing_group(id, packet.actions.iter()) {
            return Err(Status::invalid_argument(format!(
                "packet_out: {}",
                lime_core::model::NoGroup(group)
            )));
        }
        let exact = packet.actions.iter().any(|a| {
            matches!(a, Action::Group(_))
                || matches!(a, Action::Output { port, .. } if [PortNo::TABLE, PortNo::CONTROLLER].contains(port))
        });
        let (reply, done) = oneshot::channel();
        let request = self
            .shared
            .ids
            .requests()
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.packet_outs.insert(
            request,
            PendingPacketOut {
                switch: id,
                in_port,
                packet: packet.into(),
                exact,
                sent_to: None,
                incarnation: 0,
                reply: Some(reply),
            },
        );
        self.seq.packet_out(after, request, exact);
        Ok((request, done))
    }

    pub(super) fn send_packet_out(&mut self, id: u64, min_clock: Epoch) {
        let Some(pending) = self.packet_outs.get(&id) else {
            return;
        };
        let host = pending
            .sent_to
            .or_else(|| self.packet_out_host(pending.switch, pending.in_port));
        let session = host.and_then(|h| self.sessions.get(&h)).cloned();
        let Some(session) = session else {
            if pending.sent_to.is_some() {
                // It waits for that host to come back.
                return;
            }
            self.finish_packet_out(
                id,
                Err(Status::unavailable(
                    "no host that runs the switch is connected",
                )),
            );
            return;
        };
        session.expect(id, Waiting::PacketOut(self.model.id));
        session.send(Message::PacketOut(v1::PacketOutCommand {
            request_id: id,
            network: self.model.id.0,
            switch_id: pending.switch.0,
            min_clock: min_clock.0,
            packet_out: Some(pending.packet.clone()),
        }));
        if let Some(pending) = self.packet_outs.get_mut(&id) {
            pending.sent_to = Some(session.host);
            pending.incarnation = session.incarnation;
        }
    }

    /// The host is back: what it was sent is sent again, since the stream may have ended before it. Rule 19: executed at most once, which
    /// only the same agent process can tell; and one that meets tables must meet those of its place in the order, which has gone by.
    pub(super) fn resend_packet_outs(&mut self, session: &Session) {
        let sent = self.packet_outs.iter();
        let sent = sent.filter(|(_, p)| p.sent_to == Some(session.host));
        let sent: Vec<(u64, bool)> = sent
            .map(|(id, p)| (*id, p.incarnation == session.incarnation && !p.exact))
            .collect();
        for (id, again) in sent {
            if again {
                let min_clock = self.seq.activated();
                self.send_packet_out(id, min_clock);
            } else {
                let lost = format!(
                    "host {}: its agent went away with the packet, which may have been sent or not",
                    session.name
                );
                self.finish_packet_out(id, Err(Status::unavailable(lost)));
            }
        }
    }

    /// An instance that processes: where the ingress port is, if there is one.
    fn packet_out_host(&self, switch: SwitchId, in_port: PortNo) -> Option<HostId> {
        let instances = &self.model.switches.get(&switch)?.instances;
        let usable = |h: &HostId| {
            self.sessions.contains_key(h) && instances.get(h).is_some_and(|i| !i.is_learning())
        };
        let port = self.model.port_at(switch, in_port);
        let near = port.and_then(|p| p.device()).map(|d| d.host);
        near.filter(usable).or_else(|| {
            let mut all: Vec<_> = instances.keys().filter(|h| usable(h)).copied().collect();
            all.sort_by_key(|h| !instances.get(h).is_some_and(|i| i.is_active()));
            all.first().copied()
        })
    }

    pub(super) fn packet_out_done(&mut self, done: &v1::Done) {
        let result = match &done.error {
            None => Ok(()),
            Some(e) => Err(Status::internal(format!("packet-out: {}", e.message))),
        };
        self.finish_packet_out(done.request_id, result);
    }

    pub(super) fn finish_packet_out(&mut self, id: u64, result: Result<(), Status>) {
        if let Some(reply) = self.packet_outs.remove(&id).and_then(|p| p.reply) {
            // The controller may have gone.
            let _ = reply.send(result);
        }
        self.seq.packet_out_done(id);
    }
}
