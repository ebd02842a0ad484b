//! From when until when a rule is there, and what of it is told and kept when it has gone.

use std::collections::{BTreeSet, HashMap};

use lime_core::counters::{Count, Counted};
use lime_core::log::{Entry, EntryKind, Removed};
use lime_core::timeouts::RETRY;
use lime_core::{Epoch, RuleId, SwitchId};
use lime_proto::v1;
use v1::coordinator_message::Message;

use super::state::State;
use crate::store::Change;

/// Milliseconds since something took effect; 0 when that is not known.
pub(super) fn age(since: Option<u64>, now: u64) -> u64 {
    since.map_or(0, |since| now.saturating_sub(since))
}

impl State {
    /// After a restart: when the rules that the store has took effect.
    pub fn restore_lifetimes(&mut self, since: HashMap<RuleId, u64>) {
        let now = self.shared.clock.now_ms();
        self.since = since;
        for switch in self.model.switches.keys().copied() {
            for (id, rule) in self.rules.table(switch).into_iter().flat_map(|t| t.iter()) {
                let since = self.since.entry(id).or_default();
                if *since == 0 {
                    *since = now;
                }
                let from = now.saturating_add(RETRY);
                self.timeouts.watch(switch, id, rule, *since, None, from);
            }
        }
    }

    /// A change has been decided. A rule that goes on under another id takes its age along, and what goes does not time out any more.
    pub(super) fn begin_lifetimes(&mut self, kind: &mut EntryKind) {
        let EntryKind::Update {
            switch,
            add,
            remove,
            ..
        } = kind
        else {
            return;
        };
        for added in add {
            let Some(old) = added.continues else { continue };
            if let Some(&since) = self.since.get(&old) {
                self.since.insert(added.id, since);
                self.timeouts
                    .watch(*switch, added.id, &added.rule, since, Some(old), 0);
            }
        }
        for removed in remove {
            removed.since = self.since.get(&removed.id).copied();
            self.timeouts.forget(removed.id);
        }
    }

    /// The rule has its epoch: when it took effect, as the store keeps it.
    pub(super) fn begins(&mut self, rule: RuleId) -> u64 {
        let now = self.shared.clock.now_ms();
        *self.since.entry(rule).or_insert(now)
    }

    /// Takes back a change that is not to be.
    pub(super) fn undo_rules(&mut self, kind: &EntryKind) {
        self.rules.undo(kind);
        self.lift_promises_for(kind);
        let EntryKind::Update {
            switch,
            add,
            remove,
            passed,
        } = kind
        else {
            return;
        };
        let never = add.iter().map(|a| a.id);
        for id in never.chain(passed.iter().map(|p| p.id)) {
            self.forget_rule(id);
        }
        let now = self.shared.clock.now_ms();
        for removed in remove {
            let since = *self.since.entry(removed.id).or_insert(now);
            let from = now.saturating_add(RETRY);
            self.timeouts
                .watch(*switch, removed.id, &removed.rule, since, None, from);
            self.timeouts.used(removed.id, now);
        }
    }

    /// The rule has gone for good.
    pub fn forget_rule(&mut self, rule: RuleId) {
        self.since.remove(&rule);
        self.timeouts.forget(rule);
    }

    /// All members have acknowledged the update. What it added begins to age; what it removed counts no more: the controller is told, and
    /// what others go on counting is kept.
    pub(super) fn settle(&mut self, entry: &Entry) {
        let EntryKind::Update {
            switch,
            add,
            remove,
            passed,
        } = &entry.kind
        else {
            return;
        };
        let now = self.shared.clock.now_ms();
        let network = self.model.id;
        let mut changes = Vec::new();
        for removed in remove.iter().chain(passed) {
            let what = Counted::Rule(removed.counted_as());
            let count = self.counters.end(what, removed.id.0);
            self.note_end(removed.id, what);
            if removed.is_told() {
                self.tell_removed(*switch, entry, removed, count, now);
            }
            if removed.goes_on {
                changes.push(self.kept(what));
            }
            self.forget_rule(removed.id);
        }
        let mut tables: HashMap<RuleId, u8> = HashMap::new();
        for removed in remove
            .iter()
            .chain(passed)
            .filter(|r| r.rule.part.is_none())
        {
            tables.insert(removed.counted_as(), removed.rule.table);
        }
        let mut ended = BTreeSet::new();
        for counts in self.rules.settle(&entry.kind) {
            let what = Counted::Rule(counts);
            let count = self.counters.sum(what);
            if let Some(table) = tables.get(&counts)
                && count != Count::default()
            {
                let of_table = Counted::TableEnded(*switch, *table);
                self.counters.add(of_table, count);
                ended.insert(of_table);
            }
            if self.counters.kept(what) != <(Count, Count)>::default() {
                changes.push(Change::no_counter(network, what));
            }
            self.unsaved.remove(&what);
            self.counters.forget(what);
        }
        changes.extend(ended.into_iter().map(|what| self.kept(what)));
        for added in add {
            let table = self.rules.table(*switch);
            if added.continues.is_some() || table.is_none_or(|t| t.get(added.id).is_none()) {
                continue;
            }
            self.since.insert(added.id, now);
            self.timeouts
                .watch(*switch, added.id, &added.rule, now, None, 0);
        }
        if changes.is_empty() {
            return;
        }
        // Together with the end of the entry: after a restart it is settled again if, and only if, it was not before.
        changes.extend(self.truncate_log_to(entry.epoch));
        let commit = self.shared.store.commit(changes);
        let epoch = entry.epoch;
        self.keeping.push_back(epoch);
        self.later(commit, move |state, result| match result {
            Ok(()) => state.counts_kept(epoch),
            Err(e) => state.shared.fail(&e),
        });
    }

    /// The last counts of what this entry ended are in the store: hosts need not have them any more.
    fn counts_kept(&mut self, epoch: Epoch) {
        self.keeping.retain(|e| *e != epoch);
        if self.keeping.is_empty() && std::mem::take(&mut self.collects) {
            self.collect(self.seq.acknowledged());
        }
    }

    /// Hosts may collect what ended up to here.
    pub(super) fn collectable(&self) -> Epoch {
        let acknowledged = self.seq.acknowledged();
        match self.keeping.front() {
            Some(first) => acknowledged.min(first.previous()),
            None => acknowledged,
        }
    }

    /// Has hosts collect what ended up to here, or as soon as its counts are kept.
    pub(super) fn collect(&mut self, epoch: Epoch) {
        if !self.keeping.is_empty() {
            self.collects = true;
            return;
        }
        for (&host, session) in &self.sessions {
            session.send(Message::Collect(v1::Collect {
                network: self.model.id.0,
                epoch: epoch.0,
            }));
            let freed = self.removed.remove(&host).unwrap_or_default();
            self.shared.hosts.take_rules(host, -freed);
        }
    }

    fn tell_removed(
        &mut self,
        switch: SwitchId,
        entry: &Entry,
        removed: &Removed,
        count: Count,
        now: u64,
    ) {
        let Some(switch) = self.model.switches.get(&switch) else {
            return;
        };
        let Some(why) = removed.why else { return };
        let since = self.since.get(&removed.id).copied().or(removed.since);
        let event = v1::ControllerEvent {
            network: self.model.name.clone(),
            switch: switch.name.clone(),
            version: entry.epoch.0,
            flow_removed: Some(v1::FlowRemoved {
                reason: v1::flow_removed::Reason::from(why).into(),
                rule: Some(removed.rule.as_ref().into()),
                rule_id: removed.id.0,
                packets: count.packets,
                bytes: count.bytes,
                duration_ms: age(since, now),
            }),
            ..Default::default()
        };
        self.publish(&event);
    }
}
