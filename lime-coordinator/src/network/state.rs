//! The state of a network's actor.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lime_core::counters::Counters;
use lime_core::log::{EntryKind, Sequencer, StageError, Ticket};
use lime_core::model::{InstanceState, MemberState, Network, RuleBook, needs_strict};
use lime_core::promise::Rounds;
use lime_core::timeouts::Timeouts;
use lime_core::{Epoch, HostId, PortId, SwitchId};
use lime_proto::v1;
use tokio::sync::mpsc;

use super::Job;
use super::controllers::Subscriber;
use super::packet_out::PendingPacketOut;
use crate::agents::Session;
use crate::shared::Shared;
use crate::store::{Change, Commit};

/// How often an actor looks at its clock: how exact timeouts are.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// So many ticks are a second.
const TICKS_PER_SECOND: u64 = 5;

/// Runs when a submission is complete, or has failed.
pub type Waiter = Box<dyn FnOnce(&mut State, Result<Epoch, StageError>) + Send>;

/// A network, as its actor has it.
pub struct State {
    /// What its owner wants.
    pub model: Network,
    /// Its rules.
    pub rules: RuleBook,
    /// Its log.
    pub seq: Sequencer<v1::ControllerEvent>,
    /// Its counters.
    pub counters: Counters,
    /// Streams to its members.
    pub sessions: BTreeMap<HostId, Session>,
    /// Ports whose device is down or missing, as agents report.
    pub down: HashSet<PortId>,
    /// MTUs of ports' devices, bytes, as agents report.
    pub device_mtus: HashMap<PortId, u32>,
    pub(super) shared: Arc<Shared>,
    pub(super) mailbox: Option<mpsc::WeakSender<Job>>,
    pub(super) waiters: HashMap<Ticket, Waiter>,
    /// Instances that learn: Stage has their rules above the epoch of their snapshot.
    pub(super) clones: HashMap<(SwitchId, HostId), Epoch>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) packet_outs: BTreeMap<u64, PendingPacketOut>,
    /// Rules removed since the last collection, by host.
    pub(super) removed: HashMap<HostId, i64>,
    /// Epochs in the store's log.
    pub(super) stored_log: VecDeque<Epoch>,
    /// Counters read since they were last stored.
    pub(super) unsaved: HashSet<lime_core::counters::Counted>,
    /// When each rule took effect, milliseconds since the Unix epoch.
    pub(super) since: HashMap<lime_core::RuleId, u64>,
    /// Rules that time out.
    pub(super) timeouts: Timeouts,
    /// Rounds of votes whether rules are idle.
    pub(super) rounds: Rounds,
    /// Updates whose last counts are on their way to the store, by rising epoch.
    pub(super) keeping: VecDeque<Epoch>,
    /// Hosts are to collect when that is done.
    pub(super) collects: bool,
    /// Hosts may collect up to here when they need room.
    pub(super) past: Epoch,
    /// Cuts of counters that are on their way.
    pub(super) cuts: Vec<super::cut::Cut>,
    /// Excluded hosts that are being taken in again.
    pub(super) rejoining: HashSet<HostId>,
    /// Counts ticks.
    ticks: u64,
    pub(super) next_subscriber: u64,
    /// Drops by reason, as hosts last reported them.
    pub(super) reasons: BTreeMap<(PortId, HostId), HashMap<String, u64>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl State {
    /// A network with this model and log.
    pub fn new(
        shared: Arc<Shared>,
        model: Network,
        rules: RuleBook,
        seq: Sequencer<v1::ControllerEvent>,
        counters: Counters,
        stored_log: impl IntoIterator<Item = Epoch>,
    ) -> Self {
        Self {
            model,
            rules,
            seq,
            counters,
            sessions: BTreeMap::new(),
            down: HashSet::new(),
            device_mtus: HashMap::new(),
            shared,
            mailbox: None,
            waiters: HashMap::new(),
            clones: HashMap::new(),
            subscribers: Vec::new(),
            packet_outs: BTreeMap::new(),
            removed: HashMap::new(),
            stored_log: stored_log.into_iter().collect(),
            unsaved: HashSet::new(),
            since: HashMap::new(),
            timeouts: Timeouts::default(),
            rounds: Rounds::default(),
            keeping: VecDeque::new(),
            collects: false,
            past: Epoch::ZERO,
            cuts: Vec::new(),
            rejoining: HashSet::new(),
            ticks: 0,
            next_subscriber: 1,
            reasons: BTreeMap::new(),
        }
    }

    /// Puts a job into this actor's own mailbox when `done` is.
    pub(super) fn later<T: Send + 'static>(
        &self,
        done: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(&mut State, T) + Send + 'static,
    ) {
        let mailbox = self.mailbox.clone();
        self.shared.tasks.spawn(async move {
            let result = done.await;
            if let Some(mailbox) = mailbox.and_then(|m| m.upgrade()) {
                let job: Job = Box::new(move |state| then(state, result));
                // The network is closing otherwise.
                let _ = mailbox.send(job).await;
            }
        });
    }

    /// The shared state.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Changes the model and queues it for the store; wait for the commit before anybody is told.
    pub fn change<R>(&mut self, f: impl FnOnce(&mut Network) -> R) -> (R, Commit) {
        let result = f(&mut self.model);
        (result, self.commit_with(Vec::new()))
    }

    /// Commits the model together with other changes.
    pub fn commit_with(&mut self, mut changes: Vec<Change>) -> Commit {
        changes.push(Change::network(&self.model));
        self.shared.store.commit(changes)
    }

    /// Runs this when the submission is complete.
    pub fn on_completion(&mut self, ticket: Ticket, waiter: Waiter) {
        self.waiters.insert(ticket, waiter);
    }

    /// The model's half of an entry of membership, at the moment it gets its epoch.
    pub(super) fn seal_membership(&mut self, kind: &EntryKind, epoch: Epoch) -> bool {
        match *kind {
            EntryKind::Join { switch, host } => {
                match switch.and_then(|s| self.model.switches.get_mut(&s)) {
                    Some(switch) => {
                        let active = InstanceState::Active(Some(epoch));
                        switch.instances.insert(host, active);
                    }
                    None => {
                        self.model.members.insert(host, MemberState::Full);
                    }
                }
                true
            }
            EntryKind::Retire { switch, host } => {
                let switch = switch.and_then(|s| self.model.switches.get_mut(&s));
                if let Some(state) = switch.and_then(|s| s.instances.get_mut(&host)) {
                    *state = InstanceState::Retiring(Some(epoch));
                }
                true
            }
            _ => false,
        }
    }

    /// The largest L3 packet that a port takes, bytes: what it was made for, unless its device takes less.
    pub fn mtu(&self, port: PortId, made_for: u32) -> u32 {
        let device = self.device_mtus.get(&port);
        device.map_or(made_for, |&mtu| mtu.min(made_for))
    }

    /// Names of hosts that updates wait for.
    pub fn waiting_for(&self) -> Vec<String> {
        let hosts = self.seq.waiting_for();
        hosts.iter().map(|h| self.shared.hosts.name(*h)).collect()
    }

    /// What the network's owner should know of it.
    pub fn warnings(&self) -> Vec<String> {
        let outside = needs_strict(&self.model);
        let name = |h| self.shared.hosts.name(h);
        outside
            .iter()
            .map(|o| o.describe(&self.model, name))
            .collect()
    }

    /// The switch of this name.
    pub fn switch(&self, name: &str) -> Result<&lime_core::model::Switch, tonic::Status> {
        self.model.switch_named(name).ok_or_else(|| {
            tonic::Status::not_found(format!(
                "switch {}/{name} does not exist: `lime switch list` shows those that do",
                self.model.name
            ))
        })
    }

    /// The epochs that the store has, for their deletion.
    pub fn take_log(&mut self) -> Vec<Epoch> {
        std::mem::take(&mut self.stored_log).into()
    }

    /// Every [`TICK`]: timeouts, and once a second what may wait.
    pub(super) fn tick(&mut self) {
        self.check_timeouts();
        self.check_leases();
        if self.ticks.is_multiple_of(TICKS_PER_SECOND) {
            self.seq.collect();
            self.save_floors();
        }
        self.ticks += 1;
        self.carry_out();
    }
}
