//! Changes of rules.

use lime_core::HostId;
use lime_core::flow::{Action, FlowMod};
use lime_core::log::{EntryKind, MAX_PENDING, StageError, Ticket};
use lime_core::model::{GroupUse, expand};
use tonic::Status;

use super::state::State;

/// Rules of one switch.
pub const MAX_RULES: usize = 1_000_000;

/// Changes in one request.
pub const MAX_MODS: usize = 500_000;

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Updated {
    /// Its place in the order of submissions.
    pub ticket: Ticket,
    /// New rules.
    pub added: u32,
    /// Rules that are gone.
    pub removed: u32,
}

impl State {
    /// What a failed update's caller is told.
    pub fn stage_status(&self, error: &StageError) -> Status {
        let host = self.shared.hosts.name(error.host);
        let reason = &error.reason;
        if error.collateral {
            Status::aborted(format!(
                "an update before this one failed, so this one was not made: try again (host {host} said: {reason})"
            ))
        } else {
            Status::resource_exhausted(format!(
                "host {host} could not take the update, so it was made nowhere: {reason}"
            ))
        }
    }

    /// Decides an update and submits it; all of it becomes visible at once, on all instances.
    pub fn update(&mut self, switch: &str, mods: Vec<FlowMod>) -> Result<Updated, Status> {
        let network = self.model.name.clone();
        let (id, instances, groups) = {
            let switch = self.switch(switch)?;
            (switch.id, switch.instances.clone(), switch.groups.clone())
        };
        if mods.len() > MAX_MODS {
            return Err(Status::invalid_argument(format!(
                "mods: {} changes in one update, at most {MAX_MODS} are allowed",
                mods.len()
            )));
        }
        if self.seq.pending() > MAX_PENDING {
            return Err(Status::resource_exhausted(format!(
                "too many updates of network {network} wait for {}",
                self.waiting_for().join(", ")
            )));
        }
        for (i, m) in mods.iter().enumerate() {
            let Some(rule) = m.rule() else { continue };
            let wrong = |e: &dyn std::fmt::Display| {
                Status::invalid_argument(format!("mods[{i}].rule: {e}"))
            };
            rule.check().map_err(|e| wrong(&e))?;
            let expanded = expand(rule, &groups).map_err(|e| match e {
                GroupUse::Missing(_) => wrong(&e),
                GroupUse::Unsupported(..) | GroupUse::InSet(_) | GroupUse::ChangesPacket(_) => {
                    Status::unimplemented(format!("mods[{i}].rule: {e}"))
                }
            })?;
            if expanded.actions.len() != rule.actions.len() {
                expanded.check().map_err(|e| wrong(&e))?;
            }
        }
        let ids = &self.shared.ids;
        let mut kind = self
            .rules
            .apply(id, mods, || ids.rule(), MAX_RULES)
            .map_err(|e| {
                let message = format!("switch {network}/{switch}: {e}");
                match e {
                    lime_core::flow::UpdateError::Full(_) => Status::resource_exhausted(message),
                    lime_core::flow::UpdateError::Overlap { .. } => {
                        Status::failed_precondition(message)
                    }
                }
            })?;
        self.begin_lifetimes(&mut kind);
        let EntryKind::Update { add, remove, .. } = &kind else {
            return Err(Status::internal("an update that is none"));
        };
        let (added, removed) = (add.len(), remove.len());
        let need = i64::try_from(added).unwrap_or(i64::MAX);
        // Checked before it is in the log: a host that could not stage it would hold everybody up.
        let mut full = self.host_without_room(instances.keys().copied(), need);
        if full.is_some() {
            // What was removed before may still take room.
            self.seq.collect();
            self.carry_out();
            full = self.host_without_room(instances.keys().copied(), need);
        }
        if let Some((host, free)) = full {
            self.undo_rules(&kind);
            return Err(Status::resource_exhausted(format!(
                "host {host} has room for {} more rules, and the update adds {added}",
                free.max(0)
            )));
        }
        for host in instances.keys() {
            self.shared.hosts.take_rules(*host, need);
            *self.removed.entry(*host).or_default() += i64::try_from(removed).unwrap_or(0);
        }
        let ticket = self.seq.submit(kind);
        let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Updated {
            ticket,
            added: number(added),
            removed: number(removed),
        })
    }

    /// A connected host that has not room for so many more rules: its name, and for how many it has.
    fn host_without_room(
        &self,
        mut hosts: impl Iterator<Item = HostId>,
        need: i64,
    ) -> Option<(String, i64)> {
        let known = self.shared.hosts.lock();
        hosts.find_map(|h| {
            let host = known.get(&h)?;
            let short = host.session.is_some() && need > 0 && host.free_rules < need;
            short.then(|| (host.record.name.clone(), host.free_rules))
        })
    }

    /// Whether some rule of the switch uses the group.
    pub fn group_in_use(&self, switch: lime_core::SwitchId, group: u32) -> bool {
        let table = self.rules.table(switch);
        let uses = |a: &Action| matches!(a, Action::Group(id) if *id == group);
        table.is_some_and(|t| {
            let mut rules = t.iter();
            rules.any(|(_, r)| r.actions.iter().chain(&r.write_actions).any(uses))
        })
    }
}
