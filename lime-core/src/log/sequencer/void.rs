//! Updates that a member could not stage are taken back everywhere.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use super::Sequencer;
use crate::log::{Entry, EntryKind, Output, StageError};
use crate::{Epoch, HostId};

impl<E> Sequencer<E> {
    /// Sends everything from this epoch on once more, since some of it is void now. Until that is answered, it counts as not staged.
    pub(super) fn replace_from(&mut self, host: HostId, from: Epoch) {
        let Some(member) = self.members.get_mut(&host) else {
            return;
        };
        member.staged = member.staged.min(from.previous());
        if !member.connected {
            // It has what is void now until it is back: nothing of it may be activated before.
            return;
        }
        member.stale = member.unanswered;
        member.mending = member.sent;
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

    /// Replaces every update above `activated` in the batch of `failed` (and later ones) by nothing.
    pub(super) fn void_above(&mut self, activated: Epoch, failed: Epoch, error: &StageError) {
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
                let void = Arc::new(Entry::new(slot.epoch, EntryKind::Void));
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
