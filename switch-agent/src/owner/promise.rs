//! Rules that the coordinator would remove as idle: votes, promises, and packets that wait for the decision (consistency rule 14).
//!
//! A vote takes a grace period, for all rules that are asked about together: the rules are marked first; whatever did not see the mark has then
//! been counted, and only then does a look at the counters say something. A rule that turns out to have been used is unmarked at once. The
//! marks are in the kernel's memory: an agent that is started anew keeps every promise until the coordinator says which ones stand.

use std::collections::HashMap;
use std::time::Duration;

use lime_core::{Epoch, NetworkId, PortId, RuleId};
use lime_proto::v1::{self, agent_message::Message};
use switch_abi::{EventHeader, TUNNEL_GROUP};
use tracing::{debug, warn};

use super::Owner;
use super::grace::After;
use crate::error::chain;
use crate::packet::segments;
use crate::packet_out::{Tag, WaitingPacket};

/// Packets that enter again before one is waited for: far fewer than Linux takes in without having processed any (net.core.netdev_max_backlog).
const AT_ONCE: usize = 128;

type Key = (NetworkId, RuleId);

/// Votes that have not been given, and parts of a message.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// The round that each rule is asked about in.
    asked: HashMap<Key, u64>,
    /// Promises that stand, as far as the coordinator has said.
    standing: HashMap<NetworkId, Vec<RuleId>>,
}

impl Votes {
    /// What came on another stream is not answered on this one.
    pub fn clear(&mut self) {
        self.asked.clear();
        self.standing.clear();
    }
}

impl Owner {
    pub(super) fn ask_idle(&mut self, ask: v1::AskIdle) {
        let network = NetworkId(ask.network);
        let rules: Vec<RuleId> = ask.rule_ids.into_iter().map(RuleId).collect();
        if let Err(error) = self
            .datapath
            .set_promised(network, rules.iter().copied(), true)
        {
            // It is not voted then; the coordinator does not wait for ever.
            warn!(%network, error = chain(&error), "asked about rules that are not here");
            return;
        }
        for rule in &rules {
            self.votes.asked.insert((network, *rule), ask.round);
        }
        self.grace.after(After::Vote {
            session: self.outbox.session(),
            network,
            round: ask.round,
            rules,
        });
    }

    /// Nothing that did not see the marks is running any more.
    pub(super) fn vote(&mut self, network: NetworkId, round: u64, rules: &[RuleId]) {
        let mut vote = v1::IdleVote {
            network: network.0,
            round,
            ..Default::default()
        };
        let mut used = Vec::new();
        for &rule in rules {
            if self.votes.asked.get(&(network, rule)) != Some(&round) {
                // Lifted, or asked about again, meanwhile.
                continue;
            }
            self.votes.asked.remove(&(network, rule));
            let Some(counters) = self.counted(network, rule) else {
                continue;
            };
            let timeout = self.idle.timeout((network, rule));
            let idle = counters.idle_ms.map(Duration::from_millis);
            if timeout.is_some_and(|timeout| idle.is_none_or(|idle| idle >= timeout)) {
                vote.promised.push(counters);
            } else {
                used.push(rule);
                vote.used.push(counters);
            }
        }
        self.unmark(network, used);
        self.outbox.push(Message::IdleVote(vote));
        self.release_waiting();
    }

    fn unmark(&mut self, network: NetworkId, rules: Vec<RuleId>) {
        if let Err(error) = self.datapath.set_promised(network, rules, false) {
            debug!(%network, error = chain(&error), "promises of a network that is not here");
        }
    }

    pub(super) fn lift_promises(&mut self, lift: v1::LiftPromises) {
        let network = NetworkId(lift.network);
        let rules: Vec<RuleId> = lift.rule_ids.into_iter().map(RuleId).collect();
        for rule in &rules {
            self.votes.asked.remove(&(network, *rule));
        }
        self.unmark(network, rules);
    }

    pub(super) fn standing_promises(&mut self, standing: v1::StandingPromises) {
        let network = NetworkId(standing.network);
        let parts = self.votes.standing.entry(network).or_default();
        parts.extend(standing.rule_ids.into_iter().map(RuleId));
        if standing.more {
            return;
        }
        let stand = self.votes.standing.remove(&network).unwrap_or_default();
        self.votes.asked.retain(|(n, _), _| *n != network);
        let keep: std::collections::HashSet<RuleId> = stand.iter().copied().collect();
        let marked = self.datapath.promised(network).unwrap_or_default();
        let lifted = marked.into_iter().filter(|rule| !keep.contains(rule));
        let lifted = lifted.collect();
        self.unmark(network, lifted);
        // A host that has lost what it had got the rules anew, without the marks.
        if let Err(error) = self.datapath.set_promised(network, stand, true) {
            debug!(%network, error = chain(&error), "promises of a network that is not here");
        }
    }

    /// A packet that came in while the rule that it would match is marked. What a local stack has left to do is done here.
    pub(super) fn packet_waits(&mut self, header: &EventHeader, packet: Vec<u8>) {
        let network = NetworkId(header.network);
        let desired = self.networks.get(&network).and_then(|n| n.desired());
        let Some(vni) = desired.map(|d| d.vni) else {
            debug!(%network, "a packet waits for a network that is not here; dropped");
            return;
        };
        let (port, clock) = (PortId(header.in_port), Epoch(header.version));
        let tag = Tag {
            argument: header.cookie as u32,
            queue: (header.cookie >> 32) as u16,
            bucket: header.hops,
            ..Tag::new(vni, header.table, port, clock)
        };
        let Some(packets) = segments(packet, header.reason as usize) else {
            debug!(%network, "a packet that waits cannot be segmented; dropped");
            self.waiting.drop_one(network, tag.port);
            return;
        };
        for packet in packets {
            let rule = (header.rule_slot, RuleId(header.rule_id));
            self.waiting
                .wait(network, WaitingPacket { rule, tag, packet });
        }
    }

    /// Has packets enter again that need not wait any more, in their order.
    pub(super) fn release_waiting(&mut self) {
        let datapath = &self.datapath;
        let released = self
            .waiting
            .release(|network, (slot, rule)| datapath.is_awaited(network, slot, rule));
        for (i, (network, WaitingPacket { tag, packet, .. })) in released.into_iter().enumerate() {
            let Ok(clock) = self.datapath.clock(network) else {
                continue;
            };
            // As any packet that comes in now; but a copy for a group meets the group that it was made for.
            let clock = if tag.kind == TUNNEL_GROUP {
                tag.clock
            } else {
                clock
            };
            let tag = Tag { clock, ..tag };
            let sent = if i % AT_ONCE == AT_ONCE - 1 {
                self.injector.send(&tag, &packet)
            } else {
                self.injector.post(&tag, &packet)
            };
            if let Err(error) = sent {
                debug!(%network, error = chain(&error), "a packet that waited does not enter again");
                self.waiting.drop_one(network, tag.port);
            }
        }
    }
}
