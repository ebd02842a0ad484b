//! Runs of pipelines and references in turns, on one CPU.

use anyhow::{Context, Result, ensure};

use super::switch::Switch;
use crate::options::Options;
use crate::programs::{Attach, Flows, Pinned, Reference, References, stay_on_this_cpu};
use crate::ruleset;
use crate::site::{Site, Station, inside};
use crate::stats::{differences, median, rotation};

/// Where pipelines are measured: a host with two stations.
pub struct Bench {
    /// The namespaces.
    pub site: Site,
    /// Where frames seem to come from.
    pub input: Station,
    /// Where they would go.
    pub output: Station,
}

/// The only host.
pub const HOST: &str = "a";

impl Bench {
    /// Builds it.
    pub async fn build() -> Result<Self> {
        let site = Site::build(1).await?;
        let input = site.station(HOST, "in0", 1, false).await?;
        let output = site.station(HOST, "out0", 2, false).await?;
        Ok(Self {
            site,
            input,
            output,
        })
    }

    /// A switch with these rules.
    pub fn switch(
        &self,
        name: &str,
        rules: &[(lime_core::RuleId, lime_core::flow::Rule)],
        flow_cache: bool,
    ) -> Result<Switch> {
        let ports = [&self.input, &self.output];
        Switch::build(&self.site, HOST, name, ports, rules, flow_cache)
    }

    /// Measures, all in turns.
    pub fn measure(
        &self,
        attach: Attach,
        cases: &[Case<'_>],
        options: &Options,
    ) -> Result<(Vec<Vec<f64>>, Base)> {
        let ns = self.site.host(HOST)?.netns();
        inside(ns, || {
            let mut turns = Turns::new(self, attach, cases)?;
            stay_on_this_cpu()?;
            turns.take(options)
        })?
    }
}

/// A pipeline, and what it is given.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The pipeline.
    pub switch: &'a Switch,
    /// Tables that a packet passes.
    pub tables: u64,
    /// Its packets.
    pub flows: Flows,
}

/// Nanoseconds per packet of what cases are compared with.
#[derive(Clone, Debug)]
pub struct Base {
    /// One look-up in a hash map, over a program that returns at once; round by round.
    pub hash: Vec<f64>,
    /// A bare redirect, over a program that returns at once.
    pub redirect: Vec<f64>,
}

impl Base {
    /// The median look-up.
    pub fn lookup(&self) -> Result<f64> {
        median(&self.hash).context("no rounds")
    }
}

struct Turns<'a> {
    cases: Vec<(Case<'a>, Pinned)>,
    references: References,
    ifindex: u32,
    redirect: u32,
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    /// A case, or the bare redirect of its flows.
    Case(usize, bool),
    Reference(Reference),
}

impl<'a> Turns<'a> {
    /// Runs before each turn that are not timed: they warm the caches that the others have taken.
    const WARM_UP: u32 = 1000;

    fn new(bench: &Bench, attach: Attach, cases: &[Case<'a>]) -> Result<Self> {
        let open = |case: &Case<'a>| {
            let path = case.switch.program(attach.port_program());
            Ok((*case, Pinned::open(attach, &path)?))
        };
        let (from, to) = (bench.input.ifindex, bench.output.ifindex);
        Ok(Self {
            cases: cases.iter().map(open).collect::<Result<_>>()?,
            references: References::load(attach, from, to, &ruleset::frame(0))?,
            ifindex: from,
            redirect: attach.redirect(),
        })
    }

    /// Gives for each case its cost over a bare redirect of the same flows, round by round; and that of the references.
    fn take(&mut self, options: &Options) -> Result<(Vec<Vec<f64>>, Base)> {
        let repeat = options.pick(200_000, 20_000);
        let rounds = options.pick(15, 3);
        let cases = self.cases.len();
        let all: Vec<Turn> = (0..cases)
            .flat_map(|i| [Turn::Case(i, true), Turn::Case(i, false)])
            .chain([Reference::Redirect, Reference::Floor, Reference::Hash].map(Turn::Reference))
            .collect();
        let mut times = vec![Vec::new(); all.len()];
        let before = self.counted()?;
        for round in 0..rounds {
            for which in rotation(all.len(), round) {
                self.run(all[which], Self::WARM_UP)?;
                times[which].push(self.run(all[which], repeat)?);
            }
        }
        self.check_counters(&before, rounds as u64 * u64::from(Self::WARM_UP + repeat))?;
        let over = |a: usize, b: usize| differences(&times[a], &times[b]).context("no rounds");
        let costs = (0..cases).map(|i| over(2 * i, 2 * i + 1));
        let costs = costs.collect::<Result<_>>()?;
        let [redirect, floor, hash] = [0, 1, 2].map(|i| 2 * cases + i);
        let base = Base {
            hash: over(hash, floor)?,
            redirect: over(redirect, floor)?,
        };
        Ok((costs, base))
    }

    fn counted(&self) -> Result<Vec<u64>> {
        self.cases.iter().map(|(c, _)| c.switch.packets()).collect()
    }

    /// An error unless every packet (`packets` of each case) was counted at a rule in every table.
    fn check_counters(&self, before: &[u64], packets: u64) -> Result<()> {
        for ((case, _), (before, after)) in
            self.cases.iter().zip(before.iter().zip(self.counted()?))
        {
            // Cases may share a switch.
            let of_switch = |c: &&(Case<'_>, Pinned)| std::ptr::eq(c.0.switch, case.switch);
            let tables: u64 = self
                .cases
                .iter()
                .filter(of_switch)
                .map(|c| c.0.tables)
                .sum();
            ensure!(
                after - before == packets * tables,
                "rules counted {} packets instead of {}; drops: {}",
                after - before,
                packets * tables,
                case.switch.drops()?
            );
        }
        Ok(())
    }

    /// Nanoseconds per packet. An error if a packet that is to be redirected is not.
    fn run(&mut self, turn: Turn, repeat: u32) -> Result<f64> {
        let frame = ruleset::frame(0);
        let (ifindex, references) = (self.ifindex, &mut self.references);
        let runs = match turn {
            Turn::Reference(which) => references.run(which, ifindex, &frame, repeat)?,
            Turn::Case(case, pipeline) => {
                let (case, program) = &self.cases[case];
                let target = pipeline.then_some(program);
                references.run_flows(target, case.flows, ifindex, &frame, repeat)?
            }
        };
        let free = matches!(turn, Turn::Reference(Reference::Floor | Reference::Hash));
        ensure!(
            free || runs.verdict == self.redirect,
            "{turn:?}: the verdict on the packet is {} instead of {} (redirect)",
            runs.verdict,
            self.redirect
        );
        Ok(runs.nanoseconds)
    }
}
