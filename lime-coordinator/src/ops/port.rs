//! Ports are made and deleted.

use lime_core::model::{Device, Place, Port};
use lime_core::{PortId, PortNo, SwitchId};
use lime_proto::v1;
use tonic::Status;
use v1::coordinator_message::Message;

use super::Operation;

/// Ports of one network.
const MAX_PORTS: usize = 10_000;

/// Longest device name (Linux: IFNAMSIZ, with its final zero, is 16).
const DEVICE_MAX: usize = 15;

/// Ports' MTU when none is given, bytes.
pub const DEFAULT_MTU: u32 = 1500;

/// A port to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPort {
    /// Its switch.
    pub switch: SwitchId,
    /// Its number; none: the lowest free one.
    pub no: Option<PortNo>,
    /// Its device.
    pub device: Device,
    /// Bytes.
    pub mtu: u32,
    /// Left out of floods.
    pub no_flood: bool,
    /// It leads to a network outside.
    pub external: bool,
}

/// Checks the name of a device.
pub fn check_device_name(name: &str) -> Result<(), Status> {
    let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if name.is_empty()
        || name.len() > DEVICE_MAX
        || name.contains(bad)
        || name == "."
        || name == ".."
    {
        return Err(Status::invalid_argument(format!(
            "device {name:?}: a device name has 1 to {DEVICE_MAX} bytes, and no '/' or white space"
        )));
    }
    Ok(())
}

impl Operation {
    /// Makes a port.
    pub async fn create_port(&self, new: NewPort) -> Result<PortId, Status> {
        check_device_name(&new.device.name)?;
        self.check_free(&new.device).await?;
        let (switch, no) = (new.switch, new.no);
        self.network
            .call(move |s| free_number(&s.model, switch, no))
            .await??;
        let host = new.device.host;
        let members = self
            .network
            .call(move |s| s.model.members.keys().copied().collect::<Vec<_>>())
            .await?;
        let tunnels = members.iter().any(|h| *h != host);
        if tunnels {
            self.check_mtu(members, new.mtu, &new.device.name)?;
        }
        self.check_device(&new.device, new.mtu, tunnels).await?;
        let result = self.make_port(new).await;
        if result.is_err() {
            // Nothing half-done: whatever came of it goes again.
            let _ = self.release_member(host).await;
        }
        result
    }

    async fn make_port(&self, new: NewPort) -> Result<PortId, Status> {
        self.ensure_member(new.device.host).await?;
        let (switch, no) = (new.switch, new.no);
        let since = self.shared.clock.now_ms();
        let id = self
            .change(move |n| {
                let no = free_number(n, switch, no)?;
                let id = n.take_port_id();
                let port = Port {
                    id,
                    switch,
                    no,
                    place: Place::Device(new.device),
                    moving: None,
                    mtu: new.mtu,
                    no_flood: new.no_flood,
                    external: new.external,
                    since,
                };
                n.ports.insert(id, port);
                Ok::<PortId, Status>(id)
            })
            .await??;
        match self.configure_all().await {
            Ok(()) => Ok(id),
            Err(e) => {
                self.drop_ports(vec![id]).await?;
                let _ = self.configure_connected().await;
                Err(e)
            }
        }
    }

    /// Deletes a port of a device.
    pub async fn delete_port(&self, id: PortId) -> Result<(), Status> {
        let host = self
            .network
            .call(move |s| {
                s.model
                    .ports
                    .get(&id)
                    .and_then(Port::device)
                    .map(|d| d.host)
            })
            .await?;
        self.drop_ports(vec![id]).await?;
        self.configure_connected().await?;
        match host {
            Some(host) => self.release_if_here(host).await,
            None => Ok(()),
        }
    }

    /// Takes ports out of the model.
    pub async fn drop_ports(&self, ids: Vec<PortId>) -> Result<(), Status> {
        let commit = self
            .network
            .call(move |s| {
                let mut changes = Vec::new();
                for id in ids {
                    s.model.ports.remove(&id);
                    s.down.remove(&id);
                    s.device_mtus.remove(&id);
                    changes.extend(s.forget_counters(|what| what.is_of_port(id)));
                }
                s.commit_with(changes)
            })
            .await?;
        self.committed(commit).await
    }

    /// Whether the host says that this device would do as a port.
    pub async fn check_device(
        &self,
        device: &Device,
        mtu: u32,
        tunnels: bool,
    ) -> Result<(), Status> {
        let wanted = device.clone();
        self.request(device.host, move |_, request_id| {
            Message::CheckDevice(v1::CheckDevice {
                request_id,
                name: wanted.name.clone(),
                attach: v1::PortAttach::from(wanted.attach).into(),
                mtu,
                driver: wanted.driver.clone(),
                tunnels,
            })
        })
        .await?;
        Ok(())
    }

    /// Whether no port of any network has this device.
    pub async fn check_free(&self, device: &Device) -> Result<(), Status> {
        for network in self.shared.networks() {
            let (host, name) = (device.host, device.name.clone());
            let taken = network
                .call(move |s| {
                    let mut ports = s.model.ports.values();
                    let same = |p: &&Port| p.devices().any(|d| d.host == host && d.name == name);
                    ports.find(same).map(|p| s.model.port_name(p))
                })
                .await
                .unwrap_or(None);
            if let Some(port) = taken {
                return Err(Status::already_exists(format!(
                    "device {} of host {} is port {port} already: delete that port first",
                    device.name,
                    self.shared.hosts.name(device.host)
                )));
            }
        }
        Ok(())
    }
}

/// The number that a new port gets, or why it cannot have it.
pub fn free_number(
    network: &lime_core::model::Network,
    switch: SwitchId,
    no: Option<PortNo>,
) -> Result<PortNo, Status> {
    let Some(of) = network.switches.get(&switch) else {
        return Err(Status::not_found("the switch is gone"));
    };
    if network.ports.len() >= MAX_PORTS {
        return Err(Status::resource_exhausted(format!(
            "network {} has {MAX_PORTS} ports, and no more are allowed",
            network.name
        )));
    }
    match no {
        None => Ok(network.free_port_no(switch)),
        Some(no) if !no.is_port() => Err(Status::invalid_argument(format!(
            "port_no {no:#x}: port numbers are 1 to {:#x}, and 0xfffffffe for LOCAL",
            PortNo::MAX.0,
            no = no.0
        ))),
        Some(no) if network.port_at(switch, no).is_some() => Err(Status::already_exists(format!(
            "port {}/{}:{no} exists already",
            network.name, of.name
        ))),
        Some(no) => Ok(no),
    }
}
