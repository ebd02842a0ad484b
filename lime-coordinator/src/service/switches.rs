//! Switches and their instances.

use lime_core::model::PacketIns;
use lime_proto::v1;
use tonic::Status;

use super::{LimeService, checked_name, switch_reply};
use crate::network::Handle;

impl LimeService {
    pub(super) async fn create_switch(
        &self,
        request: v1::CreateSwitchRequest,
    ) -> Result<v1::Switch, Status> {
        checked_name("switch", &request.name)?;
        let packet_ins = request.packet_ins.unwrap_or_default();
        let packet_ins = PacketIns::try_from(packet_ins)?;
        let network = self.network(&request.network)?;
        let (host, _) = self.shared.hosts.usable(&request.host)?;
        let name = request.name.clone();
        self.operate(&network, move |op| async move {
            op.create_switch(name, host, packet_ins).await
        })
        .await?;
        show(&network, request.name).await
    }

    pub(super) async fn configure_switch(
        &self,
        request: v1::ConfigureSwitchRequest,
    ) -> Result<v1::Switch, Status> {
        let network = self.network(&request.network)?;
        let name = request.name.clone();
        self.operate(&network, move |op| async move {
            let switch = name.clone();
            let id = op.network.call(move |s| s.switch(&switch).map(|s| s.id));
            op.set_packet_ins(id.await??, move |old| {
                let wire = v1::PacketIns {
                    rate: request.packet_in_rate.unwrap_or(old.rate),
                    burst: request.packet_in_burst.unwrap_or(old.burst),
                    invalid_ttl: request.invalid_ttl.unwrap_or(old.invalid_ttl),
                };
                Ok(PacketIns::try_from(wire)?)
            })
            .await
        })
        .await?;
        show(&network, request.name).await
    }

    pub(super) async fn delete_switch(
        &self,
        request: v1::DeleteSwitchRequest,
    ) -> Result<v1::Empty, Status> {
        let network = self.network(&request.network)?;
        let shared = self.shared.clone();
        self.operate(&network, move |op| async move {
            let name = request.name;
            let id = op
                .network
                .call(move |s| {
                    let switch = s.switch(&name)?;
                    let ports = s.model.ports_of(switch.id);
                    if !ports.is_empty() {
                        let names: Vec<_> = ports.iter().map(|p| s.model.port_name(p)).collect();
                        return Err(Status::failed_precondition(format!(
                            "switch {}/{name} has ports: delete {} first",
                            s.model.name,
                            names.join(", ")
                        )));
                    }
                    Ok(switch.id)
                })
                .await??;
            shared.migrations.refuse_changes(op.network.id, [id])?;
            op.delete_switch(id).await
        })
        .await?;
        Ok(v1::Empty {})
    }

    pub(super) async fn list_switches(
        &self,
        request: v1::ListSwitchesRequest,
    ) -> Result<v1::ListSwitchesResponse, Status> {
        let mut switches = Vec::new();
        for network in self.selected(&request.network)? {
            let some = network
                .call(|s| {
                    let all = s.model.switches.values();
                    all.map(|sw| switch_reply(s, sw)).collect::<Vec<_>>()
                })
                .await;
            switches.extend(some.into_iter().flatten());
        }
        Ok(v1::ListSwitchesResponse { switches })
    }

    /// One network, or all of them for the empty name.
    pub(super) fn selected(&self, name: &str) -> Result<Vec<Handle>, Status> {
        if name.is_empty() {
            Ok(self.shared.networks())
        } else {
            Ok(vec![self.network(name)?])
        }
    }

    pub(super) async fn add_instance(
        &self,
        request: v1::AddInstanceRequest,
    ) -> Result<v1::Switch, Status> {
        let network = self.network(&request.network)?;
        let (host, _) = self.shared.hosts.usable(&request.host)?;
        let (shared, name, at) = (self.shared.clone(), request.switch.clone(), request.host);
        self.operate(&network, move |op| async move {
            let id = op
                .network
                .call(move |s| {
                    let switch = s.switch(&name)?;
                    if switch.instances.get(&host).is_some_and(|i| i.is_active()) {
                        return Err(Status::already_exists(format!(
                            "switch {}/{name} has an instance on host {at} already",
                            s.model.name
                        )));
                    }
                    Ok(switch.id)
                })
                .await??;
            shared.migrations.refuse_changes(op.network.id, [id])?;
            let result = op.add_instance(id, host).await;
            if let Err(e) = result {
                // Back to where it was, with time of its own.
                let back = crate::ops::Operation::new(&op.shared, &op.network);
                if let Err(undo) = back.remove_instance(id, host).await {
                    tracing::warn!("undoing a failed clone: {}", undo.message());
                }
                return Err(e);
            }
            Ok(())
        })
        .await?;
        show(&network, request.switch).await
    }

    pub(super) async fn remove_instance(
        &self,
        request: v1::RemoveInstanceRequest,
    ) -> Result<v1::Switch, Status> {
        let network = self.network(&request.network)?;
        let host = self.shared.hosts.named(&request.host)?.record.id;
        let (shared, name, at) = (self.shared.clone(), request.switch.clone(), request.host);
        self.operate(&network, move |op| async move {
            let id = op
                .network
                .call(move |s| {
                    let switch = s.switch(&name)?;
                    if !switch.instances.contains_key(&host) {
                        return Err(Status::not_found(format!(
                            "switch {}/{name} has no instance on host {at}",
                            s.model.name
                        )));
                    }
                    let others = switch.instances.iter().filter(|(h, _)| **h != host);
                    if !others.into_iter().any(|(_, i)| i.is_active()) {
                        return Err(Status::failed_precondition(format!(
                            "host {at} has the only instance of switch {}/{name}: add another one first, or delete the switch",
                            s.model.name
                        )));
                    }
                    Ok(switch.id)
                })
                .await??;
            shared.migrations.refuse_changes(op.network.id, [id])?;
            op.remove_instance(id, host).await
        })
        .await?;
        show(&network, request.switch).await
    }
}

async fn show(network: &Handle, name: String) -> Result<v1::Switch, Status> {
    network
        .call(move |s| s.switch(&name).map(|sw| switch_reply(s, sw)))
        .await?
}
