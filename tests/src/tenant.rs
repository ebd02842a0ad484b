//! A tenant's network in a lab, made and used by LIME's own API.

use lime_proto::v1::lime_client::LimeClient;
use lime_proto::v1::{
    AddInstanceRequest, Consistency, CreateLinkRequest, CreateNetworkRequest, CreatePortRequest,
    CreateSwitchRequest, FlowMod, GetMigrationRequest, Group, GroupMod, ListRulesRequest,
    Migration, MigrationRequest, Port, PortAttach, PortStatsOf, PortStatsRequest, PortTarget,
    RuleStats, Switch, UpdateGroupsRequest, UpdateRulesRequest, UpdateRulesResponse, group_mod,
    migration::State,
};
use tokio_stream::StreamExt;
use tonic::Status;

use crate::lab::{Lab, LabError};
use crate::record::Channel;

/// Says what was asked of the coordinator when it refuses.
fn asked<T>(
    what: impl FnOnce() -> String,
    answer: Result<tonic::Response<T>, Status>,
) -> Result<T, LabError> {
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| LabError::Rpc {
            what: what(),
            status: Box::new(status),
        })
}

/// A port with an end host behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugged {
    /// The switch.
    pub switch: String,
    /// The port's number.
    pub port_no: u32,
    /// The end host.
    pub end_host: String,
}

/// One network.
#[derive(Clone, Debug)]
pub struct Tenant {
    client: LimeClient<Channel>,
    network: String,
    attach: PortAttach,
    plugged: Vec<Plugged>,
}

impl Tenant {
    /// Creates a network. Its ports will be attached as `attach` says.
    pub async fn create(
        lab: &Lab,
        network: &str,
        consistency: Consistency,
        attach: PortAttach,
    ) -> Result<Self, LabError> {
        let mut client = lab.client()?;
        let request = CreateNetworkRequest {
            name: network.to_owned(),
            consistency: consistency.into(),
        };
        asked(
            || format!("create network {network}"),
            client.create_network(request).await,
        )?;
        Ok(Self {
            client,
            network: network.to_owned(),
            attach,
            plugged: Vec::new(),
        })
    }

    /// The API, for what this does not wrap.
    pub fn client(&self) -> LimeClient<Channel> {
        self.client.clone()
    }

    /// The network's name.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// All ports with end hosts.
    pub fn plugged(&self) -> &[Plugged] {
        &self.plugged
    }

    /// Creates a switch with its first instance on `host`.
    pub async fn switch(&mut self, name: &str, host: &str) -> Result<(), LabError> {
        let request = CreateSwitchRequest {
            network: self.network.clone(),
            name: name.to_owned(),
            host: host.to_owned(),
            packet_ins: None,
        };
        asked(
            || format!("create switch {name} on {host}"),
            self.client.create_switch(request).await,
        )?;
        Ok(())
    }

    /// Clones a switch onto a further host.
    pub async fn clone_switch(&mut self, name: &str, host: &str) -> Result<Switch, LabError> {
        let request = AddInstanceRequest {
            network: self.network.clone(),
            switch: name.to_owned(),
            host: host.to_owned(),
        };
        asked(
            || format!("clone switch {name} to {host}"),
            self.client.add_instance(request).await,
        )
    }

    /// Creates a port with an end host behind it, and plugs the end host in there.
    pub async fn port(
        &mut self,
        lab: &Lab,
        switch: &str,
        port_no: u32,
        end_host: &str,
        host: &str,
    ) -> Result<Port, LabError> {
        self.port_with_mtu(lab, switch, port_no, end_host, host, 0)
            .await
    }

    /// As [`port`](Self::port), with an MTU in bytes; 0: the device's.
    pub async fn port_with_mtu(
        &mut self,
        lab: &Lab,
        switch: &str,
        port_no: u32,
        end_host: &str,
        host: &str,
        mtu: u32,
    ) -> Result<Port, LabError> {
        let request = CreatePortRequest {
            network: self.network.clone(),
            switch: switch.to_owned(),
            port_no,
            host: host.to_owned(),
            device: Lab::port_device(end_host),
            attach: self.attach.into(),
            driver: lab.driver(end_host)?,
            mtu,
            no_flood: false,
            external: false,
        };
        lab.plug_in(end_host, host).await?;
        let port = asked(
            || format!("create port {switch}:{port_no} on {host}"),
            self.client.create_port(request).await,
        )?;
        self.plugged.push(Plugged {
            switch: switch.to_owned(),
            port_no,
            end_host: end_host.to_owned(),
        });
        Ok(port)
    }

    /// Joins two switches.
    pub async fn link(&mut self, a: (&str, u32), b: (&str, u32)) -> Result<(), LabError> {
        let request = CreateLinkRequest {
            network: self.network.clone(),
            switch_a: a.0.to_owned(),
            port_a: a.1,
            switch_b: b.0.to_owned(),
            port_b: b.1,
        };
        asked(
            || format!("link {}:{} - {}:{}", a.0, a.1, b.0, b.1),
            self.client.create_link(request).await,
        )?;
        Ok(())
    }

    /// Changes rules of a switch, all at once.
    pub async fn rules(
        &mut self,
        switch: &str,
        mods: Vec<FlowMod>,
    ) -> Result<UpdateRulesResponse, LabError> {
        let request = UpdateRulesRequest {
            network: self.network.clone(),
            switch: switch.to_owned(),
            mods,
        };
        asked(
            || format!("update rules of {switch}"),
            self.client.update_rules(request).await,
        )
    }

    /// Makes a group of a switch.
    pub async fn group(&mut self, switch: &str, group: Group) -> Result<(), LabError> {
        // Its answer names the epoch, which a judge asks for.
        let request = UpdateGroupsRequest {
            network: self.network.clone(),
            switch: switch.to_owned(),
            mods: vec![GroupMod {
                change: Some(group_mod::Change::Add(group)),
            }],
        };
        asked(
            || format!("make a group of {switch}"),
            self.client.update_groups(request).await,
        )?;
        Ok(())
    }

    /// A switch's rules with their counters.
    pub async fn rule_stats(&mut self, switch: &str) -> Result<Vec<RuleStats>, LabError> {
        self.rules_with_counters(switch, false).await
    }

    /// The same, all counters as of one moment.
    pub async fn exact_rule_stats(&mut self, switch: &str) -> Result<Vec<RuleStats>, LabError> {
        self.rules_with_counters(switch, true).await
    }

    async fn rules_with_counters(
        &mut self,
        switch: &str,
        exact: bool,
    ) -> Result<Vec<RuleStats>, LabError> {
        let what = || format!("list rules of {switch}");
        let request = ListRulesRequest {
            network: self.network.clone(),
            switch: switch.to_owned(),
            stats: true,
            exact,
        };
        let mut stream = asked(what, self.client.list_rules(request).await)?;
        let mut rules = Vec::new();
        while let Some(part) = stream.next().await {
            rules.extend(asked(what, part.map(tonic::Response::new))?.rules);
        }
        Ok(rules)
    }

    /// Counters of a switch's ports.
    pub async fn port_stats(&mut self, switch: &str) -> Result<Vec<PortStatsOf>, LabError> {
        let request = PortStatsRequest {
            network: self.network.clone(),
            switch: switch.to_owned(),
        };
        let answer = self.client.port_stats(request).await;
        Ok(asked(|| format!("read port counters of {switch}"), answer)?.ports)
    }

    /// What it takes to migrate the whole network, with its end hosts.
    pub fn migration_request(&self, from: &str, to: &str) -> MigrationRequest {
        let target = |p: &Plugged| PortTarget {
            switch: p.switch.clone(),
            port_no: p.port_no,
            device: Lab::port_device(&p.end_host),
            driver: String::new(),
        };
        MigrationRequest {
            network: self.network.clone(),
            switches: Vec::new(),
            from: from.to_owned(),
            to: to.to_owned(),
            ports: self.plugged.iter().map(target).collect(),
            device_template: String::new(),
            keep_ports: false,
        }
    }

    /// Starts a migration.
    pub async fn start_migration(
        &mut self,
        request: MigrationRequest,
    ) -> Result<Migration, LabError> {
        asked(
            || {
                format!(
                    "migrate {} from {} to {}",
                    request.network, request.from, request.to
                )
            },
            self.client.start_migration(request.clone()).await,
        )
    }

    /// Watches a migration until it has ended, also over restarts of the coordinator (of which `patience` says how long they may take).
    pub async fn watch_migration(
        &mut self,
        id: u64,
        patience: std::time::Duration,
        mut seen: impl FnMut(&Migration),
    ) -> Result<Migration, LabError> {
        let mut deadline = tokio::time::Instant::now() + patience;
        loop {
            let error = match self
                .client
                .watch_migration(GetMigrationRequest { id })
                .await
            {
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    loop {
                        match stream.message().await {
                            Ok(Some(migration)) => {
                                deadline = tokio::time::Instant::now() + patience;
                                seen(&migration);
                                if has_ended(&migration) {
                                    return Ok(migration);
                                }
                            }
                            Ok(None) => break Status::unavailable("the stream ended"),
                            Err(status) => break status,
                        }
                    }
                }
                Err(status) => status,
            };
            if tokio::time::Instant::now() > deadline {
                return asked(|| format!("watch migration {id}"), Err(error));
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Migrates the whole network and waits for the end.
    pub async fn migrate(&mut self, from: &str, to: &str) -> Result<Migration, LabError> {
        let started = self
            .start_migration(self.migration_request(from, to))
            .await?;
        self.watch_migration(started.id, std::time::Duration::from_secs(30), |_| ())
            .await
    }
}

/// Whether a migration's state will not change any more.
pub fn has_ended(migration: &Migration) -> bool {
    matches!(
        migration.state(),
        State::Completed | State::RolledBack | State::Failed
    )
}
