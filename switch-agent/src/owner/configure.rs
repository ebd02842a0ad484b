//! Bringing one network to what the coordinator wants: everything is checked first, then applied; when applying fails, what was in force is
//! put back.

use std::collections::{BTreeMap, BTreeSet};

use lime_core::{Epoch, HostId, NetworkId, PortId};
use lime_proto::v1::{self, agent_error::Code};
use tracing::{debug, info, warn};

use super::Owner;
use super::grace::After;
use super::network::{Local, Network};
use super::ports::settings;
use crate::datapath::Place;
use crate::error::{CommandError, CommandResult, chain};
use crate::netlink::Link;
use crate::reconcile::{DesiredNetwork, DesiredPlace, Verdict, judge};

/// A join epoch that far ahead stands for "not known yet": the instance learns, and has its rules only after a snapshot.
const FAR_AHEAD: u32 = 1 << 29;

/// The devices of local ports.
pub(super) type Devices = BTreeMap<PortId, Link>;

impl Owner {
    /// Applies a description, as a whole or not at all.
    pub(super) async fn configure(&mut self, wire: v1::Configure) -> CommandResult {
        let id = NetworkId(wire.network);
        let current = self.networks.get(&id).and_then(|n| n.config.as_ref());
        if judge(current.map(|(wire, _)| wire), &wire)? == Verdict::Same {
            if wire.min_clock != 0 {
                self.datapath.raise_clock(id, Epoch(wire.min_clock))?;
            }
            return Ok(());
        }
        let desired = DesiredNetwork::try_from(wire.clone())?;
        let devices = self.check(&desired).await?;
        let before = self.networks.get(&id).and_then(|n| n.config.clone());
        if let Err(error) = self.apply(&desired, &devices) {
            self.put_back(id, before.map(|(_, desired)| desired));
            return Err(error);
        }
        info!(network = %id, generation = wire.generation, ports = desired.ports.len(), "configured");
        self.took_effect(wire, desired, &devices);
        Ok(())
    }

    /// Looks at this host: would all of it work?
    async fn check(&mut self, desired: &DesiredNetwork) -> CommandResult<Devices> {
        let network = desired.id;
        if let Some(id) = self.host_id.filter(|id| desired.members.contains_key(id)) {
            return Err(CommandError::invalid(format!(
                "network {network}: member {id} is this host itself; members are the others"
            )));
        }
        let mut devices = Devices::new();
        let mut taken: BTreeMap<u32, PortId> = BTreeMap::new();
        for port in desired.ports.values() {
            let DesiredPlace::Local(device) = &port.place else {
                continue;
            };
            let about = |e: CommandError| e.about(format!("network {network}, port {}", port.id));
            let link = self.find_device(device).await.map_err(about)?;
            if let Some(other) = taken.insert(link.ifindex, port.id) {
                return Err(about(CommandError::invalid(format!(
                    "device {} is port {other} already, by another name",
                    device.name
                ))));
            }
            let user = self.port_of_device(link.ifindex);
            if let Some((other, its)) = user.filter(|&(other, _)| other != network) {
                return Err(about(CommandError::new(
                    Code::InUse,
                    format!("device {} is port {its} of network {other}", device.name),
                )));
            }
            // A port that works as it is goes on as it is.
            if user != Some((network, port.id)) {
                self.check_attach(device, &link).map_err(about)?;
                if !desired.members.is_empty() {
                    self.check_mtu(&device.name, port.mtu, &link)
                        .map_err(about)?;
                }
            }
            devices.insert(port.id, link);
        }
        Ok(devices)
    }

    /// Writes it into the data path. Ports without a device (`devices`) are left out, or down if they are there already.
    pub(super) fn apply(&mut self, desired: &DesiredNetwork, devices: &Devices) -> CommandResult {
        let id = desired.id;
        self.datapath
            .set_network(id, desired.vni, desired.untagged)?;
        // Peers before all that refers to them.
        for (&host, &address) in &desired.members {
            let route = self.routes.get(&host).filter(|r| r.dst == address);
            // After a restart, paths have still to be found: an adopted one goes on meanwhile.
            if route.is_some() || !self.datapath.reaches(host, address) {
                self.datapath.set_peer(host, route)?;
            }
        }
        let members: Vec<_> = desired.members.iter().map(|(&h, &a)| (h, a)).collect();
        self.datapath.set_members(id, &members)?;
        if desired.min_clock != Epoch::ZERO {
            self.datapath.raise_clock(id, desired.min_clock)?;
        }
        for switch in desired.switches.values() {
            self.datapath.set_switch(id, switch)?;
        }
        self.remove_ports(desired)?;
        self.set_ports(desired, devices)?;
        for switch in self.datapath.switches(id)? {
            if !desired.switches.contains_key(&switch) {
                self.datapath.remove_switch(id, switch)?;
            }
        }
        Ok(())
    }

    /// Removes the ports that are not listed, or that are to be another number or another switch's.
    fn remove_ports(&mut self, desired: &DesiredNetwork) -> CommandResult {
        for old in self.datapath.ports(desired.id)? {
            let kept = desired
                .ports
                .get(&old.id)
                .is_some_and(|new| new.switch == old.switch && new.number == old.port_no);
            if !kept {
                self.datapath.remove_port(desired.id, old.id)?;
                if let Place::Local { ifindex } = old.place {
                    self.grace.after(After::Detach { ifindex });
                }
            }
        }
        Ok(())
    }

    /// Sets all ports: those elsewhere first, so that their packets have somewhere to go before a device here is taken off.
    fn set_ports(&mut self, desired: &DesiredNetwork, devices: &Devices) -> CommandResult {
        let id = desired.id;
        let old: BTreeMap<_, _> = self
            .datapath
            .ports(id)?
            .into_iter()
            .map(|p| (p.id, p))
            .collect();
        for port in desired.ports.values() {
            let place = match port.place {
                DesiredPlace::Remote(host) => Place::Remote(host),
                DesiredPlace::Link(other) => Place::Link(other),
                DesiredPlace::Local(_) => continue,
            };
            self.datapath
                .set_port(id, &settings(port, place, true, 0))?;
            if let Some(Place::Local { ifindex }) = old.get(&port.id).map(|p| p.place) {
                self.grace.after(After::Detach { ifindex });
            }
        }
        for port in desired.ports.values() {
            let DesiredPlace::Local(device) = &port.place else {
                continue;
            };
            let about = |e: CommandError| e.about(format!("network {id}, port {}", port.id));
            let before = old.get(&port.id).map(|p| p.place);
            let Some(link) = devices.get(&port.id) else {
                if let Some(place @ Place::Local { .. }) = before {
                    let settings = settings(port, place, false, 0);
                    self.datapath
                        .set_port(id, &settings)
                        .map_err(|e| about(e.into()))?;
                }
                continue;
            };
            let place = Place::Local {
                ifindex: link.ifindex,
            };
            self.datapath
                .set_port(id, &settings(port, place, link.up, link.mtu))
                .map_err(|e| about(e.into()))?;
            let mode = self
                .datapath
                .attach_port(link.ifindex, device.attach)
                .map_err(|e| about(e.into()))?;
            debug!(network = %id, port = %port.id, device = device.name, ?mode, "attached");
            if let Some(Place::Local { ifindex }) = before.filter(|&b| b != place) {
                self.grace.after(After::Detach { ifindex });
            }
        }
        Ok(())
    }

    /// After a failure: what was in force, or nothing where nothing was.
    fn put_back(&mut self, id: NetworkId, before: Option<DesiredNetwork>) {
        let attached: Vec<u32> = self.devices_in_datapath(id);
        let result = match &before {
            Some(desired) => {
                let devices = self.known_devices(desired);
                self.apply(desired, &devices)
            }
            None if self.networks.contains_key(&id) => {
                warn!(network = %id, "adopted network is left as far as it got");
                return;
            }
            None => self.datapath.remove_network(id).map_err(Into::into),
        };
        if let Err(error) = result {
            warn!(network = %id, %error, "what was in force before could not be put back");
        }
        // Devices that only the failed attempt took.
        for ifindex in attached {
            self.grace.after(After::Detach { ifindex });
        }
    }

    fn devices_in_datapath(&self, id: NetworkId) -> Vec<u32> {
        self.datapath
            .ports(id)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|p| match p.place {
                Place::Local { ifindex } => Some(ifindex),
                _ => None,
            })
            .collect()
    }

    /// The devices of a network in force, from what is known of them.
    fn known_devices(&self, desired: &DesiredNetwork) -> Devices {
        let Some(network) = self.networks.get(&desired.id) else {
            return Devices::new();
        };
        let link = |local: &Local| {
            Some(Link {
                ifindex: local.ifindex?,
                name: String::new(),
                mac: None,
                mtu: local.mtu,
                up: local.up,
                loopback: false,
                peer: None,
            })
        };
        network
            .locals
            .iter()
            .filter_map(|(&port, local)| Some((port, link(local)?)))
            .collect()
    }

    /// Takes note of what is in force now.
    pub(super) fn took_effect(
        &mut self,
        wire: v1::Configure,
        desired: DesiredNetwork,
        devices: &Devices,
    ) {
        let staged = self.datapath.staged(desired.id).unwrap_or_default();
        let network = self.networks.entry(desired.id).or_default();
        network.locals = desired
            .ports
            .values()
            .filter(|p| matches!(p.place, DesiredPlace::Local(_)))
            .map(|p| {
                let link = devices.get(&p.id);
                let local = Local {
                    ifindex: link.map(|l| l.ifindex),
                    up: link.is_some_and(|l| l.up),
                    mtu: link.map_or(0, |l| l.mtu),
                };
                (p.id, local)
            })
            .collect();
        let mut instances = BTreeSet::new();
        for switch in desired.switches.values().filter(|s| s.instance) {
            let join = switch.join_epoch;
            let learner =
                join != Epoch::ZERO && join.0.wrapping_sub(staged.0) as i32 >= FAR_AHEAD as i32;
            if !learner || network.instances.contains(&switch.id) {
                instances.insert(switch.id);
            }
        }
        network.instances = instances;
        if let Err(error) = self.store.save(&wire) {
            warn!(network = %desired.id, error = chain(&error), "not saved: a restarted agent must wait for the coordinator");
        }
        network.config = Some((wire, desired));
        self.update_peers();
    }

    /// Wants paths to all members of all networks, and forgets hosts that are none.
    pub(super) fn update_peers(&mut self) {
        let before = std::mem::take(&mut self.addresses);
        for network in self.networks.values().filter_map(Network::desired) {
            self.addresses.extend(&network.members);
        }
        let gone: Vec<HostId> = before
            .into_keys()
            .filter(|h| !self.addresses.contains_key(h))
            .collect();
        for host in gone {
            self.routes.remove(&host);
            // Something may still refer to it until after a grace period; an unused peer does no harm.
            if let Err(error) = self.datapath.remove_peer(host) {
                debug!(%host, error = chain(&error), "peer not removed");
            }
        }
        // A host with another address is reached another way.
        let addresses = &self.addresses;
        self.routes
            .retain(|host, route| addresses.get(host) == Some(&route.dst));
        self.wanted.send_replace(self.addresses.clone());
    }

    /// Removes a network, if it is here.
    pub(super) fn forget(&mut self, id: NetworkId) -> CommandResult {
        let devices = self.devices_in_datapath(id);
        if self.datapath.networks().contains(&id) {
            self.datapath.remove_network(id)?;
        }
        self.networks.remove(&id);
        self.held.clear(Some(id));
        self.waiting.forget(id);
        for ifindex in devices {
            if let Err(error) = self.datapath.detach(ifindex) {
                warn!(ifindex, error = chain(&error), "device cannot be detached");
            }
        }
        self.update_peers();
        let removed = self.store.remove(id);
        removed.map_err(|e| CommandError::internal(chain(&e)))
    }
}
