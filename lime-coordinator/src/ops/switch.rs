//! Switches are made and deleted.

use std::collections::BTreeMap;

use lime_core::counters::Counted;
use lime_core::model::{PacketIns, Switch};
use lime_core::{HostId, SwitchId};
use tonic::Status;

use super::Operation;
use crate::store::Change;

/// Switches of one network.
const MAX_SWITCHES: usize = 1000;

impl Operation {
    /// Makes a switch with its first instance.
    pub async fn create_switch(
        &self,
        name: String,
        host: HostId,
        packet_ins: PacketIns,
    ) -> Result<SwitchId, Status> {
        let id = self.shared.ids.switch();
        let changes = self.shared.ids.persisted();
        self.shared.commit(changes).await?;
        self.change(move |n| {
            if n.switch_named(&name).is_some() {
                return Err(Status::already_exists(format!(
                    "switch {}/{name} exists already",
                    n.name
                )));
            }
            if n.switches.len() >= MAX_SWITCHES {
                return Err(Status::resource_exhausted(format!(
                    "network {} has {MAX_SWITCHES} switches, and no more are allowed",
                    n.name
                )));
            }
            let switch = Switch {
                id,
                name,
                instances: BTreeMap::new(),
                packet_ins,
            };
            n.switches.insert(id, switch);
            Ok(())
        })
        .await??;
        match self.add_instance(id, host).await {
            Ok(_) => Ok(id),
            Err(e) => {
                self.delete_switch(id).await?;
                Err(e)
            }
        }
    }

    /// Changes what a switch sends its controller beside what rules say.
    pub async fn set_packet_ins(
        &self,
        id: SwitchId,
        new: impl FnOnce(PacketIns) -> Result<PacketIns, Status> + Send + 'static,
    ) -> Result<(), Status> {
        self.change(move |n| {
            // Nothing else is done with a network meanwhile.
            if let Some(switch) = n.switches.get_mut(&id) {
                switch.packet_ins = new(switch.packet_ins)?;
            }
            Ok::<_, Status>(())
        })
        .await??;
        self.configure_connected().await
    }

    /// Deletes a switch that has no ports.
    pub async fn delete_switch(&self, id: SwitchId) -> Result<(), Status> {
        let (hosts, commit) = self
            .network
            .call(move |s| {
                let network = s.model.id;
                let switch = s.model.switches.remove(&id);
                let hosts: Vec<HostId> = switch
                    .iter()
                    .flat_map(|s| s.instances.keys().copied())
                    .collect();
                let rules = s.rules.forget(id);
                let freed = i64::try_from(rules.len()).unwrap_or(0);
                for &host in &hosts {
                    s.forget_clone(id, host);
                    s.shared().hosts.take_rules(host, -freed);
                }
                let mut changes = Vec::new();
                for (rule, counts) in rules {
                    s.forget_rule(rule);
                    changes.push(Change::no_rule(network, rule));
                    changes.push(Change::no_counter(network, Counted::Rule(counts)));
                    s.counters.forget(Counted::Rule(counts));
                }
                changes.extend(s.forget_counters(|what| what.is_of_tables(id)));
                (hosts, s.commit_with(changes))
            })
            .await?;
        self.committed(commit).await?;
        self.configure_connected().await?;
        for host in hosts {
            self.release_if_here(host).await?;
        }
        Ok(())
    }
}
