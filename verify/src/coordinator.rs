//! The coordinator: the production sequencer, and a model of the shell around it (store, streams, operations).

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use lime_core::Epoch;
use lime_core::log::{Entry, EntryKind, Sequencer, Ticket};
use lime_core::model::{InstanceState, MemberState, Network, Port};
use lime_core::promise::Rounds;

use crate::host::{Event, Packet};

/// Something large that seldom changes, shared between states and told apart by a digest.
#[derive(Debug)]
pub struct Shared<T> {
    value: Arc<T>,
    digest: u64,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            digest: self.digest,
        }
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl<T> Eq for Shared<T> {}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Debug> Shared<T> {
    /// Of this value.
    pub fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        format!("{value:?}").hash(&mut hasher);
        Self {
            value: Arc::new(value),
            digest: hasher.finish(),
        }
    }
}

impl<T: Debug + Clone> Shared<T> {
    /// With a change.
    pub fn change(&mut self, f: impl FnOnce(&mut T)) {
        let mut value = self.value.as_ref().clone();
        f(&mut value);
        *self = Self::new(value);
    }
}

/// The owner's intent, as in production.
pub type Model = Shared<Network>;

/// Entries, told apart by what can differ: all rules have the same contents here, so their ids say it all.
#[derive(Clone, Debug, Default)]
pub struct Log(Vec<Arc<Entry>>);

impl Deref for Log {
    type Target = Vec<Arc<Entry>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Log {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Hash for Log {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.len().hash(state);
        for entry in &self.0 {
            (entry.epoch, &entry.relay).hash(state);
            match &entry.kind {
                EntryKind::Update {
                    switch,
                    add,
                    remove,
                    passed,
                } => {
                    switch.hash(state);
                    let ids = add.iter().map(|a| a.id).chain(remove.iter().map(|r| r.id));
                    ids.chain(passed.iter().map(|p| p.id))
                        .for_each(|id| id.hash(state));
                    [add.len(), remove.len()].hash(state);
                }
                kind => kind.hash(state),
            }
        }
    }
}

/// What is on the disk.
#[derive(Clone, Debug, Hash)]
pub struct Store {
    /// All entries there ever were.
    pub log: Log,
    /// As of the last write.
    pub acknowledged: Epoch,
    /// As of the last write.
    pub model: Model,
}

/// A write to the store that is under way.
#[derive(Clone, Debug, Hash)]
pub struct Write {
    /// New entries.
    pub entries: Vec<Arc<Entry>>,
    /// The acknowledged epoch, written along.
    pub acknowledged: Epoch,
    /// The model, if the entries change it.
    pub model: Option<Model>,
}

/// A packet-out that is not known to be done.
#[derive(Clone, Copy, Debug, Hash)]
pub struct PendingOut {
    /// The packet.
    pub packet: Packet,
    /// Its switch.
    pub switch: u8,
    /// Out by this port; `None`: through the table.
    pub to: Option<u8>,
    /// Who has it.
    pub sent_to: Option<u8>,
    /// The agent process that has it.
    pub incarnation: u8,
}

/// Who waits for a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Waiter {
    /// The controller, for this command.
    Command(u8),
    /// The operation.
    Operation,
    /// The controller, to be let in.
    Admission,
}

/// The coordinator.
#[derive(Clone, Debug, Hash)]
pub struct Coordinator {
    /// The code that runs in production.
    pub sequencer: Sequencer<Event>,
    /// What the owner wants.
    pub model: Model,
    /// Since when an instance that learns is sent contents.
    pub clones: BTreeMap<(u8, u8), Epoch>,
    /// All entries made.
    pub log: Log,
    /// The disk.
    pub store: Store,
    /// On their way to the disk.
    pub writes: VecDeque<Write>,
    /// By id.
    pub outs: BTreeMap<u64, PendingOut>,
    /// Who waits.
    pub waiters: Vec<(Ticket, Waiter)>,
    /// The controller's newest submission.
    pub last: Ticket,
    /// The operation under way, and its step.
    pub operation: u8,
    /// Its step.
    pub step: u8,
    /// Hosts that the operation waits for, as bits.
    pub awaited: u8,
    /// It waits for a ticket.
    pub awaits_ticket: bool,
    /// Its freeze.
    pub freeze: Option<Ticket>,
    /// What the pause gave.
    pub paused_at: Epoch,
    /// Where the port that moves comes from.
    pub from: u8,
    /// Its end host goes on sending.
    pub plug: bool,
    /// Rule 13: what hosts have reported, by cut and rule.
    pub counted: BTreeMap<(u32, u8), u8>,
    /// Rule 14: the code that runs in production.
    pub rounds: Rounds,
    /// Rule 17: the host that is being taken in again, and which of its switches learns; `None`: it becomes a member.
    pub rejoining: Option<(u8, Option<u8>)>,
    /// Mutation: events below this are of before the recovery.
    pub recovery: Epoch,
    /// It has ended its recovery.
    pub admits: bool,
}

impl Coordinator {
    /// Of a new network.
    pub fn new(network: Network) -> Self {
        let model = Model::new(network);
        Self {
            sequencer: Sequencer::new(model.consistency),
            clones: BTreeMap::new(),
            log: Log::default(),
            store: Store {
                log: Log::default(),
                acknowledged: Epoch::ZERO,
                model: model.clone(),
            },
            model,
            writes: VecDeque::new(),
            outs: BTreeMap::new(),
            waiters: Vec::new(),
            last: Ticket(0),
            operation: 0,
            step: 0,
            awaited: 0,
            awaits_ticket: false,
            freeze: None,
            paused_at: Epoch::ZERO,
            from: 0,
            plug: false,
            counted: BTreeMap::new(),
            rounds: Rounds::default(),
            rejoining: None,
            recovery: Epoch::ZERO,
            admits: true,
        }
    }

    /// After a death: what the disk has. `suspend`: unless that rule is taken out.
    pub fn recovered(store: Store, operation: u8, suspend: bool) -> Self {
        let mut network = Network::clone(&store.model);
        network.members.retain(|_, m| *m != MemberState::Learning);
        for switch in network.switches.values_mut() {
            switch
                .instances
                .retain(|_, i| *i != InstanceState::Learning);
        }
        let acknowledged = store.acknowledged;
        let tail = store.log.iter().filter(|e| acknowledged.lt(e.epoch));
        let tail: Vec<Entry> = tail.map(|e| e.as_ref().clone()).collect();
        let recovery = tail.last().map_or(acknowledged, |e| e.epoch).next();
        let members = network.members.iter();
        let members = members.filter(|(_, m)| **m != MemberState::Excluded);
        let members: Vec<_> = members.map(|(h, _)| *h).collect();
        let leaving = network.ports.values().any(Port::is_leaving);
        let (mut sequencer, _) =
            Sequencer::recover(network.consistency, acknowledged, tail, members);
        if leaving && suspend {
            sequencer.suspend_activations();
        }
        let mut this = Self::new(network);
        this.sequencer = sequencer;
        this.log.clone_from(&store.log);
        this.store = store;
        this.operation = operation;
        this.recovery = recovery;
        this.admits = false;
        this
    }

    /// Rule 15: a join or retirement is in the model as soon as it has its epoch.
    pub fn seal_membership(&mut self, entry: &Entry) -> bool {
        match entry.kind {
            EntryKind::Join { switch, host } => {
                let epoch = entry.epoch;
                self.model.change(|n| {
                    match switch.and_then(|s| n.switches.get_mut(&s)) {
                        Some(s) => {
                            s.instances.insert(host, InstanceState::Active(Some(epoch)));
                        }
                        None => {
                            n.members.insert(host, MemberState::Full);
                        }
                    };
                });
                true
            }
            EntryKind::Retire { switch, host } => {
                let epoch = entry.epoch;
                self.model.change(|n| {
                    let switch = switch.and_then(|s| n.switches.get_mut(&s));
                    if let Some(state) = switch.and_then(|s| s.instances.get_mut(&host)) {
                        *state = InstanceState::Retiring(Some(epoch));
                    }
                });
                true
            }
            _ => false,
        }
    }
}
