//! Entries of the log, and what the sequencer asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::flow::{RemovedReason, Rule};
use crate::{Epoch, HostId, RuleId, SwitchId};

/// A rule that an entry adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Added {
    /// Its id.
    pub id: RuleId,
    /// As the controller asked for it, groups not expanded.
    pub rule: Arc<Rule>,
    /// It is this rule, with other instructions: its duration goes on.
    #[serde(default)]
    pub continues: Option<RuleId>,
    /// Its counts go on where this rule began them (OpenFlow 1.3.5, 6.4); none: it counts from zero.
    #[serde(default)]
    pub counts: Option<RuleId>,
}

impl Added {
    /// A rule that has nothing to do with others.
    pub fn new(id: RuleId, rule: Arc<Rule>) -> Self {
        Self {
            id,
            rule,
            continues: None,
            counts: None,
        }
    }
}

/// A rule that an entry removes, with all that is needed to undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Removed {
    /// Its id.
    pub id: RuleId,
    /// What it was.
    pub rule: Arc<Rule>,
    /// Since when; `None`: its own entry had no epoch yet.
    pub from: Option<Epoch>,
    /// Where its counts began; none: with itself.
    #[serde(default)]
    pub counts: Option<RuleId>,
    /// Why it goes; none: another takes its place, of which nobody is told (OpenFlow 1.3.5, 6.4).
    #[serde(default)]
    pub why: Option<RemovedReason>,
    /// Its counts go on in another rule.
    #[serde(default)]
    pub goes_on: bool,
    /// When it took effect, milliseconds since the Unix epoch; none: its own entry had no epoch yet.
    #[serde(default)]
    pub since: Option<u64>,
}

impl Removed {
    /// A rule that goes, and nobody is told.
    pub fn new(id: RuleId, rule: Arc<Rule>, from: Option<Epoch>) -> Self {
        Self {
            id,
            rule,
            from,
            counts: None,
            why: None,
            goes_on: false,
            since: None,
        }
    }

    /// Whether the controller is told that it has gone.
    pub fn is_told(&self) -> bool {
        self.why.is_some() && self.rule.flags.send_flow_removed
    }

    /// Whether its last counts matter: hosts report them before they acknowledge its end. Those of rules do, for the counts of their table.
    pub fn is_reported(&self) -> bool {
        self.goes_on || self.is_told() || self.rule.part.is_none()
    }

    /// Where its counts are kept.
    pub fn counted_as(&self) -> RuleId {
        self.counts.unwrap_or(self.id)
    }
}

/// What an entry does. Each concerns one switch at most; every member takes part in every epoch (rule 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum EntryKind {
    /// Changes of a switch's rules.
    Update {
        /// The switch.
        switch: SwitchId,
        /// Visible from this epoch on.
        add: Vec<Added>,
        /// Not visible from this epoch on.
        remove: Vec<Removed>,
        /// Came and went within this entry: never visible, but what is to be told of them is told.
        #[serde(default)]
        passed: Vec<Removed>,
    },
    /// A host processes this switch's packets from this epoch on; without a switch, it becomes a member (rule 15).
    Join {
        /// The switch.
        switch: Option<SwitchId>,
        /// The host.
        host: HostId,
    },
    /// A host does not process this switch's packets any more; without a switch, it leaves the network (rule 15).
    Retire {
        /// The switch.
        switch: Option<SwitchId>,
        /// The host.
        host: HostId,
    },
    /// Ends the recovery of a restarted coordinator (rule 19).
    Recovery,
    /// An update that a member could not stage: nothing, on all of them.
    Void,
}

impl EntryKind {
    /// Rule operations in it, at least 1.
    pub fn weight(&self) -> usize {
        match self {
            EntryKind::Update { add, remove, .. } => (add.len() + remove.len()).max(1),
            _ => 1,
        }
    }

    /// Whether this and the one behind it can be one entry: both are updates of one switch.
    pub fn absorbs(&self, behind: &EntryKind) -> bool {
        match (self, behind) {
            (EntryKind::Update { switch, .. }, EntryKind::Update { switch: same, .. }) => {
                switch == same
            }
            _ => false,
        }
    }

    /// Joins to this update the one behind it; gives that back if they are not both updates of one switch. A rule that comes and goes
    /// within one entry is never visible and leaves both lists for `passed`.
    pub fn absorb(&mut self, behind: EntryKind) -> Option<EntryKind> {
        if !self.absorbs(&behind) {
            return Some(behind);
        }
        let EntryKind::Update {
            add: adds,
            remove: removes,
            passed: passes,
            ..
        } = self
        else {
            return Some(behind);
        };
        let (mut add, remove, passed) = match behind {
            EntryKind::Update {
                add,
                remove,
                passed,
                ..
            } => (add, remove, passed),
            other => return Some(other),
        };
        let gone: BTreeSet<RuleId> = remove.iter().map(|r| r.id).collect();
        let mut here = BTreeMap::new();
        if !gone.is_empty() {
            adds.retain(|a| {
                let goes = gone.contains(&a.id);
                if goes {
                    here.insert(a.id, a.continues);
                }
                !goes
            });
        }
        // What goes on from a rule that never was visible goes on from what was before that, if anything.
        for added in &mut add {
            if let Some(before) = added.continues.and_then(|id| here.get(&id)) {
                added.continues = *before;
            }
        }
        for removed in remove {
            if here.contains_key(&removed.id) {
                passes.push(removed);
            } else {
                removes.push(removed);
            }
        }
        passes.extend(passed);
        adds.extend(add);
        None
    }
}

/// Rule 20: who processes a switch's packets while an update of it is made. It is in the log, since after a crash of the coordinator another
/// primary would be sent packets by those that still take the one before for it, and would get those that it sends there back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct RelayPhase {
    /// The instance that goes on.
    pub primary: HostId,
    /// All others that process packets; meanwhile they send them to the primary.
    pub others: Vec<HostId>,
}

/// An entry with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Entry {
    /// Its number.
    pub epoch: Epoch,
    /// What it does.
    pub kind: EntryKind,
    /// How it is activated: in a strict network, if several instances process the packets of its switch.
    #[serde(default)]
    pub relay: Option<RelayPhase>,
}

impl Entry {
    /// An entry that is activated everywhere at once.
    pub fn new(epoch: Epoch, kind: EntryKind) -> Self {
        Self {
            epoch,
            kind,
            relay: None,
        }
    }
}

/// Names a submission, a barrier or a freeze until it is completed. Counts up, so an earlier one is smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub u64);

/// What the shell is to do, in the order given. Messages to one host go into its one FIFO stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output<E> {
    /// Write these entries to the store, then call [`logged`](super::Sequencer::logged) (rule 19: before anybody hears of them).
    Log(Vec<Arc<Entry>>),
    /// Send Stage.
    Stage {
        /// To whom.
        host: HostId,
        /// What.
        entry: Arc<Entry>,
        /// It replaces what was staged under this number.
        replace: bool,
    },
    /// Send Activate.
    Activate {
        /// To whom.
        host: HostId,
        /// Up to here.
        epoch: Epoch,
        /// Only after a random delay: the network has no consistency.
        delayed: bool,
    },
    /// Rule 20: the host is to send the packets of this switch to another, unprocessed, until this epoch is activated there; it says so with
    /// [`relaying`](super::Sequencer::relaying).
    EnterRelay {
        /// To whom.
        host: HostId,
        /// Of this update.
        epoch: Epoch,
        /// Its switch.
        switch: SwitchId,
        /// Who processes them.
        primary: HostId,
    },
    /// Entries were voided: undo them in the model and in the store (they are given as they were).
    Voided(Vec<Arc<Entry>>),
    /// A submission failed; undo its changes in the model if it never became an entry (`unsealed`).
    Failed {
        /// Which.
        ticket: Ticket,
        /// What of it was not in the log yet.
        unsealed: Option<EntryKind>,
        /// Who could not, and why.
        error: StageError,
    },
    /// The submission, barrier or freeze is complete.
    Completed {
        /// Which.
        ticket: Ticket,
        /// The epoch it took effect at; for barriers and freezes the last acknowledged one.
        epoch: Epoch,
    },
    /// This update is acknowledged by all members: what it removed counts no more, and hosts have reported the last of it. What the
    /// controller is told of that goes out now: after the events of before the epoch, before replies and events of the epoch.
    Settled(Arc<Entry>),
    /// Give this event to the controller.
    Release(E),
    /// Tell the agent that the coordinator has the event (rule 5).
    ReleaseHeld {
        /// Whom.
        host: HostId,
        /// The id that came with the event.
        id: u64,
    },
    /// Send this packet-out now, with this `min_clock` (rule 11).
    SendPacketOut {
        /// Which.
        id: u64,
        /// Highest epoch activated in the network.
        min_clock: Epoch,
    },
    /// A host that is still learning could not stage an entry: give up adding it.
    LearnerFailed(HostId, String),
    /// All members are past this epoch.
    Collect(Epoch),
}

/// A member could not stage an entry.
#[derive(Clone, Debug, Error, PartialEq, Eq, Hash)]
#[error("host {host} could not take the update: {reason}")]
pub struct StageError {
    /// Which member.
    pub host: HostId,
    /// What it said.
    pub reason: String,
    /// Another request of the same batch, or one before it, was at fault: this one may be tried again.
    pub collateral: bool,
}

/// An agent said something that the protocol does not allow. The shell drops its connection; nothing has changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// Not a member of this network.
    #[error("host {0} is no member of the network")]
    NotAMember(HostId),
    /// Staged what it was never sent.
    #[error("host {host} says that epoch {epoch} is staged, and was sent none above {sent}")]
    StagedUnsent {
        /// Who.
        host: HostId,
        /// What it said.
        epoch: Epoch,
        /// What is true.
        sent: Epoch,
    },
    /// Could not stage an entry that changes no rules, or one that has taken effect.
    #[error("host {host} refuses epoch {epoch}: {reason}")]
    CannotRefuse {
        /// Who.
        host: HostId,
        /// What.
        epoch: Epoch,
        /// Why.
        reason: String,
    },
    /// Acknowledged what was never activated.
    #[error("host {host} acknowledges epoch {epoch}, and none above {activated} was activated")]
    AcknowledgedUnsent {
        /// Who.
        host: HostId,
        /// What it said.
        epoch: Epoch,
        /// What is true.
        activated: Epoch,
    },
    /// Relays for an update that it was not told of.
    #[error("host {host} says that it relays for epoch {epoch}, and was not told to")]
    RelaysUntold {
        /// Who.
        host: HostId,
        /// What it said.
        epoch: Epoch,
    },
    /// An event older than the stream's last acknowledgement (rule 9).
    #[error(
        "host {host} sent an event of version {version} after it had acknowledged {acknowledged}"
    )]
    StaleEvent {
        /// Who.
        host: HostId,
        /// The event's version.
        version: Epoch,
        /// What it had acknowledged.
        acknowledged: Epoch,
    },
    /// The agent holds epochs that the store does not know.
    #[error(
        "host {host} has staged epoch {staged}, and the log ends at {last}: the coordinator's store is older than the hosts' state"
    )]
    AheadOfLog {
        /// Who.
        host: HostId,
        /// What it has.
        staged: Epoch,
        /// Where the log ends.
        last: Epoch,
    },
}
