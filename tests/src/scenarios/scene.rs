//! Where scenarios are played: a network with hosts a and b, four end hosts, and switches with an instance on each host.

use std::any::Any;

use lime_proto::v1::{Consistency, FlowMod, Group, PortAttach};

use super::ScenarioError;
use crate::lab::{EndHost, Lab, LabError};
use crate::program::{self, Program};
use crate::record::Verdict;
use crate::tenant::Tenant;

/// The network's name.
const NETWORK: &str = "net";

/// A lab with a network, and what runs in it. It all ends when this is dropped.
pub struct Scene {
    /// Traffic and programs: they end first.
    running: Vec<Box<dyn Any + Send>>,
    tenant: Tenant,
    lab: Lab,
    naive: bool,
    /// An end host that moves between the hosts all the time, and where it is.
    mover: Option<(String, bool)>,
}

impl Scene {
    /// An empty network.
    pub async fn new(attach: PortAttach, consistency: Consistency) -> Result<Self, LabError> {
        let lab = Lab::builder()
            .hosts(2)
            .end_hosts(4)
            .xdp(attach == PortAttach::Xdp)
            .build()
            .await?;
        let tenant = Tenant::create(&lab, NETWORK, consistency, attach).await?;
        Ok(Self {
            running: Vec::new(),
            tenant,
            lab,
            naive: consistency == Consistency::None,
            mover: None,
        })
    }

    /// A switch with these ports (number, end host, host), and then an instance on each host.
    pub async fn switch(
        &mut self,
        name: &str,
        ports: &[(u32, &str, &str)],
    ) -> Result<(), LabError> {
        self.tenant.switch(name, "a").await?;
        for (port, end_host, host) in ports {
            self.tenant
                .port(&self.lab, name, *port, end_host, host)
                .await?;
        }
        self.tenant.clone_switch(name, "b").await?;
        Ok(())
    }

    /// Joins two switches.
    pub async fn link(&mut self, a: (&str, u32), b: (&str, u32)) -> Result<(), LabError> {
        self.tenant.link(a, b).await
    }

    /// Rules of a switch.
    pub async fn rules(&mut self, switch: &str, mods: Vec<FlowMod>) -> Result<(), LabError> {
        self.tenant.rules(switch, mods).await?;
        Ok(())
    }

    /// A group of a switch.
    pub async fn group(&mut self, switch: &str, group: Group) -> Result<(), LabError> {
        self.tenant.group(switch, group).await
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The n-th end host, from 1.
    pub fn end(&self, n: u8) -> &EndHost {
        &self.lab.end_hosts()[usize::from(n) - 1]
    }

    /// Something that runs until the scene ends.
    pub fn keep(&mut self, running: impl Any + Send) {
        self.running.push(Box::new(running));
    }

    /// Starts the tenant's controller.
    pub async fn control(&mut self, program: impl Program) -> Result<(), ScenarioError> {
        let client = self.lab.controller()?;
        let running = program::start(client, NETWORK, program).await?;
        self.keep(running);
        Ok(())
    }

    /// This end host, which has a port on each host, will not stay where it is.
    pub fn moves(&mut self, end_host: &str) {
        self.mover = Some((end_host.to_owned(), false));
    }

    /// Time goes by.
    pub async fn stir(&mut self) -> Result<(), LabError> {
        if let Some((end_host, away)) = &mut self.mover {
            *away = !*away;
            let host = if *away { "b" } else { "a" };
            self.lab.plug_in(end_host, host).await?;
        }
        self.lab.check_processes()
    }

    /// Judges what was seen until now.
    pub fn verdict(&self) -> Verdict {
        self.lab.verdict(NETWORK)
    }

    /// The network's name.
    pub fn network(&self) -> &'static str {
        NETWORK
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.running.clear();
        // Whoever plays it has asked.
        if self.naive {
            self.lab.unwatch();
        }
    }
}
