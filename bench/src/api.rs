//! LIME as its users have it: a lab with a coordinator and an agent on every host, used by the API.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lime_core::flow::Rule;
use lime_proto::MAX_MESSAGE_BYTES;
use lime_proto::v1::flow_mod::Command;
use lime_proto::v1::lime_client::LimeClient;
use lime_proto::v1::{
    AddInstanceRequest, CreateNetworkRequest, CreateSwitchRequest, DeleteSwitchRequest, FlowMod,
    UpdateRulesRequest,
};
use lime_tests::lab::Lab;
use lime_tests::record::Channel;

/// The one network.
const NETWORK: &str = "bench";
/// Rules per update, as a controller that has many sends them.
pub const BATCH: usize = 5000;

/// A running installation. Everything goes when this is dropped.
pub struct Installation {
    client: LimeClient<Channel>,
    lab: Lab,
}

impl Installation {
    /// With this many hosts, called a, b ..., and one network.
    pub async fn build(hosts: usize) -> Result<Self> {
        let lab = Lab::builder()
            .hosts(hosts)
            .end_hosts(0)
            .unwatched()
            .build()
            .await
            .context("cannot start LIME in namespaces")?;
        let client = lab
            .client()?
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let mut this = Self { client, lab };
        let request = CreateNetworkRequest {
            name: NETWORK.into(),
            ..Default::default()
        };
        let created = this.client.create_network(request).await;
        created.map_err(|e| this.explain("CreateNetwork", e))?;
        Ok(this)
    }

    /// Makes a switch with its instance on `host`.
    pub async fn create_switch(&mut self, switch: &str, host: &str) -> Result<()> {
        let request = CreateSwitchRequest {
            network: NETWORK.into(),
            name: switch.into(),
            host: host.into(),
            packet_ins: None,
        };
        let done = self.client.create_switch(request).await;
        done.map_err(|e| self.explain("CreateSwitch", e))?;
        Ok(())
    }

    /// Removes a switch with its rules.
    pub async fn delete_switch(&mut self, switch: &str) -> Result<()> {
        let request = DeleteSwitchRequest {
            network: NETWORK.into(),
            name: switch.into(),
        };
        let done = self.client.delete_switch(request).await;
        done.map_err(|e| self.explain("DeleteSwitch", e))?;
        Ok(())
    }

    /// Adds rules in batches of [`BATCH`], each when the one before is in force. Seconds from the first request to the last answer;
    /// making the requests is not counted.
    pub async fn add_rules(&mut self, switch: &str, rules: Vec<Rule>) -> Result<f64> {
        let total = rules.len();
        let requests: Vec<_> = rules
            .chunks(BATCH)
            .map(|batch| update(switch, batch))
            .collect();
        let start = Instant::now();
        let mut added = 0;
        for request in requests {
            let answer = self.client.update_rules(request).await;
            added += answer
                .map_err(|e| self.explain("UpdateRules", e))?
                .into_inner()
                .added;
        }
        let seconds = start.elapsed().as_secs_f64();
        ensure!(
            added as usize == total,
            "of {total} rules, {added} were added"
        );
        Ok(seconds)
    }

    /// Clones a switch to one more host. Seconds until it processes packets there.
    pub async fn add_instance(&mut self, switch: &str, host: &str) -> Result<f64> {
        let request = AddInstanceRequest {
            network: NETWORK.into(),
            switch: switch.into(),
            host: host.into(),
        };
        let start = Instant::now();
        let answer = self.client.add_instance(request).await;
        let switch = answer
            .map_err(|e| self.explain("AddInstance", e))?
            .into_inner();
        let seconds = start.elapsed().as_secs_f64();
        ensure!(
            switch.instances.iter().any(|i| i == host),
            "AddInstance was answered, but the switch has no instance on {host}"
        );
        Ok(seconds)
    }

    /// The coordinator's answer; and if one of the processes is dead, that.
    fn explain(&self, what: &str, status: tonic::Status) -> anyhow::Error {
        let error = anyhow::anyhow!("{what}: {} ({:?})", status.message(), status.code());
        match self.lab.check_processes() {
            Ok(()) => error,
            Err(dead) => error.context(dead),
        }
    }
}

fn update(switch: &str, rules: &[Rule]) -> UpdateRulesRequest {
    let add = |rule: &Rule| FlowMod {
        command: Command::Add.into(),
        rule: Some(rule.into()),
        ..FlowMod::default()
    };
    UpdateRulesRequest {
        network: NETWORK.into(),
        switch: switch.into(),
        mods: rules.iter().map(add).collect(),
    }
}
