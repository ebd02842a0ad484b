//! Packets that the coordinator sends out, and packets that waited for it.

use lime_core::flow::{Action, PacketOut};
use lime_core::{Epoch, NetworkId, PortId, PortNo, SwitchId};
use lime_proto::v1::{self, agent_message::Message};
use switch_abi::{BUCKET_NO_PORT, EventHeader, TUNNEL_DELIVER, TUNNEL_GROUP, TUNNEL_PROCESS};
use tracing::debug;

use super::Owner;
use crate::error::{CommandError, CommandResult, chain};
use crate::packet::{segments, too_big};
use crate::packet_out::{Emit, Output, Tag, cut, run};
use crate::reconcile::DesiredPlace;

/// The cookie of a packet-in that no rule caused (OpenFlow 1.3.5, 7.4.1).
const NO_COOKIE: u64 = u64::MAX;

impl Owner {
    pub(super) fn packet_out(&mut self, command: v1::PacketOutCommand) {
        let id = command.request_id;
        let outcome = match self.recent.get(id) {
            Some(outcome) => outcome,
            None => {
                let outcome = self.send_packet(command).err();
                self.recent.insert(id, outcome.clone());
                outcome
            }
        };
        self.outbox.done(id, outcome.map_or(Ok(None), Err));
    }

    fn send_packet(&mut self, command: v1::PacketOutCommand) -> CommandResult {
        let (network, switch) = (NetworkId(command.network), SwitchId(command.switch_id));
        let wire = command
            .packet_out
            .ok_or_else(|| CommandError::invalid("the packet-out has no contents"))?;
        let packet_out = PacketOut::try_from(wire)?;
        if command.min_clock != 0 {
            self.datapath
                .raise_clock(network, Epoch(command.min_clock))?;
        }
        self.execute(
            network,
            switch,
            packet_out.in_port,
            &packet_out.actions,
            packet_out.data,
        )
    }

    /// Runs actions and sends what comes of them, tagged with the network's clock.
    fn execute(
        &mut self,
        network: NetworkId,
        switch: SwitchId,
        in_port: PortNo,
        actions: &[Action],
        packet: Vec<u8>,
    ) -> CommandResult {
        let known = self.networks.get(&network);
        let (vni, view) = known
            .and_then(|n| Some((n.desired()?.vni, n.view(switch)?)))
            .ok_or_else(|| {
                CommandError::not_found(format!("switch {switch} of network {network} is not here"))
            })?;
        let clock = self.datapath.clock(network)?;
        if clock == Epoch::ZERO {
            return Err(CommandError::invalid(format!(
                "network {network}: nothing is active here yet, so nothing can be sent"
            )));
        }
        for emit in run(&view, in_port, actions, packet)? {
            let tag = |kind, port| Tag::new(vni, kind, port, clock);
            let (tag, packet) = match emit {
                Emit::Deliver(port, queue, packet) => {
                    let argument = queue;
                    let tag = tag(TUNNEL_DELIVER, port);
                    (Tag { argument, ..tag }, packet)
                }
                Emit::Process(port, packet) => (tag(TUNNEL_PROCESS, port), packet),
                Emit::Group(to, packet) => {
                    let tag = Tag {
                        argument: to.id,
                        queue: to.queue,
                        bucket: if to.no_port { BUCKET_NO_PORT } else { 0 },
                        ..tag(TUNNEL_GROUP, to.port)
                    };
                    (tag, packet)
                }
                Emit::Controller(max_len, packet) => {
                    let total_len = packet.len() as u32;
                    self.outbox.push(Message::Event(v1::Event {
                        network: network.0,
                        switch: switch.0,
                        version: clock.0,
                        packet_in: Some(v1::PacketIn {
                            reason: v1::PacketInReason::Action.into(),
                            table: 0,
                            cookie: NO_COOKIE,
                            in_port: in_port.0,
                            total_len,
                            data: cut(packet, max_len),
                        }),
                        held_id: 0,
                        rule_id: 0,
                    }));
                    continue;
                }
            };
            self.injector
                .send(&tag, &packet)
                .map_err(|e| CommandError::internal(chain(&e)))?;
        }
        Ok(())
    }

    /// Tells the sender of a packet that did not fit how long one may be: out of the port that the packet came in by.
    pub(super) fn answer_too_big(&mut self, header: &EventHeader, packet: &[u8]) {
        let network = NetworkId(header.network);
        let Some(answer) = too_big(packet, header.reason) else {
            return;
        };
        let desired = self.networks.get(&network).and_then(|n| n.desired());
        let (Some(desired), Some(port), Ok(clock)) = (
            desired,
            self.datapath.port_at(header.rule_slot),
            self.datapath.clock(network),
        ) else {
            return;
        };
        let (kind, port) = match desired.ports.get(&port).map(|p| &p.place) {
            _ if clock == Epoch::ZERO => return,
            Some(DesiredPlace::Link(other)) => (TUNNEL_PROCESS, *other),
            Some(_) => (TUNNEL_DELIVER, port),
            None => return,
        };
        let tag = Tag::new(desired.vni, kind, port, clock);
        if let Err(error) = self.injector.send(&tag, &answer) {
            debug!(
                error = chain(&error),
                "the sender of a packet that is too big is not told"
            );
        }
    }

    pub(super) fn release_held(&mut self, ids: &[u64]) {
        for &id in ids {
            let due = self.held.release(id);
            self.send_held(due);
        }
    }

    /// Sends outputs that have waited.
    pub(super) fn send_held(&self, due: Vec<Output>) {
        for Output { tag, packet } in due {
            if let Err(error) = self.injector.send(&tag, &packet) {
                debug!(error = chain(&error), "an output that waited is lost");
            }
        }
    }

    /// An output that is to wait, or a copy for a group of a packet with such outputs: that goes back at once. What a local stack has left to do is
    /// done here.
    pub(super) fn hold(&mut self, header: &EventHeader, packet: Vec<u8>) {
        let network = NetworkId(header.network);
        let desired = self.networks.get(&network).and_then(|n| n.desired());
        let Some(vni) = desired.map(|d| d.vni) else {
            return;
        };
        let (port, clock) = (PortId(header.reason), Epoch(header.version));
        let tag = Tag {
            argument: header.in_port,
            queue: header.rule_id as u16,
            bucket: header.rule_slot as u8,
            hops: header.hops,
            ..Tag::new(vni, header.table, port, clock)
        };
        let Some(packets) = segments(packet, header.cookie as usize) else {
            debug!(%network, "an output that is to wait cannot be segmented; dropped");
            return;
        };
        for packet in packets {
            if header.table != TUNNEL_GROUP {
                self.held
                    .output(network, header.hold, Output { tag, packet });
            } else if let Some(hold) = self.held.copy(network, header.hold) {
                let tag = Tag { hold, ..tag };
                self.send_held(vec![Output { tag, packet }]);
            }
        }
    }
}
