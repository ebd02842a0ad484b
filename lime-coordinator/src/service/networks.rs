//! Networks.

use lime_core::log::Sequencer;
use lime_core::model::{Network, RuleBook};
use lime_core::{Consistency, NetworkId};
use lime_proto::convert::enum_from_wire;
use lime_proto::v1;
use tonic::Status;

use super::{LimeService, checked_name, network_reply};
use crate::network::{Handle, State};
use crate::store::Change;

/// Networks of one coordinator.
const MAX_NETWORKS: usize = 4096;

impl LimeService {
    pub(super) async fn create_network(
        &self,
        request: v1::CreateNetworkRequest,
    ) -> Result<v1::Network, Status> {
        checked_name("network", &request.name)?;
        let consistency: Consistency =
            enum_from_wire::<v1::Consistency, _>("consistency", request.consistency)?;
        let _naming = self.shared.naming.lock().await;
        if self.shared.network(&request.name).is_ok() {
            return Err(Status::already_exists(format!(
                "network {} exists already",
                request.name
            )));
        }
        if self.shared.networks().len() >= MAX_NETWORKS {
            return Err(Status::resource_exhausted(format!(
                "there are {MAX_NETWORKS} networks, and no more are allowed"
            )));
        }
        let id = self.shared.ids.network();
        // VNIs have 24 bits; numbers of networks are not used again.
        let vni = id & 0x00ff_ffff;
        let model = Network::new(NetworkId(id), request.name, consistency, vni);
        let mut changes = vec![Change::network(&model)];
        changes.extend(self.shared.ids.persisted());
        self.shared.commit(changes).await?;
        let state = State::new(
            std::sync::Arc::clone(&self.shared),
            model,
            RuleBook::default(),
            Sequencer::new(consistency),
            lime_core::counters::Counters::default(),
            [],
        );
        let reply = network_reply(&state);
        let handle = Handle::spawn(&self.shared, state);
        self.shared.add_network(handle.clone());
        // Agents that are connected already: the actor must know their streams.
        let sessions: Vec<_> = {
            let hosts = self.shared.hosts.lock();
            hosts.values().filter_map(|h| h.session.clone()).collect()
        };
        for session in sessions {
            handle.host_up(session, None).await;
        }
        Ok(reply)
    }

    pub(super) async fn delete_network(
        &self,
        request: v1::DeleteNetworkRequest,
    ) -> Result<v1::Empty, Status> {
        let network = self.network(&request.name)?;
        let handle = network.clone();
        self.operate(&network, move |op| async move {
            let switches = handle
                .call(|s| {
                    let names = s.model.switches.values().map(|s| s.name.clone());
                    names.collect::<Vec<_>>()
                })
                .await?;
            if !switches.is_empty() {
                return Err(Status::failed_precondition(format!(
                    "network {} has switches: delete {} first",
                    handle.name,
                    switches.join(", ")
                )));
            }
            let members = handle
                .call(|s| s.model.members.keys().copied().collect::<Vec<_>>())
                .await?;
            for host in members {
                op.release_member(host).await?;
            }
            let id = handle.id;
            let epochs = handle.call(|s| s.take_log()).await?;
            let mut changes = Change::no_network(id);
            changes.extend(epochs.into_iter().map(|e| Change::no_entry(id, e)));
            op.shared.commit(changes).await?;
            op.shared.remove_network(&handle.name);
            Ok(())
        })
        .await?;
        Ok(v1::Empty {})
    }

    pub(super) async fn list_networks(
        &self,
        _: v1::ListNetworksRequest,
    ) -> Result<v1::ListNetworksResponse, Status> {
        let mut networks = Vec::new();
        for handle in self.shared.networks() {
            // One that is just being deleted is left out.
            networks.extend(handle.call(|s| network_reply(s)).await);
        }
        Ok(v1::ListNetworksResponse { networks })
    }
}
