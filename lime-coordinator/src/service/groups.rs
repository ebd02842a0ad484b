//! Groups.

use std::sync::Arc;

use lime_core::flow::{Group, GroupMod, SwitchMod};
use lime_proto::v1;
use tonic::Status;

use super::LimeService;
use super::rules::{convert, gathered};
use crate::network::Handle;
use crate::shared::Shared;

/// The domain's form of a change.
pub(super) fn group_mods_of(mods: Vec<v1::GroupMod>) -> Result<Vec<SwitchMod>, Status> {
    convert(mods, 0, |m| GroupMod::try_from(m).map(SwitchMod::Group))
}

/// A switch's groups, with their counters if asked for.
pub(super) async fn groups_of(
    shared: &Arc<Shared>,
    network: &Handle,
    request: &v1::ListGroupsRequest,
) -> Result<v1::ListGroupsResponse, Status> {
    let with_stats = request.stats;
    let switch = gathered(shared, network, request.switch.clone(), with_stats).await?;
    network
        .call(move |s| {
            let groups = s.rules.groups(switch);
            let groups = groups.into_iter().flat_map(|g| g.iter());
            let groups = groups.map(v1::Group::from).collect();
            let stats = match with_stats {
                true => s.group_stats(switch),
                false => Vec::new(),
            };
            v1::ListGroupsResponse { groups, stats }
        })
        .await
}

impl LimeService {
    /// Carries out changes and waits until they have taken effect everywhere.
    async fn change_groups(
        &self,
        network: &str,
        switch: String,
        mods: Vec<SwitchMod>,
        must_exist: Option<u32>,
    ) -> Result<v1::UpdateGroupsResponse, Status> {
        let network = self.network(network)?;
        let (epoch, updated) = network
            .complete_with(move |s| {
                if let Some(id) = must_exist {
                    let at = s.switch(&switch)?.id;
                    if s.rules.groups(at).is_none_or(|g| g.get(id).is_none()) {
                        return Err(Status::not_found(format!(
                            "group {id} of switch {}/{switch} does not exist",
                            s.model.name
                        )));
                    }
                }
                let updated = s.update(&switch, mods)?;
                Ok((updated.ticket, updated))
            })
            .await?;
        Ok(v1::UpdateGroupsResponse {
            epoch: epoch.0,
            removed_rules: updated.removed,
        })
    }

    pub(super) async fn update_groups(
        &self,
        request: v1::UpdateGroupsRequest,
    ) -> Result<v1::UpdateGroupsResponse, Status> {
        let mods = group_mods_of(request.mods)?;
        self.change_groups(&request.network, request.switch, mods, None)
            .await
    }

    pub(super) async fn create_group(
        &self,
        request: v1::CreateGroupRequest,
    ) -> Result<v1::Group, Status> {
        let group = request
            .group
            .ok_or_else(|| Status::invalid_argument("group: is missing"))?;
        let group = Group::try_from(group)?;
        let reply = v1::Group::from(&group);
        let mods = vec![SwitchMod::Group(GroupMod::Add(group))];
        self.change_groups(&request.network, request.switch, mods, None)
            .await?;
        Ok(reply)
    }

    pub(super) async fn delete_group(
        &self,
        request: v1::DeleteGroupRequest,
    ) -> Result<v1::Empty, Status> {
        let id = request.group_id;
        let mods = vec![SwitchMod::Group(GroupMod::Delete(Some(id)))];
        self.change_groups(&request.network, request.switch, mods, Some(id))
            .await?;
        Ok(v1::Empty {})
    }

    pub(super) async fn list_groups(
        &self,
        request: v1::ListGroupsRequest,
    ) -> Result<v1::ListGroupsResponse, Status> {
        let network = self.network(&request.network)?;
        groups_of(&self.shared, &network, &request).await
    }
}
