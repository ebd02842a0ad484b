//! Ports.

use lime_core::PortAttach;
use lime_core::model::{Device, Place};
use lime_proto::convert::enum_from_wire;
use lime_proto::v1;
use tonic::Status;
use tracing::warn;

use super::{LimeService, find_port, optional_port, port_reply};
use crate::ops::{DEFAULT_MTU, MoveTo, NewPort, check_device_name};

/// Longest driver string, bytes.
const DRIVER_MAX: usize = 1024;

/// Largest and smallest MTU of a port, bytes (RFC 791 asks for 68 at least).
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;

fn check_driver(driver: &str) -> Result<(), Status> {
    if driver.len() > DRIVER_MAX {
        return Err(Status::invalid_argument(format!(
            "driver: {} bytes, at most {DRIVER_MAX} are allowed",
            driver.len()
        )));
    }
    Ok(())
}

impl LimeService {
    pub(super) async fn create_port(
        &self,
        request: v1::CreatePortRequest,
    ) -> Result<v1::Port, Status> {
        let network = self.network(&request.network)?;
        let attach: PortAttach = enum_from_wire::<v1::PortAttach, _>("attach", request.attach)?;
        check_driver(&request.driver)?;
        check_device_name(&request.device)?;
        let mtu = if request.mtu == 0 {
            DEFAULT_MTU
        } else {
            request.mtu
        };
        if !MTU.contains(&mtu) {
            return Err(Status::invalid_argument(format!(
                "mtu {mtu}: {} to {} bytes are possible",
                MTU.start(),
                MTU.end()
            )));
        }
        let (host, _) = self.shared.hosts.usable(&request.host)?;
        let shared = self.shared.clone();
        let id = self
            .operate(&network, move |op| async move {
                let name = request.switch;
                let switch = op
                    .network
                    .call(move |s| s.switch(&name).map(|s| s.id))
                    .await??;
                shared.migrations.refuse_changes(op.network.id, [switch])?;
                op.create_port(NewPort {
                    switch,
                    no: optional_port(request.port_no),
                    device: Device {
                        host,
                        name: request.device,
                        attach,
                        driver: request.driver,
                    },
                    mtu,
                    no_flood: request.no_flood,
                    external: request.external,
                })
                .await
            })
            .await?;
        let mut port = self.show_port(&network, id).await?;
        if port.external {
            port.warnings = network.call(|s| s.warnings()).await?;
            for warning in &port.warnings {
                warn!(network = %network.name, "{warning}");
            }
        }
        Ok(port)
    }

    async fn show_port(
        &self,
        network: &crate::network::Handle,
        id: lime_core::PortId,
    ) -> Result<v1::Port, Status> {
        network
            .call(move |s| {
                let port = s.model.ports.get(&id);
                port.map(|p| port_reply(s, p, &s.shared().hosts))
            })
            .await?
            .ok_or_else(|| Status::not_found("the port was deleted meanwhile"))
    }

    pub(super) async fn delete_port(
        &self,
        request: v1::DeletePortRequest,
    ) -> Result<v1::Empty, Status> {
        let network = self.network(&request.network)?;
        let shared = self.shared.clone();
        self.operate(&network, move |op| async move {
            let port = op
                .network
                .call(move |s| find_port(&s.model, &request.switch, request.port_no))
                .await??;
            if let Place::Link(_) = port.place {
                return Err(Status::failed_precondition(format!(
                    "port {} is the end of a link: delete the link instead",
                    port.no
                )));
            }
            shared
                .migrations
                .refuse_changes(op.network.id, [port.switch])?;
            op.delete_port(port.id).await
        })
        .await?;
        Ok(v1::Empty {})
    }

    pub(super) async fn list_ports(
        &self,
        request: v1::ListPortsRequest,
    ) -> Result<v1::ListPortsResponse, Status> {
        let mut ports = Vec::new();
        for network in self.selected(&request.network)? {
            let only = request.switch.clone();
            let some = network
                .call(move |s| {
                    if !only.is_empty() {
                        s.switch(&only)?;
                    }
                    let mut some = Vec::new();
                    for switch in s.model.switches.values() {
                        if only.is_empty() || switch.name == only {
                            let of = s.model.ports_of(switch.id);
                            let hosts = &s.shared().hosts;
                            some.extend(of.into_iter().map(|p| port_reply(s, p, hosts)));
                        }
                    }
                    Ok::<_, Status>(some)
                })
                .await??;
            ports.extend(some);
        }
        Ok(v1::ListPortsResponse { ports })
    }

    pub(super) async fn move_port(&self, request: v1::MovePortRequest) -> Result<v1::Port, Status> {
        let network = self.network(&request.network)?;
        check_driver(&request.driver)?;
        check_device_name(&request.device)?;
        let (host, _) = self.shared.hosts.usable(&request.host)?;
        let shared = self.shared.clone();
        let id = self
            .operate(&network, move |op| async move {
                let port = op
                    .network
                    .call(move |s| find_port(&s.model, &request.switch, request.port_no))
                    .await??;
                shared
                    .migrations
                    .refuse_changes(op.network.id, [port.switch])?;
                let Some(old) = port.device().cloned() else {
                    return Err(Status::failed_precondition(format!(
                        "port {} is the end of a link: it is wherever its switch is",
                        port.no
                    )));
                };
                if old.host == host {
                    return Err(Status::failed_precondition(format!(
                        "port {} is on host {} already: to change its device, delete it and create it again",
                        port.no, request.host
                    )));
                }
                let device = Device {
                    host,
                    name: request.device,
                    attach: old.attach,
                    driver: if request.driver.is_empty() {
                        old.driver.clone()
                    } else {
                        request.driver
                    },
                };
                op.check_free(&device).await?;
                let to = MoveTo {
                    port: port.id,
                    device,
                };
                if let Err(e) = op.move_port(to).await {
                    // Before the turning point this takes it back, after it goes on, with time of its own.
                    let again = crate::ops::Operation::new(&op.shared, &op.network);
                    again.settle_ports().await?;
                    again.release_member(host).await?;
                    return Err(e);
                }
                Ok(port.id)
            })
            .await?;
        self.show_port(&network, id).await
    }
}
