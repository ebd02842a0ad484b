//! The registry of hosts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lime_core::HostId;
use lime_core::lease::Lease;
use tokio::sync::watch;
use tonic::Status;

use super::Session;
use crate::shared::Clock;
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
    /// How long it may go on by itself (rule 17).
    pub lease: Lease,
}

/// All hosts.
#[derive(Debug)]
pub struct Hosts {
    hosts: Mutex<BTreeMap<HostId, Host>>,
    /// Of a lease, milliseconds; 0: none.
    lease_ms: u64,
    clock: Arc<Clock>,
    changed: watch::Sender<u64>,
}

impl Hosts {
    /// From what the store has. `lease_ms`: how long leases last; 0: there are none.
    pub fn new(
        records: impl IntoIterator<Item = HostRecord>,
        lease_ms: u64,
        clock: Arc<Clock>,
    ) -> Self {
        let now = clock.now_ms();
        let host = |record: HostRecord| {
            let host = Host {
                lease: Lease::remembered(record.lease_ms, now),
                record,
                session: None,
                free_rules: 0,
            };
            (host.record.id, host)
        };
        Self {
            hosts: Mutex::new(records.into_iter().map(host).collect()),
            lease_ms,
            clock,
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

    /// A host is to be welcomed: what it is granted from the moment it sent its greeting, milliseconds.
    pub fn grant(&self, lease: &mut Lease) -> u64 {
        lease.welcome(self.lease_ms, self.clock.now_ms())
    }

    /// A host asks for its lease on this stream: what it is granted from the moment it asked, milliseconds, and whether it has shown for
    /// the first time that it keeps leases (commit its record then). `None`: it is over, and so is the stream.
    pub fn renew(&self, session: &Session) -> Option<(u64, Option<HostRecord>)> {
        let now = self.clock.now_ms();
        let mut hosts = self.lock();
        let host = hosts.get_mut(&session.host)?;
        let current = host
            .session
            .as_ref()
            .is_some_and(|s| s.number == session.number);
        if !current || session.cancel.is_cancelled() {
            return None;
        }
        let granted = host.lease.renew(self.lease_ms, now)?;
        let news = host.record.lease_ms != self.lease_ms;
        host.record.lease_ms = self.lease_ms;
        Some((granted, news.then(|| host.record.clone())))
    }

    /// Whether the host has stopped to process what others process too. Then its stream, should there still be one, ends: the next one
    /// begins with what has become of its networks.
    pub fn is_lease_over(&self, id: HostId) -> bool {
        if self.lease_ms == 0 {
            return false;
        }
        let now = self.clock.now_ms();
        let hosts = self.lock();
        let Some(host) = hosts.get(&id).filter(|h| h.lease.is_over(now)) else {
            return false;
        };
        if let Some(session) = &host.session {
            session.cancel.cancel();
        }
        true
    }

    /// Counts rules that a host takes (or, below zero, gives back).
    pub fn take_rules(&self, id: HostId, rules: i64) {
        if let Some(host) = self.lock().get_mut(&id) {
            host.free_rules -= rules;
        }
    }
}
