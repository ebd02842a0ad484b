//! Outputs that wait until the coordinator has all events of the same packet (consistency rule 5).
//!
//! Kernel programs say in the event ring what they tell the controller of a packet, and what is to be output, under a name of the packet's. Copies for
//! groups are sent back to them at once, under a name given here, and what they say then is about the same packet. When all runs about a packet are over
//! and the coordinator has all its events, its outputs go out.

use std::collections::{BTreeMap, HashMap};

use lime_core::NetworkId;
use switch_abi::{HOLD_BITS, HOLD_NAMES, HOLD_RUN};

use super::Tag;

/// A tunnel frame that waits.
#[derive(Clone, Debug)]
pub struct Output {
    /// What it says of the packet.
    pub tag: Tag,
    /// The packet.
    pub packet: Vec<u8>,
}

/// How much may wait; of one network a quarter of it.
#[derive(Clone, Copy, Debug)]
pub struct HeldLimits {
    /// Packets.
    pub packets: usize,
    /// Bytes of all their outputs.
    pub bytes: usize,
}

#[derive(Debug)]
struct Held {
    network: NetworkId,
    /// Runs of the programs that are not over.
    runs: usize,
    /// Events that the coordinator has not confirmed.
    events: usize,
    outputs: Vec<Output>,
}

impl Held {
    fn is_due(&self) -> bool {
        self.runs == 0 && self.events == 0
    }
}

/// What waits of a network, or of all.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    packets: usize,
    bytes: usize,
}

impl Use {
    fn exceeds(self, limits: HeldLimits, share: usize) -> bool {
        self.packets > limits.packets / share || self.bytes > limits.bytes / share
    }

    fn take(&mut self, held: &Held) {
        self.packets -= 1;
        self.bytes -= bytes_of(held);
    }
}

fn bytes_of(held: &Held) -> usize {
    held.outputs.iter().map(|o| o.packet.len()).sum()
}

/// The held packets, by id. Bounded: when there are too many, the oldest are given up.
#[derive(Debug)]
pub struct HeldPackets {
    limits: HeldLimits,
    next: u64,
    packets: BTreeMap<u64, Held>,
    /// Runs that are not over: the programs' name or ours, and the packet's id, which may have been given up. On each CPU there is one run at a time, so
    /// that another name says that the end of the one before it was lost.
    runs: HashMap<u32, (u32, u64)>,
    next_name: u32,
    all: Use,
    networks: HashMap<NetworkId, Use>,
    given_up: u64,
}

/// Where a run is in [`HeldPackets::runs`].
fn place(name: u32) -> u32 {
    if name & HOLD_RUN == 0 {
        name
    } else {
        name >> HOLD_BITS << HOLD_BITS
    }
}

impl HeldPackets {
    /// Holds nothing yet.
    pub fn new(limits: HeldLimits) -> Self {
        Self {
            limits,
            next: 1,
            packets: BTreeMap::new(),
            runs: HashMap::new(),
            next_name: 0,
            all: Use::default(),
            networks: HashMap::new(),
            given_up: 0,
        }
    }

    /// The controller is told of a packet. Gives what the event says of it, never 0.
    pub fn event(&mut self, network: NetworkId, name: u32) -> u64 {
        let id = self.id(network, name);
        if let Some(held) = self.packets.get_mut(&id) {
            held.events += 1;
        }
        id
    }

    /// An output is to wait.
    pub fn output(&mut self, network: NetworkId, name: u32, output: Output) {
        let id = self.id(network, name);
        let Some(held) = self.packets.get_mut(&id) else {
            return;
        };
        let bytes = output.packet.len();
        held.outputs.push(output);
        self.all.bytes += bytes;
        self.networks.entry(network).or_default().bytes += bytes;
        self.keep_to_limits(network);
    }

    /// A group gets a copy. Gives the name that it is to have; `None`: the packet has been given up.
    pub fn copy(&mut self, network: NetworkId, name: u32) -> Option<u16> {
        let id = self.id(network, name);
        let held = self.packets.get_mut(&id)?;
        // There are fewer packets than names, and few copies of each: one is soon found.
        for _ in 0..HOLD_NAMES {
            self.next_name = self.next_name % HOLD_NAMES + 1;
            if !self.runs.contains_key(&self.next_name) {
                held.runs += 1;
                self.runs.insert(self.next_name, (self.next_name, id));
                return u16::try_from(self.next_name).ok();
            }
        }
        None
    }

    /// A run is over. Gives the outputs that are due.
    pub fn ended(&mut self, network: NetworkId, name: u32) -> Vec<Output> {
        let id = self.id(network, name);
        self.runs.remove(&place(name));
        if let Some(held) = self.packets.get_mut(&id) {
            held.runs -= 1;
        }
        self.due(id)
    }

    /// The coordinator has an event. Gives the outputs that are due.
    pub fn release(&mut self, id: u64) -> Vec<Output> {
        if let Some(held) = self.packets.get_mut(&id) {
            held.events = held.events.saturating_sub(1);
        }
        self.due(id)
    }

    /// Gives up all packets of a network, or all: their coordinator has gone.
    pub fn clear(&mut self, network: Option<NetworkId>) {
        let packets = self.packets.iter();
        let gone = packets.filter(|(_, h)| network.is_none_or(|n| h.network == n));
        let gone: Vec<u64> = gone.map(|(&id, _)| id).collect();
        for id in gone {
            self.give_up(id);
        }
    }

    /// Packets that were given up so far.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// The id of the packet that a run is about; a new one if it is new.
    fn id(&mut self, network: NetworkId, name: u32) -> u64 {
        match self.runs.get(&place(name)) {
            Some(&(there, id)) if there == name => return id,
            Some(&(_, id)) => self.give_up(id),
            None => {}
        }
        let id = self.next;
        self.next += 1;
        self.runs.insert(place(name), (name, id));
        let held = Held {
            network,
            runs: 1,
            events: 0,
            outputs: Vec::new(),
        };
        self.packets.insert(id, held);
        self.all.packets += 1;
        self.networks.entry(network).or_default().packets += 1;
        self.keep_to_limits(network);
        id
    }

    fn due(&mut self, id: u64) -> Vec<Output> {
        if self.packets.get(&id).is_some_and(Held::is_due) {
            return self.take(id).map_or_else(Vec::new, |held| held.outputs);
        }
        Vec::new()
    }

    fn keep_to_limits(&mut self, network: NetworkId) {
        loop {
            let of_network = self.networks.get(&network).copied().unwrap_or_default();
            let oldest = if of_network.exceeds(self.limits, 4) {
                self.packets.iter().find(|(_, h)| h.network == network)
            } else if self.all.exceeds(self.limits, 1) {
                self.packets.iter().next()
            } else {
                return;
            };
            let Some((&id, _)) = oldest else { return };
            self.give_up(id);
        }
    }

    fn give_up(&mut self, id: u64) {
        if self.take(id).is_some() {
            self.given_up += 1;
        }
    }

    fn take(&mut self, id: u64) -> Option<Held> {
        let held = self.packets.remove(&id)?;
        self.all.take(&held);
        if let Some(of_network) = self.networks.get_mut(&held.network) {
            of_network.take(&held);
            if of_network.packets == 0 {
                self.networks.remove(&held.network);
            }
        }
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use lime_core::{Epoch, PortId};

    use super::*;

    const NET: NetworkId = NetworkId(1);

    fn held(packets: usize) -> HeldPackets {
        HeldPackets::new(HeldLimits {
            packets,
            bytes: 4 * 1000,
        })
    }

    /// The `count`th packet of a CPU.
    fn run(cpu: u32, count: u32) -> u32 {
        HOLD_RUN | cpu << HOLD_BITS | count
    }

    fn output(port: u32, length: usize) -> Output {
        Output {
            tag: Tag {
                port: PortId(port),
                ..Tag::new(7, switch_abi::TUNNEL_DELIVER, PortId(port), Epoch(1))
            },
            packet: vec![0; length],
        }
    }

    fn ports(outputs: &[Output]) -> Vec<u32> {
        outputs.iter().map(|o| o.tag.port.0).collect()
    }

    #[test]
    fn outputs_wait_for_all_events_and_for_the_end_of_the_run() {
        let mut packets = held(40);
        packets.output(NET, run(0, 1), output(1, 60));
        let id = packets.event(NET, run(0, 1));
        assert_eq!(packets.event(NET, run(0, 1)), id);
        // Another CPU's packet meanwhile.
        let other = packets.event(NET, run(1, 1));
        assert_ne!(other, id);
        packets.output(NET, run(1, 1), output(9, 60));
        packets.output(NET, run(0, 1), output(2, 60));
        assert_eq!(ports(&packets.release(id)), []);
        assert_eq!(ports(&packets.ended(NET, run(0, 1))), []);
        assert_eq!(ports(&packets.release(id)), [1, 2]);
        assert_eq!(ports(&packets.release(id)), []);
        assert_eq!(ports(&packets.release(other)), []);
        assert_eq!(ports(&packets.ended(NET, run(1, 1))), [9]);
        assert_eq!((packets.given_up(), packets.all.bytes), (0, 0));
        assert!(packets.packets.is_empty() && packets.runs.is_empty());
        assert!(packets.networks.is_empty());
    }

    #[test]
    fn what_groups_tell_of_a_packet_is_waited_for() {
        let mut packets = held(40);
        packets.output(NET, run(0, 1), output(1, 60));
        let copy = packets.copy(NET, run(0, 1)).unwrap();
        assert_eq!(ports(&packets.ended(NET, run(0, 1))), []);
        let id = packets.event(NET, copy.into());
        packets.output(NET, copy.into(), output(2, 60));
        // A copy of the copy.
        let second = packets.copy(NET, copy.into()).unwrap();
        assert_ne!(second, copy);
        assert_eq!(ports(&packets.ended(NET, copy.into())), []);
        assert_eq!(ports(&packets.release(id)), []);
        assert_eq!(ports(&packets.ended(NET, second.into())), [1, 2]);
        assert!(packets.packets.is_empty() && packets.runs.is_empty());
    }

    #[test]
    fn without_events_nothing_waits_longer_than_the_run() {
        let mut packets = held(40);
        packets.output(NET, run(0, 1), output(1, 60));
        assert_eq!(ports(&packets.ended(NET, run(0, 1))), [1]);
    }

    #[test]
    fn the_oldest_are_given_up_and_what_comes_of_them_later_too() {
        let mut packets = held(8);
        let first = packets.event(NET, run(0, 1));
        let second = packets.event(NET, run(1, 1));
        assert!(packets.ended(NET, run(1, 1)).is_empty());
        packets.event(NET, run(2, 1));
        // Two are a network's share.
        assert_eq!(packets.given_up(), 1);
        packets.output(NET, run(0, 1), output(1, 60));
        assert_eq!(packets.copy(NET, run(0, 1)), None);
        assert_eq!(ports(&packets.ended(NET, run(0, 1))), []);
        assert_eq!(ports(&packets.release(first)), []);
        // Another network has its own share, and bytes count too.
        packets.event(NetworkId(2), run(3, 1));
        assert!(packets.packets.contains_key(&second));
        packets.output(NetworkId(2), run(3, 1), output(1, 1001));
        assert_eq!(packets.given_up(), 2);
        packets.clear(Some(NET));
        assert_eq!(packets.given_up(), 4);
        assert!(packets.packets.is_empty() && packets.networks.is_empty());
    }

    #[test]
    fn a_run_whose_end_was_lost_is_over_when_its_cpu_has_another() {
        let mut packets = held(40);
        let lost = packets.event(NET, run(0, 1));
        packets.output(NET, run(0, 1), output(1, 60));
        packets.output(NET, run(0, 2), output(2, 60));
        assert_eq!(packets.given_up(), 1);
        assert_eq!(ports(&packets.release(lost)), []);
        assert_eq!(ports(&packets.ended(NET, run(0, 2))), [2]);
    }
}
