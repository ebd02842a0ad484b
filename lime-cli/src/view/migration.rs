//! Migrations and their reports.

use lime_proto::v1;
use serde::Serialize;

use crate::output::table;

#[derive(Debug, Serialize)]
pub struct Migration {
    pub id: u64,
    pub state: &'static str,
    pub network: String,
    pub switches: Vec<String>,
    pub from: String,
    pub to: String,
    pub steps_done: u32,
    pub steps: u32,
    pub step: String,
    pub phases: Vec<v1::Phase>,
    pub port_moves: Vec<v1::PortMove>,
    pub rules_cloned: u64,
    pub started_at: u64,
    pub ended_at: u64,
    pub error: String,
}

impl From<v1::Migration> for Migration {
    fn from(m: v1::Migration) -> Self {
        let state = state_name(m.state());
        let request = m.request.unwrap_or_default();
        Self {
            id: m.id,
            state,
            network: request.network,
            switches: request.switches,
            from: request.from,
            to: request.to,
            steps_done: m.steps_done,
            steps: m.steps,
            step: m.step,
            phases: m.phases,
            port_moves: m.port_moves,
            rules_cloned: m.rules_cloned,
            started_at: m.started_at,
            ended_at: m.ended_at,
            error: m.error,
        }
    }
}

/// A migration's state in words.
pub fn state_name(state: v1::migration::State) -> &'static str {
    use v1::migration::State;
    match state {
        State::Unspecified => "unknown",
        State::Running => "running",
        State::Completed => "completed",
        State::RollingBack => "rolling_back",
        State::RolledBack => "rolled_back",
        State::Failed => "failed",
    }
}

impl Migration {
    pub fn ended(&self) -> bool {
        matches!(self.state, "completed" | "rolled_back" | "failed")
    }

    pub fn completed(&self) -> bool {
        self.state == "completed"
    }

    /// Milliseconds that it took.
    fn took_ms(&self) -> u64 {
        self.ended_at.saturating_sub(self.started_at)
    }

    /// What it is.
    pub fn title(&self) -> String {
        format!(
            "migration {} of network {} from {} to {}",
            self.id, self.network, self.from, self.to
        )
    }

    /// What it is and how it stands, in a sentence.
    pub fn headline(&self) -> String {
        let what = self.title();
        let state = self.state.replace('_', " ");
        if self.ended() {
            format!("{what}: {state} after {}", millis(self.took_ms()))
        } else {
            format!(
                "{what}: {state}, step {} of {}: {}",
                self.steps_done, self.steps, self.step
            )
        }
    }

    /// The whole report for people.
    pub fn report(&self) -> String {
        let mut text = self.headline();
        if !self.error.is_empty() {
            text += &format!("\nreason: {}", self.error);
        }
        text += &format!("\nrules cloned: {}", self.rules_cloned);
        if !self.phases.is_empty() {
            let rows: Vec<_> = self
                .phases
                .iter()
                .map(|p| {
                    vec![
                        p.name.clone(),
                        millis(p.started_ms),
                        if p.done {
                            millis(p.duration_ms)
                        } else {
                            "-".to_owned()
                        },
                    ]
                })
                .collect();
            text += "\n\n";
            text += &table(&["PHASE", "START", "DURATION"], &rows);
        }
        if !self.port_moves.is_empty() {
            let rows: Vec<_> = self
                .port_moves
                .iter()
                .map(|p| vec![p.port.clone(), micros(p.blackout_us)])
                .collect();
            text += "\n\n";
            text += &table(&["PORT", "BLACKOUT"], &rows);
        }
        text
    }
}

/// Milliseconds as text.
pub fn millis(ms: u64) -> String {
    if ms < 10_000 {
        format!("{ms} ms")
    } else {
        format!("{}.{} s", ms / 1000, ms % 1000 / 100)
    }
}

/// Microseconds as milliseconds.
pub fn micros(us: u64) -> String {
    format!("{}.{:03} ms", us / 1000, us % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(millis(999), "999 ms");
        assert_eq!(millis(12_345), "12.3 s");
        assert_eq!(micros(1_005), "1.005 ms");
    }
}
