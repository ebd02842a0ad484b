//! The sequencer: see the module above.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;

use super::hold::HoldBack;
use super::{Entry, EntryKind, Member, Output, ProtocolError, Resume, StageError, Ticket};
use crate::{Consistency, Epoch, HostId};

/// Rule operations that share one batch; a single larger request still goes as one.
pub const MAX_BATCH: usize = 4096;

/// Rule operations that may wait for a batch; beyond, the shell refuses updates and names who is waited for.
pub const MAX_PENDING: usize = 1 << 20;

/// Removed rules after which collection is asked for without waiting for [`Sequencer::collect`].
const COLLECT_AT: usize = 4096;

/// The coordinator's half of the protocol for one network; `E` is what the shell carries of an event.
#[derive(Clone, Debug)]
pub struct Sequencer<E> {
    consistency: Consistency,
    /// Last entry made, last one in the store, last one activated, last one that all members acknowledged.
    last: Epoch,
    logged: Epoch,
    activated: Epoch,
    acknowledged: Epoch,
    /// Events below this one belong to the time before a restart (rule 19).
    recovery: Epoch,
    /// Entries that some member may still need.
    entries: VecDeque<Arc<Entry>>,
    /// Last epochs of batches above `activated`. Clocks stop only there, so a batch takes effect as a whole.
    batch_ends: VecDeque<Epoch>,
    pending: VecDeque<(Ticket, EntryKind)>,
    pending_weight: usize,
    /// Submissions that have an epoch and are not complete.
    sealed: VecDeque<(Ticket, Epoch)>,
    members: BTreeMap<HostId, Member>,
    frozen: u32,
    freezes: Vec<Ticket>,
    hold: HoldBack<E>,
    packet_outs: VecDeque<(Ticket, u64)>,
    outstanding: BTreeSet<u64>,
    barriers: Vec<Barrier>,
    removed: usize,
    removed_upto: Epoch,
    next_ticket: u64,
    out: Vec<Output<E>>,
}

#[derive(Clone, Debug)]
struct Barrier {
    ticket: Ticket,
    after: Ticket,
    packet_outs: BTreeSet<u64>,
}

impl<E> Sequencer<E> {
    /// A new network's: nobody, nothing.
    pub fn new(consistency: Consistency) -> Self {
        Self::build(consistency, Epoch::ZERO)
    }

    /// After a restart (rule 19): `tail` is every entry above `acknowledged`, which all `members` had acknowledged. All of it is rolled
    /// forward, and an entry of its own ends the recovery; its ticket is returned. Events older than that are dropped.
    pub fn recover(
        consistency: Consistency,
        acknowledged: Epoch,
        tail: Vec<Entry>,
        members: impl IntoIterator<Item = HostId>,
    ) -> (Self, Ticket) {
        let mut this = Self::build(consistency, acknowledged);
        for entry in tail {
            debug_assert_eq!(entry.epoch, this.last.next(), "journal entries only grow");
            this.last = entry.epoch;
            this.entries.push_back(Arc::new(entry));
        }
        this.logged = this.last;
        if this.last != acknowledged {
            this.batch_ends.push_back(this.last);
        }
        this.recovery = this.last.next();
        for host in members {
            let mut member = Member::learner(acknowledged);
            member.connected = false;
            member.acknowledged = acknowledged;
            member.since = Some(acknowledged);
            this.members.insert(host, member);
        }
        let ticket = this.submit(EntryKind::Recovery);
        (this, ticket)
    }

    fn build(consistency: Consistency, at: Epoch) -> Self {
        Self {
            consistency,
            last: at,
            logged: at,
            activated: at,
            acknowledged: at,
            recovery: Epoch::ZERO,
            entries: VecDeque::new(),
            batch_ends: VecDeque::new(),
            pending: VecDeque::new(),
            pending_weight: 0,
            sealed: VecDeque::new(),
            members: BTreeMap::new(),
            frozen: 0,
            freezes: Vec::new(),
            hold: HoldBack::new(at),
            packet_outs: VecDeque::new(),
            outstanding: BTreeSet::new(),
            barriers: Vec::new(),
            removed: 0,
            removed_upto: at,
            next_ticket: 1,
            out: Vec::new(),
        }
    }

    // ---- what can be asked ----

    /// Last entry of the log that is in the store.
    pub fn logged(&self) -> Epoch {
        self.logged
    }

    /// Last entry made; from here on snapshots are behind.
    pub fn last(&self) -> Epoch {
        self.last
    }

    /// Highest epoch activated in the network.
    pub fn activated(&self) -> Epoch {
        self.activated
    }

    /// Highest epoch that all members have acknowledged.
    pub fn acknowledged(&self) -> Epoch {
        self.acknowledged
    }

    /// The newest ticket: a barrier behind it is behind everything so far.
    pub fn last_ticket(&self) -> Ticket {
        Ticket(self.next_ticket - 1)
    }

    /// One member or learner.
    pub fn member(&self, host: HostId) -> Option<&Member> {
        self.members.get(&host)
    }

    /// Rule operations waiting for an epoch.
    pub fn pending(&self) -> usize {
        self.pending_weight
    }

    /// Events held back, and events dropped because too many were.
    pub fn held_events(&self) -> (usize, u64) {
        (self.hold.len(), self.hold.dropped())
    }

    /// Members that something waits for: not connected, or behind.
    pub fn waiting_for(&self) -> Vec<HostId> {
        let behind = |m: &Member| {
            !m.connected || m.staged.lt(self.logged) || m.acknowledged.lt(self.activated)
        };
        let full = self.members.iter().filter(|(_, m)| m.is_full());
        full.filter(|(_, m)| behind(m)).map(|(h, _)| *h).collect()
    }

    /// What to do, in order. Call it after every other call.
    pub fn outputs(&mut self) -> Vec<Output<E>> {
        mem::take(&mut self.out)
    }

    // ---- what comes from above ----

    /// A change. It shares an epoch with others that arrive while the one before is being staged (group commit).
    pub fn submit(&mut self, kind: EntryKind) -> Ticket {
        let ticket = self.ticket();
        self.pending_weight += kind.weight();
        self.pending.push_back((ticket, kind));
        self.pump();
        ticket
    }

    /// The entries up to `epoch` are in the store.
    pub fn set_logged(&mut self, epoch: Epoch) {
        debug_assert!(self.logged.le(epoch) && epoch.le(self.last));
        self.logged = epoch;
        let hosts: Vec<HostId> = self.members.keys().copied().collect();
        for host in hosts {
            self.send_stages(host);
        }
        if self.consistency == Consistency::None {
            // No promise, no waiting: each host on its own, whenever.
            self.activated = epoch;
            self.batch_ends.clear();
            for (&host, _) in self.members.iter().filter(|(_, m)| m.connected) {
                self.out.push(Output::Activate {
                    host,
                    epoch,
                    delayed: true,
                });
            }
        }
        self.pump();
    }

    /// A packet-out, to be sent when the submissions up to `after` (of the same controller) have been activated: rule 11.
    pub fn packet_out(&mut self, after: Ticket, id: u64) {
        self.packet_outs.push_back((after, id));
        self.outstanding.insert(id);
        self.pump();
    }

    /// The packet-out was executed, or never will be.
    pub fn packet_out_done(&mut self, id: u64) {
        self.outstanding.remove(&id);
        self.packet_outs.retain(|(_, i)| *i != id);
        self.pump();
    }

    /// Rule 12: complete when all submissions up to `after` are acknowledged by all members and these packet-outs are done.
    pub fn barrier(&mut self, after: Ticket, packet_outs: impl IntoIterator<Item = u64>) -> Ticket {
        let ticket = self.ticket();
        self.barriers.push(Barrier {
            ticket,
            after,
            packet_outs: packet_outs.into_iter().collect(),
        });
        self.pump();
        ticket
    }

    /// No activation is sent until [`unfreeze`](Self::unfreeze); the ticket completes when all members have acknowledged the last one, so
    /// that all clocks are equal and stay so.
    pub fn freeze(&mut self) -> Ticket {
        let ticket = self.ticket();
        self.frozen += 1;
        self.freezes.push(ticket);
        self.pump();
        ticket
    }

    /// Ends one freeze, complete or not.
    pub fn unfreeze(&mut self, ticket: Ticket) {
        self.freezes.retain(|t| *t != ticket);
        self.frozen = self.frozen.saturating_sub(1);
        self.pump();
    }

    /// Ask for the collection of what was removed since the last time, if anything was.
    pub fn collect(&mut self) {
        if self.removed > 0 && self.removed_upto.le(self.acknowledged) {
            self.removed = 0;
            self.out.push(Output::Collect(self.acknowledged));
        }
    }

    // ---- membership ----

    /// A host begins to learn: it has been configured and told that everything up to the returned epoch counts as staged; later
    /// entries follow. A [`EntryKind::Join`] without a switch makes it a member.
    pub fn add_learner(&mut self, host: HostId) -> Epoch {
        let at = self.logged;
        self.members.entry(host).or_insert(Member::learner(at));
        at
    }

    /// The host is drained and its counters are read: nobody waits for it any more.
    pub fn remove_member(&mut self, host: HostId) {
        self.members.remove(&host);
        self.pump();
    }

    /// The host's stream is open; `staged` and `clock` are what its agent found.
    pub fn connected(
        &mut self,
        host: HostId,
        staged: Epoch,
        clock: Epoch,
    ) -> Result<Resume, ProtocolError> {
        let (last, logged) = (self.last, self.logged);
        let oldest = self
            .entries
            .front()
            .map_or(logged.next(), |entry| entry.epoch);
        let activated = self.activated;
        let member = self
            .members
            .get_mut(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        if !staged.le(last) {
            return Err(ProtocolError::AheadOfLog { host, staged, last });
        }
        member.connected = true;
        if staged.next().lt(oldest) || (staged == Epoch::ZERO && oldest != Epoch(1)) {
            member.unanswered = 0;
            member.stale = 0;
            member.staged = staged;
            member.sent = logged;
            return Ok(Resume::FromSnapshot(logged));
        }
        debug_assert!(clock.le(staged), "a clock is never above what is staged");
        member.staged = staged;
        member.sent = staged;
        member.unanswered = 0;
        member.stale = 0;
        // What was voided meanwhile may be staged there as it was.
        let void = |e: &&Arc<Entry>| {
            matches!(e.kind, EntryKind::Void) && e.epoch.le(staged) && activated.lt(e.epoch)
        };
        let voided = self.entries.iter().find(void).map(|e| e.epoch);
        let behind = member.is_full() && (clock.lt(activated) || member.acknowledged.lt(activated));
        if let Some(from) = voided {
            self.replace_from(host, from);
        }
        self.send_stages(host);
        if behind && activated != Epoch::ZERO {
            self.out.push(Output::Activate {
                host,
                epoch: activated,
                delayed: false,
            });
        }
        self.pump();
        Ok(Resume::FromLog)
    }

    /// The snapshots that [`Resume::FromSnapshot`] asked for are in the host's stream.
    pub fn snapshot_sent(&mut self, host: HostId, at: Epoch) {
        if let Some(member) = self.members.get_mut(&host) {
            member.sent = at;
        }
        self.send_stages(host);
        self.activate_one(host);
    }

    /// The host has taken the snapshots as of this epoch.
    pub fn snapshot_done(&mut self, host: HostId, at: Epoch) {
        if let Some(member) = self.members.get_mut(&host) {
            member.staged = member.staged.max(at);
        }
        self.pump();
    }

    /// The host's stream has ended. Activations wait until it is back.
    pub fn disconnected(&mut self, host: HostId) {
        if let Some(member) = self.members.get_mut(&host) {
            member.connected = false;
        }
    }

    // ---- what agents say ----

    /// Everything up to `epoch` is staged on the host.
    pub fn staged(&mut self, host: HostId, epoch: Epoch) -> Result<(), ProtocolError> {
        let member = self
            .members
            .get_mut(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        if !epoch.le(member.sent) {
            let sent = member.sent;
            return Err(ProtocolError::StagedUnsent { host, epoch, sent });
        }
        if member.answered() {
            member.staged = member.staged.max(epoch);
        }
        self.pump();
        Ok(())
    }

    /// The host could not stage this epoch. The newest batch is void then, on all members; what waits behind it was decided on top of
    /// it and fails too.
    pub fn stage_failed(
        &mut self,
        host: HostId,
        epoch: Epoch,
        reason: String,
    ) -> Result<(), ProtocolError> {
        let member = self
            .members
            .get_mut(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        if !member.answered() {
            return Ok(());
        }
        if member.since.is_none_or(|since| epoch.lt(since)) {
            // An entry of before its time: others may have activated it.
            self.out.push(Output::LearnerFailed(host, reason));
            return Ok(());
        }
        let mut entries = self.entries.iter();
        let failed = entries.find(|e| e.epoch == epoch).map(|e| &e.kind);
        if epoch.le(self.activated) || !matches!(failed, Some(EntryKind::Update { .. })) {
            return Err(ProtocolError::CannotRefuse {
                host,
                epoch,
                reason,
            });
        }
        let error = StageError {
            host,
            reason,
            collateral: false,
        };
        self.void_above(self.activated, epoch, &error);
        self.pump();
        Ok(())
    }

    /// The host's clock is at least `epoch` and nothing older is under way there (rule 9).
    pub fn acknowledge(&mut self, host: HostId, epoch: Epoch) -> Result<(), ProtocolError> {
        let activated = self.activated;
        let member = self
            .members
            .get_mut(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        if !epoch.le(activated) {
            return Err(ProtocolError::AcknowledgedUnsent {
                host,
                epoch,
                activated,
            });
        }
        // `clock <= staged` holds on the host, so this says as much of what is staged there (a snapshot is answered by another way).
        debug_assert!(
            epoch.le(member.sent),
            "a clock is never above what is staged"
        );
        member.staged = member.staged.max(epoch.min(member.sent));
        member.acknowledged = member.acknowledged.max(epoch);
        self.pump();
        Ok(())
    }

    /// An event from a host, of the version that the packet was processed at; `held` if an output waits for it.
    pub fn event(
        &mut self,
        host: HostId,
        version: Epoch,
        held: Option<u64>,
        event: E,
    ) -> Result<(), ProtocolError> {
        let member = self
            .members
            .get(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        if let Some(id) = held {
            // Rule 5: as soon as it is here, nothing can overtake it.
            self.out.push(Output::ReleaseHeld { host, id });
        }
        if self.consistency == Consistency::None {
            self.out.push(Output::Release(event));
            return Ok(());
        }
        if version.lt(self.recovery) {
            // Rule 19: from before the restart.
            return Ok(());
        }
        if version.lt(member.acknowledged) {
            return Err(ProtocolError::StaleEvent {
                host,
                version,
                acknowledged: member.acknowledged,
            });
        }
        self.hold.insert(version, event);
        self.release_upto(self.acknowledged);
        Ok(())
    }

    // ---- the protocol ----

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    /// Does all that has become possible.
    fn pump(&mut self) {
        self.activate();
        self.advance_acknowledged();
        self.seal();
        self.send_packet_outs();
        self.complete_barriers();
        if self.frozen > 0 && self.recovered() && self.acknowledged == self.activated {
            for ticket in mem::take(&mut self.freezes) {
                let epoch = self.acknowledged;
                self.out.push(Output::Completed { ticket, epoch });
            }
        }
    }

    /// Rule 19: until then the clocks of hosts may be ahead of `activated`, so nothing may be built on it.
    fn recovered(&self) -> bool {
        self.recovery == Epoch::ZERO || self.recovery.le(self.acknowledged)
    }

    fn full(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|m| m.is_full())
    }

    /// Group commit: one batch at a time is being logged and staged; all that arrives meanwhile is the next one.
    fn seal(&mut self) {
        let causal = self.consistency == Consistency::Causal;
        let busy =
            self.logged != self.last || (causal && self.full().any(|m| m.staged.lt(self.last)));
        if self.pending.is_empty() || busy {
            return;
        }
        let mut batch: Vec<Entry> = Vec::new();
        let mut weight = 0;
        while let Some((_, next)) = self.pending.front() {
            let w = next.weight();
            if weight > 0 && weight + w > MAX_BATCH {
                break;
            }
            weight += w;
            let Some((ticket, kind)) = self.pending.pop_front() else {
                break;
            };
            if let Some(kind) = merge(batch.last_mut(), kind) {
                let before = self.last;
                self.last = before.next();
                if let EntryKind::Join { switch: None, host } = kind {
                    self.promote(host, before);
                }
                batch.push(Entry {
                    epoch: self.last,
                    kind,
                });
            }
            self.sealed.push_back((ticket, self.last));
        }
        self.pending_weight -= weight;
        self.batch_ends.push_back(self.last);
        let batch: Vec<Arc<Entry>> = batch.into_iter().map(Arc::new).collect();
        self.entries.extend(batch.iter().cloned());
        self.out.push(Output::Log(batch));
    }

    /// Rule 15: from its join epoch on the host counts; it has nothing older to acknowledge.
    fn promote(&mut self, host: HostId, before: Epoch) {
        if let Some(member) = self.members.get_mut(&host)
            && member.since.is_none()
        {
            member.since = Some(self.last);
            member.acknowledged = before;
        }
    }

    /// Rule 7: everything logged that the host has not been sent, in order.
    fn send_stages(&mut self, host: HostId) {
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

    /// Sends everything from this epoch on once more, since some of it is void now. Until that is answered, it counts as not staged.
    fn replace_from(&mut self, host: HostId, from: Epoch) {
        let Some(member) = self.members.get_mut(&host).filter(|m| m.connected) else {
            return;
        };
        member.staged = member.staged.min(Epoch(from.0.wrapping_sub(1)));
        member.stale = member.unanswered;
        for entry in &self.entries {
            if from.le(entry.epoch) && entry.epoch.le(member.sent) {
                member.unanswered += 1;
                self.out.push(Output::Stage {
                    host,
                    entry: Arc::clone(entry),
                    replace: matches!(entry.kind, EntryKind::Void),
                });
            }
        }
    }

    /// Rule 8: only what is staged on every member, then to all of them.
    fn activate(&mut self) {
        if self.consistency == Consistency::None || (self.frozen > 0 && self.recovered()) {
            return;
        }
        let mut to = None;
        while let Some(&end) = self.batch_ends.front() {
            if !end.le(self.logged) || self.full().any(|m| m.staged.lt(end)) {
                break;
            }
            to = self.batch_ends.pop_front();
        }
        let Some(epoch) = to else { return };
        debug_assert!(self.activated.lt(epoch), "a clock never goes back");
        self.activated = epoch;
        let hosts: Vec<HostId> = self.members.keys().copied().collect();
        for host in hosts {
            self.activate_one(host);
        }
    }

    fn activate_one(&mut self, host: HostId) {
        let Some(member) = self.members.get(&host) else {
            return;
        };
        if member.connected && member.is_full() && self.activated != Epoch::ZERO {
            self.out.push(Output::Activate {
                host,
                epoch: self.activated,
                delayed: false,
            });
        }
    }

    fn advance_acknowledged(&mut self) {
        let causal = self.consistency == Consistency::Causal;
        let mut to = self.activated;
        for member in self.members.values().filter(|m| causal && m.is_full()) {
            to = to.min(member.acknowledged);
        }
        if self.acknowledged.lt(to) {
            self.acknowledged = to;
            // Replies and events in the order of one switch: what happened before an epoch, the epoch's replies, what came after.
            while let Some(&(ticket, epoch)) = self.sealed.front() {
                if !epoch.le(to) {
                    break;
                }
                self.release_before(epoch);
                self.sealed.pop_front();
                self.out.push(Output::Completed { ticket, epoch });
            }
            self.release_upto(to);
        }
        self.forget_entries();
    }

    fn release_before(&mut self, epoch: Epoch) {
        let before = Epoch(epoch.0.wrapping_sub(1));
        self.release_upto(before);
    }

    /// Rule 10.
    fn release_upto(&mut self, upto: Epoch) {
        debug_assert!(upto.le(self.acknowledged));
        while let Some(event) = self.hold.release(upto) {
            self.out.push(Output::Release(event));
        }
    }

    fn forget_entries(&mut self) {
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
    fn is_activated(&self, after: Ticket) -> bool {
        let waiting = self.pending.front().map(|(t, _)| *t);
        let mut sealed = self.sealed.iter();
        let inactive = sealed.find(|(_, e)| self.activated.lt(*e)).map(|(t, _)| *t);
        self.recovered() && waiting.is_none_or(|t| t > after) && inactive.is_none_or(|t| t > after)
    }

    fn send_packet_outs(&mut self) {
        let waiting = mem::take(&mut self.packet_outs);
        for (after, id) in waiting {
            if self.is_activated(after) {
                let min_clock = self.activated;
                self.out.push(Output::SendPacketOut { id, min_clock });
            } else {
                self.packet_outs.push_back((after, id));
            }
        }
    }

    fn complete_barriers(&mut self) {
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

    /// Replaces every update above `activated` in the batch of `failed` (and later ones) by nothing.
    fn void_above(&mut self, activated: Epoch, failed: Epoch, error: &StageError) {
        // Batches before the failing one are staged everywhere (one is under way at a time) and stay.
        let mut keep = activated;
        for &end in &self.batch_ends {
            if end.lt(failed) {
                keep = end;
            }
        }
        let mut voided: Vec<Arc<Entry>> = Vec::new();
        for slot in &mut self.entries {
            if keep.lt(slot.epoch) && matches!(slot.kind, EntryKind::Update { .. }) {
                let void = Arc::new(Entry {
                    epoch: slot.epoch,
                    kind: EntryKind::Void,
                });
                voided.push(mem::replace(slot, void));
            }
        }
        if let Some(first) = voided.first().map(|e| e.epoch) {
            let hosts: Vec<HostId> = self.members.keys().copied().collect();
            for host in hosts {
                self.replace_from(host, first);
            }
        }
        // Changes are undone newest first: what waits, then what was in the log.
        let mut failures = Vec::new();
        let collateral = StageError {
            collateral: true,
            ..error.clone()
        };
        let mut rest = VecDeque::new();
        while let Some((ticket, kind)) = self.pending.pop_back() {
            if matches!(kind, EntryKind::Update { .. }) {
                self.pending_weight -= kind.weight();
                failures.push(Output::Failed {
                    ticket,
                    unsealed: Some(kind),
                    error: collateral.clone(),
                });
            } else {
                rest.push_front((ticket, kind));
            }
        }
        self.pending = rest;
        self.out.append(&mut failures);
        let is_void = |e: Epoch| voided.iter().any(|v| v.epoch == e);
        self.sealed.retain(|&(ticket, epoch)| {
            if !is_void(epoch) {
                return true;
            }
            let error = if epoch == failed { error } else { &collateral };
            failures.push(Output::Failed {
                ticket,
                unsealed: None,
                error: error.clone(),
            });
            false
        });
        self.out
            .push(Output::Voided(voided.into_iter().rev().collect()));
        self.out.append(&mut failures);
    }
}

/// Joins an update to the one before it, if that is of the same switch. A rule that comes and goes within one entry is never visible
/// and leaves both lists. Returns what needs an entry of its own.
fn merge(into: Option<&mut Entry>, kind: EntryKind) -> Option<EntryKind> {
    let (Some(entry), EntryKind::Update { switch, .. }) = (into, &kind) else {
        return Some(kind);
    };
    match &mut entry.kind {
        EntryKind::Update {
            switch: same,
            add: adds,
            remove: removes,
        } if same == switch => {
            let EntryKind::Update { add, remove, .. } = kind else {
                return Some(kind);
            };
            let here: BTreeSet<_> = adds.iter().map(|a| a.id).collect();
            let gone: BTreeSet<_> = remove.iter().map(|r| r.id).collect();
            adds.retain(|a| !gone.contains(&a.id));
            removes.extend(remove.into_iter().filter(|r| !here.contains(&r.id)));
            adds.extend(add);
            None
        }
        _ => Some(kind),
    }
}
