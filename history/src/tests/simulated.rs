//! A switch that runs in a test, right or wrong: what a right one shows is never refused, what a wrong one shows nearly always.

use std::collections::VecDeque;

use super::story::{S1, Story, frame, rule, to, to_controller};
use lime_core::flow::{Action, Field};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// Each version sends what comes in by port p on to port `next[p]` (0: to the controller), and leaves a trace in it.
type Version = [u64; 4];

/// Two instances of a switch. Those of a right one are at the same version, or a packet takes the other one along.
struct Run {
    story: Story,
    random: Random,
    versions: Vec<Version>,
    clock: [usize; 2],
    /// Under way to an instance: sender, number; or to an end host: that, frame.
    to_switch: Vec<(u8, u64)>,
    to_end: Vec<(u8, Vec<u8>)>,
    /// Version, sender, number.
    to_controller: Vec<(usize, u8, u64)>,
    unanswered: VecDeque<(usize, usize)>,
    number: u64,
    tags: bool,
}

impl Run {
    fn new(seed: u64, tags: bool) -> Self {
        let mut run = Self {
            story: Story::new(),
            random: Random(seed | 1),
            versions: Vec::new(),
            clock: [0; 2],
            to_switch: Vec::new(),
            to_end: Vec::new(),
            to_controller: Vec::new(),
            unanswered: VecDeque::new(),
            number: 0,
            tags,
        };
        run.update();
        run.clock = [1; 2];
        run.answer();
        run
    }

    fn update(&mut self) {
        let mut version = [0; 4];
        for (port, next) in version.iter_mut().enumerate().skip(1) {
            let other = self.random.below(4);
            *next = if other == port as u64 { 0 } else { other };
        }
        let value = (self.versions.len() % 64) as u128;
        let field = Field::IpDscp;
        let trace = Action::SetField { field, value };
        let rules = (1..4).map(|p| match version[p] {
            0 => rule(p as u32, &to_controller()),
            n => {
                let mut rule = rule(p as u32, &to(n as u32));
                rule.actions.insert(0, trace.clone());
                rule
            }
        });
        let command = self.story.update(S1, rules.collect());
        self.versions.push(version);
        self.unanswered.push_back((command, self.versions.len()));
    }

    /// Both instances have it, and all that happened before has been told.
    fn answer(&mut self) {
        if let Some(&(command, version)) = self.unanswered.front()
            && self.clock.iter().all(|c| *c >= version)
        {
            self.tell_all();
            self.story.answered(command);
            self.unanswered.pop_front();
        }
    }

    /// Events of versions that both instances have come to: nothing older can follow.
    fn tell_all(&mut self) {
        let released = self.clock[0].min(self.clock[1]);
        self.to_controller.sort_by_key(|e| e.0);
        let n = self.to_controller.partition_point(|e| e.0 <= released);
        for (_, from, number) in self.to_controller.drain(..n) {
            self.story.told(S1, from, 4, number);
        }
    }

    /// End hosts 1 and 2 are at the first instance, 3 is at the second.
    fn instance(port: u64) -> usize {
        usize::from(port == 3)
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 => self.update(),
            1 => {
                let at = self.random.below(2) as usize;
                self.clock[at] = (self.clock[at] + 1).min(self.versions.len());
            }
            2 => self.answer(),
            3..=5 => {
                let from = self.random.below(3) as u8 + 1;
                self.number += 1;
                self.story.sent(from, 4, self.number);
                self.to_switch.push((from, self.number));
            }
            6..=8 => self.handle(),
            9..=10 if !self.to_end.is_empty() => {
                let which = self.random.below(self.to_end.len() as u64) as usize;
                let (end, frame) = self.to_end.swap_remove(which);
                self.story.see_frame(end, &frame, false);
            }
            _ => self.tell_all(),
        }
    }

    fn handle(&mut self) {
        if self.to_switch.is_empty() {
            return;
        }
        let which = self.random.below(self.to_switch.len() as u64) as usize;
        let (from, number) = self.to_switch.swap_remove(which);
        let here = Self::instance(from.into());
        match self.versions[self.clock[here] - 1][from as usize] {
            0 => self.to_controller.push((self.clock[here], from, number)),
            port => {
                if self.tags {
                    let there = Self::instance(port);
                    self.clock[there] = self.clock[there].max(self.clock[here]);
                }
                let mut frame = frame(from, 4, number);
                frame[15] = (((self.clock[here] - 1) % 64) << 2) as u8;
                self.to_end.push((port as u8, frame));
            }
        }
    }

    fn finish(mut self, steps: usize) -> Story {
        for _ in 0..steps {
            self.step();
        }
        self.story
    }
}

#[test]
fn what_a_right_switch_shows_is_never_refused() {
    for seed in 0..300 {
        let story = Run::new(seed * 7919 + 1, true).finish(300);
        if let Err(c) = story.check() {
            panic!("seed {seed}: {c}");
        }
    }
}

#[test]
fn what_a_wrong_switch_shows_is_refused() {
    let refused = (0..100u64).filter(|seed| {
        let story = Run::new(seed * 7919 + 1, false).finish(4000);
        story.check().is_err()
    });
    let refused = refused.count();
    assert!(refused >= 90, "only {refused} of 100");
}

#[test]
fn a_hundred_thousand_packets_are_no_effort() {
    let mut run = Run::new(42, true);
    while run.number < 100_000 {
        // Updates are rarer than in the other tests, but a thousand they are all the same.
        if run.random.below(30) != 0 || run.versions.len() > 1000 {
            let from = run.random.below(3) as u8 + 1;
            run.number += 1;
            run.story.sent(from, 4, run.number);
            run.to_switch.push((from, run.number));
            run.handle();
            if let Some((end, frame)) = run.to_end.pop() {
                run.story.see_frame(end, &frame, false);
            }
        } else {
            run.step();
        }
    }
    let summary = run.story.possible();
    assert_eq!(summary.packets, 100_000);
    assert!(summary.placed > 100_000, "{summary:?}");
}
