//! The protocol: what becomes possible when something has happened.

use std::mem;
use std::sync::Arc;

use super::{COLLECT_AT, MAX_BATCH, Sequencer};
use crate::log::{Entry, EntryKind, Member, Output, Ticket};
use crate::{Consistency, Epoch, HostId};

impl<E> Sequencer<E> {
    pub(super) fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    /// Does all that has become possible.
    pub(super) fn pump(&mut self) {
        self.activate();
        self.advance_acknowledged();
        self.send_packet_outs();
        self.seal();
        self.complete_barriers();
        if self.frozen > 0
            && self.recovered()
            && self.acknowledged == self.activated
            && self.phase.is_none()
        {
            for ticket in mem::take(&mut self.freezes) {
                let epoch = self.acknowledged;
                self.out.push(Output::Completed { ticket, epoch });
            }
        }
    }

    /// Rule 19: until then the clocks of hosts may be ahead of `activated`, so nothing may be built on it.
    pub(super) fn recovered(&self) -> bool {
        self.recovery == Epoch::ZERO || self.recovery.le(self.acknowledged)
    }

    pub(super) fn full(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|m| m.is_full())
    }

    /// Group commit: one batch at a time is being logged and staged; all that arrives meanwhile is the next one.
    pub(super) fn seal(&mut self) {
        let strict = self.consistency == Consistency::Strict;
        let waits = match self.consistency {
            Consistency::None => false,
            Consistency::Causal => self.full().any(|m| m.staged.lt(self.last)),
            // Rule 20: one at a time.
            Consistency::Strict => self.acknowledged != self.last,
        };
        let busy = self.logged != self.last || waits;
        if self.pending.is_empty() || busy {
            return;
        }
        // Rule 11: a packet-out that meets tables meets them as they are between its neighbours, so what was submitted behind it must not
        // be activated together with what it waits for. Sent, its place in the stream does it: the host stages what follows after it.
        let exact = self.packet_outs.iter().filter(|(.., exact)| *exact);
        let fence = exact.map(|(after, ..)| *after).min();
        let mut batch: Vec<Entry> = Vec::new();
        let mut weight = 0;
        while let Some((ticket, next)) = self.pending.front() {
            let w = next.weight();
            let full = weight > 0 && weight + w > MAX_BATCH;
            let apart = strict && batch.last().is_some_and(|e| !e.kind.absorbs(next));
            if full || apart || fence.is_some_and(|after| *ticket > after) {
                break;
            }
            weight += w;
            let Some((ticket, kind)) = self.pending.pop_front() else {
                break;
            };
            let apart = match batch.last_mut() {
                Some(entry) => entry.kind.absorb(kind),
                None => Some(kind),
            };
            if let Some(kind) = apart {
                let before = self.last;
                self.last = before.next();
                if let EntryKind::Join { switch: None, host } = kind {
                    self.promote(host, before);
                }
                batch.push(Entry::new(self.last, kind));
            }
            self.sealed.push_back((ticket, self.last));
        }
        self.pending_weight -= weight;
        if batch.is_empty() {
            return;
        }
        self.batch_ends.push_back(self.last);
        let batch: Vec<Arc<Entry>> = batch.into_iter().map(Arc::new).collect();
        self.entries.extend(batch.iter().cloned());
        self.out.push(Output::Log(batch));
    }

    /// Rule 15: from its join epoch on the host counts; it has nothing older to acknowledge.
    pub(super) fn promote(&mut self, host: HostId, before: Epoch) {
        if let Some(member) = self.members.get_mut(&host)
            && member.since.is_none()
        {
            member.since = Some(self.last);
            member.acknowledged = before;
        }
    }

    /// Rule 7: everything logged that the host has not been sent, in order.
    pub(super) fn send_stages(&mut self, host: HostId) {
        let Some(member) = self.members.get_mut(&host).filter(|m| m.connected) else {
            return;
        };
        for entry in &self.entries {
            if member.sent.lt(entry.epoch) && entry.epoch.le(self.logged) {
                debug_assert_eq!(entry.epoch, member.sent.next(), "staged is a prefix");
                member.sent = entry.epoch;
                member.unanswered += 1;
                self.out.push(Output::Stage {
                    host,
                    entry: Arc::clone(entry),
                    replace: false,
                });
            }
        }
    }

    /// Rule 8: only what is staged on every member, then to all of them.
    pub(super) fn activate(&mut self) {
        if self.phase.is_some() {
            // What has begun goes on, frozen or not: somebody may have used it.
            self.advance_phase();
            return;
        }
        if self.consistency == Consistency::None
            || self.suspended
            || (self.frozen > 0 && self.recovered())
        {
            return;
        }
        let mut to = None;
        while let Some(&end) = self.batch_ends.front() {
            let void = self.members.values().any(Member::has_void);
            if !end.le(self.logged) || void || self.full().any(|m| m.staged.lt(end)) {
                break;
            }
            to = self.batch_ends.pop_front();
        }
        let Some(epoch) = to else { return };
        if !self.begin_phase(epoch) {
            self.activate_all(epoch);
        }
    }

    pub(super) fn activate_all(&mut self, epoch: Epoch) {
        debug_assert!(self.activated.lt(epoch), "a clock never goes back");
        self.activated = epoch;
        let behind = self.members.iter();
        let behind = behind.filter(|(_, m)| m.acknowledged.lt(epoch));
        let hosts: Vec<HostId> = behind.map(|(h, _)| *h).collect();
        for host in hosts {
            self.activate_one(host);
        }
    }

    pub(super) fn activate_one(&mut self, host: HostId) {
        let Some(member) = self.members.get(&host) else {
            return;
        };
        let epoch = self.told(host);
        if member.connected && member.is_full() && epoch != Epoch::ZERO {
            self.out.push(Output::Activate {
                host,
                epoch,
                delayed: false,
            });
        }
    }

    pub(super) fn advance_acknowledged(&mut self) {
        let consistent = self.consistency.is_consistent();
        let mut to = self.activated;
        for member in self.members.values() {
            if !consistent || !member.is_full() {
                continue;
            }
            to = to.min(member.acknowledged);
        }
        if self.acknowledged.lt(to) {
            let from = mem::replace(&mut self.acknowledged, to);
            // Replies and events in the order of one switch: what happened before an epoch, what it ended, its replies, what came after.
            let settled = |e: &&Arc<Entry>| from.lt(e.epoch) && e.epoch.le(to);
            let entries: Vec<_> = self.entries.iter().filter(settled).cloned().collect();
            for entry in entries {
                self.complete_before(entry.epoch);
                self.release_before(entry.epoch);
                if matches!(entry.kind, EntryKind::Update { .. }) {
                    self.out.push(Output::Settled(entry));
                }
            }
            self.complete_before(to.next());
            self.release_upto(to);
        }
        self.forget_entries();
    }

    /// Replies to submissions of epochs before this one.
    fn complete_before(&mut self, end: Epoch) {
        while let Some(&(ticket, epoch)) = self.sealed.front() {
            if !epoch.lt(end) {
                break;
            }
            self.release_before(epoch);
            self.sealed.pop_front();
            self.out.push(Output::Completed { ticket, epoch });
        }
    }

    pub(super) fn release_before(&mut self, epoch: Epoch) {
        let before = epoch.previous();
        self.release_upto(before);
    }

    /// Rule 10.
    pub(super) fn release_upto(&mut self, upto: Epoch) {
        debug_assert!(upto.le(self.acknowledged));
        while let Some(event) = self.hold.release(upto) {
            self.out.push(Output::Release(event));
        }
    }

    pub(super) fn forget_entries(&mut self) {
        while let Some(front) = self.entries.front() {
            let epoch = front.epoch;
            let needed =
                self.acknowledged.lt(epoch) || self.members.values().any(|m| m.staged.lt(epoch));
            if needed {
                break;
            }
            if let EntryKind::Update { remove, .. } = &front.kind
                && !remove.is_empty()
            {
                self.removed += remove.len();
                self.removed_upto = epoch;
            }
            self.entries.pop_front();
        }
        if self.removed >= COLLECT_AT {
            self.collect();
        }
    }

    /// Whether nothing submitted up to this ticket waits for its activation.
    pub(super) fn is_activated(&self, after: Ticket) -> bool {
        let waiting = self.pending.front().map(|(t, _)| *t);
        let mut sealed = self.sealed.iter();
        let inactive = sealed.find(|(_, e)| self.activated.lt(*e)).map(|(t, _)| *t);
        self.recovered() && waiting.is_none_or(|t| t > after) && inactive.is_none_or(|t| t > after)
    }

    pub(super) fn send_packet_outs(&mut self) {
        if self.consistency == Consistency::Strict && self.acknowledged != self.last {
            // Rule 21: one that is relayed to the primary could come there after what is submitted later.
            return;
        }
        let waiting = mem::take(&mut self.packet_outs);
        for (after, id, exact) in waiting {
            if self.is_activated(after) {
                let min_clock = self.activated;
                self.out.push(Output::SendPacketOut { id, min_clock });
            } else {
                self.packet_outs.push_back((after, id, exact));
            }
        }
    }

    pub(super) fn complete_barriers(&mut self) {
        for mut barrier in mem::take(&mut self.barriers) {
            barrier
                .packet_outs
                .retain(|id| self.outstanding.contains(id));
            let waiting = self.pending.front().map(|(t, _)| *t);
            let sealed = self.sealed.front().map(|(t, _)| *t);
            let settled = |t: Option<Ticket>| t.is_none_or(|t| t > barrier.after);
            if barrier.packet_outs.is_empty() && settled(waiting) && settled(sealed) {
                self.out.push(Output::Completed {
                    ticket: barrier.ticket,
                    epoch: self.acknowledged,
                });
            } else {
                self.barriers.push(barrier);
            }
        }
    }
}
