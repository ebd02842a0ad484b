//! What an operator, and fate, do to a network.

use std::time::Duration;

use lime_proto::v1::{
    AddInstanceRequest, ListPortsRequest, ListSwitchesRequest, MigrationRequest, MovePortRequest,
    RemoveInstanceRequest,
};

use super::life::Shape;
use super::random::Random;
use crate::lab::{Lab, LabError};
use crate::tenant::Tenant;

/// How long a migration may take, deaths included.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest pause between two deeds, milliseconds.
const PAUSE_MS: u64 = 60;
/// Longest time that somebody is dead, milliseconds.
const DEAD_MS: u64 = 100;

pub(super) struct Operator<'a> {
    pub(super) lab: &'a Lab,
    pub(super) tenant: Tenant,
    pub(super) shape: &'a Shape,
    pub(super) random: Random,
    /// What was done.
    pub(super) deeds: Vec<String>,
}

impl Operator<'_> {
    /// Does something. Refusals are no errors: what is asked need not make sense.
    pub(super) async fn act(&mut self) -> Result<(), LabError> {
        let pause = self.random.below(PAUSE_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match self.random.below(20) {
            0..=4 => self.join().await,
            5..=8 => self.retire().await,
            9..=13 => self.move_port().await,
            14..=16 => self.migrate().await?,
            17..=18 => self.kill_agent().await?,
            _ => self.kill_coordinator().await?,
        }
        Ok(())
    }

    fn host(&mut self) -> String {
        self.random.one(self.lab.hosts()).name().to_owned()
    }

    fn switch(&mut self) -> String {
        let n = self.random.below(self.shape.switches() as u64) as usize;
        Shape::name(n).to_owned()
    }

    fn did(&mut self, what: String, done: bool) {
        let end = if done { "" } else { " (refused)" };
        self.deeds.push(format!("{what}{end}"));
    }

    async fn join(&mut self) {
        let ask = AddInstanceRequest {
            network: self.tenant.network().to_owned(),
            switch: self.switch(),
            host: self.host(),
        };
        let what = format!("join {} {}", ask.switch, ask.host);
        let done = self.tenant.client().add_instance(ask).await.is_ok();
        self.did(what, done);
    }

    /// Removes an instance of a switch that has several.
    async fn retire(&mut self) {
        let switch = self.switch();
        let ask = ListSwitchesRequest {
            network: self.tenant.network().to_owned(),
        };
        let Ok(all) = self.tenant.client().list_switches(ask).await else {
            return;
        };
        let all = all.into_inner().switches;
        let Some(of) = all
            .iter()
            .find(|s| s.name == switch && s.instances.len() > 1)
        else {
            return;
        };
        let ask = RemoveInstanceRequest {
            network: self.tenant.network().to_owned(),
            switch,
            host: self.random.one(&of.instances).clone(),
        };
        let what = format!("retire {} {}", ask.switch, ask.host);
        let done = self.tenant.client().remove_instance(ask).await.is_ok();
        self.did(what, done);
    }

    async fn move_port(&mut self) {
        let Some(port) = self.any_port().await else {
            return;
        };
        let ask = MovePortRequest {
            network: port.network,
            switch: port.switch,
            port_no: port.port_no,
            host: self.host(),
            device: port.device,
            driver: String::new(),
        };
        let what = format!("move {}:{} {}", ask.switch, ask.port_no, ask.host);
        let done = self.tenant.client().move_port(ask).await.is_ok();
        self.did(what, done);
    }

    async fn any_port(&mut self) -> Option<lime_proto::v1::Port> {
        let ask = ListPortsRequest {
            network: self.tenant.network().to_owned(),
            switch: String::new(),
        };
        let ports = self.tenant.client().list_ports(ask).await.ok()?;
        let mut ports = ports.into_inner().ports;
        ports.retain(|p| !p.device.is_empty());
        (!ports.is_empty()).then(|| self.random.one(&ports).clone())
    }

    /// Migrates all that is on a host to another, and somebody may die in the middle.
    async fn migrate(&mut self) -> Result<(), LabError> {
        let (from, to) = (self.host(), self.host());
        let request = MigrationRequest {
            network: self.tenant.network().to_owned(),
            from: from.clone(),
            to: to.clone(),
            ..MigrationRequest::default()
        };
        let started = self.tenant.start_migration(request).await;
        self.did(format!("migrate {from} {to}"), started.is_ok());
        let Ok(started) = started else { return Ok(()) };
        match self.random.below(6) {
            0 => self.kill_agent().await?,
            1 => self.kill_coordinator().await?,
            _ => {}
        }
        self.tenant
            .watch_migration(started.id, PATIENCE, |_| ())
            .await?;
        Ok(())
    }

    async fn stay_dead(&mut self) {
        let dead = self.random.below(DEAD_MS);
        tokio::time::sleep(Duration::from_millis(dead)).await;
    }

    async fn kill_agent(&mut self) -> Result<(), LabError> {
        let host = self.host();
        self.did(format!("kill {host}"), true);
        self.lab.kill_agent(&host)?;
        self.stay_dead().await;
        self.lab.start_agent(&host)?;
        self.lab.wait_ready().await
    }

    async fn kill_coordinator(&mut self) -> Result<(), LabError> {
        self.did("kill coordinator".to_owned(), true);
        self.lab.kill_coordinator();
        self.stay_dead().await;
        self.lab.start_coordinator()?;
        self.lab.wait_ready().await
    }
}
