//! Rules.

use lime_core::flow::ofctl::{format_instructions, format_match, format_rule};
use lime_core::flow::{Rule, RuleFlags};
use lime_proto::v1;
use serde::Serialize;

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
    /// As in a flow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<&'static str>,
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
            actions: format_instructions(rule),
            idle_timeout: rule.idle_timeout,
            hard_timeout: rule.hard_timeout,
            flags: flags(rule.flags),
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
        for flag in &self.flags {
            line += &format!("{flag} ");
        }
        line += &format!("priority={}", self.priority);
        if !self.matching.is_empty() {
            line += &format!(",{}", self.matching);
        }
        line + " actions=" + &self.actions
    }
}

fn flags(flags: RuleFlags) -> Vec<&'static str> {
    let all = [
        (flags.send_flow_removed, "send_flow_rem"),
        (flags.no_packet_counts, "no_packet_counts"),
        (flags.no_byte_counts, "no_byte_counts"),
    ];
    all.iter().filter(|f| f.0).map(|f| f.1).collect()
}

#[cfg(test)]
mod tests {
    use lime_core::flow::ofctl::parse_rule;

    use super::*;

    #[test]
    fn a_rule_looks_as_in_dump_flows_and_reads_back() {
        let rule =
            parse_rule("table=1,cookie=0x5,priority=7,idle_timeout=9,send_flow_rem,ip,nw_dst=10.0.0.2,actions=2")
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
             send_flow_rem priority=7,ip,nw_dst=10.0.0.2 actions=output:2"
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
}
