//! From the event ring to the coordinator.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};

use lime_core::flow::MAX_LEN_ALL;
use lime_core::{Epoch, NetworkId, PortNo, RuleId, SwitchId};
use lime_proto::v1::{self, agent_message::Message};
use switch_abi::{
    EVENT_HELD, EVENT_PACKET_IN, EVENT_REASON_ACTION, EVENT_REASON_INVALID_TTL, EVENT_TOO_BIG,
    EVENT_WAITING, EventHeader,
};
use tracing::debug;

use super::Owner;
use crate::packet::complete_partial;
use crate::packet_out::{Held, controller_len, cut, remaining};

/// Records that are being written hide later ones; how often to look again for them.
const BUSY_RETRIES: usize = 10_000;

impl Owner {
    /// Sends what is in the ring now.
    pub(super) fn read_ring(&mut self) {
        self.take_events();
        // The kernel wakes a reader only for a record that the reader has caught up with.
        self.ring_waiting = readable(&self.ring);
    }

    /// Sends everything that is in the ring. After a grace period that is every event of packets that were under way before it.
    ///
    /// A record that a program is still writing hides those behind it, also finished ones. The ring counts as empty only when the kernel
    /// says so, or after more than it can hold (then packets come faster than they are read, and what was there before is out).
    pub(super) fn empty_ring(&mut self) {
        let limit = self.datapath.limits().event_ring_bytes as usize;
        let mut bytes = 0;
        for _ in 0..BUSY_RETRIES {
            bytes += self.take_events();
            self.ring_waiting = readable(&self.ring);
            if bytes >= limit || !self.ring_waiting {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Takes what is there, and gives its size in bytes.
    fn take_events(&mut self) -> usize {
        let mut events = Vec::new();
        self.ring
            .get_mut()
            .drain(|header, data| events.push((*header, data.to_vec())));
        let mut bytes = 0;
        for (header, data) in events {
            bytes += size_of::<EventHeader>() + data.len();
            self.event_was_read(&header);
            if let Some(event) = self.event(&header, data) {
                self.outbox.push(Message::Event(event));
            }
        }
        // Of those that have just come, some may not have to wait any more.
        self.release_waiting();
        bytes
    }

    fn event(&mut self, header: &EventHeader, mut data: Vec<u8>) -> Option<v1::Event> {
        let network = NetworkId(header.network);
        if header.kind == EVENT_WAITING {
            self.packet_waits(header, data);
            return None;
        }
        if header.kind == EVENT_TOO_BIG {
            self.answer_too_big(header, &data);
            return None;
        }
        if header.kind != EVENT_PACKET_IN || !self.networks.contains_key(&network) {
            debug!(header.kind, %network, "event of another kind or network; dropped");
            return None;
        }
        if data.len() == header.total_len as usize {
            complete_partial(&mut data);
        }
        let mut held_id = 0;
        if header.flags & EVENT_HELD != 0 {
            let (id, max_len) = self.hold(header, &data);
            held_id = id;
            data = cut(data, max_len);
        }
        let reason = match header.reason {
            EVENT_REASON_ACTION => v1::PacketInReason::Action,
            EVENT_REASON_INVALID_TTL => v1::PacketInReason::InvalidTtl,
            _ => v1::PacketInReason::NoMatch,
        };
        Some(v1::Event {
            network: header.network,
            switch: header.switch,
            version: header.version,
            packet_in: Some(v1::PacketIn {
                reason: reason.into(),
                table: header.table.into(),
                cookie: header.cookie,
                in_port: header.in_port,
                total_len: header.total_len,
                data,
            }),
            held_id,
            rule_id: header.rule_id,
        })
    }

    /// Keeps the packet until the coordinator has its event. Gives its id, and how many bytes of it the controller gets; id 0: there is
    /// nothing left to do with it.
    fn hold(&mut self, header: &EventHeader, packet: &[u8]) -> (u64, u16) {
        let network = NetworkId(header.network);
        let compiled = self
            .datapath
            .rule_actions(header.rule_slot, RuleId(header.rule_id));
        let Some(compiled) = compiled else {
            debug!(header.rule_id, "the rule of a held packet has gone");
            return (0, MAX_LEN_ALL);
        };
        let max_len = controller_len(&compiled);
        let Some(desired) = self.networks.get(&network).and_then(|n| n.desired()) else {
            return (0, max_len);
        };
        if header.data_len < header.total_len {
            debug!(
                header.total_len,
                "a held packet is too long for the event ring; not sent on"
            );
            return (0, max_len);
        }
        let mut ports = HashMap::new();
        for action in compiled.iter().filter(|a| a.op == switch_abi::op::OUTPUT) {
            let port = self.datapath.port_at(action.b);
            if let Some(port) = port.and_then(|id| desired.ports.get(&id)) {
                ports.insert(action.b, port.number);
            }
        }
        let actions = remaining(&compiled, packet, &ports);
        let id = self.held.hold(Held {
            network,
            switch: SwitchId(header.switch),
            in_port: PortNo(header.in_port),
            packet: packet.to_vec(),
            actions,
        });
        (id, max_len)
    }

    /// Discards events that are older than these clocks: a greeting says that nothing older comes after it.
    pub(super) fn discard_older(&mut self, clocks: &HashMap<NetworkId, Epoch>) {
        let mut events = Vec::new();
        self.ring
            .get_mut()
            .drain(|header, data| events.push((*header, data.to_vec())));
        self.ring_waiting = readable(&self.ring);
        let before = events.len();
        for (header, _) in &events {
            self.event_was_read(header);
        }
        events.retain(|(header, _)| {
            if header.kind == EVENT_WAITING {
                return true;
            }
            let clock = clocks.get(&NetworkId(header.network));
            clock.is_some_and(|clock| clock.le(Epoch(header.version)))
        });
        let discarded = before - events.len();
        if discarded != 0 {
            debug!(discarded, "events of before this connection discarded");
        }
        for (header, data) in events {
            if let Some(event) = self.event(&header, data) {
                self.outbox.push(Message::Event(event));
            }
        }
        self.release_waiting();
    }
}

/// Whether the kernel says that the ring is not empty.
fn readable(ring: &impl AsFd) -> bool {
    let mut poll = libc::pollfd {
        fd: ring.as_fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd; no waiting.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 && poll.revents & libc::POLLIN != 0 }
}
