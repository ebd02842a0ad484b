//! A network as the coordinator wants it on this host, checked as far as that is possible without looking at the host.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use lime_core::model::PacketIns;
use lime_core::{Consistency, Epoch, HostId, NetworkId, PortAttach, PortId, PortNo, SwitchId};
use lime_proto::convert::enum_from_wire;
use lime_proto::v1;

use crate::datapath::{AttachMode, SwitchSettings};
use crate::driver::Driver;
use crate::error::{CommandError, CommandResult};

/// Members, switches or ports of one network that a message may carry.
const MAX_PARTS: usize = 65_536;
/// Longest device name, bytes (IFNAMSIZ less the final zero).
const MAX_DEVICE_NAME: usize = 15;

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredNetwork {
    /// Which.
    pub id: NetworkId,
    /// Its number on the wire, 24 bits, not 0.
    pub vni: u32,
    /// Without clock tags.
    pub untagged: bool,
    /// The clock is raised to this first.
    pub min_clock: Epoch,
    /// Other hosts, with their underlay addresses.
    pub members: BTreeMap<HostId, IpAddr>,
    /// Switches.
    pub switches: BTreeMap<SwitchId, SwitchSettings>,
    /// Ports of those switches.
    pub ports: BTreeMap<PortId, DesiredPort>,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPort {
    /// Which.
    pub id: PortId,
    /// Its switch.
    pub switch: SwitchId,
    /// Its number there.
    pub number: PortNo,
    /// Where it is.
    pub place: DesiredPlace,
    /// Administratively down.
    pub admin_down: bool,
    /// Down on the host where it is.
    pub dead: bool,
    /// Floods leave it out.
    pub no_flood: bool,
    /// Largest L3 packet, bytes; 0: the device's, which also counts if it is smaller.
    pub mtu: u32,
}

/// Where a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DesiredPlace {
    /// A device of this host.
    Local(LocalDevice),
    /// On another member.
    Remote(HostId),
    /// One end of a link; this is the other.
    Link(PortId),
}

/// A device that is to be a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalDevice {
    /// Its name.
    pub name: String,
    /// How the programs are attached.
    pub attach: AttachMode,
    /// How the end host behind it is stopped and started.
    pub driver: Driver,
}

/// The attach mode of a wire value.
pub(crate) fn attach_mode(field: &str, value: i32) -> CommandResult<AttachMode> {
    let attach = enum_from_wire::<v1::PortAttach, PortAttach>(field, value)?;
    Ok(match attach {
        PortAttach::Auto => AttachMode::Auto,
        PortAttach::Xdp => AttachMode::Xdp,
        PortAttach::Tc => AttachMode::Tc,
    })
}

impl LocalDevice {
    /// From its name, attach mode and driver string.
    ///
    /// # Errors
    /// Says which of them is wrong.
    pub fn new(name: String, attach: i32, driver: &str) -> CommandResult<Self> {
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > MAX_DEVICE_NAME || name.contains(bad) {
            return Err(CommandError::invalid(format!(
                "{name:?} is no name of a device: 1 to {MAX_DEVICE_NAME} bytes without '/', ':' and spaces"
            )));
        }
        let driver = driver
            .parse()
            .map_err(|e: crate::driver::DriverError| CommandError::invalid(e.to_string()))?;
        Ok(Self {
            name,
            attach: attach_mode("attach", attach)?,
            driver,
        })
    }
}

fn nonzero(what: &str, id: u32) -> CommandResult<u32> {
    if id == 0 {
        return Err(CommandError::invalid(format!("{what} 0 does not exist")));
    }
    Ok(id)
}

impl TryFrom<v1::Configure> for DesiredNetwork {
    type Error = CommandError;

    fn try_from(wire: v1::Configure) -> CommandResult<Self> {
        let id = NetworkId(nonzero("network", wire.network)?);
        let about = |e: CommandError| e.about(format!("network {id}"));
        for (what, count) in [
            ("members", wire.members.len()),
            ("switches", wire.switches.len()),
            ("ports", wire.ports.len()),
        ] {
            if count > MAX_PARTS {
                return Err(about(CommandError::invalid(format!(
                    "{count} {what}: at most {MAX_PARTS} are possible"
                ))));
            }
        }
        if wire.vni == 0 || wire.vni > 0xff_ffff {
            return Err(about(CommandError::invalid(format!(
                "VNI {} is not within 1 to 16777215",
                wire.vni
            ))));
        }
        let consistency =
            enum_from_wire::<v1::Consistency, Consistency>("consistency", wire.consistency)?;
        let mut network = Self {
            id,
            vni: wire.vni,
            untagged: consistency == Consistency::None,
            min_clock: Epoch(wire.min_clock),
            members: members(wire.members).map_err(about)?,
            switches: BTreeMap::new(),
            ports: BTreeMap::new(),
        };
        for switch in wire.switches {
            network.add_switch(switch).map_err(about)?;
        }
        for port in wire.ports {
            network.add_port(port).map_err(about)?;
        }
        network.check().map_err(about)?;
        Ok(network)
    }
}

fn members(wire: Vec<v1::Member>) -> CommandResult<BTreeMap<HostId, IpAddr>> {
    let mut members = BTreeMap::new();
    for member in wire {
        let host = HostId(nonzero("host", member.host_id)?);
        let address: IpAddr = member.underlay_address.parse().map_err(|_| {
            CommandError::invalid(format!(
                "member {host}: underlay address {:?} is no IP address",
                member.underlay_address
            ))
        })?;
        if members.insert(host, address).is_some() {
            return Err(CommandError::invalid(format!(
                "member {host} is given twice"
            )));
        }
    }
    Ok(members)
}

impl DesiredNetwork {
    fn add_switch(&mut self, wire: v1::SwitchState) -> CommandResult {
        let id = SwitchId(nonzero("switch", wire.switch_id)?);
        let settings = SwitchSettings {
            id,
            instance: wire.instance,
            join_epoch: Epoch(wire.join_epoch),
            retire_epoch: Epoch(wire.retire_epoch),
            relay_host: (wire.relay_host != 0).then_some(HostId(wire.relay_host)),
            hold: wire.hold,
            packet_ins: PacketIns::try_from(wire.packet_ins.unwrap_or_default())
                .map_err(|e| CommandError::invalid(e.to_string()).about(format!("switch {id}")))?,
        };
        match self.switches.insert(id, settings) {
            None => Ok(()),
            Some(_) => Err(CommandError::invalid(format!("switch {id} is given twice"))),
        }
    }

    fn add_port(&mut self, wire: v1::PortState) -> CommandResult {
        use v1::port_state::Place;
        let id = PortId(nonzero("port", wire.port_id)?);
        let about = |e: CommandError| e.about(format!("port {id}"));
        let place = match wire.place {
            Some(Place::Local(local)) => DesiredPlace::Local(
                LocalDevice::new(local.name, local.attach, &local.driver).map_err(about)?,
            ),
            Some(Place::RemoteHost(host)) => DesiredPlace::Remote(HostId(host)),
            Some(Place::Link(port)) => DesiredPlace::Link(PortId(port)),
            None => return Err(about(CommandError::invalid("its place is missing"))),
        };
        let number = PortNo(wire.port_no);
        if !number.is_port() {
            return Err(about(CommandError::invalid(format!(
                "{number} is no port number (1 to {}, or LOCAL)",
                PortNo::MAX
            ))));
        }
        let port = DesiredPort {
            id,
            switch: SwitchId(wire.switch_id),
            number,
            place,
            admin_down: wire.admin_down,
            dead: wire.dead,
            no_flood: wire.no_flood,
            mtu: wire.mtu,
        };
        match self.ports.insert(id, port) {
            None => Ok(()),
            Some(_) => Err(CommandError::invalid(format!("port {id} is given twice"))),
        }
    }

    /// What one part says of another.
    fn check(&self) -> CommandResult {
        for switch in self.switches.values() {
            if let Some(host) = switch.relay_host.filter(|h| !self.members.contains_key(h)) {
                return Err(CommandError::invalid(format!(
                    "switch {}: relay host {host} is not a member",
                    switch.id
                )));
            }
        }
        let mut numbers = HashSet::new();
        let mut devices = HashSet::new();
        for port in self.ports.values() {
            let id = port.id;
            let refuse = |why: String| Err(CommandError::invalid(format!("port {id}: {why}")));
            if !self.switches.contains_key(&port.switch) {
                return refuse(format!("switch {} is not listed", port.switch));
            }
            if !numbers.insert((port.switch, port.number)) {
                return refuse(format!(
                    "number {} of switch {} is taken",
                    port.number, port.switch
                ));
            }
            match &port.place {
                DesiredPlace::Local(local) if !devices.insert(&local.name) => {
                    return refuse(format!("device {} is another port's already", local.name));
                }
                DesiredPlace::Local(_) => {}
                DesiredPlace::Remote(host) if !self.members.contains_key(host) => {
                    return refuse(format!("host {host} is not a member"));
                }
                DesiredPlace::Remote(_) => {}
                DesiredPlace::Link(other) => {
                    let back = self.ports.get(other).map(|p| &p.place);
                    if *other == id || back != Some(&DesiredPlace::Link(id)) {
                        return refuse(format!("port {other} is not the other end of its link"));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use v1::port_state::Place;

    use super::*;

    fn port(id: u32, no: u32, place: Place) -> v1::PortState {
        v1::PortState {
            port_id: id,
            switch_id: 1,
            port_no: no,
            place: Some(place),
            ..Default::default()
        }
    }

    fn local(name: &str) -> Place {
        Place::Local(v1::LocalDevice {
            name: name.into(),
            ..Default::default()
        })
    }

    fn network() -> v1::Configure {
        v1::Configure {
            network: 1,
            generation: 1,
            vni: 100,
            members: vec![v1::Member {
                host_id: 2,
                underlay_address: "10.0.0.2".into(),
            }],
            switches: vec![v1::SwitchState {
                switch_id: 1,
                instance: true,
                relay_host: 2,
                ..Default::default()
            }],
            ports: vec![
                port(10, 1, local("tap0")),
                port(11, 2, Place::RemoteHost(2)),
                port(12, 3, Place::Link(13)),
                port(13, 4, Place::Link(12)),
            ],
            ..Default::default()
        }
    }

    #[test]
    fn a_whole_network() {
        let desired = DesiredNetwork::try_from(network()).unwrap();
        assert_eq!(desired.ports.len(), 4);
        assert_eq!(desired.members[&HostId(2)], IpAddr::from([10, 0, 0, 2]));
    }

    #[test]
    fn contradictions_are_refused() {
        type Change = fn(&mut v1::Configure);
        let changes: &[(&str, Change)] = &[
            ("network 0", |n| n.network = 0),
            ("VNI", |n| n.vni = 1 << 24),
            ("no IP address", |n| {
                n.members[0].underlay_address = "x".into()
            }),
            ("given twice", |n| n.members.push(n.members[0].clone())),
            ("not a member", |n| n.switches[0].relay_host = 3),
            ("is not listed", |n| n.ports[0].switch_id = 9),
            ("is taken", |n| n.ports[1].port_no = 1),
            ("no port number", |n| n.ports[1].port_no = 0xffff_fffd),
            ("host 7 is not a member", |n| {
                n.ports[1].place = Some(Place::RemoteHost(7))
            }),
            ("other end", |n| n.ports[3].place = Some(Place::Link(11))),
            ("other end", |n| n.ports[3].place = Some(Place::Link(13))),
            ("place is missing", |n| n.ports[0].place = None),
            ("another port's", |n| n.ports[1].place = Some(local("tap0"))),
            ("no name of a device", |n| {
                n.ports[0].place = Some(local("../x"))
            }),
            ("consistency", |n| n.consistency = 99),
        ];
        for (expected, change) in changes {
            let mut wire = network();
            change(&mut wire);
            let error = DesiredNetwork::try_from(wire).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
