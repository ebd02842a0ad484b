//! Changes of rules, groups and meters.

use lime_core::flow::{
    GroupModError, MAX_GROUPS, MAX_METERS, MeterModError, Rule, SwitchMod, UpdateError,
};
use lime_core::log::{EntryKind, MAX_PENDING, StageError, Ticket};
use lime_core::model::ChangeError;
use lime_core::{HostId, SwitchId};
use tonic::{Code, Status};

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
    /// Rules that are gone, those that used deleted groups and meters among them.
    pub removed: u32,
}

/// What kind of failure a refusal is.
fn code(error: &ChangeError) -> Code {
    match error {
        ChangeError::Rule { .. } | ChangeError::NoGroup { .. } | ChangeError::NoMeter { .. } => {
            Code::InvalidArgument
        }
        ChangeError::Rules(UpdateError::Full(_)) => Code::ResourceExhausted,
        ChangeError::Rules(UpdateError::Overlap { .. }) => Code::FailedPrecondition,
        ChangeError::Group { error, .. } => match error {
            GroupModError::Exists(_) => Code::AlreadyExists,
            GroupModError::Unknown(_) => Code::NotFound,
            GroupModError::Chained { .. } => Code::FailedPrecondition,
            GroupModError::TooMany(_) => Code::ResourceExhausted,
            GroupModError::Invalid { .. }
            | GroupModError::UsesUnknown { .. }
            | GroupModError::Loop(_)
            | GroupModError::TooManyCopies { .. }
            | GroupModError::WatchesTooMuch { .. } => Code::InvalidArgument,
        },
        ChangeError::Meter { error, .. } => match error {
            MeterModError::Exists(_) => Code::AlreadyExists,
            MeterModError::Unknown(_) => Code::NotFound,
            MeterModError::TooMany(_) => Code::ResourceExhausted,
            MeterModError::Invalid { .. } => Code::InvalidArgument,
        },
    }
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

    /// Decides changes of a switch's rules, groups and meters and submits them; all of them become visible at once, on all instances,
    /// together with the end of the rules that used deleted groups and meters.
    pub fn update(&mut self, switch: &str, mods: Vec<SwitchMod>) -> Result<Updated, Status> {
        let network = self.model.name.clone();
        let id = self.switch(switch)?.id;
        let groups = mods.iter().filter(|m| matches!(m, SwitchMod::Group(_)));
        let groups = groups.count();
        let meters = mods.iter().filter(|m| matches!(m, SwitchMod::Meter(_)));
        for (what, count, most) in [
            ("update", mods.len(), MAX_MODS),
            ("update of groups", groups, MAX_GROUPS),
            ("update of meters", meters.count(), MAX_METERS),
        ] {
            if count > most {
                return Err(Status::invalid_argument(format!(
                    "mods: {count} changes in one {what}, at most {most} are allowed"
                )));
            }
        }
        self.check_backlog()?;
        let ids = &self.shared.ids;
        let mut kind = self
            .rules
            .change(id, mods, || ids.rule(), MAX_RULES)
            .map_err(|e| Status::new(code(&e), format!("switch {network}/{switch}: {e}")))?;
        self.begin_lifetimes(&mut kind);
        let updated = self.submit_if_room(id, kind)?;
        if groups > 0 {
            self.tell_dead_ports(id);
        }
        Ok(updated)
    }

    pub(super) fn check_backlog(&self) -> Result<(), Status> {
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
    pub(super) fn submit_if_room(
        &mut self,
        switch: SwitchId,
        kind: EntryKind,
    ) -> Result<Updated, Status> {
        let instances: Vec<HostId> = self
            .model
            .switches
            .get(&switch)
            .map(|s| s.instances.keys().copied().collect())
            .unwrap_or_default();
        let EntryKind::Update { add, remove, .. } = &kind else {
            return Err(Status::internal("an update that is none"));
        };
        let rules = |of: &mut dyn Iterator<Item = &Rule>| {
            u32::try_from(of.filter(|r| r.part.is_none()).count()).unwrap_or(u32::MAX)
        };
        let added = rules(&mut add.iter().map(|a| a.rule.as_ref()));
        let removed = rules(&mut remove.iter().map(|r| r.rule.as_ref()));
        let need = i64::try_from(add.len()).unwrap_or(i64::MAX);
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
                "host {host} has room for {} more rules, and the update adds {need}",
                free.max(0)
            )));
        }
        for host in &instances {
            self.shared.hosts.take_rules(*host, need);
        }
        let ticket = self.submit(kind);
        Ok(Updated {
            ticket,
            added,
            removed,
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
