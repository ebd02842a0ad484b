//! What one host is told of a network: a pure function of the model.

use crate::{Epoch, HostId, PortId, PortNo, SwitchId};

use super::{
    Device, InstanceState, MemberState, Moving, Network, PacketIns, Place, Port, Switch, is_leased,
};

/// An instance that learns has its join epoch this far ahead of the log's end: it never gets there before it is told the true one.
const FAR: u32 = 1 << 30;

/// The desired state of one network on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// The other hosts.
    pub members: Vec<HostId>,
    /// All switches: a packet may enter one that has no instance here.
    pub switches: Vec<SwitchConfig>,
    /// All ports.
    pub ports: Vec<PortConfig>,
    /// Packets are processed here only as long as the host's lease lasts (rule 17).
    pub leased: bool,
}

/// A switch, seen from one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchConfig {
    /// Which.
    pub switch: SwitchId,
    /// Rules of it are here.
    pub instance: bool,
    /// Processed here from this epoch on; 0: at once.
    pub join: Epoch,
    /// Until before this one; 0: no end.
    pub retire: Epoch,
    /// Who processes its packets when this host does not (rule 4).
    pub relay: Option<HostId>,
    /// Rule 5 is to be kept: there are several instances.
    pub hold: bool,
    /// What it sends its controller.
    pub packet_ins: PacketIns,
}

/// A port, seen from one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Which.
    pub port: PortId,
    /// Its switch.
    pub switch: SwitchId,
    /// Its number there.
    pub no: PortNo,
    /// Where.
    pub place: PortPlace,
    /// Bytes.
    pub mtu: u32,
    /// Left out of floods.
    pub no_flood: bool,
}

/// Where a port is, seen from one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortPlace {
    /// Here.
    Local(Device),
    /// On that host.
    Remote(HostId),
    /// It is the end of a link; this port is the other.
    Link(PortId),
}

/// What `host` is to know. `last` is the log's end. `learn_again`: it has lost everything, so its instances learn once more.
pub fn desired(network: &Network, host: HostId, last: Epoch, learn_again: bool) -> HostConfig {
    let members = network.members.iter();
    HostConfig {
        members: members.map(|(h, _)| *h).filter(|h| *h != host).collect(),
        switches: network
            .switches
            .values()
            .map(|s| switch_config(network, s, host, last, learn_again))
            .collect(),
        ports: network
            .ports
            .values()
            .map(|p| port_config(p, host))
            .collect(),
        leased: is_leased(network, host),
    }
}

fn switch_config(
    network: &Network,
    switch: &Switch,
    host: HostId,
    last: Epoch,
    learn_again: bool,
) -> SwitchConfig {
    let far = Epoch(last.0.wrapping_add(FAR));
    let state = switch.instances.get(&host).copied();
    let (join, retire) = match state {
        None => (Epoch::ZERO, Epoch::ZERO),
        Some(_) if learn_again => (far, Epoch::ZERO),
        Some(InstanceState::Learning | InstanceState::Excluded { .. }) => (far, Epoch::ZERO),
        Some(InstanceState::Active(join)) => (join.unwrap_or_default(), Epoch::ZERO),
        Some(InstanceState::Retiring(retire)) => (Epoch::ZERO, retire.unwrap_or_default()),
    };
    SwitchConfig {
        switch: switch.id,
        instance: state.is_some(),
        join,
        retire,
        relay: relay(network, switch, host),
        hold: network.consistency.is_consistent() && switch.instances.len() > 1,
        packet_ins: switch.packet_ins,
    }
}

/// Any other instance that new packets may go to: one that has joined for long, if there is one.
fn relay(network: &Network, switch: &Switch, host: HostId) -> Option<HostId> {
    let others = switch.instances.iter().filter(|(h, _)| **h != host);
    let full = others.filter(|(h, _)| network.members.get(h) != Some(&MemberState::Leaving));
    let rank = |state: InstanceState| match state {
        InstanceState::Active(None) => Some(0),
        InstanceState::Active(Some(_)) => Some(1),
        // Until its retire epoch is activated it processes; then it relays itself.
        InstanceState::Retiring(_) => Some(2),
        InstanceState::Learning | InstanceState::Excluded { .. } => None,
    };
    full.filter_map(|(h, s)| Some((rank(*s)?, *h)))
        .min()
        .map(|(_, h)| h)
}

fn port_config(port: &Port, host: HostId) -> PortConfig {
    let here = port.devices().find(|d| d.host == host);
    let place = match (&port.place, here) {
        (Place::Link(peer), _) => PortPlace::Link(*peer),
        (Place::Device(_), Some(device)) => PortPlace::Local(device.clone()),
        (Place::Device(device), None) => PortPlace::Remote(device.host),
    };
    PortConfig {
        port: port.id,
        switch: port.switch,
        no: port.no,
        place,
        mtu: port.mtu,
        no_flood: port.no_flood,
    }
}

impl Moving {
    /// The device of the other place.
    pub fn device(&self) -> &Device {
        match self {
            Moving::To(device) | Moving::From(device) => device,
        }
    }
}
