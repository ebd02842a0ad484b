//! Carrying out what the sequencer decides.

use std::sync::Arc;
use std::time::Duration;

use lime_core::log::{Entry, EntryKind, Output};
use lime_core::model::relay_phase;
use lime_core::{Consistency, Epoch, HostId};
use lime_proto::v1;
use tracing::{debug, error, warn};
use v1::coordinator_message::Message;

use super::state::State;
use super::wire;
use crate::store::{Change, RuleRecord};

/// Longest random delay of an activation in a network without consistency.
const NAIVE_DELAY: Duration = Duration::from_millis(60);

impl State {
    /// Does what the sequencer has decided, until it has nothing more.
    pub(super) fn carry_out(&mut self) {
        loop {
            let outputs = self.seq.outputs();
            if outputs.is_empty() {
                break;
            }
            for output in outputs {
                self.carry_out_one(output);
            }
        }
        self.past = self.collectable();
        let idle = self.seq.pending() == 0;
        let (activated, last) = (self.seq.activated(), self.seq.last());
        if idle && activated == last {
            self.rules.settled(activated, true);
        }
    }

    fn carry_out_one(&mut self, output: Output<v1::ControllerEvent>) {
        match output {
            Output::Log(entries) => self.write_log(entries),
            Output::Stage {
                host,
                entry,
                replace,
            } => self.send_stage(host, &entry, replace),
            Output::Activate {
                host,
                epoch,
                delayed,
            } => self.send_activate(host, epoch, delayed),
            Output::EnterRelay {
                host,
                epoch,
                switch,
                primary,
            } => self.send(
                host,
                Message::EnterRelay(v1::EnterRelay {
                    network: self.model.id.0,
                    switch_id: switch.0,
                    epoch: epoch.0,
                    primary: primary.0,
                }),
            ),
            Output::Voided(entries) => self.write_voided(&entries),
            Output::Failed {
                ticket,
                unsealed,
                error,
            } => {
                if let Some(kind) = unsealed {
                    self.give_back_rules(&kind);
                    self.undo_rules(&kind);
                }
                if let Some(waiter) = self.waiters.remove(&ticket) {
                    waiter(self, Err(error));
                }
            }
            Output::Completed { ticket, epoch } => {
                if let Some(waiter) = self.waiters.remove(&ticket) {
                    waiter(self, Ok(epoch));
                }
            }
            Output::Settled(entry) => self.settle(&entry),
            Output::Release(event) => self.publish(&event),
            Output::ReleaseHeld { host, id } => {
                self.send(
                    host,
                    Message::ReleaseHeld(v1::ReleaseHeld { held_ids: vec![id] }),
                );
            }
            Output::SendPacketOut { id, min_clock } => self.send_packet_out(id, min_clock),
            Output::LearnerFailed(host, reason) => {
                warn!(network = %self.model.name, host = %self.shared.hosts.name(host), "a new instance could not follow: {reason}");
                // Its stream goes down, and with it the operation that waits for it.
                if let Some(session) = self.sessions.get(&host) {
                    session.cancel.cancel();
                }
            }
            Output::Collect(epoch) => self.collect(epoch),
        }
    }

    pub(super) fn send(&self, host: HostId, message: Message) {
        if let Some(session) = self.sessions.get(&host) {
            session.send(message);
        }
    }

    /// Rule 19: the store has an entry before anybody else.
    fn write_log(&mut self, mut entries: Vec<Arc<Entry>>) {
        let id = self.model.id;
        let mut changes = Vec::new();
        let mut membership = false;
        for entry in &mut entries {
            self.rules.sealed(entry);
            membership |= self.seal_membership(&entry.kind, entry.epoch);
            self.choose_primary(entry);
            changes.push(Change::entry(id, entry));
            self.stored_log.push_back(entry.epoch);
            if let EntryKind::Update {
                switch,
                add,
                remove,
                ..
            } = &entry.kind
            {
                for added in add {
                    let record = RuleRecord {
                        switch: *switch,
                        from: entry.epoch,
                        rule: Arc::clone(&added.rule),
                        counts: added.counts,
                        since: self.begins(added.id),
                    };
                    changes.push(Change::rule(id, added.id, &record));
                }
                changes.extend(remove.iter().map(|r| Change::no_rule(id, r.id)));
            }
        }
        changes.extend(self.truncate_log());
        if membership {
            changes.push(Change::network(&self.model));
        }
        let commit = self.shared.store.commit(changes);
        self.later(commit, move |state, result| match result {
            Ok(()) => state.entries_logged(&entries),
            Err(e) => state.shared.fail(&e),
        });
    }

    /// Rule 20: who processes the switch's packets while an update of it is made.
    fn choose_primary(&mut self, entry: &mut Arc<Entry>) {
        if let EntryKind::Update { switch, .. } = entry.kind
            && self.model.consistency == Consistency::Strict
            && let Some(relay) = relay_phase(&self.model, switch)
            && let Some(whole) = self.seq.set_relay(entry.epoch, relay)
        {
            *entry = whole;
        }
    }

    /// Entries that everybody has acknowledged leave the store with the next commit.
    fn truncate_log(&mut self) -> Vec<Change> {
        self.truncate_log_to(self.seq.acknowledged())
    }

    /// The same, up to this epoch, which everybody has acknowledged.
    pub(super) fn truncate_log_to(&mut self, acknowledged: Epoch) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(&epoch) = self.stored_log.front() {
            if !epoch.le(acknowledged) {
                break;
            }
            self.stored_log.pop_front();
            changes.push(Change::no_entry(self.model.id, epoch));
        }
        if !changes.is_empty() {
            changes.push(Change::acknowledged(self.model.id, acknowledged));
        }
        changes
    }

    fn entries_logged(&mut self, entries: &[Arc<Entry>]) {
        for entry in entries {
            // Rule 15: a host knows its join or retire epoch before that is staged.
            if let EntryKind::Join { host, .. } | EntryKind::Retire { host, .. } = entry.kind {
                self.reconfigure(host, "configuring for a join or retirement");
            }
        }
        if let Some(last) = entries.last() {
            self.seq.set_logged(last.epoch);
        }
    }

    fn send_stage(&mut self, host: HostId, entry: &Entry, replace: bool) {
        let Some(session) = self.sessions.get(&host) else {
            return;
        };
        let mut wanted = None;
        if let EntryKind::Update { switch, .. } = entry.kind {
            // Rule 7: a host without an instance gets only the number.
            let learning = self.clones.get(&(switch, host));
            let state = self.model.switches.get(&switch);
            let state = state.and_then(|s| s.instances.get(&host));
            let has = match state {
                None => false,
                Some(state) if state.is_learning() => learning.is_some_and(|at| at.lt(entry.epoch)),
                Some(_) => true,
            };
            wanted = has.then(|| self.model.switches.get(&switch)).flatten();
        }
        for part in wire::stage(self.model.id, entry, wanted, replace) {
            session.send(Message::Stage(part));
        }
    }

    fn send_activate(&self, host: HostId, epoch: Epoch, delayed: bool) {
        let Some(session) = self.sessions.get(&host).cloned() else {
            return;
        };
        let message = Message::Activate(v1::Activate {
            network: self.model.id.0,
            epoch: epoch.0,
            past: self.past.0,
        });
        if delayed {
            let delay = random_below(NAIVE_DELAY);
            self.shared.tasks.spawn(async move {
                tokio::time::sleep(delay).await;
                session.send(message);
            });
        } else {
            session.send(message);
        }
    }

    fn write_voided(&mut self, entries: &[Arc<Entry>]) {
        let id = self.model.id;
        let mut changes = Vec::new();
        for entry in entries {
            self.give_back_rules(&entry.kind);
            self.undo_rules(&entry.kind);
            let void = Entry::new(entry.epoch, EntryKind::Void);
            changes.push(Change::entry(id, &void));
            if let EntryKind::Update {
                switch,
                add,
                remove,
                ..
            } = &entry.kind
            {
                changes.extend(add.iter().map(|a| Change::no_rule(id, a.id)));
                changes.extend(remove.iter().map(|r| {
                    let record = RuleRecord {
                        switch: *switch,
                        from: r.from.unwrap_or_default(),
                        rule: Arc::clone(&r.rule),
                        counts: r.counts,
                        since: r.since.unwrap_or_default(),
                    };
                    Change::rule(id, r.id, &record)
                }));
            }
        }
        debug!(network = %self.model.name, entries = entries.len(), "voided an update that a host could not stage");
        let commit = self.shared.store.commit(changes);
        self.later(commit, |state, result| {
            if let Err(e) = result {
                state.shared.fail(&e);
            }
        });
    }

    /// Rules of a change that will not be are free again on the hosts.
    pub(super) fn give_back_rules(&self, kind: &EntryKind) {
        if let EntryKind::Update { switch, add, .. } = kind {
            let rules = i64::try_from(add.len()).unwrap_or(i64::MAX);
            let switch = self.model.switches.get(switch);
            for host in switch.iter().flat_map(|s| s.instances.keys()) {
                self.shared.hosts.take_rules(*host, -rules);
            }
        }
    }

    /// Sends a host its desired state; an error is logged.
    pub(super) fn reconfigure(&mut self, host: HostId, what: &'static str) {
        let Some(session) = self.sessions.get(&host).cloned() else {
            return;
        };
        if !self.model.members.contains_key(&host) {
            error!(network = %self.model.name, host = %session.name, "not a member, so not configured");
            return;
        }
        let id = session.next_id();
        session.expect(id, crate::agents::Waiting::Nobody(what));
        session.send(Message::Configure(self.configure(host, id, false)));
    }
}

/// Not for secrets: the clock's low digits, stirred.
fn random_below(limit: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let n = RandomState::new().hash_one(0u8);
    let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(n % micros)
}
