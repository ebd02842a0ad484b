//! Many short lives of networks: traffic, updates, joins, moves, migrations, and deaths of agents and coordinator, in random order from a
//! seed. What was seen in each is judged, and its counters must be exact.

mod life;
mod operator;
mod random;
mod traffic;
mod updates;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lime_history::Summary;

use crate::lab::{Lab, LabError};
use random::Random;

/// Lives in one lab; then a new one is built, in the other attach mode.
const LIVES_A_LAB: u64 = 10;

/// How long, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// It ends with the life in which this is over.
    pub time: Duration,
    /// Or after so many lives.
    pub lives: u64,
    /// Of the first life; each has the next one.
    pub seed: u64,
}

/// What came of one life.
#[derive(Clone, Debug)]
pub struct Life {
    /// Its seed.
    pub seed: u64,
    /// The network's consistency, and what the operator did, in words.
    pub deeds: Vec<String>,
    /// Updates that took effect.
    pub updates: u64,
    /// What the judge looked at; or what is wrong.
    pub end: Result<Summary, String>,
}

/// What came of all.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many.
    pub lives: u64,
    /// Consistencies and what the operators did, by the first word.
    pub deeds: BTreeMap<String, u64>,
    /// Updates that took effect.
    pub updates: u64,
    /// Packets of end hosts.
    pub packets: u64,
    /// Steps whose place was found.
    pub placed: u64,
    /// Seeds of lives with contradictions or wrong counters, and what is wrong.
    pub wrong: Vec<(u64, String)>,
}

impl Report {
    fn add(&mut self, life: &Life) {
        self.lives += 1;
        self.updates += life.updates;
        for deed in &life.deeds {
            let kind = deed.split(' ').next().unwrap_or_default();
            *self.deeds.entry(kind.to_owned()).or_default() += 1;
        }
        match &life.end {
            Ok(summary) => {
                self.packets += summary.packets as u64;
                self.placed += summary.placed as u64;
            }
            Err(what) => self.wrong.push((life.seed, what.clone())),
        }
    }
}

/// Lives one life after the other. `seen` is told of each.
pub async fn run(
    options: &Options,
    mut seen: impl FnMut(&Life, &Report),
) -> Result<Report, LabError> {
    let started = Instant::now();
    let mut report = Report::default();
    let mut lab: Option<Lab> = None;
    while report.lives < options.lives && started.elapsed() < options.time {
        let seed = options.seed + report.lives;
        if seed.is_multiple_of(LIVES_A_LAB) {
            lab = None;
        }
        let here = match &lab {
            Some(lab) => lab,
            None => lab.insert(build(seed / LIVES_A_LAB).await?),
        };
        let life = life::live(here, &mut Random::new(seed), seed).await;
        report.add(&life);
        seen(&life, &report);
        if life.end.is_err() {
            // Whatever is wrong with it, the next life starts afresh.
            if let Some(mut lab) = lab.take() {
                eprintln!("{}", lab.logs());
                lab.unwatch();
            }
        }
    }
    if let Some(mut lab) = lab {
        lab.unwatch();
    }
    Ok(report)
}

async fn build(number: u64) -> Result<Lab, LabError> {
    Lab::builder()
        .hosts(3)
        .end_hosts(4)
        .xdp(number % 2 == 1)
        .build()
        .await
}
