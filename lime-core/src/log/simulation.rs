//! Random interleavings of simulated agents against the sequencer. Every failure names its seed; `SEED=n` repeats that one.
//!
//! The agents are what rules 2, 3, 7, 9 and 18 say of them; the checks are the "assert in production" list and rules 7, 8, 10.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::tests::adds;
use super::*;
use crate::{Consistency, Epoch, HostId};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

#[derive(Clone, Debug)]
enum Down {
    Stage(Arc<Entry>, bool),
    Activate(Epoch),
}

#[derive(Clone, Debug)]
enum Up {
    Staged(Epoch),
    Failed(Epoch),
    Activated(Epoch),
    Event(Epoch, u64),
}

#[derive(Debug, Default)]
struct Agent {
    clock: Epoch,
    staged: Epoch,
    /// What each staged epoch is: whether it has contents.
    content: BTreeMap<u32, bool>,
    connected: bool,
    down: VecDeque<Down>,
    up: VecDeque<Up>,
}

struct World {
    seq: Sequencer<(Epoch, u64)>,
    agents: BTreeMap<HostId, Agent>,
    random: Random,
    log: Vec<Arc<Entry>>,
    to_log: VecDeque<Vec<Arc<Entry>>>,
    released: Vec<(Epoch, u64)>,
    events: u64,
    next_rule: u64,
    submitted: Vec<Ticket>,
    ended: BTreeSet<Ticket>,
    freeze: Option<Ticket>,
    failures: bool,
    failed: bool,
}

impl World {
    fn new(seed: u64, failures: bool) -> Self {
        Self {
            seq: Sequencer::new(Consistency::Causal),
            agents: BTreeMap::new(),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            log: Vec::new(),
            to_log: VecDeque::new(),
            released: Vec::new(),
            events: 0,
            next_rule: 1,
            submitted: Vec::new(),
            ended: BTreeSet::new(),
            freeze: None,
            failures,
            failed: false,
        }
    }

    fn carry_out(&mut self) {
        for output in self.seq.outputs() {
            match output {
                Output::Log(entries) => self.to_log.push_back(entries),
                Output::Stage {
                    host,
                    entry,
                    replace,
                } => {
                    let logged = self.log.iter().any(|e| e.epoch == entry.epoch);
                    assert!(logged, "staged before it was logged");
                    self.send(host, Down::Stage(entry, replace));
                }
                Output::Activate { host, epoch, .. } => {
                    // Rule 8.
                    for (h, agent) in &self.agents {
                        let since = self.seq.member(*h).and_then(|m| m.since);
                        let full = since.is_some_and(|s| s.le(epoch));
                        let has = epoch.le(agent.staged);
                        assert!(
                            !full || has,
                            "activates {epoch}, which {h} has not staged: {:?}, {:?}",
                            self.seq.member(*h),
                            agent
                        );
                    }
                    self.send(host, Down::Activate(epoch));
                }
                Output::Release((version, n)) => {
                    // Rule 10.
                    let before = self.released.last().map_or(Epoch::ZERO, |r| r.0);
                    assert!(before.le(version), "released {version} after {before}");
                    self.released.push((version, n));
                }
                Output::Completed { ticket, epoch } => {
                    assert!(epoch.le(self.seq.acknowledged()));
                    assert!(self.ended.insert(ticket), "completed twice");
                }
                Output::Failed { ticket, .. } => {
                    assert!(self.ended.insert(ticket), "completed twice");
                }
                Output::Voided(entries) => {
                    for entry in entries {
                        for (h, agent) in &self.agents {
                            assert!(agent.clock.lt(entry.epoch), "{h} used what is voided");
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, host: HostId, message: Down) {
        if let Some(agent) = self.agents.get_mut(&host).filter(|a| a.connected) {
            agent.down.push_back(message);
        }
    }

    fn any_host(&mut self) -> Option<HostId> {
        let n = self.agents.len();
        if n == 0 {
            return None;
        }
        let i = self.random.below(n);
        self.agents.keys().nth(i).copied()
    }

    fn step(&mut self) {
        match self.random.below(14) {
            0 => {
                let id = self.next_rule;
                self.next_rule += 1;
                let ticket = self.seq.submit(adds([id]));
                self.submitted.push(ticket);
            }
            1 => {
                let joined = self.agents.len() < 4 && self.random.chance(20);
                let host = HostId(u32::try_from(self.agents.len()).unwrap() + 1);
                if joined {
                    let at = self.seq.add_learner(host);
                    let agent = Agent {
                        staged: at,
                        connected: true,
                        ..Default::default()
                    };
                    self.agents.insert(host, agent);
                    let ticket = self.seq.submit(EntryKind::Join { switch: None, host });
                    self.submitted.push(ticket);
                }
            }
            2 => {
                if let Some(entries) = self.to_log.pop_front() {
                    let last = entries.last().unwrap().epoch;
                    self.log.extend(entries);
                    self.seq.set_logged(last);
                }
            }
            3 | 4 => self.packet(),
            5 if self.random.chance(10) => self.reconnect(),
            6 if self.random.chance(20) => match self.freeze.take() {
                Some(ticket) => self.seq.unfreeze(ticket),
                None => self.freeze = Some(self.seq.freeze()),
            },
            7..=9 => self.deliver_down(),
            _ => self.deliver_up(),
        }
        self.carry_out();
        self.check();
    }

    /// A packet is processed somewhere, makes an event, and may go on in a tunnel to another host (rule 2).
    fn packet(&mut self) {
        let Some(host) = self.any_host() else { return };
        let full = self.seq.member(host).is_some_and(|m| m.since.is_some());
        let agent = self.agents.get_mut(&host).unwrap();
        let joined = self.seq.member(host).and_then(|m| m.since);
        if !full || !joined.is_some_and(|j| j.le(agent.clock)) {
            return;
        }
        let version = agent.clock;
        self.events += 1;
        agent.up.push_back(Up::Event(version, self.events));
        let Some(to) = self.any_host() else { return };
        let peer = self.agents.get_mut(&to).unwrap();
        // Rule 3.
        if version.le(peer.staged) {
            peer.clock = peer.clock.max(version);
        }
    }

    /// A stream breaks and opens again; the tables stay (rule 18).
    fn reconnect(&mut self) {
        let Some(host) = self.any_host() else { return };
        if self.seq.member(host).is_none_or(|m| m.since.is_none()) {
            return;
        }
        self.seq.disconnected(host);
        let agent = self.agents.get_mut(&host).unwrap();
        agent.down.clear();
        // Events not sent yet wait in the ring; acknowledgements under way are lost.
        agent.up.retain(|m| matches!(m, Up::Event(..)));
        let (staged, clock) = (agent.staged, agent.clock);
        agent.connected = true;
        let resume = self.seq.connected(host, staged, clock).unwrap();
        assert_eq!(resume, Resume::FromLog);
    }

    fn deliver_down(&mut self) {
        let Some(host) = self.any_host() else { return };
        // What a host that has just joined is sent of before has no contents for it.
        let since = self.seq.member(host).and_then(|m| m.since);
        let fails = self.failures && self.random.chance(3);
        let agent = self.agents.get_mut(&host).unwrap();
        match agent.down.pop_front() {
            Some(Down::Stage(entry, replace)) => {
                let content = matches!(entry.kind, EntryKind::Update { .. });
                if replace {
                    assert!(agent.clock.lt(entry.epoch), "replaces what is in use");
                    agent.content.insert(entry.epoch.0, content);
                    agent.staged = agent.staged.max(entry.epoch);
                } else if agent.staged.lt(entry.epoch) {
                    if entry.epoch != agent.staged.next() {
                        // Behind one that failed: refused, and sent again.
                        assert!(self.failed, "a gap at {host}");
                        agent.up.push_back(Up::Failed(entry.epoch));
                        return;
                    }
                    if fails && content && since.is_some_and(|s| s.le(entry.epoch)) {
                        self.failed = true;
                        agent.up.push_back(Up::Failed(entry.epoch));
                        return;
                    }
                    agent.content.insert(entry.epoch.0, content);
                    agent.staged = entry.epoch;
                }
                agent.up.push_back(Up::Staged(entry.epoch));
            }
            Some(Down::Activate(epoch)) => {
                assert!(epoch.le(agent.staged), "clock <= staged");
                agent.clock = agent.clock.max(epoch);
                // Rule 9: after all events of older clocks, which are in the stream.
                agent.up.push_back(Up::Activated(epoch));
            }
            None => {}
        }
    }

    fn deliver_up(&mut self) {
        let Some(host) = self.any_host() else { return };
        let agent = self.agents.get_mut(&host).unwrap();
        let Some(message) = agent.up.pop_front() else {
            return;
        };
        match message {
            Up::Staged(epoch) => self.seq.staged(host, epoch).unwrap(),
            Up::Failed(epoch) => self
                .seq
                .stage_failed(host, epoch, "full".to_owned())
                .unwrap(),
            Up::Activated(epoch) => self.seq.acknowledge(host, epoch).unwrap(),
            Up::Event(version, n) => {
                let event = (version, n);
                self.seq.event(host, version, None, event).unwrap();
            }
        }
    }

    fn check(&self) {
        assert!(self.seq.acknowledged().le(self.seq.activated()));
        assert!(self.seq.activated().le(self.seq.logged()));
        for (host, agent) in &self.agents {
            assert!(agent.clock.le(agent.staged), "clock above staged at {host}");
        }
    }

    /// Lets everything come to rest: all submissions end, all events are released, all hosts agree.
    fn rest(&mut self) {
        if let Some(ticket) = self.freeze.take() {
            self.seq.unfreeze(ticket);
        }
        self.failures = false;
        self.carry_out();
        for _ in 0..4_000 {
            if let Some(entries) = self.to_log.pop_front() {
                let last = entries.last().unwrap().epoch;
                self.log.extend(entries);
                self.seq.set_logged(last);
            }
            self.deliver_down();
            self.deliver_up();
            self.carry_out();
            self.check();
        }
        let open = self.submitted.iter().filter(|t| !self.ended.contains(t));
        assert_eq!(open.count(), 0, "some submissions never ended");
        assert_eq!(self.released.len() as u64, self.events, "lost events");
        assert_eq!(self.seq.acknowledged(), self.seq.last());
        let mut contents = self.agents.values().map(|a| {
            let kept = a.content.iter().filter(|(_, c)| **c);
            kept.map(|(e, _)| *e).collect::<Vec<_>>()
        });
        if let Some(first) = contents.next() {
            for other in contents {
                // Later joiners have a suffix of what the first has.
                let from = other.first().copied().unwrap_or(u32::MAX);
                let same: Vec<u32> = first.iter().copied().filter(|e| *e >= from).collect();
                assert_eq!(same, other, "hosts hold different epochs");
            }
        }
    }
}

fn run(failures: bool) {
    let only: Option<u64> = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    for seed in only.map_or(1..=200, |s| s..=s) {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, failures);
            for _ in 0..600 {
                world.step();
            }
            world.rest();
        });
        if let Err(panic) = result {
            eprintln!("seed {seed}, failures {failures}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn invariants_hold_in_random_interleavings() {
    run(false);
}

#[test]
fn invariants_hold_when_hosts_cannot_stage() {
    run(true);
}
