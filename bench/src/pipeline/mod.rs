//! What the whole switch pipeline costs per packet beyond a bare redirect, by the number of rules and masks, for XDP and TC.
//!
//! Pipeline, bare redirect and the other references run in turns on the same packet (`BPF_PROG_TEST_RUN`), and the figures are medians
//! of differences within a turn. `first`: the packet hits a rule of the tuple that is searched first; `last`: of the one that is searched
//! last, after all others were looked into in vain. Every packet is seen to be redirected and counted at its rule. It is the same one
//! each time, so the CPU's caches are warm: what is measured is the work, not the misses of a large table under random traffic.

mod programs;
mod switch;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::options::Options;
use crate::report::{Bar, Figure, Report};
use crate::ruleset;
use crate::site::{Site, Station, inside};
use crate::stats::{median_difference, rotation};
use programs::{Pinned, Reference, References};
use switch::Switch;

const HOST: &str = "a";
const MASKS: [usize; 4] = [1, 8, 16, 32];
const RULES: [usize; 3] = [10, 1000, 100_000];
const HASH_NAME: &str = "64-byte-key BPF hash lookup";

/// Which of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// At XDP.
    Xdp,
    /// At TC ingress.
    Tc,
}

impl Attach {
    fn name(self) -> &'static str {
        match self {
            Attach::Xdp => "xdp",
            Attach::Tc => "tc",
        }
    }

    fn port_program(self) -> &'static str {
        match self {
            Attach::Xdp => switch_abi::programs::XDP_PORT,
            Attach::Tc => switch_abi::programs::TC_PORT,
        }
    }

    /// XDP_REDIRECT or TC_ACT_REDIRECT: what a program returns that hands a frame to a device.
    fn redirect(self) -> u32 {
        match self {
            Attach::Xdp => 4,
            Attach::Tc => 7,
        }
    }
}

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    let (site, input, output) = match build().await {
        Ok(built) => built,
        Err(e) => return report.failed("pipeline", &e),
    };
    for attach in [Attach::Xdp, Attach::Tc] {
        let mut bare = None;
        for masks in MASKS {
            let mut smallest = None;
            for rules in RULES {
                // A mask without a rule is none.
                let case = Case {
                    attach,
                    masks,
                    rules: rules.max(masks),
                };
                match measure(&site, &input, &output, case, options) {
                    Ok(costs) => {
                        add(report, case, &costs, &mut smallest);
                        bare.get_or_insert(costs);
                    }
                    Err(e) => report.failed(&case.name("last"), &e),
                }
            }
        }
        if let Some(costs) = bare {
            let name = format!("pipeline/{}/bare-redirect", attach.name());
            report.add(Figure::new(name, costs.redirect, "ns").beside(HASH_NAME, costs.hash));
        }
    }
}

async fn build() -> Result<(Site, Station, Station)> {
    let site = Site::build(1).await?;
    let input = site.station(HOST, "in0", 1, false).await?;
    let output = site.station(HOST, "out0", 2, false).await?;
    Ok((site, input, output))
}

#[derive(Clone, Copy, Debug)]
struct Case {
    attach: Attach,
    masks: usize,
    rules: usize,
}

impl Case {
    fn name(self, what: &str) -> String {
        let Case {
            attach,
            masks,
            rules,
        } = self;
        format!(
            "pipeline/{}/{masks}-masks/{rules}-rules/{what}",
            attach.name()
        )
    }

    /// A rule in the tuple that is searched last, from the middle of them.
    fn last(self) -> usize {
        (self.rules / self.masks / 2) * self.masks + self.masks - 1
    }
}

/// Nanoseconds per packet.
#[derive(Clone, Copy, Debug)]
struct Costs {
    /// Of the pipeline, over a bare redirect.
    first: f64,
    last: f64,
    /// Of a bare redirect, over a program that returns at once.
    redirect: f64,
    /// Of one look-up, over a program that returns at once.
    hash: f64,
}

fn add(report: &mut Report, case: Case, costs: &Costs, smallest: &mut Option<(usize, f64)>) {
    if case.masks > 1 {
        let figure = Figure::new(case.name("first"), costs.first, "ns");
        report.add(figure.beside(HASH_NAME, costs.hash));
    }
    let mut last = Figure::new(case.name("last"), costs.last, "ns").beside(HASH_NAME, costs.hash);
    if case.masks == 16 {
        last = last.bar(Bar::AtMost(6.0));
    }
    report.add(last);
    match *smallest {
        None => *smallest = Some((case.rules, costs.last)),
        Some((rules, cost)) if case.rules == RULES[RULES.len() - 1] => report.add(
            Figure::new(case.name("scale"), costs.last, "ns")
                .beside(format!("the same with {rules} rules"), cost)
                .bar(Bar::AtMost(1.25)),
        ),
        Some(_) => {}
    }
}

fn measure(
    site: &Site,
    input: &Station,
    output: &Station,
    case: Case,
    options: &Options,
) -> Result<Costs> {
    let name = format!("{}-{}-{}", case.attach.name(), case.masks, case.rules);
    let switch = Switch::build(site, HOST, &name, [input, output], case.rules, case.masks)?;
    let ns = site.host(HOST)?.netns();
    inside(ns, || {
        let program = Pinned::open(case.attach, &switch.program(case.attach.port_program()))?;
        let references = References::load(
            case.attach,
            input.ifindex,
            output.ifindex,
            &ruleset::frame(0),
        )?;
        stay_on_this_cpu()?;
        let rules = [0, case.last()];
        let before = [switch.packets(rules[0])?, switch.packets(rules[1])?];
        let bench = Turns {
            program: &program,
            references: &references,
            case,
            ifindex: input.ifindex,
        };
        let (costs, runs) = bench.take(options)?;
        for (rule, before) in rules.into_iter().zip(before) {
            let hits = switch.packets(rule)? - before;
            ensure!(
                hits == runs,
                "of {runs} packets {hits} were counted at rule {rule} of {}; drops: {}",
                case.rules,
                switch.drops()?
            );
        }
        Ok(costs)
    })?
}

/// What is measured in turns.
struct Turns<'a> {
    program: &'a Pinned,
    references: &'a References,
    case: Case,
    ifindex: u32,
}

/// What takes turns.
#[derive(Clone, Copy, Debug)]
enum Turn {
    First,
    Last,
    Reference(Reference),
}

impl Turns<'_> {
    const ALL: [Turn; 5] = [
        Turn::First,
        Turn::Last,
        Turn::Reference(Reference::Redirect),
        Turn::Reference(Reference::Floor),
        Turn::Reference(Reference::Hash),
    ];
    /// Runs before each turn that are not timed: they warm the caches that the others have taken.
    const WARM_UP: u32 = 1000;

    /// Gives the costs, and how many packets of each of the two kinds the pipeline was given.
    fn take(&self, options: &Options) -> Result<(Costs, u64)> {
        let repeat = options.pick(200_000, 20_000);
        let rounds = options.pick(11, 3);
        let mut times: [Vec<f64>; 5] = Default::default();
        for round in 0..rounds {
            for which in rotation(Self::ALL.len(), round) {
                self.run(Self::ALL[which], Self::WARM_UP)?;
                times[which].push(self.run(Self::ALL[which], repeat)?);
            }
        }
        let [first, last, redirect, floor, hash] = &times;
        let difference = |a: &[f64], b: &[f64]| median_difference(a, b).context("no rounds");
        let costs = Costs {
            first: difference(first, redirect)?,
            last: difference(last, redirect)?,
            redirect: difference(redirect, floor)?,
            hash: difference(hash, floor)?,
        };
        Ok((costs, rounds as u64 * u64::from(repeat + Self::WARM_UP)))
    }

    /// Nanoseconds per packet. An error if a packet that is to be redirected is not.
    fn run(&self, turn: Turn, repeat: u32) -> Result<f64> {
        let first = ruleset::frame(0);
        let runs = match turn {
            Turn::First => self.program.run(self.ifindex, &first, repeat),
            Turn::Last => {
                let last = ruleset::frame(self.case.last());
                self.program.run(self.ifindex, &last, repeat)
            }
            Turn::Reference(which) => self.references.run(which, self.ifindex, &first, repeat),
        }?;
        let redirect = self.case.attach.redirect();
        let free = matches!(turn, Turn::Reference(Reference::Floor | Reference::Hash));
        ensure!(
            free || runs.verdict == redirect,
            "{turn:?}: the verdict on the packet is {} instead of {redirect} (redirect)",
            runs.verdict
        );
        Ok(runs.nanoseconds)
    }
}

/// Keeps the calling thread on one CPU: per-CPU counters and caches stay the same ones.
fn stay_on_this_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    sched_getcpu()
        .and_then(|cpu| cpus.set(cpu))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))
        .context("cannot stay on one CPU")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_is_in_the_last_tuple_of_every_case() {
        for masks in MASKS {
            for rules in RULES {
                let case = Case {
                    attach: Attach::Tc,
                    masks,
                    rules: rules.max(masks),
                };
                assert!(case.last() < case.rules, "{case:?}");
                assert_eq!(case.last() % masks, masks - 1, "{case:?}");
            }
        }
    }
}
