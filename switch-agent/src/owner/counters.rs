//! Counters, for the coordinator.

use std::collections::HashMap;
use std::time::Instant;

use lime_core::{NetworkId, PortId, RuleId, SwitchId};
use lime_proto::v1;
use switch_abi::{DropReason, DropSide};

use super::Owner;
use crate::datapath::{PortCount, RuleCount};
use crate::error::{CommandError, CommandResult, chain};

impl Owner {
    pub(super) async fn read_counters(
        &mut self,
        read: &v1::ReadCounters,
    ) -> CommandResult<v1::Counters> {
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
            counters.misses = self.misses(network, switch)?;
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
                counters: Some(port_counters(&count, self.waiting.dropped(network, id))),
                queues: Vec::new(),
            })
            .collect();
        if read.devices {
            for port in &mut counters.ports {
                self.add_device(network, port).await?;
            }
        }
        Ok(counters)
    }

    /// Adds what Linux counts of the port's device, if that is here.
    async fn add_device(
        &self,
        network: NetworkId,
        port: &mut v1::PortCountersOf,
    ) -> CommandResult<()> {
        let locals = self.networks.get(&network).map(|n| &n.locals);
        let local = locals.and_then(|l| l.get(&PortId(port.port_id)));
        let (Some(ifindex), Some(counters)) =
            (local.and_then(|l| l.ifindex), port.counters.as_mut())
        else {
            return Ok(());
        };
        let failed = |e| CommandError::internal(chain(&e));
        let Some(device) = self.netlink.device_stats(ifindex).await.map_err(failed)? else {
            return Ok(());
        };
        counters.rx_dropped = counters.rx_dropped.saturating_add(device.rx_dropped);
        counters.tx_dropped = counters.tx_dropped.saturating_add(device.tx_dropped);
        counters.rx_errors = device.rx_errors;
        counters.tx_errors = device.tx_errors;
        counters.rx_frame_errors = device.rx_frame_errors;
        counters.rx_over_errors = device.rx_over_errors;
        counters.rx_crc_errors = device.rx_crc_errors;
        counters.collisions = device.collisions;
        let classes = self.netlink.class_stats(ifindex).await.map_err(failed)?;
        let queues = classes.iter().map(|class| v1::QueueCounters {
            queue_id: class.minor.into(),
            packets: class.packets,
            bytes: class.bytes,
            drops: class.drops,
        });
        port.queues = queues.collect();
        Ok(())
    }

    fn misses(
        &self,
        network: NetworkId,
        only: Option<SwitchId>,
    ) -> CommandResult<Vec<v1::TableMisses>> {
        let mut all = Vec::new();
        for switch in self.datapath.switches(network)? {
            if only.is_some_and(|only| only != switch) {
                continue;
            }
            let misses = self.datapath.table_misses(network, switch)?;
            let any = (0..).zip(misses).filter(|(_, packets)| *packets != 0);
            all.extend(any.map(|(table, packets)| v1::TableMisses {
                switch_id: switch.0,
                table,
                packets,
            }));
        }
        Ok(all)
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

/// `promised`: packets that were dropped here, for [`DropReason::Promised`].
fn port_counters(count: &PortCount, promised: u64) -> v1::PortCounters {
    let more = (promised != 0).then_some((DropReason::Promised, promised));
    let drops = || count.drops().chain(more);
    let dropped = |side| {
        let there = drops().filter(|(reason, _)| reason.side() == side);
        there.map(|(_, n)| n).fold(0, u64::saturating_add)
    };
    v1::PortCounters {
        rx_dropped: dropped(DropSide::In),
        tx_dropped: dropped(DropSide::Out),
        rx_packets: count.rx_packets,
        rx_bytes: count.rx_bytes,
        tx_packets: count.tx_packets,
        tx_bytes: count.tx_bytes,
        drops: drops().fold(HashMap::new(), |mut all, (reason, n)| {
            *all.entry(reason.name().to_owned()).or_default() += n;
            all
        }),
        ..Default::default()
    }
}
