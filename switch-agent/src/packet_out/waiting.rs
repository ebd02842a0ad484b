//! Packets that would have matched a rule which is being removed as idle: they wait until it is known whether it goes (consistency rule 14).

use std::collections::{BTreeMap, VecDeque};

use lime_core::{NetworkId, PortId, RuleId};

use super::Tag;

/// What may wait of one network.
const PACKETS: usize = 4096;
const BYTES: usize = 16 << 20;

/// A packet that waits.
#[derive(Clone, Debug)]
pub struct WaitingPacket {
    /// The rule, and its slot.
    pub rule: (u32, RuleId),
    /// How it enters again.
    pub tag: Tag,
    /// The packet.
    pub packet: Vec<u8>,
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<WaitingPacket>,
    bytes: usize,
}

/// The packets that wait, by network, each in the order in which they came. Bounded: what is too much is dropped, and counted at its port.
#[derive(Debug, Default)]
pub struct WaitingPackets {
    queues: BTreeMap<NetworkId, Queue>,
    dropped: BTreeMap<(NetworkId, PortId), u64>,
}

impl WaitingPackets {
    /// Puts a packet at the end.
    pub fn wait(&mut self, network: NetworkId, packet: WaitingPacket) {
        let queue = self.queues.entry(network).or_default();
        let bytes = queue.bytes + packet.packet.len();
        if queue.packets.len() >= PACKETS || bytes > BYTES {
            self.drop_one(network, packet.tag.port);
            return;
        }
        queue.bytes = bytes;
        queue.packets.push_back(packet);
    }

    /// Counts a packet that cannot wait.
    pub fn drop_one(&mut self, network: NetworkId, port: PortId) {
        *self.dropped.entry((network, port)).or_default() += 1;
    }

    /// Packets of a port that were dropped.
    pub fn dropped(&self, network: NetworkId, port: PortId) -> u64 {
        let dropped = self.dropped.get(&(network, port));
        dropped.copied().unwrap_or_default()
    }

    /// Takes out the packets whose rule is not awaited any more.
    pub fn release(
        &mut self,
        awaited: impl Fn(NetworkId, (u32, RuleId)) -> bool,
    ) -> Vec<(NetworkId, WaitingPacket)> {
        let mut released = Vec::new();
        self.queues.retain(|&network, queue| {
            let mut last = None;
            for packet in std::mem::take(&mut queue.packets) {
                // Most wait for the rule that the one before waits for.
                let waits = match last {
                    Some((rule, waits)) if rule == packet.rule => waits,
                    _ => awaited(network, packet.rule),
                };
                last = Some((packet.rule, waits));
                if waits {
                    queue.packets.push_back(packet);
                } else {
                    queue.bytes -= packet.packet.len();
                    released.push((network, packet));
                }
            }
            !queue.packets.is_empty()
        });
        released
    }

    /// A network is not here any more.
    pub fn forget(&mut self, network: NetworkId) {
        self.queues.remove(&network);
        self.dropped.retain(|(n, _), _| *n != network);
    }
}

#[cfg(test)]
mod tests {
    use lime_core::Epoch;
    use switch_abi::TUNNEL_PROCESS;

    use super::*;

    const N: NetworkId = NetworkId(1);
    const PORT: PortId = PortId(3);

    fn packet(rule: u32, len: usize, first: u8) -> WaitingPacket {
        let mut packet = vec![0; len];
        packet[0] = first;
        let tag = Tag::new(1, TUNNEL_PROCESS, PORT, Epoch(1));
        WaitingPacket {
            rule: (rule, RuleId(rule.into())),
            tag,
            packet,
        }
    }

    #[test]
    fn packets_leave_in_the_order_in_which_they_came() {
        let mut waiting = WaitingPackets::default();
        for (rule, n) in [(1, 10), (2, 11), (1, 12), (2, 13)] {
            waiting.wait(N, packet(rule, 60, n));
        }
        let released = waiting.release(|_, (rule, _)| rule == 1);
        let firsts = |all: &[(NetworkId, WaitingPacket)]| -> Vec<u8> {
            all.iter().map(|(_, p)| p.packet[0]).collect()
        };
        assert_eq!(firsts(&released), [11, 13]);
        assert!(waiting.release(|_, _| true).is_empty());
        assert_eq!(firsts(&waiting.release(|_, _| false)), [10, 12]);
        assert!(waiting.release(|_, _| false).is_empty());
    }

    #[test]
    fn more_than_may_wait_is_dropped_and_counted() {
        let mut waiting = WaitingPackets::default();
        for _ in 0..PACKETS + 2 {
            waiting.wait(N, packet(1, 60, 0));
        }
        assert_eq!(waiting.dropped(N, PORT), 2);
        assert_eq!(waiting.release(|_, _| false).len(), PACKETS);
        for _ in 0..BYTES / (1 << 16) + 1 {
            waiting.wait(N, packet(1, 1 << 16, 0));
        }
        assert_eq!(waiting.dropped(N, PORT), 3);
        waiting.forget(N);
        assert_eq!(waiting.dropped(N, PORT), 0);
        assert!(waiting.release(|_, _| false).is_empty());
    }
}
