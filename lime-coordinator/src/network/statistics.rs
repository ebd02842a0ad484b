//! Statistics of tables and queues, out of what is counted.

use lime_core::PortNo;
use lime_core::SwitchId;
use lime_core::counters::{Count, Counted};
use lime_core::flow::TABLES;
use lime_proto::v1;

use super::lifetimes;
use super::state::State;

impl State {
    /// Milliseconds since something was made; 0 where that is not known.
    pub fn age(&self, since: u64) -> u64 {
        lifetimes::age((since != 0).then_some(since), self.shared.clock.now_ms())
    }

    /// The tables of a switch, by number.
    pub fn table_stats(&mut self, switch: SwitchId) -> Vec<v1::TableStats> {
        let mut all = Vec::with_capacity(TABLES.into());
        for table in 0..TABLES {
            let (mut active, mut now) = (0, Count::default());
            let rules = self.rules.table(switch);
            for (id, _) in rules.into_iter().flat_map(|t| t.table(table)) {
                let counted = self.rules.counted_as(switch, id).unwrap_or(id);
                now = now.plus(self.counters.sum(Counted::Rule(counted)));
                active += 1;
            }
            let (ended, misses) = (
                Counted::TableEnded(switch, table),
                Counted::TableMisses(switch, table),
            );
            let matched = self.counters.read_with(ended, now).packets;
            let missed = self.counters.read(misses).packets;
            self.unsaved.extend([ended, misses]);
            all.push(v1::TableStats {
                table: table.into(),
                active,
                lookups: matched.saturating_add(missed),
                matched,
            });
        }
        all
    }

    /// The queues of a switch's ports, by port and number: of one port, one queue or all.
    pub fn queue_stats(
        &mut self,
        switch: SwitchId,
        port: Option<PortNo>,
        queue: Option<u32>,
    ) -> Vec<v1::QueueStats> {
        let ports = self.model.ports_of(switch);
        let mut ports: Vec<_> = ports.iter().map(|p| (p.no, p.id, p.since)).collect();
        ports.retain(|(no, ..)| port.is_none_or(|port| port == *no));
        ports.sort_unstable();
        let mut all = Vec::new();
        for (no, id, since) in ports {
            let mut queues: Vec<u32> = Vec::new();
            queues.extend(self.counters.queues(id));
            queues.retain(|q| queue.is_none_or(|queue| queue == *q));
            for queue_id in queues {
                let (sent, drops) = (
                    Counted::Queue(id, queue_id),
                    Counted::QueueDrops(id, queue_id),
                );
                self.unsaved.extend([sent, drops]);
                let (count, dropped) = (self.counters.read(sent), self.counters.read(drops));
                all.push(v1::QueueStats {
                    port_no: no.0,
                    queue_id,
                    tx_packets: count.packets,
                    tx_bytes: count.bytes,
                    tx_errors: dropped.packets,
                    duration_ms: self.age(since),
                });
            }
        }
        all
    }
}
