//! Networks for these measurements: one switch, an end host or two, and so many instances.

use anyhow::{Context, Result};
use lime_proto::v1::{AddInstanceRequest, Consistency, PortAttach};
use lime_tests::lab::Lab;
use lime_tests::tenant::Tenant;

/// Its switch.
pub const SWITCH: &str = "s1";

/// A lab in which nobody is watched: that would be measured, too.
pub async fn lab(hosts: usize, end_hosts: usize) -> Result<Lab> {
    let lab = Lab::builder().hosts(hosts).end_hosts(end_hosts).unwatched();
    lab.build().await.context("cannot start LIME in namespaces")
}

/// A network whose switch has an instance on each of the first hosts, and end hosts (port, name, host).
pub async fn network(
    lab: &Lab,
    name: &str,
    consistency: Consistency,
    instances: usize,
    ends: &[(u32, &str, &str)],
) -> Result<Tenant> {
    let mut tenant = Tenant::create(lab, name, consistency, PortAttach::Tc).await?;
    tenant.switch(SWITCH, lab.hosts()[0].name()).await?;
    for (port, end_host, host) in ends {
        tenant.port(lab, SWITCH, *port, end_host, host).await?;
    }
    for host in lab.hosts().iter().take(instances).skip(1) {
        let add = AddInstanceRequest {
            network: name.to_owned(),
            switch: SWITCH.to_owned(),
            host: host.name().to_owned(),
        };
        let added = tenant.client().add_instance(add).await;
        added.map_err(|e| anyhow::anyhow!("AddInstance: {e}"))?;
    }
    Ok(tenant)
}
