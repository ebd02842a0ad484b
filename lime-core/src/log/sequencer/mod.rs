//! The sequencer: its state, what can be asked of it, and what comes from above.

mod agents;
mod members;
mod phase;
mod protocol;
mod void;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;

use phase::Phase;

use super::hold::HoldBack;
use super::{Entry, EntryKind, Member, Output, Ticket};
use crate::{Consistency, Epoch, HostId, SwitchId};

/// Rule operations that share one batch; a single larger request still goes as one.
pub const MAX_BATCH: usize = 4096;

/// Rule operations that may wait for a batch; beyond, the shell refuses updates and names who is waited for.
pub const MAX_PENDING: usize = 1 << 20;

/// Removed rules after which collection is asked for without waiting for [`Sequencer::collect`].
const COLLECT_AT: usize = 4096;

/// The coordinator's half of the protocol for one network; `E` is what the shell carries of an event.
/// `Hash` is over all of it: what the model checker tells states apart by.
#[derive(Clone, Debug, Hash)]
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
    /// The strict update that is being activated (rule 20).
    phase: Option<Phase>,
    pending: VecDeque<(Ticket, EntryKind)>,
    pending_weight: usize,
    /// Submissions that have an epoch and are not complete.
    sealed: VecDeque<(Ticket, Epoch)>,
    members: BTreeMap<HostId, Member>,
    frozen: u32,
    suspended: bool,
    freezes: Vec<Ticket>,
    hold: HoldBack<E>,
    packet_outs: VecDeque<(Ticket, u64, bool)>,
    outstanding: BTreeSet<u64>,
    barriers: Vec<Barrier>,
    removed: usize,
    removed_upto: Epoch,
    next_ticket: u64,
    out: Vec<Output<E>>,
}

#[derive(Clone, Debug, Hash)]
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
            phase: None,
            pending: VecDeque::new(),
            pending_weight: 0,
            sealed: VecDeque::new(),
            members: BTreeMap::new(),
            frozen: 0,
            suspended: false,
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

    /// Changes that are decided and that not all members have acknowledged, in order.
    pub fn undone(&self) -> impl Iterator<Item = &EntryKind> {
        let logged = self.entries.iter();
        let logged = logged.filter(|e| self.acknowledged.lt(e.epoch));
        let pending = self.pending.iter().map(|(_, kind)| kind);
        logged.map(|e| &e.kind).chain(pending)
    }

    /// Whether a host is to become an instance of the switch by an entry that has no epoch yet.
    pub fn awaits_join(&self, switch: SwitchId) -> bool {
        let joins = |kind: &EntryKind| matches!(kind, EntryKind::Join { switch: Some(s), .. } if *s == switch);
        self.pending.iter().any(|(_, kind)| joins(kind))
    }

    /// Events held back, and events dropped because too many were.
    pub fn held_events(&self) -> (usize, u64) {
        (self.hold.len(), self.hold.dropped())
    }

    /// Members that something waits for: not connected, or behind.
    pub fn waiting_for(&self) -> Vec<HostId> {
        let behind = |h: HostId, m: &Member| {
            !m.connected
                || m.staged.lt(self.logged)
                || m.acknowledged.lt(self.told(h))
                || self.phase.as_ref().is_some_and(|p| p.awaits(h, m))
        };
        let full = self.members.iter().filter(|(_, m)| m.is_full());
        let full = full.map(|(h, m)| (*h, m));
        full.filter(|(h, m)| behind(*h, m))
            .map(|(h, _)| h)
            .collect()
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

    /// A packet-out, to be sent when the submissions up to `after` (of the same controller) have been activated: rule 11. `exact`: it goes
    /// through tables or to the controller, so it shows whether something submitted later has been activated too.
    pub fn packet_out(&mut self, after: Ticket, id: u64, exact: bool) {
        self.packet_outs.push_back((after, id, exact));
        self.outstanding.insert(id);
        self.pump();
    }

    /// The packet-out was executed, or never will be.
    pub fn packet_out_done(&mut self, id: u64) {
        self.outstanding.remove(&id);
        self.packet_outs.retain(|(_, i, _)| *i != id);
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

    /// Rules 16 and 19: no activation is sent until [`resume_activations`](Self::resume_activations), not even of what a recovery rolls
    /// forward. For a network that was frozen when the coordinator died: its clocks are equal, and stay so.
    pub fn suspend_activations(&mut self) {
        self.suspended = true;
    }

    /// Whether activations are suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Ends what [`suspend_activations`](Self::suspend_activations) began.
    pub fn resume_activations(&mut self) {
        self.suspended = false;
        self.pump();
    }

    /// Ask for the collection of what was removed since the last time, if anything was.
    pub fn collect(&mut self) {
        if self.removed > 0 && self.removed_upto.le(self.acknowledged) {
            self.removed = 0;
            self.out.push(Output::Collect(self.acknowledged));
        }
    }
}
