//! One host: the agent's and the kernel's halves of the protocol, as far as the rules speak of them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use lime_core::log::Entry;
use lime_core::model::{HostConfig, PortPlace};
use lime_core::promise::Round;
use lime_core::{Epoch, PortId};

use crate::coordinator::Shared;
use crate::history::PacketId;

/// A rule version in a host's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Which rule of the scenario.
    pub rule: u8,
    /// Visible from here on.
    pub from: u32,
    /// Not visible from here on; 0: no end.
    pub to: u32,
}

impl Version {
    /// Rule 1.
    pub fn visible(&self, at: Epoch) -> bool {
        Epoch(self.from).le(at) && (self.to == 0 || at.lt(Epoch(self.to)))
    }
}

/// A packet, and where it is in its switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Packet {
    /// Its name.
    pub id: PacketId,
    /// What rules match on.
    pub kind: u8,
    /// Where it came in.
    pub port: u8,
}

/// A packet that a kernel program has in hands: it has read its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InHand {
    /// The packet.
    pub packet: Packet,
    /// At this version.
    pub version: u32,
    /// What it has matched; only where rules are idle, since only then it shows that lookup and counting are two steps.
    pub matched: Matched,
}

/// What a packet in hand has matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Matched {
    /// It has not been looked up.
    #[default]
    Unknown,
    /// No rule.
    None,
    /// This one.
    Rule(u8),
}

/// A tunnel frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    /// For this host.
    pub to: u8,
    /// DELIVER (out by the port), else PROCESS (as come in by the port).
    pub deliver: bool,
    /// Rule 2; 0 under mutations: none.
    pub tag: u32,
    /// The packet and the port.
    pub packet: Packet,
}

/// An event in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Event {
    /// Rule 10.
    pub version: u32,
    /// Where.
    pub switch: u8,
    /// What.
    pub packet: Packet,
    /// The output that waits for it; 0: none.
    pub held: u8,
}

/// From the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Down {
    /// Rule 7. Without `content`, only the number.
    Stage {
        /// The entry.
        entry: Arc<Entry>,
        /// It is for an instance here.
        content: bool,
        /// It replaces what was staged.
        replace: bool,
    },
    /// Rule 8.
    Activate(Epoch),
    /// Rule 20.
    EnterRelay {
        /// Of this update.
        epoch: Epoch,
        /// Its switch.
        switch: u8,
        /// Who processes its packets.
        primary: u8,
    },
    /// The desired state.
    Configure(Shared<HostConfig>, bool),
    /// Rule 15: the rules of a switch, or only the number.
    Snapshot {
        /// Which switch.
        switch: Option<u8>,
        /// As of this epoch.
        at: Epoch,
        /// Its rules.
        rules: Vec<Version>,
        /// An operation waits for it.
        awaited: bool,
    },
    /// Rule 11.
    Out {
        /// Which.
        id: u64,
        /// Highest epoch activated in the network.
        min_clock: Epoch,
        /// The packet.
        packet: Packet,
        /// Out by this port; `None`: through the table.
        to: Option<u8>,
    },
    /// Rule 5.
    Release(u64),
    /// Rule 14: is the rule idle?
    Ask(Round),
    /// Rule 14: the promise is lifted.
    Lift,
    /// Rule 14, on a new stream: whether the promise stands.
    Stands(bool),
    /// Rule 16.
    Pause(u8),
    /// Rule 16.
    Resume(u8, Epoch),
    /// Read the counters for the last time.
    Finals,
    /// The end of a new start: the clock goes on from here.
    Restarted {
        /// The snapshots were of this epoch.
        at: Epoch,
        /// Highest epoch activated in the network.
        min_clock: Epoch,
    },
}

/// To the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Up {
    /// A new stream.
    Hello {
        /// How far it is.
        staged: Epoch,
        /// No older event comes after this.
        clock: Epoch,
    },
    /// Rule 7.
    Staged(Epoch),
    /// It could not.
    Refused(Epoch),
    /// Rule 9.
    Activated(Epoch),
    /// Rule 20.
    Relaying(Epoch),
    /// Rule 13: what was counted of each rule before this epoch.
    Counts(Epoch, Vec<(u8, u8)>),
    /// Rule 14: whether it promises.
    Vote(Round, bool),
    /// A packet-in.
    Event(Event),
    /// The packet-out is executed.
    OutDone(u64),
    /// The snapshots of a new start are here.
    Restarted(Epoch),
    /// What an operation waited for; a pause gives the clock.
    Done(Epoch),
}

/// What waits for a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum After {
    /// Rule 9.
    Activated(Epoch),
    /// Rule 18.
    Hello(Epoch),
    /// Rule 16.
    Paused(Epoch),
    /// Rule 14.
    Vote(Round),
}

/// Rule 20: packets of a switch go to its primary, unprocessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Detour {
    /// Which switch.
    pub switch: u8,
    /// Until this epoch is activated.
    pub epoch: Epoch,
    /// Where to.
    pub to: u8,
}

/// An output that waits for the coordinator to have the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Its name.
    pub id: u8,
    /// The packet.
    pub packet: Packet,
    /// Ports, as bits.
    pub out: u8,
    /// What the packet was processed at.
    pub version: u32,
}

/// A host.
#[derive(Clone, Debug, Default, Hash)]
pub struct Host {
    /// The one word per network.
    pub clock: Epoch,
    /// A prefix.
    pub staged: Epoch,
    /// Sorted.
    pub rules: Vec<Version>,
    /// The desired state in force.
    pub config: Option<Shared<HostConfig>>,
    /// Rule 20.
    pub detours: Vec<Detour>,
    /// Sorted.
    pub in_hand: Vec<InHand>,
    /// Events that the agent has not read.
    pub ring: VecDeque<Event>,
    /// Rule 5.
    pub held: Vec<Held>,
    /// The last held output's name.
    pub held_names: u8,
    /// In order.
    pub after: VecDeque<After>,
    /// The stream is open on the agent's side.
    pub open: bool,
    /// The greeting is in the stream.
    pub greeted: bool,
    /// The coordinator has the greeting: what it sends gets into this stream.
    pub heard: bool,
    /// From the coordinator.
    pub down: VecDeque<Down>,
    /// To the coordinator.
    pub up: VecDeque<Up>,
    /// Counts agent processes.
    pub incarnation: u8,
    /// Packet-outs that were executed.
    pub recent: BTreeSet<u64>,
    /// Packets by rule and version, sorted; only where statistics are asked for.
    pub counts: Vec<(u8, u32, u8)>,
    /// Rule 13: cuts that are staged, and not reported.
    pub cuts: Vec<Epoch>,
    /// Rule 14: the idle rule is not to be matched. The kernel's: it survives the agent.
    pub promised: bool,
    /// Rule 14: the round that the agent has not voted in yet.
    pub asked: Option<Round>,
    /// Rule 14: the idle rule was matched since the round began. That is what stands for time here.
    pub used: bool,
    /// Rule 14: packets that would have matched.
    pub waiting: VecDeque<Packet>,
    /// Its instance's final counters were read.
    pub finals: bool,
    /// A packet was counted after that.
    pub miscounted: bool,
    /// No stream can open: it is cut off from the coordinator.
    pub away: bool,
    /// Rule 17: its lease is over.
    pub lapsed: bool,
    /// Mutation: raises that come late.
    pub late_raises: Vec<u32>,
}

/// What a switch does with a packet here: as the kernel's `classify::role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing can be done with it.
    None,
    /// To this host, unprocessed (rule 4).
    Relay(u8),
    /// It is processed.
    Active,
}

impl Host {
    /// The switch's role at a version.
    pub fn role(&self, switch: u8, version: Epoch, at_once: bool, for_ever: bool) -> Role {
        let Some(config) = &self.config else {
            return Role::None;
        };
        let Some(s) = config
            .switches
            .iter()
            .find(|s| s.switch.0 == u32::from(switch) + 1)
        else {
            return Role::None;
        };
        if version == Epoch::ZERO {
            return Role::None;
        }
        if s.instance {
            let joined = s.join == Epoch::ZERO || s.join.le(version) || at_once;
            let retired = s.retire != Epoch::ZERO && s.retire.le(version) && !for_ever;
            if joined && !retired {
                let detour = self.detours.iter().find(|d| d.switch == switch);
                return detour.map_or(Role::Active, |d| Role::Relay(d.to));
            }
        }
        match s.relay {
            Some(host) => Role::Relay((host.0 - 1) as u8),
            None => Role::None,
        }
    }

    /// Whether outputs beside a packet-in are held (rule 5).
    pub fn holds(&self, switch: u8) -> bool {
        let config = self.config.as_ref();
        config.is_some_and(|c| {
            c.switches
                .iter()
                .any(|s| s.switch.0 == u32::from(switch) + 1 && s.hold)
        })
    }

    /// Where a port is.
    pub fn place(&self, port: u8) -> Option<&PortPlace> {
        let config = self.config.as_ref()?;
        let mut ports = config.ports.iter();
        ports
            .find(|p| p.port == PortId(u32::from(port) + 1))
            .map(|p| &p.place)
    }

    /// Whether everything that read an older version than this has finished.
    pub fn is_past(&self, epoch: Epoch) -> bool {
        !self.in_hand.iter().any(|p| Epoch(p.version).lt(epoch))
    }

    /// Adds a packet in hand.
    pub fn take(&mut self, packet: Packet, version: Epoch) {
        self.in_hand.push(InHand {
            packet,
            version: version.0,
            matched: Matched::Unknown,
        });
        self.in_hand.sort_unstable();
    }

    /// The stream breaks.
    pub fn cut(&mut self) {
        self.open = false;
        self.greeted = false;
        self.heard = false;
        self.down.clear();
        self.up.clear();
        self.after.clear();
    }
}

impl Host {
    /// A rule was matched.
    pub fn count(&mut self, rule: u8, version: Epoch) {
        let mut known = self.counts.iter_mut();
        match known.find(|(r, v, _)| (*r, *v) == (rule, version.0)) {
            Some((_, _, n)) => *n += 1,
            None => {
                self.counts.push((rule, version.0, 1));
                self.counts.sort_unstable();
            }
        }
    }

    /// What was counted of each rule before an epoch; under a mutation, at all.
    pub fn counted_before(&self, epoch: Epoch, at_all: bool) -> Vec<(u8, u8)> {
        let mut sums: Vec<(u8, u8)> = Vec::new();
        let meant = |v: u32| at_all || Epoch(v).lt(epoch);
        for &(rule, _, n) in self.counts.iter().filter(|(_, v, _)| meant(*v)) {
            match sums.last_mut() {
                Some((last, sum)) if *last == rule => *sum += n,
                _ => sums.push((rule, n)),
            }
        }
        sums
    }

    /// Keeps a packet until the coordinator has its event. Gives its name.
    pub fn hold(&mut self, packet: Packet, out: u8, version: Epoch) -> u8 {
        self.held_names += 1;
        let id = self.held_names;
        self.held.push(Held {
            id,
            packet,
            out,
            version: version.0,
        });
        id
    }
}
