//! Devices: whether they would do as ports, what happens to those that are, and the paths to peers.

use lime_core::{NetworkId, PortId};
use lime_proto::v1::agent_error::Code;
use lime_proto::v1::{self, agent_message::Message};
use tracing::{debug, info, warn};

use super::Owner;
use super::network::Local;
use crate::datapath::{Place, PortSettings};
use crate::error::{CommandError, CommandResult, chain};
use crate::netlink::{Link, LinkEvent};
use crate::reconcile::{DesiredPlace, DesiredPort, LocalDevice};
use crate::underlay::NetUpdate;

impl Owner {
    /// The port that a device is, if it is one.
    pub(super) fn port_of_device(&self, ifindex: u32) -> Option<(NetworkId, PortId)> {
        self.networks.iter().find_map(|(&id, network)| {
            let mut locals = network.locals.iter();
            locals
                .find(|(_, l)| l.ifindex == Some(ifindex))
                .map(|(&port, _)| (id, port))
        })
    }

    /// Finds a device that is to be a port, and checks that it can be one at all.
    pub(super) async fn find_device(&mut self, device: &LocalDevice) -> CommandResult<Link> {
        let name = &device.name;
        let link = self.netlink.link_by_name(name).await;
        let link = link.map_err(|e| CommandError::internal(chain(&e)))?;
        let Some(link) = link else {
            return Err(CommandError::not_found(format!(
                "device {name} does not exist on host {}: create it first, or name another (`ip link` lists them)",
                self.host
            )));
        };
        let own = [
            self.recirculation.send_ifindex,
            self.recirculation.receive_ifindex,
        ];
        let refuse = |code, why| Err(CommandError::new(code, format!("device {name} {why}")));
        if link.ifindex == self.underlay.link.ifindex {
            return refuse(Code::InUse, "is the underlay");
        }
        if own.contains(&link.ifindex) {
            return refuse(Code::InUse, "is this agent's own");
        }
        if link.loopback || link.mac.is_none() {
            return refuse(Code::Unsupported, "is not an Ethernet device");
        }
        if link.ifindex > switch_abi::MAX_IFINDEX {
            return refuse(
                Code::Unsupported,
                "has an index above 65535: create it anew after a restart of the network namespace",
            );
        }
        Ok(link)
    }

    /// Whether the programs and the driver would work on the device.
    pub(super) fn check_attach(&self, device: &LocalDevice, link: &Link) -> CommandResult {
        let about = |e: CommandError| e.about(format!("device {}", device.name));
        self.datapath
            .check_attach(link.ifindex, device.attach)
            .map_err(|e| about(e.into()))?;
        let driver = device.driver.get().check(link);
        driver.map_err(|e| about(CommandError::not_found(chain(&e))))
    }

    /// Whether the port's packets fit into tunnels.
    pub(super) fn check_mtu(&self, name: &str, mtu: u32, link: &Link) -> CommandResult {
        let mtu = if mtu == 0 { link.mtu } else { mtu };
        let (underlay, overhead) = (&self.underlay.link, self.underlay.overhead());
        if mtu + overhead <= underlay.mtu {
            return Ok(());
        }
        Err(CommandError::new(
            Code::Mtu,
            format!(
                "device {name}: packets of {mtu} bytes do not fit through tunnels over {} (MTU {}): \
                 raise that to {}, or lower the port's MTU to {}",
                underlay.name,
                underlay.mtu,
                mtu + overhead,
                underlay.mtu.saturating_sub(overhead)
            ),
        ))
    }

    pub(super) async fn network_changed(&mut self, update: NetUpdate) {
        match update {
            NetUpdate::Path(host, route) => {
                let address = self.addresses.get(&host);
                if address.is_none() || route.is_some_and(|r| address != Some(&r.dst)) {
                    // Found before the last change of what is wanted.
                    return;
                }
                let known = match route {
                    Some(route) => self.routes.insert(host, route),
                    None => self.routes.remove(&host),
                };
                if route.is_none() && known.is_none() {
                    // Not found yet, which is not lost: an adopted path goes on.
                    self.report_underlay();
                    return;
                }
                if let Err(error) = self.datapath.set_peer(host, route.as_ref()) {
                    warn!(%host, error = chain(&error), "path to peer not set");
                }
                self.report_underlay();
            }
            NetUpdate::Link(LinkEvent::Present(link)) => self.link_changed(link).await,
            NetUpdate::Link(LinkEvent::Gone { ifindex }) => self.link_gone(ifindex),
        }
    }

    async fn link_changed(&mut self, link: Link) {
        if link.ifindex == self.underlay.link.ifindex {
            let mtu = self.underlay.link.mtu;
            self.underlay.link = link;
            if self.underlay.link.mtu != mtu {
                info!(
                    mtu = self.underlay.link.mtu,
                    "the underlay's MTU has changed"
                );
                self.report_underlay();
            }
            return;
        }
        match self.port_of_device(link.ifindex) {
            Some((network, port)) => {
                let local = Local {
                    ifindex: Some(link.ifindex),
                    up: link.up,
                    mtu: link.mtu,
                };
                self.local_changed(network, port, local);
            }
            None => self.plug_again(&link).await,
        }
    }

    fn link_gone(&mut self, ifindex: u32) {
        if ifindex == self.underlay.link.ifindex {
            warn!(
                device = self.underlay.link.name,
                "the underlay device has gone"
            );
        }
        let Some((network, port)) = self.port_of_device(ifindex) else {
            return;
        };
        warn!(%network, %port, ifindex, "the port's device has gone");
        let gone = Local {
            ifindex: None,
            up: false,
            mtu: 0,
        };
        // Its index still stands in the port until there is another device.
        self.set_down(network, port, ifindex);
        if let Err(error) = self.datapath.detach(ifindex) {
            debug!(
                ifindex,
                error = chain(&error),
                "detaching a device that has gone"
            );
        }
        if let Some(network) = self.networks.get_mut(&network) {
            network.locals.insert(port, gone);
        }
        self.report_port(network, port);
    }

    fn set_down(&mut self, network: NetworkId, port: PortId, ifindex: u32) {
        let known = self.networks.get(&network).and_then(|n| n.desired());
        let Some(desired) = known.and_then(|d| d.ports.get(&port)) else {
            return;
        };
        let settings = PortSettings {
            down: true,
            ..settings(desired, Place::Local { ifindex }, true, 0)
        };
        if let Err(error) = self.datapath.set_port(network, &settings) {
            warn!(%network, %port, error = chain(&error), "port not set down");
        }
    }

    /// A local port's device is as given.
    fn local_changed(&mut self, id: NetworkId, port: PortId, local: Local) {
        let Some(network) = self.networks.get_mut(&id) else {
            return;
        };
        let before = network.locals.insert(port, local.clone());
        if before.as_ref() == Some(&local) {
            return;
        }
        let desired = network.desired().and_then(|d| d.ports.get(&port)).cloned();
        if let (Some(desired), Some(ifindex)) = (desired, local.ifindex) {
            let settings = settings(&desired, Place::Local { ifindex }, local.up, local.mtu);
            if let Err(error) = self.datapath.set_port(id, &settings) {
                warn!(network = %id, %port, error = chain(&error), "port not changed");
            }
        }
        self.report_port(id, port);
    }

    /// A device came that may be one that a port is missing.
    async fn plug_again(&mut self, link: &Link) {
        let missing = self.networks.iter().find_map(|(&id, network)| {
            let desired = network.desired()?;
            let mut ports = desired.ports.values();
            let port = ports.find(|p| {
                let absent = network
                    .locals
                    .get(&p.id)
                    .is_some_and(|l| l.ifindex.is_none());
                matches!(&p.place, DesiredPlace::Local(l) if l.name == link.name && absent)
            })?;
            Some((id, port.clone()))
        });
        let Some((network, port)) = missing else {
            return;
        };
        let DesiredPlace::Local(device) = &port.place else {
            return;
        };
        let found = match self.find_device(device).await {
            Ok(found) => found,
            Err(error) => {
                warn!(%network, port = %port.id, %error, "a port's device is back and will not do");
                return;
            }
        };
        let place = Place::Local {
            ifindex: found.ifindex,
        };
        let plugged = self
            .datapath
            .set_port(network, &settings(&port, place, found.up, found.mtu))
            .and_then(|()| self.datapath.attach_port(found.ifindex, device.attach));
        match plugged {
            Ok(mode) => {
                info!(%network, port = %port.id, device = device.name, ?mode, "the port's device is back");
                let local = Local {
                    ifindex: Some(found.ifindex),
                    up: found.up,
                    mtu: found.mtu,
                };
                if let Some(network) = self.networks.get_mut(&network) {
                    network.locals.insert(port.id, local);
                }
                self.report_port(network, port.id);
            }
            Err(error) => {
                warn!(%network, port = %port.id, error = chain(&error), "a port's device is back and cannot be attached");
            }
        }
    }

    pub(super) fn report_port(&mut self, network: NetworkId, port: PortId) {
        let local = self
            .networks
            .get(&network)
            .and_then(|n| n.locals.get(&port));
        if let Some(local) = local {
            let status = v1::PortStatus {
                network: network.0,
                port_id: port.0,
                up: local.up,
                missing: local.ifindex.is_none(),
                version: self.datapath.clock(network).unwrap_or_default().0,
                mtu: local.mtu,
            };
            self.outbox.push(Message::PortStatus(status));
        }
    }

    /// Reports all local ports of a network.
    pub(super) fn report_ports(&mut self, network: NetworkId) {
        let ports: Vec<PortId> = match self.networks.get(&network) {
            Some(network) => network.locals.keys().copied().collect(),
            None => return,
        };
        for port in ports {
            self.report_port(network, port);
        }
    }

    pub(super) fn report_underlay(&mut self) {
        let unreachable = self
            .addresses
            .keys()
            .filter(|h| !self.routes.contains_key(h))
            .map(|h| h.0)
            .collect();
        let status = v1::UnderlayStatus {
            mtu: self.underlay.link.mtu,
            unreachable,
        };
        self.outbox.push(Message::UnderlayStatus(status));
    }
}

/// A port for the data path. `device_mtu`: 0 if it has no device here.
pub(super) fn settings(
    port: &DesiredPort,
    place: Place,
    up: bool,
    device_mtu: u32,
) -> PortSettings {
    PortSettings {
        id: port.id,
        switch: port.switch,
        port_no: port.number,
        place,
        down: port.admin_down || !up,
        dead: port.dead,
        no_flood: port.no_flood,
        mtu: match (port.mtu, device_mtu) {
            (0, mtu) | (mtu, 0) => mtu,
            (wanted, possible) => wanted.min(possible),
        },
    }
}
