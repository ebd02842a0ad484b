//! Walking through all states.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::world::{Action, Setting, Violation, World};

/// How far to go.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Different states.
    pub states: u64,
    /// Time.
    pub time: Duration,
    /// Threads.
    pub threads: usize,
    /// Decides the order of the walk; 0: as it comes.
    pub seed: u64,
    /// Print progress so often.
    pub progress: Option<Duration>,
}

/// A way into trouble.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The steps.
    pub actions: Vec<Action>,
    /// What is wrong after the last.
    pub violation: Violation,
}

/// What a walk has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Different states.
    pub states: u64,
    /// Steps taken.
    pub steps: u64,
    /// States in which nothing can happen any more.
    pub ends: u64,
    /// Longest way.
    pub depth: u64,
    /// All states were seen.
    pub complete: bool,
    /// The first violation.
    pub trace: Option<Trace>,
    /// How long it took.
    pub time: Duration,
}

/// Fingerprints of states: 8 bytes each, in a table of fixed size that threads share.
struct Seen {
    slots: Vec<AtomicU64>,
    len: AtomicU64,
}

impl Seen {
    fn new(states: u64) -> Self {
        let len = (states + states / 4 + 1024).next_power_of_two();
        // Zeroed pages from the system: only what is used takes memory.
        let mut zeroes = std::mem::ManuallyDrop::new(vec![0u64; len as usize]);
        let (pointer, len, capacity) = (zeroes.as_mut_ptr(), zeroes.len(), zeroes.capacity());
        // SAFETY: an AtomicU64 has the representation of a u64 and, on the 64-bit hosts that this runs on, its alignment; the vector's
        // parts are taken over whole.
        let slots = unsafe { Vec::from_raw_parts(pointer.cast(), len, capacity) };
        const { assert!(align_of::<AtomicU64>() == align_of::<u64>()) };
        Self {
            slots,
            len: AtomicU64::new(0),
        }
    }

    /// Whether it is new.
    fn insert(&self, fingerprint: u64) -> bool {
        let fingerprint = fingerprint.max(1);
        let mask = self.slots.len() - 1;
        let mut at = fingerprint as usize & mask;
        loop {
            let slot = &self.slots[at];
            match slot.compare_exchange(0, fingerprint, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.len.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
                Err(found) if found == fingerprint => return false,
                Err(_) => at = (at + 1) & mask,
            }
        }
    }
}

fn fingerprint(world: &World) -> u64 {
    foldhash::quality::FixedState::default().hash_one(world)
}

/// Takes a step; assertions of the production code that fail are violations too.
fn step(setting: &Setting, world: &World, action: Action) -> Result<World, Violation> {
    let taken = catch_unwind(AssertUnwindSafe(|| {
        let mut next = world.clone();
        next.act(setting, action).map(|()| next)
    }));
    taken.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Violation::Assertion(format!(
            "in production code: {}",
            text.unwrap_or("a panic")
        )))
    })
}

struct Order(u64);

impl Order {
    /// xorshift64*.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn shuffle(&mut self, actions: &mut [Action]) {
        if self.0 == 0 {
            return;
        }
        for i in (1..actions.len()).rev() {
            let j = (self.next() >> 16) as usize % (i + 1);
            actions.swap(i, j);
        }
    }
}

struct Shared<'a> {
    setting: &'a Setting,
    limits: &'a Limits,
    seen: Seen,
    began: Instant,
    steps: AtomicU64,
    ends: AtomicU64,
    depth: AtomicU64,
    stop: AtomicBool,
    trace: Mutex<Option<Trace>>,
}

impl Shared<'_> {
    fn found(&self, actions: Vec<Action>, violation: Violation) {
        self.stop.store(true, Ordering::Relaxed);
        let mut trace = self.trace.lock().unwrap_or_else(|e| e.into_inner());
        if trace
            .as_ref()
            .is_none_or(|t| actions.len() < t.actions.len())
        {
            *trace = Some(Trace { actions, violation });
        }
    }

    /// Depth first: each thread in an order of its own, over states that no other has taken.
    fn walk(&self, first: &World, seed: u64) {
        let mut order = Order(seed);
        let mut stack: Vec<(World, Vec<Action>, usize)> = Vec::new();
        let mut path: Vec<Action> = Vec::new();
        let mut actions = first.actions(self.setting);
        order.shuffle(&mut actions);
        stack.push((first.clone(), actions, 0));
        let mut steps = 0u64;
        while let Some((world, actions, next)) = stack.last_mut() {
            let Some(&action) = actions.get(*next) else {
                stack.pop();
                path.pop();
                continue;
            };
            *next += 1;
            steps += 1;
            if steps.is_multiple_of(1024) {
                self.steps.fetch_add(1024, Ordering::Relaxed);
                let full = self.seen.len.load(Ordering::Relaxed) >= self.limits.states;
                if full || self.began.elapsed() >= self.limits.time {
                    self.stop.store(true, Ordering::Relaxed);
                }
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
            }
            match step(self.setting, world, action) {
                Err(violation) => {
                    path.push(action);
                    return self.found(path, violation);
                }
                Ok(new) => {
                    if !self.seen.insert(fingerprint(&new)) {
                        continue;
                    }
                    path.push(action);
                    let mut actions = new.actions(self.setting);
                    if actions.is_empty() {
                        self.ends.fetch_add(1, Ordering::Relaxed);
                        if let Err(violation) = new.at_rest(self.setting) {
                            return self.found(path, violation);
                        }
                    }
                    order.shuffle(&mut actions);
                    stack.push((new, actions, 0));
                    self.depth.fetch_max(path.len() as u64, Ordering::Relaxed);
                }
            }
        }
        self.steps.fetch_add(steps % 1024, Ordering::Relaxed);
    }

    fn report_progress(&self, every: Duration, done: &AtomicBool) {
        let mut next = self.began + every;
        while !done.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            if Instant::now() < next {
                continue;
            }
            next += every;
            let states = self.seen.len.load(Ordering::Relaxed);
            let seconds = self.began.elapsed().as_secs_f64();
            println!(
                "    {:>8.0} s  {states:>12} states  {:>9.0} states/s  longest way {}",
                seconds,
                states as f64 / seconds,
                self.depth.load(Ordering::Relaxed)
            );
        }
    }
}

/// Walks through all states that can be reached, or as many as the limits allow, depth first.
pub fn explore(setting: &Setting, limits: &Limits) -> Report {
    let began = Instant::now();
    let first = match World::new(setting) {
        Ok(first) => first,
        Err(violation) => {
            return Report {
                trace: Some(Trace {
                    actions: Vec::new(),
                    violation,
                }),
                ..Default::default()
            };
        }
    };
    let shared = Shared {
        setting,
        limits,
        seen: Seen::new(limits.states),
        began,
        steps: AtomicU64::new(0),
        ends: AtomicU64::new(0),
        depth: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        trace: Mutex::new(None),
    };
    shared.seen.insert(fingerprint(&first));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let walkers: Vec<_> = (0..limits.threads.max(1) as u64)
            .map(|n| {
                let (shared, first) = (&shared, &first);
                let seed = match (n, limits.seed) {
                    (0, 0) => 0,
                    (n, seed) => (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n + 1),
                };
                scope.spawn(move || shared.walk(first, seed))
            })
            .collect();
        if let Some(every) = limits.progress {
            let (shared, done) = (&shared, &done);
            scope.spawn(move || shared.report_progress(every, done));
        }
        for walker in walkers {
            // A walker catches what its steps panic with.
            let _ = walker.join();
        }
        done.store(true, Ordering::Relaxed);
    });
    let trace = shared.trace.into_inner().unwrap_or_else(|e| e.into_inner());
    Report {
        states: shared.seen.len.load(Ordering::Relaxed),
        steps: shared.steps.load(Ordering::Relaxed),
        ends: shared.ends.load(Ordering::Relaxed),
        depth: shared.depth.load(Ordering::Relaxed),
        complete: trace.is_none() && !shared.stop.load(Ordering::Relaxed),
        trace,
        time: began.elapsed(),
    }
}

/// Breadth first, so that the first violation found is a shortest one; gives up at `states` states.
pub fn shortest(setting: &Setting, states: u64, time: Duration) -> Report {
    let began = Instant::now();
    let mut report = Report::default();
    let first = match World::new(setting) {
        Ok(first) => first,
        Err(violation) => {
            report.trace = Some(Trace {
                actions: Vec::new(),
                violation,
            });
            return report;
        }
    };
    let seen = Seen::new(states);
    seen.insert(fingerprint(&first));
    // Who came from whom, by which step.
    let mut ways: Vec<(u32, Action)> = vec![(0, Action::Logged)];
    let way = |ways: &[(u32, Action)], mut at: u32| {
        let mut actions = Vec::new();
        while at != 0 {
            let (from, action) = ways[at as usize];
            actions.push(action);
            at = from;
        }
        actions.reverse();
        actions
    };
    let mut next: VecDeque<(World, u32)> = VecDeque::from([(first, 0)]);
    'walk: while let Some((world, at)) = next.pop_front() {
        let actions = world.actions(setting);
        if actions.is_empty() {
            report.ends += 1;
            if let Err(violation) = world.at_rest(setting) {
                let actions = way(&ways, at);
                report.trace = Some(Trace { actions, violation });
                break;
            }
        }
        for action in actions {
            report.steps += 1;
            match step(setting, &world, action) {
                Err(violation) => {
                    let mut actions = way(&ways, at);
                    actions.push(action);
                    report.trace = Some(Trace { actions, violation });
                    break 'walk;
                }
                Ok(new) => {
                    if !seen.insert(fingerprint(&new)) {
                        continue;
                    }
                    if ways.len() as u64 >= states || began.elapsed() >= time {
                        report.states = ways.len() as u64;
                        report.time = began.elapsed();
                        return report;
                    }
                    ways.push((at, action));
                    next.push_back((new, ways.len() as u32 - 1));
                }
            }
        }
    }
    report.complete = report.trace.is_none();
    report.states = ways.len() as u64;
    report.time = began.elapsed();
    report
}
