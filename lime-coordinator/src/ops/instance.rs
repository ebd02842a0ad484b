//! Instances of switches join and retire: rule 15.

use lime_core::log::EntryKind;
use lime_core::model::InstanceState;
use lime_core::{HostId, SwitchId};
use tonic::Status;

use super::{CountersOf, Operation, agent_error};
use crate::network::Finals;

impl Operation {
    /// Makes the host an instance of the switch. Answers with the number of rules cloned.
    pub async fn add_instance(&self, switch: SwitchId, host: HostId) -> Result<usize, Status> {
        self.ensure_member(host).await?;
        let present = self.instance_state(switch, host).await?;
        match present {
            Some(InstanceState::Active(join)) => {
                self.finish_join(switch, host, join.is_some()).await?;
                return Ok(0);
            }
            Some(InstanceState::Retiring(None)) => {
                // It has not stopped processing.
                self.set_instance(switch, host, InstanceState::Active(None))
                    .await?;
                self.configure_all().await?;
                return Ok(0);
            }
            Some(InstanceState::Retiring(Some(_))) => {
                // It has; it must go before it can come again.
                self.remove_instance(switch, host).await?;
                self.ensure_member(host).await?;
                self.set_instance(switch, host, InstanceState::Learning)
                    .await?;
            }
            Some(InstanceState::Learning | InstanceState::Excluded { .. }) => {}
            None => {
                self.check_room(switch, host).await?;
                self.set_instance(switch, host, InstanceState::Learning)
                    .await?;
            }
        }
        // Rule 5 holds from here on: the other instances hold outputs beside controller actions before this one processes anything.
        self.configure_all().await?;
        let name = self.shared.hosts.name(host);
        let broken = || {
            Status::unavailable(format!(
                "host {name}: its agent's stream broke while it was given the rules: try again"
            ))
        };
        let clone = self
            .network
            .call(move |s| s.clone_switch(switch, host))
            .await?;
        let (answer, rules) = clone.ok_or_else(broken)?;
        let done = self
            .within(async { answer.await.map_err(|_| broken()) })
            .await?;
        if let Some(e) = &done.error {
            return Err(agent_error(&name, e));
        }
        self.within(self.network.complete(move |s| {
            s.seq.submit(EntryKind::Join {
                switch: Some(switch),
                host,
            })
        }))
        .await?;
        self.finish_join(switch, host, true).await?;
        Ok(rules)
    }

    /// The join epoch has passed on all members: others may relay to the instance now.
    async fn finish_join(
        &self,
        switch: SwitchId,
        host: HostId,
        pending: bool,
    ) -> Result<(), Status> {
        if pending {
            self.all_acknowledged().await?;
            self.set_instance(switch, host, InstanceState::Active(None))
                .await?;
        }
        self.configure_all().await
    }

    /// Takes an instance away. The switch must have another one, or no ports.
    pub async fn remove_instance(&self, switch: SwitchId, host: HostId) -> Result<(), Status> {
        match self.instance_state(switch, host).await? {
            None => return self.release_member(host).await,
            // Its host is no member at present, and its last counts are still there.
            Some(InstanceState::Excluded { counted: false }) => {
                return Err(Status::unavailable(format!(
                    "host {} has not been back since it was excluded: the instance's counters are still to be read",
                    self.shared.hosts.name(host)
                )));
            }
            Some(InstanceState::Learning | InstanceState::Excluded { .. }) => {
                self.drop_instance(switch, host, None).await?;
                return self.release_member(host).await;
            }
            Some(InstanceState::Active(_)) => {
                self.set_instance(switch, host, InstanceState::Retiring(None))
                    .await?;
            }
            Some(InstanceState::Retiring(_)) => {}
        }
        // New packets go elsewhere ...
        self.configure_all().await?;
        let retiring = self.instance_state(switch, host).await?;
        if retiring == Some(InstanceState::Retiring(Some(lime_core::Epoch::ZERO)))
            || retiring == Some(InstanceState::Retiring(None))
        {
            self.within(self.network.complete(move |s| {
                s.seq.submit(EntryKind::Retire {
                    switch: Some(switch),
                    host,
                })
            }))
            .await?;
        } else {
            self.all_acknowledged().await?;
        }
        // ... and what was under way to this one is relayed by it.
        self.pause(self.shared.config.drain).await;
        let finals = self.read_counters(host, CountersOf::Switch(switch)).await?;
        self.drop_instance(switch, host, Some(finals)).await?;
        self.release_member(host).await
    }

    /// Waits until all members have acknowledged everything so far.
    pub async fn all_acknowledged(&self) -> Result<(), Status> {
        self.within(self.network.complete(|s| {
            let everything = s.seq.last_ticket();
            s.seq.barrier(everything, [])
        }))
        .await?;
        Ok(())
    }

    async fn drop_instance(
        &self,
        switch: SwitchId,
        host: HostId,
        finals: Option<lime_proto::v1::Counters>,
    ) -> Result<(), Status> {
        let commit = self
            .network
            .call(move |s| {
                let mut changes = Vec::new();
                if let Some(finals) = &finals {
                    // Ports count on until the host leaves the network.
                    changes = s.finish_counters(host, finals, Finals::Instance(switch));
                }
                let rules = i64::try_from(s.rules.len(switch)).unwrap_or(0);
                s.shared().hosts.take_rules(host, -rules);
                s.forget_clone(switch, host);
                if let Some(switch) = s.model.switches.get_mut(&switch) {
                    switch.instances.remove(&host);
                }
                s.commit_with(changes)
            })
            .await?;
        self.committed(commit).await?;
        self.configure_all().await
    }

    async fn instance_state(
        &self,
        switch: SwitchId,
        host: HostId,
    ) -> Result<Option<InstanceState>, Status> {
        self.network
            .call(move |s| {
                let switch = s.model.switches.get(&switch)?;
                switch.instances.get(&host).copied()
            })
            .await
    }

    async fn set_instance(
        &self,
        switch: SwitchId,
        host: HostId,
        to: InstanceState,
    ) -> Result<(), Status> {
        self.change(move |n| {
            if let Some(switch) = n.switches.get_mut(&switch) {
                switch.instances.insert(host, to);
            }
        })
        .await
    }

    /// Whether the host has room for the switch's rules.
    pub async fn check_room(&self, switch: SwitchId, host: HostId) -> Result<(), Status> {
        let need = self.network.call(move |s| s.rules.len(switch)).await?;
        let hosts = self.shared.hosts.lock();
        let Some(host) = hosts.get(&host) else {
            return Ok(());
        };
        let free = host.free_rules.max(0);
        if i64::try_from(need).unwrap_or(i64::MAX) > free {
            return Err(Status::resource_exhausted(format!(
                "host {} has room for {free} more rules, and the switch has {need}",
                host.record.name
            )));
        }
        Ok(())
    }
}
