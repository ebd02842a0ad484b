//! Counters, for the coordinator.

use std::time::Instant;

use lime_core::{NetworkId, RuleId, SwitchId};
use lime_proto::v1;

use super::Owner;
use crate::datapath::{PortCount, RuleCount};
use crate::error::CommandResult;

impl Owner {
    pub(super) fn read_counters(&mut self, read: &v1::ReadCounters) -> CommandResult<v1::Counters> {
        let network = NetworkId(read.network);
        let switch = (read.switch_id != 0).then_some(SwitchId(read.switch_id));
        let mut counters = v1::Counters::default();
        if !read.rule_ids.is_empty() {
            let rules = read.rule_ids.iter().map(|id| RuleId(*id));
            counters.rules = rules.filter_map(|id| self.counted(network, id)).collect();
            return Ok(counters);
        }
        if read.rules {
            let rules = self.datapath.rule_counters(network, switch)?.into_iter();
            counters.rules = rules.map(|c| self.with_use(network, &c)).collect();
        }
        let of_switch: Vec<_> = self
            .datapath
            .ports(network)?
            .into_iter()
            .filter(|p| switch.is_none_or(|s| p.switch == s))
            .map(|p| p.id)
            .collect();
        counters.ports = self
            .datapath
            .port_counters(network)?
            .into_iter()
            .filter(|(id, _)| of_switch.contains(id))
            .map(|(id, count)| v1::PortCountersOf {
                port_id: id.0,
                counters: Some(port_counters(&count)),
            })
            .collect();
        Ok(counters)
    }

    /// A rule's counters; none: it is not here.
    pub(super) fn counted(&mut self, network: NetworkId, rule: RuleId) -> Option<v1::RuleCounters> {
        let count = self.datapath.rule_count(network, rule)?;
        Some(self.with_use(network, &count))
    }

    fn with_use(&mut self, network: NetworkId, count: &RuleCount) -> v1::RuleCounters {
        let key = (network, count.rule);
        let idle = self.idle.look(key, count.packets, Instant::now());
        v1::RuleCounters {
            rule_id: count.rule.0,
            packets: count.packets,
            bytes: count.bytes,
            idle_ms: idle.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

fn port_counters(count: &PortCount) -> v1::PortCounters {
    v1::PortCounters {
        rx_packets: count.rx_packets,
        rx_bytes: count.rx_bytes,
        tx_packets: count.tx_packets,
        tx_bytes: count.tx_bytes,
        drops: count
            .drops()
            .map(|(reason, n)| (reason.name().to_owned(), n))
            .collect(),
    }
}
