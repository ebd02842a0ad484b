//! Hosts that were excluded come back: rule 17.

use lime_core::model::InstanceState;
use lime_core::{HostId, SwitchId};
use tonic::Status;

use super::{CountersOf, Operation};
use crate::network::Finals;

impl Operation {
    /// Makes an excluded host that is back a member again, and its instances learn.
    pub async fn rejoin(&self, host: HostId) -> Result<(), Status> {
        self.ensure_member(host).await?;
        for (switch, _) in self.excluded_instances(host).await? {
            self.add_instance(switch, host).await?;
        }
        Ok(())
    }

    /// Reads what the host's instances had counted until their lease was over, before they learn from the beginning. They process nothing:
    /// that is the first thing that the host is told.
    pub(super) async fn take_finals(&self, host: HostId) -> Result<(), Status> {
        self.configure(host).await?;
        for (switch, counted) in self.excluded_instances(host).await? {
            if counted {
                continue;
            }
            let finals = self.read_counters(host, CountersOf::Switch(switch)).await?;
            let commit = self
                .network
                .call(move |s| {
                    let changes = s.finish_counters(host, &finals, Finals::Instance(switch));
                    if let Some(switch) = s.model.switches.get_mut(&switch) {
                        let counted = InstanceState::Excluded { counted: true };
                        switch.instances.insert(host, counted);
                    }
                    s.commit_with(changes)
                })
                .await?;
            self.committed(commit).await?;
        }
        Ok(())
    }

    /// The host's instances that have to learn again, and whether their last counts have been read.
    async fn excluded_instances(&self, host: HostId) -> Result<Vec<(SwitchId, bool)>, Status> {
        self.network
            .call(move |s| {
                let switches = s.model.switches.values();
                let of_host = switches.filter_map(|s| match s.instances.get(&host) {
                    Some(InstanceState::Excluded { counted }) => Some((s.id, *counted)),
                    _ => None,
                });
                of_host.collect()
            })
            .await
    }
}
