//! Migrations: the journal, and the tasks that carry them out.
//!
//! The journal has one record per migration, written before each action and after it. Every action can be begun again, so a restart
//! goes on where the record says.

mod record;
mod request;
mod runner;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lime_core::{NetworkId, SwitchId};
use tokio::sync::watch;
use tonic::Status;

use crate::shared::Shared;
use crate::store::{StoreError, Table};

pub use record::{Record, now_ms};
pub use request::prepare;
pub use runner::{journal, spawn};

/// One migration: its newest record, and its controls.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The newest record.
    pub record: watch::Sender<Record>,
    /// An operator wants it rolled back (or tried again).
    pub wake: Arc<tokio::sync::Notify>,
    /// Held while the record changes.
    writing: Arc<tokio::sync::Mutex<()>>,
}

/// All migrations.
#[derive(Debug, Default)]
pub struct Migrations {
    all: Mutex<BTreeMap<u64, Entry>>,
}

/// Ended migrations that are kept for looking at.
const MAX_KEPT: usize = 1000;

impl Migrations {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one. Refuses it when one of its switches is being migrated already.
    pub fn add(&self, record: Record) -> Result<Entry, Status> {
        let mut all = self.lock();
        for other in all.values() {
            let other = other.record.borrow();
            if other.is_under_way()
                && other.network == record.network
                && !other.switches.is_disjoint(&record.switches)
            {
                return Err(busy(other.id));
            }
        }
        let id = record.id;
        let entry = Entry {
            record: watch::Sender::new(record),
            wake: Arc::default(),
            writing: Arc::default(),
        };
        all.insert(id, entry.clone());
        while all.len() > MAX_KEPT {
            let oldest = all.iter().find(|(_, e)| !e.record.borrow().is_under_way());
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                break;
            };
            all.remove(&oldest);
        }
        Ok(entry)
    }

    /// One that was not begun after all.
    pub fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// The one of this number.
    pub fn get(&self, id: u64) -> Result<Entry, Status> {
        self.lock().get(&id).cloned().ok_or_else(|| {
            Status::not_found(format!(
                "migration {id} does not exist: `lime migrate list` shows those that do"
            ))
        })
    }

    /// All, by number.
    pub fn list(&self) -> Vec<Entry> {
        self.lock().values().cloned().collect()
    }

    /// Whether a migration of this network is under way.
    pub fn is_busy(&self, network: NetworkId) -> bool {
        self.lock().values().any(|e| {
            let record = e.record.borrow();
            record.network == network && record.is_under_way()
        })
    }

    /// Refuses to change the shape of switches that are being migrated.
    pub fn refuse_changes(
        &self,
        network: NetworkId,
        switches: impl IntoIterator<Item = SwitchId>,
    ) -> Result<(), Status> {
        let all = self.lock();
        for switch in switches {
            for entry in all.values() {
                let record = entry.record.borrow();
                if record.network == network
                    && record.is_under_way()
                    && record.switches.contains(&switch)
                {
                    return Err(busy(record.id));
                }
            }
        }
        Ok(())
    }
}

fn busy(id: u64) -> Status {
    Status::failed_precondition(format!(
        "migration {id} of this switch is under way: wait for it (`lime migrate status {id}`) or roll it back"
    ))
}

/// Goes on with what a restart interrupted.
pub fn resume(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let records = crate::recovery::read::<Record>(shared.store.as_ref(), Table::Migrations)?;
    for (_, record) in records {
        let under_way = !record.progress.state().has_ended();
        match shared.migrations.add(record) {
            Ok(entry) if under_way => spawn(shared, entry),
            Ok(_) => {}
            Err(e) => tracing::error!("the journal contradicts itself: {}", e.message()),
        }
    }
    for network in shared.networks() {
        if shared.migrations.is_busy(network.id) {
            continue;
        }
        // A port that was moved by itself is set right by itself.
        let shared = Arc::clone(shared);
        shared.tasks.clone().spawn(runner::settle(shared, network));
    }
    Ok(())
}
