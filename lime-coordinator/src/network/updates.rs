//! Changes of rules and groups.

use lime_core::flow::{FlowMod, GroupMod, GroupModError, MAX_GROUPS};
use lime_core::log::{EntryKind, MAX_PENDING, StageError, Ticket};
use lime_core::{HostId, SwitchId};
use thiserror::Error;
use tonic::Status;

use super::state::State;

/// Rules of one switch.
pub const MAX_RULES: usize = 1_000_000;

/// Changes in one request.
pub const MAX_MODS: usize = 500_000;

/// A group that is not there (OpenFlow 1.3.5, 7.4.4.4: OFPBAC_BAD_OUT_GROUP).
#[derive(Debug, Error)]
#[error("group {0} does not exist on this switch: create it first")]
pub struct NoGroup(pub u32);

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
        let id = self.switch(switch)?.id;
        if mods.len() > MAX_MODS {
            return Err(Status::invalid_argument(format!(
                "mods: {} changes in one update, at most {MAX_MODS} are allowed",
                mods.len()
            )));
        }
        self.check_backlog()?;
        for (i, m) in mods.iter().enumerate() {
            let Some(rule) = m.rule() else { continue };
            let wrong = |e: &dyn std::fmt::Display| {
                Status::invalid_argument(format!("mods[{i}].rule: {e}"))
            };
            rule.check().map_err(|e| wrong(&e))?;
            let actions = rule.actions.iter().chain(&rule.write_actions);
            if let Some(group) = self.rules.missing_group(id, actions) {
                return Err(wrong(&NoGroup(group)));
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
        self.submit_if_room(id, kind)
    }

    /// Decides a change of groups and submits it; all of it becomes visible at once, on all instances, together with the end of the
    /// rules that ran deleted groups.
    /// Also gives how many rules those are.
    pub fn update_groups(
        &mut self,
        switch: &str,
        mods: Vec<GroupMod>,
    ) -> Result<(Updated, u32), Status> {
        let network = self.model.name.clone();
        let id = self.switch(switch)?.id;
        if mods.len() > MAX_GROUPS {
            return Err(Status::invalid_argument(format!(
                "mods: {} changes in one request, at most {MAX_GROUPS} are allowed",
                mods.len()
            )));
        }
        self.check_backlog()?;
        let ids = &self.shared.ids;
        let mut kind = self
            .rules
            .apply_groups(id, mods, || ids.rule())
            .map_err(|e| {
                let message = format!("switch {network}/{switch}: {e}");
                match e {
                    GroupModError::Exists(_) => Status::already_exists(message),
                    GroupModError::Unknown(_) => Status::not_found(message),
                    GroupModError::Chained { .. } => Status::failed_precondition(message),
                    GroupModError::TooMany(_) => Status::resource_exhausted(message),
                    GroupModError::Invalid { .. }
                    | GroupModError::UsesUnknown { .. }
                    | GroupModError::Loop(_)
                    | GroupModError::TooManyCopies { .. }
                    | GroupModError::WatchesTooMuch { .. } => Status::invalid_argument(message),
                }
            })?;
        let rules = match &kind {
            EntryKind::Update { remove, .. } => {
                remove.iter().filter(|r| r.rule.part.is_none()).count()
            }
            _ => 0,
        };
        let rules = u32::try_from(rules).unwrap_or(u32::MAX);
        self.begin_lifetimes(&mut kind);
        let updated = self.submit_if_room(id, kind)?;
        self.tell_dead_ports(id);
        Ok((updated, rules))
    }

    fn check_backlog(&self) -> Result<(), Status> {
        if self.seq.pending() > MAX_PENDING {
            return Err(Status::resource_exhausted(format!(
                "too many updates of network {} wait for {}",
                self.model.name,
                self.waiting_for().join(", ")
            )));
        }
        Ok(())
    }

    /// Submits a decided update. What it removes takes room on the hosts until they collect it.
    pub(super) fn submit(&mut self, kind: EntryKind) -> Ticket {
        if let EntryKind::Update { switch, remove, .. } = &kind {
            let removed = i64::try_from(remove.len()).unwrap_or(0);
            let switch = self.model.switches.get(switch);
            for host in switch.iter().flat_map(|s| s.instances.keys()) {
                *self.removed.entry(*host).or_default() += removed;
            }
        }
        self.seq.submit(kind)
    }

    /// Submits a decided update, if the hosts have room for it.
    fn submit_if_room(&mut self, switch: SwitchId, kind: EntryKind) -> Result<Updated, Status> {
        let instances: Vec<HostId> = self
            .model
            .switches
            .get(&switch)
            .map(|s| s.instances.keys().copied().collect())
            .unwrap_or_default();
        let EntryKind::Update { add, remove, .. } = &kind else {
            return Err(Status::internal("an update that is none"));
        };
        let (added, removed) = (add.len(), remove.len());
        let need = i64::try_from(added).unwrap_or(i64::MAX);
        // Checked before it is in the log: a host that could not stage it would hold everybody up.
        let mut full = self.host_without_room(instances.iter().copied(), need);
        if full.is_some() {
            // What was removed before may still take room.
            self.seq.collect();
            self.carry_out();
            full = self.host_without_room(instances.iter().copied(), need);
        }
        if let Some((host, free)) = full {
            self.undo_rules(&kind);
            return Err(Status::resource_exhausted(format!(
                "host {host} has room for {} more rules, and the update adds {added}",
                free.max(0)
            )));
        }
        for host in &instances {
            self.shared.hosts.take_rules(*host, need);
        }
        let ticket = self.submit(kind);
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
}
