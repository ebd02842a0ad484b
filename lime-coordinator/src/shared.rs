//! What all tasks of the coordinator share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lime_core::{NetworkId, RuleId, SwitchId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tracing::error;

use crate::Config;
use crate::agents::Hosts;
use crate::migration::Migrations;
use crate::network::Handle;
use crate::store::{Change, Store};

/// Bits of a boot-based id that count within one run.
const RUN_BITS: u32 = 40;

/// The coordinator's clock. It is set when the coordinator starts, and does not jump after that.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let started_ms = since_epoch.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0));
        Self {
            started: Instant::now(),
            started_ms,
        }
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        let ran = u64::try_from(self.started.elapsed().as_millis());
        self.started_ms.saturating_add(ran.unwrap_or(u64::MAX))
    }
}

/// The coordinator's state.
pub struct Shared {
    /// How it was started.
    pub config: Config,
    /// What survives.
    pub store: Arc<dyn Store>,
    /// The hosts.
    pub hosts: Hosts,
    /// Where numbers come from.
    pub ids: Ids,
    /// What time it is.
    pub clock: Arc<Clock>,
    /// Migrations, running and past.
    pub migrations: Migrations,
    /// All tasks: waited for at the end.
    pub tasks: TaskTracker,
    /// Ends everything.
    pub shutdown: CancellationToken,
    networks: RwLock<BTreeMap<String, Handle>>,
    /// Held while a name is looked up and taken.
    pub naming: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// New, without networks.
    pub fn new(
        config: Config,
        store: Arc<dyn Store>,
        clock: Arc<Clock>,
        hosts: Hosts,
        ids: Ids,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            config,
            store,
            hosts,
            ids,
            clock,
            migrations: Migrations::default(),
            tasks: TaskTracker::new(),
            shutdown,
            networks: RwLock::default(),
            naming: tokio::sync::Mutex::default(),
        }
    }

    /// Writes to the store. A store that fails ends the coordinator: what it says must be what it has written.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), Status> {
        if changes.is_empty() {
            return Ok(());
        }
        self.store.commit(changes).await.map_err(|e| {
            self.fail(&e);
            Status::internal("the store failed: see the coordinator's log")
        })
    }

    /// The store has failed.
    pub fn fail(&self, error: &crate::store::StoreError) {
        error!(
            error = error as &dyn std::error::Error,
            "the store failed: stopping"
        );
        self.shutdown.cancel();
    }

    /// All networks, by name.
    pub fn networks(&self) -> Vec<Handle> {
        let networks = self.networks.read().unwrap_or_else(PoisonError::into_inner);
        networks.values().cloned().collect()
    }

    /// The network of this name.
    pub fn network(&self, name: &str) -> Result<Handle, Status> {
        let networks = self.networks.read().unwrap_or_else(PoisonError::into_inner);
        networks.get(name).cloned().ok_or_else(|| {
            Status::not_found(format!(
                "network {name:?} does not exist: `lime network list` shows those that do"
            ))
        })
    }

    /// The network of this number.
    pub fn network_by_id(&self, id: NetworkId) -> Option<Handle> {
        let networks = self.networks.read().unwrap_or_else(PoisonError::into_inner);
        networks.values().find(|n| n.id == id).cloned()
    }

    /// Adds a network.
    pub fn add_network(&self, handle: Handle) {
        let mut networks = self
            .networks
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        networks.insert(handle.name.to_string(), handle);
    }

    /// Removes a network.
    pub fn remove_network(&self, name: &str) {
        let mut networks = self
            .networks
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        networks.remove(name);
    }
}

/// Where numbers come from. Networks, switches and hosts keep theirs in the store; the many others begin with the number of the
/// coordinator's start, so that none is used twice though none is stored.
#[derive(Debug)]
pub struct Ids {
    networks: AtomicU32,
    switches: AtomicU32,
    hosts: AtomicU32,
    migrations: AtomicU64,
    rules: AtomicU64,
    requests: Arc<AtomicU64>,
    generations: AtomicU64,
    sessions: AtomicU64,
    stored: Mutex<Stored>,
}

/// The numbers that the store keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Starts of the coordinator, this one included.
    pub boots: u64,
    /// Networks made.
    pub networks: u32,
    /// Switches made.
    pub switches: u32,
    /// Hosts seen.
    pub hosts: u32,
    /// Migrations asked for.
    pub migrations: u64,
}

impl Ids {
    /// Goes on from what the store has.
    pub fn new(stored: Stored) -> Self {
        let base = (stored.boots << RUN_BITS) | 1;
        Self {
            networks: AtomicU32::new(stored.networks),
            switches: AtomicU32::new(stored.switches),
            hosts: AtomicU32::new(stored.hosts),
            migrations: AtomicU64::new(stored.migrations),
            rules: AtomicU64::new(base),
            requests: Arc::new(AtomicU64::new(base)),
            generations: AtomicU64::new(base),
            sessions: AtomicU64::new(1),
            stored: Mutex::new(stored),
        }
    }

    /// A new network's number; commit [`persisted`](Self::persisted) with it.
    pub fn network(&self) -> u32 {
        self.networks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A new switch's number; commit [`persisted`](Self::persisted) with it.
    pub fn switch(&self) -> SwitchId {
        SwitchId(self.switches.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A new host's number; commit [`persisted`](Self::persisted) with it.
    pub fn host(&self) -> u32 {
        self.hosts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A new migration's number; commit [`persisted`](Self::persisted) with it.
    pub fn migration(&self) -> u64 {
        self.migrations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A new rule's number.
    pub fn rule(&self) -> RuleId {
        RuleId(self.rules.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for a host's desired state.
    pub fn generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for an agent's stream.
    pub fn session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// Where request ids come from.
    pub fn requests(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.requests)
    }

    /// What of the numbers is to be stored now.
    pub fn persisted(&self) -> Vec<Change> {
        let mut stored = self.lock();
        let now = Stored {
            boots: stored.boots,
            networks: self.networks.load(Ordering::Relaxed),
            switches: self.switches.load(Ordering::Relaxed),
            hosts: self.hosts.load(Ordering::Relaxed),
            migrations: self.migrations.load(Ordering::Relaxed),
        };
        if now == *stored {
            return Vec::new();
        }
        *stored = now;
        now.changes()
    }

    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    /// All of it, for the store.
    pub fn changes(&self) -> Vec<Change> {
        vec![
            Change::meta("boots", self.boots),
            Change::meta("networks", self.networks.into()),
            Change::meta("switches", self.switches.into()),
            Change::meta("hosts", self.hosts.into()),
            Change::meta("migrations", self.migrations),
        ]
    }
}
