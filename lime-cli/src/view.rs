//! Messages as JSON for scripts, where the message itself would show numbers for names or bytes one by one.

use lime_core::flow::ofctl::{format_actions, format_match, format_rule};
use lime_core::flow::{Group, GroupType, Rule};
use lime_proto::v1;
use serde::Serialize;

use crate::error::CliError;
use crate::packet;

#[derive(Debug, Serialize)]
pub struct Network {
    pub name: String,
    pub id: u32,
    pub vni: u32,
    pub consistency: &'static str,
    pub epoch: u32,
    pub acknowledged: u32,
    pub members: Vec<String>,
    pub waiting_for: Vec<String>,
}

impl From<v1::Network> for Network {
    fn from(n: v1::Network) -> Self {
        Self {
            consistency: match n.consistency() {
                v1::Consistency::Causal => "causal",
                v1::Consistency::None => "none",
            },
            name: n.name,
            id: n.id,
            vni: n.vni,
            epoch: n.epoch,
            acknowledged: n.acknowledged,
            members: n.members,
            waiting_for: n.waiting_for,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Port {
    /// `NET/SWITCH:PORT`
    pub name: String,
    pub id: u32,
    pub network: String,
    pub switch: String,
    pub port_no: u32,
    pub host: String,
    pub device: String,
    pub attach: &'static str,
    pub driver: String,
    pub mtu: u32,
    pub no_flood: bool,
    pub up: bool,
    pub link: String,
}

impl From<v1::Port> for Port {
    fn from(p: v1::Port) -> Self {
        Self {
            name: format!("{}/{}:{}", p.network, p.switch, p.port_no),
            attach: match p.attach() {
                v1::PortAttach::Auto => "auto",
                v1::PortAttach::Xdp => "xdp",
                v1::PortAttach::Tc => "tc",
            },
            id: p.id,
            network: p.network,
            switch: p.switch,
            port_no: p.port_no,
            host: p.host,
            device: p.device,
            driver: p.driver,
            mtu: p.mtu,
            no_flood: p.no_flood,
            up: p.up,
            link: p.link,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct RuleStats {
    pub rule_id: u64,
    pub table: u8,
    pub priority: u16,
    pub cookie: u64,
    #[serde(rename = "match")]
    pub matching: String,
    pub actions: String,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    /// The whole rule, as `lime rule add` takes it.
    pub flow: String,
    /// Missing where counters were not asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub counters: Option<RuleCounters>,
}

#[derive(Debug, Serialize)]
pub struct RuleCounters {
    pub packets: u64,
    pub bytes: u64,
    pub duration_ms: u64,
}

impl RuleStats {
    pub fn new(rule: &Rule, wire: &v1::RuleStats, counters: bool) -> Self {
        Self {
            rule_id: wire.rule_id,
            table: rule.table,
            priority: rule.priority,
            cookie: rule.cookie,
            matching: format_match(&rule.matching),
            actions: format_actions(&rule.actions, rule.goto_table),
            idle_timeout: rule.idle_timeout,
            hard_timeout: rule.hard_timeout,
            flow: format_rule(rule),
            counters: counters.then_some(RuleCounters {
                packets: wire.packets,
                bytes: wire.bytes,
                duration_ms: wire.duration_ms,
            }),
        }
    }

    /// As a line of `ovs-ofctl dump-flows`; without counters, as a line for `lime rule add --file`.
    pub fn line(&self) -> String {
        let Some(counters) = &self.counters else {
            return self.flow.clone();
        };
        let mut line = format!(
            " cookie={:#x}, duration={}.{:03}s, table={}, n_packets={}, n_bytes={}, ",
            self.cookie,
            counters.duration_ms / 1000,
            counters.duration_ms % 1000,
            self.table,
            counters.packets,
            counters.bytes,
        );
        if self.idle_timeout != 0 {
            line += &format!("idle_timeout={}, ", self.idle_timeout);
        }
        if self.hard_timeout != 0 {
            line += &format!("hard_timeout={}, ", self.hard_timeout);
        }
        line += &format!("priority={}", self.priority);
        if !self.matching.is_empty() {
            line += &format!(",{}", self.matching);
        }
        line + " actions=" + &self.actions
    }
}

#[derive(Debug, Serialize)]
pub struct GroupView {
    pub group_id: u32,
    #[serde(rename = "type")]
    pub kind: GroupType,
    /// Each bucket's actions.
    pub buckets: Vec<String>,
}

impl GroupView {
    pub fn read(wire: v1::Group) -> Result<Self, CliError> {
        let group = Group::try_from(wire).map_err(|e| CliError::BadAnswer(e.to_string()))?;
        Ok(Self {
            group_id: group.id,
            kind: group.kind,
            buckets: group
                .buckets
                .iter()
                .map(|actions| format_actions(actions, None))
                .collect(),
        })
    }

    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            GroupType::All => "all",
            GroupType::Select => "select",
            GroupType::Indirect => "indirect",
            GroupType::FastFailover => "fast_failover",
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Event {
    /// `NET/SWITCH`
    pub switch: String,
    pub version: u32,
    pub reason: &'static str,
    pub table: u32,
    pub cookie: u64,
    pub in_port: u32,
    pub total_len: u32,
    /// Hexadecimal digits; perhaps only the packet's beginning.
    pub data: String,
    /// The packet in words.
    pub packet: String,
}

impl From<v1::ControllerEvent> for Event {
    fn from(e: v1::ControllerEvent) -> Self {
        let p = e.packet_in.unwrap_or_default();
        Self {
            switch: format!("{}/{}", e.network, e.switch),
            version: e.version,
            reason: match p.reason() {
                v1::PacketInReason::NoMatch => "no_match",
                v1::PacketInReason::Action => "action",
            },
            table: p.table,
            cookie: p.cookie,
            in_port: p.in_port,
            total_len: p.total_len,
            packet: packet::describe(&p.data),
            data: packet::to_hex(&p.data),
        }
    }
}

impl Event {
    pub fn line(&self) -> String {
        format!(
            "{} version={} reason={} table={} cookie={:#x} in_port={} total_len={}: {}",
            self.switch,
            self.version,
            self.reason,
            self.table,
            self.cookie,
            self.in_port,
            self.total_len,
            self.packet,
        )
    }
}

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

    /// What it is and how it stands, in a sentence.
    pub fn headline(&self) -> String {
        let what = format!(
            "migration {} of network {} from {} to {}",
            self.id, self.network, self.from, self.to
        );
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
            text += &crate::output::table(&["PHASE", "START", "DURATION"], &rows);
        }
        if !self.port_moves.is_empty() {
            let rows: Vec<_> = self
                .port_moves
                .iter()
                .map(|p| vec![p.port.clone(), micros(p.blackout_us)])
                .collect();
            text += "\n\n";
            text += &crate::output::table(&["PORT", "BLACKOUT"], &rows);
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
    use lime_core::flow::ofctl::parse_rule;

    use super::*;

    #[test]
    fn a_rule_looks_as_in_dump_flows_and_reads_back() {
        let rule =
            parse_rule("table=1,cookie=0x5,priority=7,idle_timeout=9,ip,nw_dst=10.0.0.2,actions=2")
                .unwrap();
        let wire = v1::RuleStats {
            packets: 3,
            bytes: 180,
            duration_ms: 12_034,
            ..Default::default()
        };
        let line = RuleStats::new(&rule, &wire, true).line();
        assert_eq!(
            line,
            " cookie=0x5, duration=12.034s, table=1, n_packets=3, n_bytes=180, idle_timeout=9, \
             priority=7,ip,nw_dst=10.0.0.2 actions=output:2"
        );
        assert_eq!(parse_rule(&line).unwrap(), rule);
        let plain = RuleStats::new(&rule, &wire, false).line();
        assert_eq!(parse_rule(&plain).unwrap(), rule);
    }

    #[test]
    fn a_match_of_everything_has_no_comma() {
        let rule = parse_rule("priority=0,actions=drop").unwrap();
        let line = RuleStats::new(&rule, &v1::RuleStats::default(), true).line();
        assert!(line.ends_with("priority=0 actions=drop"), "{line}");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(millis(999), "999 ms");
        assert_eq!(millis(12_345), "12.3 s");
        assert_eq!(micros(1_005), "1.005 ms");
    }
}
