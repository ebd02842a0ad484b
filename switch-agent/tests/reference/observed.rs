//! What the kernel made of a frame, in the reference's words.

use std::collections::BTreeMap;

use lime_core::{PortId, RuleId};
use lime_reference::{Count, Counted, Event, Sent};

/// Everything that a frame caused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub sent: Vec<Sent>,
    pub events: Vec<Event>,
    pub counts: BTreeMap<Counted, Count>,
    pub ports: BTreeMap<PortId, Counters>,
}

/// A port's counters: received and sent, and drops by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub received: Count,
    pub sent: Count,
    pub drops: BTreeMap<&'static str, u64>,
}

/// All counters of a network at one time.
#[derive(Clone, Default)]
pub struct Readings {
    pub rules: BTreeMap<RuleId, Count>,
    pub ports: BTreeMap<PortId, Counters>,
}

/// In the place of a VLAN tag that is there and can not be seen.
pub const HIDDEN_TAG: [u8; 4] = [0xff; 4];
/// In the place of a queue that can not be seen.
pub const HIDDEN_QUEUE: u32 = u32::MAX;

impl Observed {
    /// Puts in what can not be seen, from frames that are the same otherwise.
    pub fn fill_hidden(&mut self, like: &Observed) {
        // Which of the found frames each of the others is: augmenting paths, since one may be several.
        let mut taken = vec![None; like.sent.len()];
        for i in 0..self.sent.len() {
            assign(
                &self.sent,
                &like.sent,
                i,
                &mut vec![false; taken.len()],
                &mut taken,
            );
        }
        for (other, found) in like.sent.iter().zip(taken) {
            if let Some(i) = found {
                self.sent[i] = other.clone();
            }
        }
    }
}

/// Finds a frame for number `i`, if need be by finding another for the one that has it.
fn assign(
    found: &[Sent],
    others: &[Sent],
    i: usize,
    tried: &mut Vec<bool>,
    taken: &mut Vec<Option<usize>>,
) -> bool {
    let fitting: Vec<usize> = (0..others.len())
        .filter(|&at| !tried[at] && may_be(&found[i], &others[at]))
        .collect();
    // Of many copies that are alike, the first that is free is as good as any.
    if let Some(&at) = fitting.iter().find(|&&at| taken[at].is_none()) {
        taken[at] = Some(i);
        return true;
    }
    for at in fitting {
        let Some(by) = taken[at].filter(|_| !tried[at]) else {
            continue;
        };
        tried[at] = true;
        if assign(found, others, by, tried, taken) {
            taken[at] = Some(i);
            return true;
        }
    }
    false
}

/// Whether what is seen of a frame is that of another.
fn may_be(found: &Sent, other: &Sent) -> bool {
    let (f, o) = (&found.frame, &other.frame);
    let tag = f.get(12..16) == Some(&HIDDEN_TAG);
    let same = match o.get(12..14) {
        Some([0x81, 0] | [0x88, 0xa8]) if tag && f.len() == o.len() => {
            f[..12] == o[..12] && f[16..] == o[16..]
        }
        _ => f == o,
    };
    same && found.port == other.port && [HIDDEN_QUEUE, other.queue].contains(&found.queue)
}

impl Counters {
    /// What was counted since; None: nothing.
    pub fn since(&self, before: &Counters) -> Option<Counters> {
        let drops = self
            .drops
            .iter()
            .map(|(&name, &n)| (name, n - before.drops.get(name).unwrap_or(&0)));
        (self != before).then(|| Counters {
            received: since(self.received, before.received).unwrap_or_default(),
            sent: since(self.sent, before.sent).unwrap_or_default(),
            drops: drops.filter(|&(_, n)| n != 0).collect(),
        })
    }
}

/// What was counted between two readings; None: nothing.
pub fn since(now: Count, before: Count) -> Option<Count> {
    (now != before).then(|| Count {
        packets: now.packets - before.packets,
        bytes: now.bytes - before.bytes,
    })
}
