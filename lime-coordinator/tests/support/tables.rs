//! The tables of a fake agent, and what its process does with each message of the coordinator.

use std::collections::{BTreeMap, BTreeSet};

use lime_proto::v1;
use v1::agent_message::Message as Up;
use v1::coordinator_message::Message as Down;

#[derive(Clone, Debug)]
pub struct FakeRule {
    pub from: u32,
    pub to: u32,
    pub priority: u32,
    pub packets: u64,
    /// Since the last match; none: never.
    pub idle_ms: Option<u64>,
    /// Seconds.
    pub idle_timeout: u32,
}

#[derive(Clone, Debug, Default)]
pub struct FakeNetwork {
    pub clock: u32,
    pub staged: u32,
    pub fresh: bool,
    pub config: v1::Configure,
    pub rules: BTreeMap<u32, BTreeMap<u64, FakeRule>>,
    pub port_rx: BTreeMap<u32, u64>,
    pub paused: BTreeSet<u32>,
    pub running: BTreeSet<u32>,
}

#[derive(Debug, Default)]
pub struct Tables {
    pub networks: BTreeMap<u32, FakeNetwork>,
    pub packet_outs: Vec<v1::PacketOutCommand>,
    pub released: Vec<u64>,
    pub free_rules: u64,
    /// Rules beyond this are refused with NO_SPACE although they were announced as free.
    pub really_free: u64,
    pub devices_missing: BTreeSet<String>,
    /// Requests are not answered from this name on: the agent "hangs" there and its stream breaks.
    pub die_at: Option<&'static str>,
    /// As `die_at`, but the request is carried out, and the agent that comes back is a new process.
    pub die_after: Option<&'static str>,
    /// Agent processes that died like that.
    pub deaths: u64,
    /// Fail a request of this kind with INTERNAL, this often.
    pub fail: BTreeMap<&'static str, u32>,
    pub seen: Vec<&'static str>,
    pub hold_acks: bool,
    /// Stages are not carried out but kept.
    pub hold_stages: bool,
    pub held_stages: Vec<v1::Stage>,
    /// Questions whether rules are idle are not answered but kept.
    pub hold_votes: bool,
    pub asked: Vec<v1::AskIdle>,
    /// Rules that are not to be matched.
    pub promised: BTreeSet<u64>,
    pub violations: Vec<String>,
    /// The lease's length, milliseconds, and the last question.
    pub lease: (u64, u64),
    /// The snapshot under way.
    pub snapshot: u64,
}

pub fn kind_of(message: &Down) -> &'static str {
    match message {
        Down::Welcome(_) => "welcome",
        Down::Configure(_) => "configure",
        Down::Forget(_) => "forget",
        Down::Stage(_) => "stage",
        Down::Activate(_) => "activate",
        Down::PacketOut(_) => "packet_out",
        Down::ReleaseHeld(_) => "release_held",
        Down::AskIdle(_) => "ask_idle",
        Down::LiftPromises(_) => "lift_promises",
        Down::StandingPromises(_) => "standing_promises",
        Down::ReadCounters(_) => "read_counters",
        Down::ReadClock(_) => "read_clock",
        Down::PausePort(_) => "pause_port",
        Down::ResumePort(_) => "resume_port",
        Down::Snapshot(_) => "snapshot",
        Down::CheckDevice(_) => "check_device",
        Down::Collect(_) => "collect",
        Down::Lease(_) => "lease",
        Down::EnterRelay(_) => "enter_relay",
    }
}

pub fn counters_of(id: u64, rule: &FakeRule) -> v1::RuleCounters {
    v1::RuleCounters {
        rule_id: id,
        packets: rule.packets,
        bytes: rule.packets * 100,
        idle_ms: rule.idle_ms,
    }
}

fn done(request_id: u64) -> v1::Done {
    v1::Done {
        request_id,
        error: None,
        result: None,
    }
}

fn error(request_id: u64, code: v1::agent_error::Code, message: &str) -> Vec<Up> {
    vec![Up::Done(v1::Done {
        error: Some(v1::AgentError {
            code: code.into(),
            message: message.into(),
        }),
        ..done(request_id)
    })]
}

impl Tables {
    fn violation(&mut self, what: String) {
        tracing::error!("violation: {what}");
        self.violations.push(what);
    }

    fn fails(&mut self, kind: &'static str) -> bool {
        match self.fail.get_mut(kind) {
            Some(n) if *n > 0 => {
                *n -= 1;
                true
            }
            _ => false,
        }
    }

    pub fn renewal(&mut self) -> Option<Up> {
        let (length, number) = &mut self.lease;
        *number += 1;
        let number = *number;
        (*length != 0).then_some(Up::RenewLease(v1::RenewLease { number }))
    }

    pub fn handle(&mut self, message: Down) -> Vec<Up> {
        use v1::agent_error::Code;
        let kind = kind_of(&message);
        match message {
            Down::Welcome(w) => {
                for n in w.forget {
                    self.networks.remove(&n);
                }
                self.lease = (w.lease_ms, 0);
                self.renewal().into_iter().collect()
            }
            Down::Lease(l) => {
                if l.number > self.lease.1 || l.milliseconds != self.lease.0 {
                    let text = format!("{l:?} for {:?}", self.lease);
                    self.violation(text);
                }
                Vec::new()
            }
            Down::EnterRelay(r) => vec![Up::Relaying(v1::Relaying {
                network: r.network,
                epoch: r.epoch,
            })],
            Down::Configure(c) => {
                if self.fails(kind) {
                    return error(c.request_id, Code::Internal, "told to fail");
                }
                let id = c.request_id;
                let known = self.networks.contains_key(&c.network);
                let n = self.networks.entry(c.network).or_default();
                n.fresh |= !known;
                if c.generation <= n.config.generation {
                    let text = format!("generation {} after {}", c.generation, n.config.generation);
                    self.violation(text);
                    return Vec::new();
                }
                if c.min_clock > n.staged {
                    let text = format!("min_clock {} above staged {}", c.min_clock, n.staged);
                    self.violation(text);
                    return Vec::new();
                }
                n.clock = n.clock.max(c.min_clock);
                for s in &c.switches {
                    if !s.instance {
                        n.rules.remove(&s.switch_id);
                    }
                }
                for p in &c.ports {
                    if let Some(v1::port_state::Place::Local(_)) = p.place
                        && !n.paused.contains(&p.port_id)
                    {
                        n.running.insert(p.port_id);
                    }
                }
                n.config = c;
                vec![Up::Done(done(id))]
            }
            Down::Forget(f) => {
                self.networks.remove(&f.network);
                vec![Up::Done(done(f.request_id))]
            }
            Down::Stage(s) => self.stage(s),
            Down::Activate(a) => {
                let hold = self.hold_acks;
                let Some(n) = self.networks.get_mut(&a.network) else {
                    return Vec::new();
                };
                if a.epoch > n.staged {
                    let text = format!("activate {} above staged {}", a.epoch, n.staged);
                    self.violation(text);
                    return Vec::new();
                }
                n.clock = n.clock.max(a.epoch);
                if hold {
                    return Vec::new();
                }
                // More than it was asked for, and again and again: the coordinator must know what is new to it.
                let rules = n.rules.values().flatten();
                let ended = rules.filter(|(_, r)| r.to != 0 && r.to <= a.epoch);
                vec![
                    Up::EndedRules(v1::EndedRules {
                        network: a.network,
                        rules: ended.map(|(id, r)| counters_of(*id, r)).collect(),
                    }),
                    Up::Activated(v1::Activated {
                        network: a.network,
                        epoch: a.epoch,
                    }),
                ]
            }
            Down::PacketOut(p) => {
                let id = p.request_id;
                if !self.packet_outs.iter().any(|q| q.request_id == id) {
                    self.packet_outs.push(p);
                }
                vec![Up::Done(done(id))]
            }
            Down::ReleaseHeld(r) => {
                self.released.extend(r.held_ids);
                Vec::new()
            }
            Down::AskIdle(ask) => {
                let rules = self.networks.get(&ask.network).into_iter();
                let here = rules.flat_map(|n| n.rules.values().flat_map(|r| r.keys()));
                let here: BTreeSet<u64> = here.copied().collect();
                let asked = ask.rule_ids.iter().filter(|id| here.contains(id));
                self.promised.extend(asked);
                if self.hold_votes {
                    self.asked.push(ask);
                    return Vec::new();
                }
                vec![self.vote(&ask)]
            }
            Down::LiftPromises(lift) => {
                for id in lift.rule_ids {
                    self.promised.remove(&id);
                }
                Vec::new()
            }
            Down::StandingPromises(standing) => {
                assert!(!standing.more, "few stand in these tests");
                self.promised = standing.rule_ids.into_iter().collect();
                Vec::new()
            }
            Down::ReadCounters(r) => self.counters(&r),
            Down::ReadClock(r) => {
                let clock = self.networks.get(&r.network).map_or(0, |n| n.clock);
                vec![Up::Done(v1::Done {
                    result: Some(v1::done::Result::Clock(clock)),
                    ..done(r.request_id)
                })]
            }
            Down::PausePort(p) => {
                if self.fails(kind) {
                    return error(p.request_id, Code::Internal, "told to fail");
                }
                let Some(n) = self.networks.get_mut(&p.network) else {
                    return error(p.request_id, Code::NotFound, "no network");
                };
                n.running.remove(&p.port_id);
                n.paused.insert(p.port_id);
                let clock = n.clock;
                vec![Up::Done(v1::Done {
                    result: Some(v1::done::Result::Clock(clock)),
                    ..done(p.request_id)
                })]
            }
            Down::ResumePort(p) => {
                if self.fails(kind) {
                    return error(p.request_id, Code::Internal, "told to fail");
                }
                let Some(n) = self.networks.get_mut(&p.network) else {
                    return error(p.request_id, Code::NotFound, "no network");
                };
                if p.min_clock > n.staged {
                    let text = format!("resume at {} above staged {}", p.min_clock, n.staged);
                    self.violation(text);
                    return Vec::new();
                }
                n.clock = n.clock.max(p.min_clock);
                n.paused.remove(&p.port_id);
                n.running.insert(p.port_id);
                vec![Up::Done(done(p.request_id))]
            }
            Down::Snapshot(s) => {
                let Some(n) = self.networks.get_mut(&s.network) else {
                    return error(s.request_id, Code::NotFound, "no network");
                };
                if s.switch_id == 0 {
                    if s.epoch < n.staged {
                        let text = format!("snapshot at {} below staged {}", s.epoch, n.staged);
                        self.violation(text);
                        return Vec::new();
                    }
                    n.staged = s.epoch;
                    n.fresh = false;
                } else {
                    if n.staged != s.epoch {
                        let text = format!("snapshot at {} and staged {}", s.epoch, n.staged);
                        self.violation(text);
                        return Vec::new();
                    }
                    let rules = n.rules.entry(s.switch_id).or_default();
                    if self.snapshot != s.request_id {
                        // What there was is replaced.
                        rules.clear();
                        self.snapshot = s.request_id;
                    }
                    for r in s.rules {
                        let idle_timeout = r.rule.as_ref().map_or(0, |r| r.idle_timeout);
                        let rule = FakeRule {
                            from: r.valid_from,
                            to: r.valid_to,
                            priority: r.rule.map_or(0, |r| r.priority),
                            packets: 0,
                            idle_ms: None,
                            idle_timeout,
                        };
                        rules.insert(r.rule_id, rule);
                    }
                }
                if s.more {
                    return Vec::new();
                }
                if self.fails(kind) {
                    return error(s.request_id, Code::NoSpace, "told to fail");
                }
                vec![Up::Done(done(s.request_id))]
            }
            Down::CheckDevice(c) => {
                if self.devices_missing.contains(&c.name) {
                    let text = format!("device {} does not exist", c.name);
                    return error(c.request_id, Code::NotFound, &text);
                }
                vec![Up::Done(done(c.request_id))]
            }
            Down::Collect(c) => {
                if let Some(n) = self.networks.get_mut(&c.network) {
                    for rules in n.rules.values_mut() {
                        rules.retain(|_, r| r.to == 0 || r.to > c.epoch);
                    }
                }
                Vec::new()
            }
        }
    }

    pub fn stage(&mut self, s: v1::Stage) -> Vec<Up> {
        if self.hold_stages {
            self.held_stages.push(s);
            return Vec::new();
        }
        let network = s.network;
        let really_free = self.really_free;
        let Some(n) = self.networks.get_mut(&network) else {
            return Vec::new();
        };
        let staged = |epoch| {
            Up::Staged(v1::Staged {
                network,
                epoch,
                error: None,
            })
        };
        if s.replace {
            for rules in n.rules.values_mut() {
                rules.retain(|_, r| r.from != s.epoch);
                for r in rules.values_mut().filter(|r| r.to == s.epoch) {
                    r.to = 0;
                }
            }
            if n.clock >= s.epoch {
                self.violation(format!("replaces epoch {} that is activated", s.epoch));
                return Vec::new();
            }
            n.staged = n.staged.max(s.epoch);
            return vec![staged(s.epoch)];
        }
        if s.epoch <= n.staged {
            return if s.more {
                Vec::new()
            } else {
                vec![staged(n.staged)]
            };
        }
        if s.epoch != n.staged + 1 {
            let text = format!("stage {} after {}", s.epoch, n.staged);
            self.violation(text);
            return Vec::new();
        }
        let held: usize = n.rules.values().map(BTreeMap::len).sum();
        if !s.add.is_empty() && (held + s.add.len()) as u64 > really_free {
            return vec![Up::Staged(v1::Staged {
                network,
                epoch: s.epoch,
                error: Some(v1::AgentError {
                    code: v1::agent_error::Code::NoSpace.into(),
                    message: "no room".into(),
                }),
            })];
        }
        let mut unknown = None;
        if s.switch_id != 0 {
            let instance = n
                .config
                .switches
                .iter()
                .any(|c| c.switch_id == s.switch_id && c.instance);
            if !instance {
                unknown = Some(format!(
                    "rules of switch {} without an instance",
                    s.switch_id
                ));
            }
            let rules = n.rules.entry(s.switch_id).or_default();
            for add in s.add {
                let idle_timeout = add.rule.as_ref().map_or(0, |r| r.idle_timeout);
                let rule = FakeRule {
                    from: s.epoch,
                    to: 0,
                    priority: add.rule.map_or(0, |r| r.priority),
                    packets: 0,
                    idle_ms: None,
                    idle_timeout,
                };
                rules.insert(add.rule_id, rule);
            }
            for id in s.remove {
                match rules.get_mut(&id) {
                    Some(r) => r.to = s.epoch,
                    None => unknown = Some(format!("removes rule {id} that is not here")),
                }
            }
        }
        if s.more {
            return Vec::new();
        }
        n.staged = s.epoch;
        if let Some(text) = unknown {
            self.violation(text);
        }
        vec![staged(s.epoch)]
    }

    /// Answers a question whether rules are idle.
    pub fn vote(&mut self, ask: &v1::AskIdle) -> Up {
        let mut vote = v1::IdleVote {
            network: ask.network,
            round: ask.round,
            ..Default::default()
        };
        let rules = self.networks.get(&ask.network).into_iter();
        for (id, rule) in rules.flat_map(|n| n.rules.values().flatten()) {
            if !ask.rule_ids.contains(id) || !self.promised.contains(id) {
                // Lifted meanwhile.
                continue;
            }
            let timeout = u64::from(rule.idle_timeout) * 1000;
            if rule.idle_ms.is_none_or(|idle| idle >= timeout) {
                vote.promised.push(counters_of(*id, rule));
            } else {
                self.promised.remove(id);
                vote.used.push(counters_of(*id, rule));
            }
        }
        Up::IdleVote(vote)
    }

    fn counters(&self, r: &v1::ReadCounters) -> Vec<Up> {
        let mut counters = v1::Counters::default();
        if let Some(n) = self.networks.get(&r.network) {
            if r.rules {
                let all = n.rules.iter();
                let some = all.filter(|(s, _)| r.switch_id == 0 || r.switch_id == **s);
                counters.rules = some
                    .flat_map(|(_, rules)| rules.iter())
                    .filter(|(id, _)| r.rule_ids.is_empty() || r.rule_ids.contains(id))
                    .map(|(id, rule)| counters_of(*id, rule))
                    .collect();
            }
            counters.ports = n
                .port_rx
                .iter()
                .map(|(id, n)| v1::PortCountersOf {
                    port_id: *id,
                    counters: Some(v1::PortCounters {
                        rx_packets: *n,
                        rx_bytes: *n * 100,
                        ..Default::default()
                    }),
                    queues: Vec::new(),
                })
                .collect();
        }
        vec![Up::Done(v1::Done {
            result: Some(v1::done::Result::Counters(counters)),
            ..done(r.request_id)
        })]
    }
}
