//! The journal's record of a migration.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use lime_core::migration::{Progress, Request, State};
use lime_core::{NetworkId, SwitchId};
use lime_proto::v1;
use serde::{Deserialize, Serialize};

/// A migration, as the journal keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its number.
    pub id: u64,
    /// Its network.
    pub network: NetworkId,
    /// Switches that nothing else may change.
    pub switches: BTreeSet<SwitchId>,
    /// What was asked for, as the API has it.
    pub request: Asked,
    /// Where it stands.
    pub progress: Progress,
    /// One line on each step, for people.
    pub lines: Vec<String>,
    /// Phases that have begun.
    pub phases: Vec<PhaseRecord>,
    /// Ports that have moved.
    pub moves: Vec<MoveRecord>,
    /// The last failure.
    pub error: String,
    /// Rules cloned.
    pub rules_cloned: u64,
    /// Milliseconds since 1970.
    pub started_at: u64,
    /// Milliseconds since 1970; 0: not yet.
    pub ended_at: u64,
}

/// The request, in names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// Network.
    pub network: String,
    /// Host.
    pub from: String,
    /// Host.
    pub to: String,
    /// The rest.
    pub request: Vec<String>,
    /// See the API.
    pub device_template: String,
    /// See the API.
    pub keep_ports: bool,
    /// Switch, port number, device, driver.
    pub ports: Vec<(String, u32, String, String)>,
}

/// A phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// `prepare`, `move`, `retire` or `rollback`.
    pub name: String,
    /// Milliseconds since the migration began.
    pub started_ms: u64,
    /// Milliseconds; counts on until it is done.
    pub duration_ms: u64,
    /// It is over.
    pub done: bool,
}

/// A port's move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRecord {
    /// NET/SWITCH:PORT.
    pub port: String,
    /// Microseconds from the pause to the resume.
    pub blackout_us: u64,
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Asked {
    /// From the API's request.
    pub fn new(request: &v1::MigrationRequest) -> Self {
        let ports = request.ports.iter();
        Self {
            network: request.network.clone(),
            from: request.from.clone(),
            to: request.to.clone(),
            request: request.switches.clone(),
            device_template: request.device_template.clone(),
            keep_ports: request.keep_ports,
            ports: ports
                .map(|p| {
                    let (switch, device) = (p.switch.clone(), p.device.clone());
                    (switch, p.port_no, device, p.driver.clone())
                })
                .collect(),
        }
    }

    fn reply(&self) -> v1::MigrationRequest {
        let ports = self.ports.iter();
        v1::MigrationRequest {
            network: self.network.clone(),
            switches: self.request.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            ports: ports
                .map(|(switch, port_no, device, driver)| v1::PortTarget {
                    switch: switch.clone(),
                    port_no: *port_no,
                    device: device.clone(),
                    driver: driver.clone(),
                })
                .collect(),
            device_template: self.device_template.clone(),
            keep_ports: self.keep_ports,
        }
    }

    /// The request with hosts by number.
    pub fn resolve(&self, from: lime_core::HostId, to: lime_core::HostId) -> Request {
        let ports = self.ports.iter();
        Request {
            switches: self.request.clone(),
            from,
            to,
            ports: ports
                .map(|(switch, no, device, driver)| {
                    let target = lime_core::migration::Target {
                        device: device.clone(),
                        driver: driver.clone(),
                    };
                    ((switch.clone(), lime_core::PortNo(*no)), target)
                })
                .collect(),
            device_template: self.device_template.clone(),
            keep_ports: self.keep_ports,
        }
    }
}

impl Record {
    /// Whether its switches are to be left alone: it goes on, or waits for an operator.
    pub fn is_under_way(&self) -> bool {
        !self.progress.state().has_ended() || self.progress.state() == State::Failed
    }

    /// Opens and closes phases as the progress says. Phases of a migration that goes back are one, `rollback`.
    pub fn keep_time(&mut self) {
        let elapsed = now_ms().saturating_sub(self.started_at);
        let name = match self.progress.state() {
            State::RollingBack => Some("rollback"),
            _ => self.progress.phase().map(lime_core::migration::Phase::name),
        };
        if let Some(last) = self.phases.last_mut()
            && !last.done
        {
            last.duration_ms = elapsed.saturating_sub(last.started_ms);
            last.done = name != Some(last.name.as_str());
        }
        let current = self.phases.last().map(|p| p.name.as_str());
        if let Some(name) = name
            && current != Some(name)
        {
            self.phases.push(PhaseRecord {
                name: name.to_owned(),
                started_ms: elapsed,
                duration_ms: 0,
                done: false,
            });
        }
        if self.progress.state().has_ended() && self.ended_at == 0 {
            self.ended_at = now_ms();
        }
    }

    /// What is being done now, for people.
    fn step(&self) -> String {
        use lime_core::migration::Action;
        let line = |i: usize| self.lines.get(i).cloned().unwrap_or_default();
        match self.progress.action() {
            Some(Action::Do(_)) => line(self.progress.done()),
            Some(Action::Undo(_)) => {
                format!("undo: {}", line(self.progress.done().saturating_sub(1)))
            }
            None => String::new(),
        }
    }

    /// As the API shows it.
    pub fn reply(&self) -> v1::Migration {
        use v1::migration::State as S;
        let state = match self.progress.state() {
            State::Running => S::Running,
            State::Completed => S::Completed,
            State::RollingBack => S::RollingBack,
            State::RolledBack => S::RolledBack,
            State::Failed => S::Failed,
        };
        let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
        let phases = self.phases.iter().map(|p| v1::Phase {
            name: p.name.clone(),
            started_ms: p.started_ms,
            duration_ms: p.duration_ms,
            done: p.done,
        });
        let moves = self.moves.iter().map(|m| v1::PortMove {
            port: m.port.clone(),
            blackout_us: m.blackout_us,
        });
        v1::Migration {
            id: self.id,
            state: state.into(),
            request: Some(self.request.reply()),
            steps_done: number(self.progress.done()),
            steps: number(self.progress.steps().len()),
            step: self.step(),
            phases: phases.collect(),
            error: self.error.clone(),
            rules_cloned: self.rules_cloned,
            started_at: self.started_at,
            ended_at: self.ended_at,
            port_moves: moves.collect(),
        }
    }
}
