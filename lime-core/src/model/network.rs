//! A network, its switches, ports and members.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::{Consistency, Epoch, HostId, NetworkId, PortAttach, PortId, PortNo, SwitchId};

/// A tenant's network, rules apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its number.
    pub id: NetworkId,
    /// Its name, unique in the installation.
    pub name: String,
    /// What it promises.
    pub consistency: Consistency,
    /// Geneve's virtual network identifier, 24 bits.
    pub vni: u32,
    /// By number.
    pub switches: BTreeMap<SwitchId, Switch>,
    /// By number.
    pub ports: BTreeMap<PortId, Port>,
    /// Hosts that take part.
    pub members: BTreeMap<HostId, MemberState>,
    /// The next port's number.
    pub next_port: u32,
}

/// How far a host has come as a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// Nobody waits for it yet.
    Learning,
    /// Takes part.
    Full,
    /// On its way out: nothing of it is here, its last frames are awaited.
    Leaving,
    /// It could not be reached for longer than its lease (rule 17): nobody waits for it. It learns again when it is back.
    Excluded,
}

/// A virtual switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Its number.
    pub id: SwitchId,
    /// Its name, unique in its network.
    pub name: String,
    /// Where it runs.
    pub instances: BTreeMap<HostId, InstanceState>,
    /// What it sends its controller.
    #[serde(default)]
    pub packet_ins: PacketIns,
}

/// What a switch sends its controller beside what rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketIns {
    /// Bytes of packet-ins a second that each instance may send; a packet-in takes 64 bytes and the part of the packet that goes with it.
    pub rate: u32,
    /// Bytes that it may send at once, after a time of less; also the most that waits in a host's event ring.
    pub burst: u32,
    /// Packets whose TTL runs out go to the controller, and are not only dropped (OpenFlow 1.3.5, 7.4.1: OFPR_INVALID_TTL).
    pub invalid_ttl: bool,
}

impl PacketIns {
    /// Rates that are possible, bytes a second.
    pub const RATES: RangeInclusive<u32> = 1000..=100_000_000;
    /// Bursts that are possible, bytes: from about what the longest packet-in takes to a quarter of an event ring.
    pub const BURSTS: RangeInclusive<u32> = 10_000..=1_048_576;
}

impl Default for PacketIns {
    /// About 1300 packet-ins of full Ethernet frames a second, or 15,000 short ones; 16 switches can not fill an event ring.
    fn default() -> Self {
        Self {
            rate: 2_000_000,
            burst: 256 * 1024,
            invalid_ttl: false,
        }
    }
}

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceState {
    /// It gets the rules and processes nothing.
    Learning,
    /// It processes from its join epoch on; `None`: that has passed.
    Active(Option<Epoch>),
    /// It processes until before its retire epoch; `None`: that is not known yet.
    Retiring(Option<Epoch>),
    /// Its host is excluded (rule 17) or was, and it processes nothing until it has learnt again.
    Excluded {
        /// What it had counted before has been read.
        counted: bool,
    },
}

impl InstanceState {
    /// Whether new packets may be sent to it.
    pub fn is_active(self) -> bool {
        matches!(self, InstanceState::Active(_))
    }

    /// Whether it processes nothing until it is told to.
    pub fn is_learning(self) -> bool {
        matches!(
            self,
            InstanceState::Learning | InstanceState::Excluded { .. }
        )
    }
}

/// A port of a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its number in the network.
    pub id: PortId,
    /// Its switch.
    pub switch: SwitchId,
    /// Its number on the switch.
    pub no: PortNo,
    /// Where it is.
    pub place: Place,
    /// While it moves: the other place.
    pub moving: Option<Moving>,
    /// Bytes.
    pub mtu: u32,
    /// Left out of floods.
    pub no_flood: bool,
    /// Behind it is a network outside, where packets may meet that have gone out elsewhere.
    #[serde(default)]
    pub external: bool,
    /// When it was made, milliseconds since the Unix epoch; 0: not known.
    #[serde(default)]
    pub since: u64,
}

/// Where a port is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// A device of a host.
    Device(Device),
    /// The other end of a link between switches.
    Link(PortId),
}

/// A device of a host that is a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Its host.
    pub host: HostId,
    /// Its name there.
    pub name: String,
    /// Where the program runs.
    pub attach: PortAttach,
    /// How the end host behind it is paused and resumed; empty: not at all.
    pub driver: String,
}

/// A port's second place while it moves. Only while activations are frozen do frames pass through both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moving {
    /// The end host is still at `place` and will be here.
    To(Device),
    /// The end host is at `place`; its last frames may still come from here.
    From(Device),
}

impl Port {
    /// Its device, if it is none of a link.
    pub fn device(&self) -> Option<&Device> {
        match &self.place {
            Place::Device(device) => Some(device),
            Place::Link(_) => None,
        }
    }

    /// Whether its end host may be heard at two places: activations are frozen then (rule 16).
    pub fn is_leaving(&self) -> bool {
        matches!(self.moving, Some(Moving::From(_)))
    }

    /// Every device that it has at present.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        let moving = self.moving.as_ref().map(|m| match m {
            Moving::To(device) | Moving::From(device) => device,
        });
        self.device().into_iter().chain(moving)
    }
}

impl Network {
    /// A new one, empty.
    pub fn new(id: NetworkId, name: String, consistency: Consistency, vni: u32) -> Self {
        Self {
            id,
            name,
            consistency,
            vni,
            switches: BTreeMap::new(),
            ports: BTreeMap::new(),
            members: BTreeMap::new(),
            next_port: 1,
        }
    }

    /// The switch of this name.
    pub fn switch_named(&self, name: &str) -> Option<&Switch> {
        self.switches.values().find(|s| s.name == name)
    }

    /// The port of this number on this switch.
    pub fn port_at(&self, switch: SwitchId, no: PortNo) -> Option<&Port> {
        self.ports
            .values()
            .find(|p| p.switch == switch && p.no == no)
    }

    /// The switch's ports, by their numbers.
    pub fn ports_of(&self, switch: SwitchId) -> Vec<&Port> {
        let mut ports: Vec<&Port> = self.ports.values().filter(|p| p.switch == switch).collect();
        ports.sort_by_key(|p| p.no);
        ports
    }

    /// The lowest port number that the switch has free.
    pub fn free_port_no(&self, switch: SwitchId) -> PortNo {
        let mut no = 1;
        for port in self.ports_of(switch) {
            if port.no.0 == no {
                no += 1;
            }
        }
        PortNo(no)
    }

    /// A number for a new port.
    pub fn take_port_id(&mut self) -> PortId {
        let id = PortId(self.next_port);
        self.next_port += 1;
        id
    }

    /// `NET/SWITCH:PORT`.
    pub fn port_name(&self, port: &Port) -> String {
        let switch = self.switches.get(&port.switch);
        let switch = switch.map_or("?", |s| s.name.as_str());
        format!("{}/{}:{}", self.name, switch, port.no)
    }

    /// Whether anything of the network is on this host.
    pub fn uses(&self, host: HostId) -> bool {
        self.switches
            .values()
            .any(|s| s.instances.contains_key(&host))
            || self
                .ports
                .values()
                .any(|p| p.devices().any(|d| d.host == host))
    }

    /// Whether the host has rules of the switch, or is being given them.
    pub fn has_instance(&self, switch: SwitchId, host: HostId) -> bool {
        let switch = self.switches.get(&switch);
        switch.is_some_and(|s| s.instances.contains_key(&host))
    }
}
