//! The rules of a network's switches, with what is on its way: what a snapshot needs is what was visible at its epoch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::flow::{FlowMod, FlowTable, Rule, UpdateError};
use crate::log::{Added, Entry, EntryKind, Removed};
use crate::{Epoch, RuleId, SwitchId};

/// The rules of all switches of one network.
///
/// The tables are ahead of the log: they have every submitted change, so that the next one is decided on top of it.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    switches: BTreeMap<SwitchId, Rules>,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    table: FlowTable,
    /// Since when each rule is visible; none: its entry has no epoch yet.
    from: HashMap<RuleId, Epoch>,
    /// Rules that are gone from the table by entries that may still fail, or that have no epoch yet.
    leaving: BTreeMap<RuleId, Leaving>,
}

#[derive(Clone, Debug)]
struct Leaving {
    rule: Arc<Rule>,
    from: Option<Epoch>,
    to: Option<Epoch>,
}

/// A rule of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRule {
    /// Its id.
    pub id: RuleId,
    /// The rule, groups not expanded.
    pub rule: Arc<Rule>,
    /// Since when it is visible.
    pub from: Epoch,
}

impl RuleBook {
    /// Puts in a rule that the store holds.
    pub fn restore(&mut self, switch: SwitchId, id: RuleId, rule: Arc<Rule>, from: Epoch) {
        let rules = self.switches.entry(switch).or_default();
        rules.table.insert(id, rule);
        rules.from.insert(id, from);
    }

    /// The table of a switch, ahead of the log.
    pub fn table(&self, switch: SwitchId) -> Option<&FlowTable> {
        self.switches.get(&switch).map(|r| &r.table)
    }

    /// Number of rules of a switch.
    pub fn len(&self, switch: SwitchId) -> usize {
        self.table(switch).map_or(0, FlowTable::len)
    }

    /// Decides a request, all or nothing. The result is to be submitted to the sequencer, or [undone](Self::undo).
    pub fn apply(
        &mut self,
        switch: SwitchId,
        mods: Vec<FlowMod>,
        next_id: impl FnMut() -> RuleId,
        limit: usize,
    ) -> Result<EntryKind, UpdateError> {
        let rules = self.switches.entry(switch).or_default();
        let delta = rules.table.apply(mods, limit, next_id)?;
        let removed = delta.removed.into_iter();
        let remove: Vec<Removed> = removed
            .map(|(id, rule)| Removed {
                id,
                rule,
                from: rules.from.remove(&id),
            })
            .collect();
        for r in &remove {
            let leaving = Leaving {
                rule: Arc::clone(&r.rule),
                from: r.from,
                to: None,
            };
            rules.leaving.insert(r.id, leaving);
        }
        let added = delta.added.into_iter();
        Ok(EntryKind::Update {
            switch,
            add: added
                .map(|(id, a)| Added {
                    id,
                    rule: a.rule,
                    continues: a.replaces.filter(|_| a.modified),
                })
                .collect(),
            remove,
        })
    }

    /// The entry has got its epoch.
    pub fn sealed(&mut self, entry: &Entry) {
        let EntryKind::Update {
            switch,
            add,
            remove,
        } = &entry.kind
        else {
            return;
        };
        let rules = self.switches.entry(*switch).or_default();
        for added in add {
            if let Some(leaving) = rules.leaving.get_mut(&added.id) {
                // A request behind this entry removes it again.
                leaving.from = Some(entry.epoch);
            } else {
                rules.from.insert(added.id, entry.epoch);
            }
        }
        for removed in remove {
            if let Some(leaving) = rules.leaving.get_mut(&removed.id) {
                leaving.to = Some(entry.epoch);
            }
        }
    }

    /// Everything up to here is activated: it cannot fail any more, and no snapshot goes back behind it. `idle`: no change waits for
    /// its epoch.
    pub fn settled(&mut self, upto: Epoch, idle: bool) {
        for rules in self.switches.values_mut() {
            // Without an epoch though nothing waits: it came and went within one entry, and was never anywhere.
            rules
                .leaving
                .retain(|_, l| l.to.map_or(!idle, |to| !to.le(upto)));
        }
    }

    /// Takes back a change; later ones must have been taken back before.
    pub fn undo(&mut self, kind: &EntryKind) {
        let EntryKind::Update {
            switch,
            add,
            remove,
        } = kind
        else {
            return;
        };
        let rules = self.switches.entry(*switch).or_default();
        for added in add {
            rules.table.remove(added.id);
            rules.from.remove(&added.id);
        }
        for removed in remove {
            let leaving = rules.leaving.remove(&removed.id);
            rules.table.insert(removed.id, Arc::clone(&removed.rule));
            // After a restart the journal may not know it: any epoch before now is as good.
            let from = leaving.and_then(|l| l.from).or(removed.from);
            rules.from.insert(removed.id, from.unwrap_or(Epoch::ZERO));
        }
    }

    /// What of a switch is visible at `at`, which is activated or later.
    pub fn snapshot(&self, switch: SwitchId, at: Epoch) -> Vec<SnapshotRule> {
        let Some(rules) = self.switches.get(&switch) else {
            return Vec::new();
        };
        let present = rules.table.iter().filter_map(|(id, rule)| {
            let from = *rules.from.get(&id)?;
            let rule = Arc::clone(rule);
            from.le(at).then_some(SnapshotRule { id, rule, from })
        });
        let leaving = rules.leaving.iter().filter_map(|(&id, l)| {
            let from = l.from?;
            let visible = from.le(at) && l.to.is_none_or(|to| at.lt(to));
            let rule = Arc::clone(&l.rule);
            visible.then_some(SnapshotRule { id, rule, from })
        });
        present.chain(leaving).collect()
    }

    /// The switch is gone. Returns its rules' ids.
    pub fn forget(&mut self, switch: SwitchId) -> Vec<RuleId> {
        let rules = self.switches.remove(&switch).unwrap_or_default();
        let table = rules.table.iter().map(|(id, _)| id);
        table.chain(rules.leaving.keys().copied()).collect()
    }
}
