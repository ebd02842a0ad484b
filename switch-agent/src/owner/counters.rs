//! Counters, for the coordinator.

use lime_core::{NetworkId, SwitchId};
use lime_proto::v1;

use super::Owner;
use crate::datapath::PortCount;
use crate::error::CommandResult;

impl Owner {
    pub(super) fn read_counters(&self, read: &v1::ReadCounters) -> CommandResult<v1::Counters> {
        let network = NetworkId(read.network);
        let switch = (read.switch_id != 0).then_some(SwitchId(read.switch_id));
        let mut counters = v1::Counters::default();
        if read.rules {
            counters.rules = self
                .datapath
                .rule_counters(network, switch)?
                .into_iter()
                .map(|c| v1::RuleCounters {
                    rule_id: c.rule.0,
                    packets: c.packets,
                    bytes: c.bytes,
                })
                .collect();
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
