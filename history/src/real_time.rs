//! Strict networks: what was sent after something had come out, anywhere, is handled behind it.

use crate::check::{Because, Graph, Node};
use crate::record::{Nanos, Told};

/// What may lie between two stamps of one moment, nanoseconds.
const SLACK: Nanos = 50_000;

impl Graph<'_> {
    /// A packet is handled after it was sent and before anything of it is seen. So whatever was seen before a packet was sent is in front of it.
    pub(crate) fn order_in_time(&mut self) {
        let (outs, sent) = (self.came_out(), self.sent());
        let mut outs = outs.into_iter().peekable();
        let mut moment: Option<u32> = None;
        for (at, step) in sent {
            let mut before: Vec<u32> = Vec::new();
            while let Some((_, out)) = outs.next_if(|(seen, _)| seen + SLACK < at) {
                before.push(out);
            }
            if !before.is_empty() {
                before.extend(moment);
                let now = self.add(Node::Moment { at }, (0, Because::Nothing), u32::MAX);
                self.edges.extend(before.into_iter().map(|b| (b, now)));
                moment = Some(now);
            }
            self.edges.extend(moment.map(|m| (m, step)));
        }
    }

    /// Steps of which something was seen, and when.
    fn came_out(&self) -> Vec<(Nanos, u32)> {
        let mut outs = Vec::new();
        for (end, host) in self.history.ends.iter().enumerate() {
            let Some(switch) = self.switch_of(end) else {
                continue;
            };
            for (index, seen) in host.seen.iter().enumerate() {
                let step = self.steps.got[end][index].and_then(|n| self.at(n, switch));
                outs.extend(step.map(|s| (seen.at, s)));
            }
        }
        for (n, channel) in self.history.channels.iter().enumerate() {
            for (index, (at, told)) in channel.seen.iter().enumerate() {
                if let Told::Event { switch, .. } = *told {
                    let step = self.steps.told[n][index].and_then(|i| self.at(i, switch));
                    outs.extend(step.map(|s| (*at, s)));
                }
            }
        }
        outs.sort_unstable();
        outs
    }

    /// First steps of packets, and when these were sent.
    fn sent(&self) -> Vec<(Nanos, u32)> {
        let mut sent = Vec::new();
        for (n, instance) in self.steps.instances.iter().enumerate() {
            let mut stops = 0..instance.stops.len() as u32;
            let first = stops.find_map(|s| self.of.get(&(n as u32, s)));
            sent.extend(first.map(|step| (instance.at, *step)));
        }
        sent.sort_unstable();
        sent
    }
}
