//! Counters: asking the members, merging, keeping.

use std::collections::{BTreeMap, HashMap};

use lime_core::counters::{Count, Counted};
use lime_core::{HostId, PortId, RuleId, SwitchId};
use lime_proto::v1;

use super::state::State;
use crate::store::{Change, CounterRecord};

/// Drop reasons that are kept of one port on one host.
const MAX_REASONS: usize = 64;

impl State {
    /// A host's reply to ReadCounters.
    pub fn observe(&mut self, host: HostId, counters: &v1::Counters) {
        if !self.model.members.contains_key(&host) {
            // It was finished while the reply was under way.
            return;
        }
        // An instance's last counters are final once it is dropped: a reply that was under way then must not count them again.
        let here = |rule| {
            let mut switches = self.model.switches.iter();
            switches.any(|(id, switch)| {
                switch.instances.contains_key(&host)
                    && self.rules.table(*id).is_some_and(|t| t.get(rule).is_some())
            })
        };
        let all = counted(counters).filter(|(what, _)| match what {
            Counted::Rule(rule) => here(*rule),
            _ => true,
        });
        for (what, value) in all {
            self.counters.observe(host, what, value);
        }
        for port in &counters.ports {
            let drops = port.counters.as_ref().map(|c| c.drops.clone());
            let drops = drops.unwrap_or_default().into_iter().take(MAX_REASONS);
            let key = (PortId(port.port_id), host);
            self.reasons.insert(key, drops.collect());
        }
    }

    /// The host counts these no more: its last reply makes them final. Returns what is to be stored.
    pub fn finish_counters(
        &mut self,
        host: HostId,
        counters: &v1::Counters,
        only: impl Fn(Counted) -> bool,
    ) -> Vec<Change> {
        let mut values: BTreeMap<Counted, Count> = counted(counters).collect();
        for what in self.counters.live_on(host) {
            values.entry(what).or_default();
        }
        let network = self.model.id;
        let mut changes = Vec::new();
        for (what, value) in values.into_iter().filter(|(w, _)| only(*w)) {
            self.counters.finish(host, what, Some(value));
            let (finals, floor) = self.counters.kept(what);
            changes.push(Change::counter(
                network,
                &CounterRecord {
                    what,
                    finals,
                    floor,
                },
            ));
        }
        changes
    }

    /// Ids of a switch's rules, ahead of the log.
    pub fn rule_ids(&self, switch: SwitchId) -> Vec<RuleId> {
        let table = self.rules.table(switch);
        table.map_or_else(Vec::new, |t| t.iter().map(|(id, _)| id).collect())
    }

    /// A rule with its merged counters.
    pub fn rule_stats(&mut self, switch: SwitchId, stats: bool) -> Vec<v1::RuleStats> {
        let Some(table) = self.rules.table(switch) else {
            return Vec::new();
        };
        let mut all = Vec::with_capacity(table.len());
        for (id, rule) in table.iter() {
            let count = if stats {
                self.unsaved.insert(Counted::Rule(id));
                self.counters.read(Counted::Rule(id))
            } else {
                Count::default()
            };
            let age = self.since.get(&id).map(std::time::Instant::elapsed);
            let age = age.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
            all.push(v1::RuleStats {
                rule: Some(rule.as_ref().into()),
                rule_id: id.0,
                packets: count.packets,
                bytes: count.bytes,
                duration_ms: age,
            });
        }
        all
    }

    /// A port's merged counters.
    pub fn port_counters(&mut self, port: PortId) -> v1::PortCounters {
        let mut read = |what| {
            self.unsaved.insert(what);
            self.counters.read(what)
        };
        let rx = read(Counted::PortRx(port));
        let tx = read(Counted::PortTx(port));
        let drops = read(Counted::PortDrops(port));
        let mut reasons: HashMap<String, u64> = HashMap::new();
        for (_, by_reason) in self
            .reasons
            .range((port, HostId(0))..=(port, HostId(u32::MAX)))
        {
            for (reason, n) in by_reason {
                *reasons.entry(reason.clone()).or_default() += n;
            }
        }
        let named = reasons.values().sum::<u64>();
        if drops.packets > named {
            // Before a restart, or on a host that has left.
            reasons.insert("earlier".to_owned(), drops.packets - named);
        }
        v1::PortCounters {
            rx_packets: rx.packets,
            rx_bytes: rx.bytes,
            tx_packets: tx.packets,
            tx_bytes: tx.bytes,
            drops: reasons,
        }
    }

    /// What the controller has read survives a restart (a second or less of it apart).
    pub(super) fn save_floors(&mut self) {
        if self.unsaved.is_empty() {
            return;
        }
        let network = self.model.id;
        let mut changes = Vec::new();
        for what in std::mem::take(&mut self.unsaved) {
            let (finals, floor) = self.counters.kept(what);
            if floor == Count::default() {
                continue;
            }
            let record = CounterRecord {
                what,
                finals,
                floor,
            };
            changes.push(Change::counter(network, &record));
        }
        if changes.is_empty() {
            return;
        }
        let commit = self.shared.store.commit(changes);
        self.later(commit, |state, result| {
            if let Err(e) = result {
                state.shared.fail(&e);
            }
        });
    }
}

fn counted(counters: &v1::Counters) -> impl Iterator<Item = (Counted, Count)> {
    let rules = counters.rules.iter().map(|r| {
        let count = Count {
            packets: r.packets,
            bytes: r.bytes,
        };
        (Counted::Rule(RuleId(r.rule_id)), count)
    });
    let ports = counters.ports.iter().flat_map(|p| {
        let port = PortId(p.port_id);
        let c = p.counters.clone().unwrap_or_default();
        let drops = c.drops.values().fold(0u64, |a, &b| a.saturating_add(b));
        [
            (
                Counted::PortRx(port),
                Count {
                    packets: c.rx_packets,
                    bytes: c.rx_bytes,
                },
            ),
            (
                Counted::PortTx(port),
                Count {
                    packets: c.tx_packets,
                    bytes: c.tx_bytes,
                },
            ),
            (
                Counted::PortDrops(port),
                Count {
                    packets: drops,
                    bytes: 0,
                },
            ),
        ]
    });
    rules.chain(ports)
}
