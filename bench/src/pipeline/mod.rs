//! What the whole switch pipeline costs per packet beyond a bare redirect, by the number of rules and masks, for XDP and TC.
//!
//! Pipeline, bare redirect and the other references run in turns on the same packet (`BPF_PROG_TEST_RUN`), and the figures are medians
//! of differences within a turn. `first`: the packet hits a rule of the tuple that is searched first; `last`: of the one that is searched
//! last, after all others were looked into in vain. The packet is the same each time, so the CPU's caches are warm: what is measured is
//! the work, not the misses of a large table under random traffic.

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
        for rule in [0, case.last()] {
            check_hit(&switch, &program, case.attach, input.ifindex, rule)?;
        }
        stay_on_this_cpu()?;
        rounds(&program, &references, case, input.ifindex, options)
    })?
}

/// An error unless the packet goes all the way: hits the rule, is counted there, and is redirected.
fn check_hit(
    switch: &Switch,
    program: &Pinned,
    attach: Attach,
    ifindex: u32,
    rule: usize,
) -> Result<()> {
    const TIMES: u32 = 7;
    let before = switch.packets(rule)?;
    let runs = program.run(ifindex, &ruleset::frame(rule), TIMES)?;
    let hits = switch.packets(rule)? - before;
    ensure!(
        runs.verdict == attach.redirect() && hits == u64::from(TIMES),
        "the packet does not go through the switch: of {TIMES} packets {hits} were counted at rule {rule}, and the verdict is {} \
         instead of {} (redirect); drops: {}",
        runs.verdict,
        attach.redirect(),
        switch.drops()?,
    );
    Ok(())
}

fn rounds(
    program: &Pinned,
    references: &References,
    case: Case,
    ifindex: u32,
    options: &Options,
) -> Result<Costs> {
    let repeat = options.pick(200_000, 20_000);
    let [first, last] = [0, case.last()].map(ruleset::frame);
    let one = |which: usize, repeat| -> Result<f64> {
        let runs = match which {
            0 => program.run(ifindex, &first, repeat),
            1 => program.run(ifindex, &last, repeat),
            2 => references.run(Reference::Redirect, ifindex, &first, repeat),
            3 => references.run(Reference::Floor, ifindex, &first, repeat),
            _ => references.run(Reference::Hash, ifindex, &first, repeat),
        };
        Ok(runs?.nanoseconds)
    };
    let mut times: [Vec<f64>; 5] = Default::default();
    for round in 0..options.pick(11, 3) {
        for which in rotation(times.len(), round) {
            // A few runs that do not count warm the caches that the others have taken.
            one(which, 1000)?;
            times[which].push(one(which, repeat)?);
        }
    }
    let [first, last, redirect, floor, hash] = &times;
    let difference = |a: &[f64], b: &[f64]| median_difference(a, b).context("no rounds");
    Ok(Costs {
        first: difference(first, redirect)?,
        last: difference(last, redirect)?,
        redirect: difference(redirect, floor)?,
        hash: difference(hash, floor)?,
    })
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
