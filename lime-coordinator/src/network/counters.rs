//! Counters: asking the members, merging, keeping.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lime_core::counters::{Count, Counted, PortCounter, Version};
use lime_core::flow::{Rule, RuleFilter, TABLES};
use lime_core::{HostId, PortId, RuleId, SwitchId};
use lime_proto::v1;

use super::lifetimes::age;
use super::state::State;
use crate::store::{Change, CounterRecord};

/// Drop reasons that are kept of one port on one host.
const MAX_REASONS: usize = 64;

/// Queues that are kept of one port on one host.
const MAX_QUEUES: usize = 4096;

/// Whose counts are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finals {
    /// An instance's, of its switch's rules; ports count on.
    Instance(SwitchId),
    /// A host's that leaves the network: all.
    Member,
}

impl State {
    /// A host's reply to ReadCounters.
    pub fn observe(&mut self, host: HostId, counters: &v1::Counters) {
        if !self.model.members.contains_key(&host) {
            // It was finished while the reply was under way.
            return;
        }
        self.observe_rules(host, &counters.rules);
        for (what, value) in counters.ports.iter().flat_map(counted_of_port) {
            self.counters.observe(host, what, 0, value);
        }
        for (what, value) in counters.misses.iter().filter_map(counted_of_misses) {
            let here = |id| what.is_of_tables(id) && self.model.has_instance(id, host);
            if self.model.switches.keys().any(|id| here(*id)) {
                self.counters.observe(host, what, 0, value);
            }
        }
        for port in &counters.ports {
            let drops = port.counters.as_ref().map(|c| c.drops.clone());
            let drops = drops.unwrap_or_default().into_iter().take(MAX_REASONS);
            let key = (PortId(port.port_id), host);
            self.reasons.insert(key, drops.collect());
        }
    }

    /// A host's counts of rules, also of rules that have ended.
    pub(super) fn observe_rules(&mut self, host: HostId, rules: &[v1::RuleCounters]) {
        for rule in rules {
            let id = RuleId(rule.rule_id);
            // An instance's last counters are final once it is dropped: a reply that was under way then must not count them again.
            let here = |s: SwitchId| self.model.has_instance(s, host);
            if let Some((switch, counted)) = self.counted_as(id).filter(|(s, _)| here(*s)) {
                let what = Counted::Rule(counted);
                self.counters.observe(host, what, id.0, count_of_rule(rule));
                self.note_use(switch, id, rule.idle_ms);
            }
        }
    }

    /// A rule's switch, and what its counts are kept as.
    fn counted_as(&self, rule: RuleId) -> Option<(SwitchId, RuleId)> {
        let mut switches = self.model.switches.keys();
        switches.find_map(|s| Some((*s, self.rules.counted_as(*s, rule)?)))
    }

    /// The host counts these no more: its last reply makes them final. Returns what is to be stored.
    pub fn finish_counters(
        &mut self,
        host: HostId,
        counters: &v1::Counters,
        finals: Finals,
    ) -> Vec<Change> {
        let mut values: BTreeMap<(Counted, Version), Count> = BTreeMap::new();
        for rule in &counters.rules {
            let id = RuleId(rule.rule_id);
            if let Some((switch, counted)) = self.counted_as(id) {
                values.insert((Counted::Rule(counted), id.0), count_of_rule(rule));
                self.note_use(switch, id, rule.idle_ms);
            }
        }
        let ports = counters.ports.iter().flat_map(counted_of_port);
        values.extend(ports.map(|(what, value)| ((what, 0), value)));
        let misses = counters.misses.iter().filter_map(counted_of_misses);
        values.extend(misses.map(|(what, value)| ((what, 0), value)));
        for live in self.counters.live_on(host) {
            values.entry(live).or_default();
        }
        let mut changes = Vec::new();
        for ((what, version), value) in values {
            let meant = match finals {
                Finals::Member => true,
                Finals::Instance(switch) => {
                    what.is_of_tables(switch)
                        || matches!(what, Counted::Rule(_))
                            && self.rules.counted_as(switch, RuleId(version)).is_some()
                }
            };
            if !meant {
                continue;
            }
            self.counters.finish(host, what, version, Some(value));
            changes.push(self.kept(what));
        }
        changes
    }

    /// These are gone. Returns what is to be stored.
    pub fn forget_counters(&mut self, gone: impl Fn(&Counted) -> bool) -> Vec<Change> {
        let network = self.model.id;
        let gone = self.counters.select(gone).into_iter();
        let changes = gone.map(|what| {
            self.counters.forget(what);
            self.unsaved.remove(&what);
            Change::no_counter(network, what)
        });
        changes.collect()
    }

    /// What the store keeps of a counter.
    pub(super) fn kept(&self, what: Counted) -> Change {
        let (finals, floor) = self.counters.kept(what);
        let record = CounterRecord {
            what,
            finals,
            floor,
        };
        Change::counter(self.model.id, &record)
    }

    /// How many of a switch's rules use each of what `used` gives.
    fn users<U: IntoIterator<Item = u32>>(
        &self,
        switch: SwitchId,
        used: impl Fn(&Rule) -> U,
    ) -> HashMap<u32, u32> {
        let mut users: HashMap<u32, u32> = HashMap::new();
        let table = self.rules.table(switch);
        for (_, rule) in table.into_iter().flat_map(|t| t.iter()) {
            let used: BTreeSet<u32> = used(rule).into_iter().collect();
            for id in used {
                *users.entry(id).or_default() += 1;
            }
        }
        users
    }

    /// The merged count of a part of a group or a meter, and since when it is there.
    fn part_count(&mut self, switch: SwitchId, part: Option<RuleId>) -> (Count, u64) {
        let Some(id) = part else {
            return Default::default();
        };
        let counted = self.rules.counted_as(switch, id).unwrap_or(id);
        self.unsaved.insert(Counted::Rule(counted));
        let since = self.since.get(&id).copied();
        let now = self.shared.clock.now_ms();
        let age = since.map_or(0, |since| now.saturating_sub(since));
        (self.counters.read(Counted::Rule(counted)), age)
    }

    /// A switch's groups with their merged counters, in the order of their numbers.
    pub fn group_stats(&mut self, switch: SwitchId) -> Vec<v1::GroupStats> {
        let Some(groups) = self.rules.groups(switch).cloned() else {
            return Vec::new();
        };
        let users = self.users(switch, |rule| rule.groups().collect::<Vec<_>>());
        let mut all = Vec::new();
        for group in groups.iter() {
            let (count, age) = self.part_count(switch, groups.head(group.id));
            let buckets = (0..group.buckets.len()).map(|index| {
                let (count, _) = self.part_count(switch, groups.bucket(group.id, index));
                v1::BucketStats {
                    packets: count.packets,
                    bytes: count.bytes,
                }
            });
            let by_groups = u32::try_from(groups.users(group.id).count()).unwrap_or(u32::MAX);
            let by_rules = users.get(&group.id).copied().unwrap_or_default();
            all.push(v1::GroupStats {
                group_id: group.id,
                ref_count: by_rules.saturating_add(by_groups),
                packets: count.packets,
                bytes: count.bytes,
                duration_ms: age,
                buckets: buckets.collect(),
            });
        }
        all
    }

    /// A switch's meters with their merged counters, in the order of their numbers.
    pub fn meter_stats(&mut self, switch: SwitchId) -> Vec<v1::MeterStats> {
        let Some(meters) = self.rules.meters(switch).cloned() else {
            return Vec::new();
        };
        let users = self.users(switch, |rule| rule.meter);
        let mut all = Vec::new();
        for meter in meters.iter() {
            let (count, age) = self.part_count(switch, meters.head(meter.id));
            let bands = (0..meter.bands.len()).map(|index| {
                let (count, _) = self.part_count(switch, meters.band(meter.id, index));
                v1::MeterBandStats {
                    packets: count.packets,
                    bytes: count.bytes,
                }
            });
            all.push(v1::MeterStats {
                meter_id: meter.id,
                flow_count: users.get(&meter.id).copied().unwrap_or_default(),
                packets_in: count.packets,
                bytes_in: count.bytes,
                duration_ms: age,
                bands: bands.collect(),
            });
        }
        all
    }

    /// The rules that a filter selects, by table, priority and age, with their merged counters if asked for.
    pub fn rule_stats(
        &mut self,
        switch: SwitchId,
        filter: &RuleFilter,
        stats: bool,
    ) -> Vec<v1::RuleStats> {
        let Some(table) = self.rules.table(switch) else {
            return Vec::new();
        };
        let selected = table.selected_by(filter);
        let mut all = Vec::new();
        let now = self.shared.clock.now_ms();
        for (id, rule) in selected.filter_map(|id| Some((id, table.get(id)?))) {
            let count = if stats {
                let counted = self.rules.counted_as(switch, id).unwrap_or(id);
                self.unsaved.insert(Counted::Rule(counted));
                self.counters.read(Counted::Rule(counted))
            } else {
                Count::default()
            };
            all.push(v1::RuleStats {
                rule: Some(rule.as_ref().into()),
                rule_id: id.0,
                packets: count.packets,
                bytes: count.bytes,
                duration_ms: age(self.since.get(&id).copied(), now),
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
        let mut other = |which| read(Counted::Port(port, which)).packets;
        v1::PortCounters {
            rx_packets: rx.packets,
            rx_bytes: rx.bytes,
            tx_packets: tx.packets,
            tx_bytes: tx.bytes,
            drops: reasons,
            rx_dropped: other(PortCounter::RxDropped),
            tx_dropped: other(PortCounter::TxDropped),
            rx_errors: other(PortCounter::RxErrors),
            tx_errors: other(PortCounter::TxErrors),
            rx_frame_errors: other(PortCounter::RxFrameErrors),
            rx_over_errors: other(PortCounter::RxOverErrors),
            rx_crc_errors: other(PortCounter::RxCrcErrors),
            collisions: other(PortCounter::Collisions),
        }
    }

    /// What the controller has read survives a restart (a second or less of it apart).
    pub(super) fn save_floors(&mut self) {
        if self.unsaved.is_empty() {
            return;
        }
        let mut changes = Vec::new();
        for what in std::mem::take(&mut self.unsaved) {
            let (_, floor) = self.counters.kept(what);
            if floor != Count::default() {
                changes.push(self.kept(what));
            }
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

fn count_of_rule(rule: &v1::RuleCounters) -> Count {
    Count {
        packets: rule.packets,
        bytes: rule.bytes,
    }
}

fn counted_of_misses(misses: &v1::TableMisses) -> Option<(Counted, Count)> {
    let table = u8::try_from(misses.table).ok().filter(|t| *t < TABLES)?;
    let packets = Count {
        packets: misses.packets,
        bytes: 0,
    };
    Some((
        Counted::TableMisses(SwitchId(misses.switch_id), table),
        packets,
    ))
}

fn counted_of_port(port: &v1::PortCountersOf) -> Vec<(Counted, Count)> {
    let id = PortId(port.port_id);
    let c = port.counters.clone().unwrap_or_default();
    let drops = c.drops.values().fold(0u64, |a, &b| a.saturating_add(b));
    let count = |packets, bytes| Count { packets, bytes };
    let mut all = vec![
        (Counted::PortRx(id), count(c.rx_packets, c.rx_bytes)),
        (Counted::PortTx(id), count(c.tx_packets, c.tx_bytes)),
        (Counted::PortDrops(id), count(drops, 0)),
    ];
    let others = [
        (PortCounter::RxDropped, c.rx_dropped),
        (PortCounter::TxDropped, c.tx_dropped),
        (PortCounter::RxErrors, c.rx_errors),
        (PortCounter::TxErrors, c.tx_errors),
        (PortCounter::RxFrameErrors, c.rx_frame_errors),
        (PortCounter::RxOverErrors, c.rx_over_errors),
        (PortCounter::RxCrcErrors, c.rx_crc_errors),
        (PortCounter::Collisions, c.collisions),
    ];
    let others = others.into_iter().filter(|(_, n)| *n != 0);
    all.extend(others.map(|(which, n)| (Counted::Port(id, which), count(n, 0))));
    for queue in port.queues.iter().take(MAX_QUEUES) {
        let sent = count(queue.packets, queue.bytes);
        all.push((Counted::Queue(id, queue.queue_id), sent));
        if queue.drops != 0 {
            all.push((
                Counted::QueueDrops(id, queue.queue_id),
                count(queue.drops, 0),
            ));
        }
    }
    all
}
