//! The registry of hosts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lime_core::HostId;
use tokio::sync::watch;
use tonic::Status;

use super::Session;
use crate::store::HostRecord;

/// A host, connected or not.
#[derive(Clone, Debug)]
pub struct Host {
    /// What the store has.
    pub record: HostRecord,
    /// Its agent's stream.
    pub session: Option<Session>,
    /// Rules that it can still take, as far as is known here.
    pub free_rules: i64,
}

/// All hosts.
#[derive(Debug)]
pub struct Hosts {
    hosts: Mutex<BTreeMap<HostId, Host>>,
    changed: watch::Sender<u64>,
}

impl Hosts {
    /// From what the store has.
    pub fn new(records: impl IntoIterator<Item = HostRecord>) -> Self {
        let host = |record: HostRecord| {
            let host = Host {
                record,
                session: None,
                free_rules: 0,
            };
            (host.record.id, host)
        };
        Self {
            hosts: Mutex::new(records.into_iter().map(host).collect()),
            changed: watch::Sender::new(0),
        }
    }

    /// All hosts. Held for a moment only, never over an await.
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait that a host has come or gone.
    pub fn notify(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Changes when a host comes or goes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A host's name, for people.
    pub fn name(&self, id: HostId) -> String {
        let hosts = self.lock();
        let host = hosts.get(&id);
        host.map_or_else(|| format!("#{id}"), |h| h.record.name.clone())
    }

    /// The host of this name.
    pub fn named(&self, name: &str) -> Result<Host, Status> {
        let hosts = self.lock();
        let host = hosts.values().find(|h| h.record.name == name);
        host.cloned().ok_or_else(|| {
            let known: Vec<&str> = hosts.values().map(|h| h.record.name.as_str()).collect();
            let known = if known.is_empty() {
                "no agent has connected yet".to_owned()
            } else {
                format!("known hosts: {}", known.join(", "))
            };
            Status::not_found(format!("host {name:?} is not known ({known})"))
        })
    }

    /// The stream to a host that is to be used for something new.
    pub fn usable(&self, name: &str) -> Result<(HostId, Session), Status> {
        let host = self.named(name)?;
        if host.record.cordoned {
            return Err(Status::failed_precondition(format!(
                "host {name} is cordoned: uncordon it first, or choose another"
            )));
        }
        let session = host.session.ok_or_else(|| {
            Status::unavailable(format!(
                "host {name} is not connected: start its lime-agent, or choose another"
            ))
        })?;
        Ok((host.record.id, session))
    }

    /// Counts rules that a host takes (or, below zero, gives back).
    pub fn take_rules(&self, id: HostId, rules: i64) {
        if let Some(host) = self.lock().get_mut(&id) {
            host.free_rules -= rules;
        }
    }
}
