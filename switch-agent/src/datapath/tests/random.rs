//! Random histories against a naive model.

use std::collections::BTreeMap;

use lime_core::Epoch;
use lime_core::flow::Field;
use switch_abi::FlowKey;

use super::super::compile::compile_match;
use super::super::{Datapath, SnapshotRule};
use super::*;

/// Xorshift: a failure is replayed by its seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    pub(super) fn rule(&mut self) -> Rule {
        let mut fields = Vec::new();
        if self.below(2) == 0 {
            fields.push(field(Field::InPort, u128::from(self.below(3) + 1)));
        }
        if self.below(2) == 0 {
            let mask = [0xffff_ffff_ffff, 0xff, 0x1][self.below(3) as usize];
            fields.push(FieldMatch {
                field: Field::EthDst,
                value: u128::from(self.below(4)) & mask,
                mask,
            });
        }
        if self.below(2) == 0 {
            fields.push(field(Field::EthType, 0x800));
            let mask = (u32::MAX << self.below(4)).into();
            fields.push(FieldMatch {
                field: Field::Ipv4Dst,
                value: u128::from(self.below(8)) & mask,
                mask,
            });
        }
        Rule {
            table: self.below(2) as u8,
            ..rule(self.below(6) as u16, fields, self.below(5) as u32 + 1)
        }
    }

    pub(super) fn key(&mut self) -> FlowKey {
        let mut key = FlowKey {
            in_port: self.below(4) as u32,
            ..FlowKey::default()
        };
        key.eth_dst[5] = self.below(5) as u8;
        if self.below(4) != 0 {
            key.eth_type = [8, 0];
            key.ip_dst[3] = self.below(9) as u8;
        }
        key
    }
}

#[derive(Clone)]
struct Version {
    switch: SwitchId,
    rule: Rule,
    from: u32,
    to: Option<u32>,
}

impl Version {
    fn visible(&self, clock: u32) -> bool {
        self.from <= clock && self.to.is_none_or(|to| clock < to)
    }
}

#[derive(Default, Clone)]
struct Model {
    rules: BTreeMap<u64, Version>,
    clock: u32,
    staged: u32,
    next_id: u64,
}

impl Model {
    fn check(&self, dp: &Datapath, random: &mut Random) {
        assert_eq!(dp.clock(NET).unwrap(), Epoch(self.clock));
        assert_eq!(dp.staged(NET).unwrap(), Epoch(self.staged));
        let mut here: Vec<_> = dp.rule_counters(NET, None).unwrap();
        here.sort_by_key(|c| c.rule);
        let here: Vec<u64> = here.iter().map(|c| c.rule.0).collect();
        assert_eq!(here, self.rules.keys().copied().collect::<Vec<_>>());
        for _ in 0..12 {
            let (key, table) = (random.key(), random.below(2) as u8);
            let switch = [SWITCH, OTHER][random.below(2) as usize];
            for clock in self.clock..=self.staged {
                let matching = |v: &&Version| {
                    let (value, mask) = compile_match(&v.rule.matching);
                    v.switch == switch
                        && v.rule.table == table
                        && v.visible(clock)
                        && key.masked(&mask) == value
                };
                let best = self
                    .rules
                    .values()
                    .filter(matching)
                    .map(|v| v.rule.priority)
                    .max();
                let found = dp.lookup(switch, table, &key, Epoch(clock));
                assert_eq!(found.map(|(_, rule)| rule.priority), best);
                if let Some((id, _)) = found {
                    assert!(matching(&&self.rules[&id.0]));
                }
            }
        }
    }

    fn stage(&mut self, dp: &mut Datapath, random: &mut Random) {
        let switch = [SWITCH, OTHER][random.below(2) as usize];
        let epoch = self.staged + 1;
        let mut add = Vec::new();
        for _ in 0..random.below(6) {
            self.next_id += 1;
            add.push((id(self.next_id), random.rule()));
        }
        let alive: Vec<u64> = self
            .rules
            .iter()
            .filter(|(_, v)| v.switch == switch && v.to.is_none())
            .map(|(&id, _)| id)
            .collect();
        let mut remove = Vec::new();
        for rule in alive {
            if random.below(4) == 0 {
                remove.push(id(rule));
            }
        }
        if random.below(8) == 0 {
            // Refused as a whole.
            let mut bad = remove.clone();
            bad.push(id(1 << 40));
            assert!(
                dp.stage(NET, Epoch(epoch), Some(switch), &add, &bad)
                    .is_err()
            );
            return;
        }
        dp.stage(NET, Epoch(epoch), Some(switch), &add, &remove)
            .unwrap();
        for rule in remove {
            self.rules.get_mut(&rule.0).unwrap().to = Some(epoch);
        }
        for (id, rule) in add {
            let version = Version {
                switch,
                rule,
                from: epoch,
                to: None,
            };
            self.rules.insert(id.0, version);
        }
        self.staged = epoch;
    }

    fn unstage(&mut self, dp: &mut Datapath) {
        let epoch = self.staged;
        if epoch == self.clock {
            assert!(dp.unstage(NET, Epoch(epoch)).is_err());
            return;
        }
        dp.unstage(NET, Epoch(epoch)).unwrap();
        self.rules.retain(|_, v| v.from != epoch);
        for version in self.rules.values_mut() {
            version.to = version.to.filter(|&to| to != epoch);
        }
        self.staged -= 1;
    }

    fn collect(&mut self, dp: &mut Datapath) {
        let clock = self.clock;
        let before = self.rules.len();
        self.rules.retain(|_, v| v.to.is_none_or(|to| to > clock));
        let collected = dp.collect(NET, Epoch(clock)).unwrap();
        assert_eq!(collected, before - self.rules.len());
    }

    /// The switch is taken off, and comes again by a snapshot of what it was.
    fn snapshot(&mut self, dp: &mut Datapath) {
        if self.staged == 0 || self.staged != self.clock {
            return;
        }
        let learner = SwitchSettings {
            join_epoch: Epoch(self.clock + (1 << 30)),
            ..instance(OTHER)
        };
        dp.set_switch(NET, &learner).unwrap();
        dp.begin_snapshot(NET, OTHER, Epoch(self.staged)).unwrap();
        for (&rule, version) in self.rules.iter().filter(|(_, v)| v.switch == OTHER) {
            let part = SnapshotRule {
                id: id(rule),
                rule: version.rule.clone(),
                from: Epoch(version.from),
                to: version.to.map(Epoch),
            };
            dp.add_snapshot(NET, OTHER, &[part]).unwrap();
        }
        dp.finish_snapshot(NET, OTHER).unwrap();
        dp.set_switch(NET, &instance(OTHER)).unwrap();
    }
}

fn history(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut dp = datapath();
    dp.set_switch(NET, &instance(OTHER)).unwrap();
    let mut model = Model::default();
    for step in 0..120 {
        let action = random.below(12);
        println!("seed {seed}, step {step}: {action}");
        match action {
            0..5 => model.stage(&mut dp, &mut random),
            5..7 => {
                let up = random.below(u64::from(model.staged - model.clock) + 1) as u32;
                model.clock += up;
                dp.raise_clock(NET, Epoch(model.clock)).unwrap();
            }
            7 | 8 => model.collect(&mut dp),
            9 => model.unstage(&mut dp),
            10 => model.snapshot(&mut dp),
            _ => dp = dp.reopen_in_memory().unwrap().0,
        }
        model.check(&dp, &mut random);
    }
    dp.remove_network(NET).unwrap();
    let mut empty = Datapath::in_memory(&limits()).unwrap();
    assert_eq!(free(&mut dp), free(&mut empty));
}

#[test]
fn tables_say_what_a_naive_search_says() {
    for seed in 1..=60 {
        let result = std::panic::catch_unwind(|| history(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}
