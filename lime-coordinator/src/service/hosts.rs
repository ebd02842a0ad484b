//! Hosts.

use lime_core::HostId;
use lime_proto::v1;
use tonic::Status;

use super::{LimeService, number};
use crate::agents::Host;
use crate::store::Change;

impl LimeService {
    async fn host_reply(&self, host: Host) -> v1::Host {
        let id = host.record.id;
        let (mut instances, mut ports) = (0, 0);
        for network in self.shared.networks() {
            let counts = network
                .call(move |s| {
                    let switches = s.model.switches.values();
                    let here = switches.filter(|s| s.instances.contains_key(&id)).count();
                    let ports = s.model.ports.values();
                    let mine = ports.filter(|p| p.devices().any(|d| d.host == id)).count();
                    (here, mine)
                })
                .await;
            if let Ok((i, p)) = counts {
                instances += i;
                ports += p;
            }
        }
        v1::Host {
            id: id.0,
            name: host.record.name,
            connected: host.session.is_some(),
            cordoned: host.record.cordoned,
            underlay_address: host.record.underlay_address,
            underlay_mtu: host.record.underlay_mtu,
            agent_version: host.record.agent_version,
            instances: number(instances),
            ports: number(ports),
            free_rules: u64::try_from(host.free_rules).unwrap_or(0),
        }
    }

    pub(super) async fn list_hosts(
        &self,
        _: v1::ListHostsRequest,
    ) -> Result<v1::ListHostsResponse, Status> {
        let all: Vec<Host> = self.shared.hosts.lock().values().cloned().collect();
        let mut hosts = Vec::new();
        for host in all {
            hosts.push(self.host_reply(host).await);
        }
        Ok(v1::ListHostsResponse { hosts })
    }

    async fn uses(&self, id: HostId) -> Vec<String> {
        let mut networks = Vec::new();
        for network in self.shared.networks() {
            let member = network
                .call(move |s| s.model.members.contains_key(&id) || s.model.uses(id))
                .await;
            if member.unwrap_or(false) {
                networks.push(network.name.to_string());
            }
        }
        networks
    }

    pub(super) async fn delete_host(
        &self,
        request: v1::DeleteHostRequest,
    ) -> Result<v1::Empty, Status> {
        let host = self.shared.hosts.named(&request.name)?;
        let name = request.name;
        if host.session.is_some() {
            return Err(Status::failed_precondition(format!(
                "host {name} is connected: stop its lime-agent first"
            )));
        }
        let networks = self.uses(host.record.id).await;
        if !networks.is_empty() {
            return Err(Status::failed_precondition(format!(
                "host {name} has ports or instances of {}: move or delete them first",
                networks.join(", ")
            )));
        }
        self.shared
            .commit(vec![Change::no_host(host.record.id)])
            .await?;
        self.shared.hosts.lock().remove(&host.record.id);
        Ok(v1::Empty {})
    }

    pub(super) async fn cordon_host(
        &self,
        request: v1::CordonHostRequest,
    ) -> Result<v1::Host, Status> {
        let id = self.shared.hosts.named(&request.name)?.record.id;
        let changed = {
            let mut hosts = self.shared.hosts.lock();
            hosts.get_mut(&id).map(|host| {
                host.record.cordoned = request.cordoned;
                host.clone()
            })
        };
        let host =
            changed.ok_or_else(|| Status::not_found(format!("host {} is gone", request.name)))?;
        self.shared.commit(vec![Change::host(&host.record)]).await?;
        Ok(self.host_reply(host).await)
    }
}
