//! From the event ring to the coordinator.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};

use lime_core::{Epoch, NetworkId};
use lime_proto::v1::{self, agent_message::Message};
use switch_abi::{
    EVENT_HELD, EVENT_OUTPUT, EVENT_PACKET_IN, EVENT_REASON_ACTION, EVENT_REASON_INVALID_TTL,
    EVENT_TOO_BIG, EVENT_WAITING, EventHeader, TUNNEL_GROUP,
};
use tracing::debug;

use super::Owner;
use crate::packet::complete_partial;

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
            if header.kind == EVENT_OUTPUT && header.table == TUNNEL_GROUP {
                // What comes of the copy is behind all that is there now.
                bytes = 0;
            }
            self.take_event(&header, data);
        }
        // Of those that have just come, some may not have to wait any more.
        self.release_waiting();
        bytes
    }

    /// Does what a record asks for.
    fn take_event(&mut self, header: &EventHeader, data: Vec<u8>) {
        self.event_was_read(header);
        let network = NetworkId(header.network);
        match header.kind {
            EVENT_WAITING => self.packet_waits(header, data),
            EVENT_TOO_BIG => self.answer_too_big(header, &data),
            EVENT_OUTPUT => self.hold(header, data),
            EVENT_HELD => {
                let due = self.held.ended(network, header.hold);
                self.send_held(due);
            }
            EVENT_PACKET_IN if self.networks.contains_key(&network) => {
                let event = self.packet_in(header, data);
                self.outbox.push(Message::Event(event));
            }
            kind => debug!(kind, %network, "event of another kind or network; dropped"),
        }
    }

    fn packet_in(&mut self, header: &EventHeader, mut data: Vec<u8>) -> v1::Event {
        if data.len() == header.total_len as usize {
            complete_partial(&mut data);
        }
        let held_id = match header.hold {
            0 => 0,
            name => self.held.event(NetworkId(header.network), name),
        };
        let reason = match header.reason {
            EVENT_REASON_ACTION => v1::PacketInReason::Action,
            EVENT_REASON_INVALID_TTL => v1::PacketInReason::InvalidTtl,
            _ => v1::PacketInReason::NoMatch,
        };
        v1::Event {
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
        }
    }

    /// Discards events that are older than these clocks: a greeting says that nothing older comes after it.
    pub(super) fn discard_older(&mut self, clocks: &HashMap<NetworkId, Epoch>) {
        let mut events = Vec::new();
        self.ring
            .get_mut()
            .drain(|header, data| events.push((*header, data.to_vec())));
        self.ring_waiting = readable(&self.ring);
        let before = events.len();
        events.retain(|(header, _)| {
            if header.kind == EVENT_WAITING {
                return true;
            }
            let clock = clocks.get(&NetworkId(header.network));
            let stays = clock.is_some_and(|clock| clock.le(Epoch(header.version)));
            if !stays {
                self.event_was_read(header);
            }
            stays
        });
        let discarded = before - events.len();
        if discarded != 0 {
            debug!(discarded, "events of before this connection discarded");
        }
        for (header, data) in events {
            self.take_event(&header, data);
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
