//! What the whole switch pipeline costs per packet beyond a bare redirect of the same packet: `pipeline/` by the number of rules and masks,
//! when every table is searched; `cache/` when flows repeat.
//!
//! Pipelines, bare redirects and the other references run in turns (`BPF_PROG_TEST_RUN`), and the figures are medians of differences within
//! a round. Every packet is seen to be redirected, and counted at a rule in every table.
//!
//! A packet's flow is picked at random for each run, among so many that none repeats before a cache of any size has forgotten it: such a
//! packet misses. Its rule may be the same one each time, so that the CPU's caches are warm and what is measured is the work; or any of
//! those of its mask, so that the rule, its bucket and its counters often come from farther away: the rest is due to the CPU's caches.

mod cache;
mod switch;
mod turns;

use anyhow::{Context, Result};

use crate::options::{Group, Options};
use crate::programs::{Attach, HASH_NAME};
use crate::report::{Axis, Bar, Curve, Figure, Plot, Report};
use crate::ruleset;
use crate::stats::median;
pub use cache::run as run_cache;
pub use switch::Switch;
use turns::{Base, Bench, Case};

const MASKS: [usize; 4] = [1, 8, 16, 32];
/// The number of masks that bars are set for.
const USUAL_MASKS: usize = 16;
const RULES: [usize; 3] = [10, 1000, 100_000];
/// MAC addresses of flows that do not repeat.
const MANY: u32 = u32::MAX;

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    let bench = match Bench::build().await {
        Ok(built) => built,
        Err(e) => return report.failed("pipeline", &e),
    };
    let masks: &[usize] = if options.only_bars(Group::Pipeline) {
        &[USUAL_MASKS]
    } else {
        &MASKS
    };
    for attach in Attach::BOTH {
        let mut curves = Vec::new();
        for &masks in masks {
            let name = format!("pipeline/{}/{masks}-masks", attach.name());
            match of_masks(&bench, attach, masks, options, report) {
                Ok(found) => curves.extend(found),
                Err(e) => report.failed(&name, &e),
            }
        }
        report.plot(Plot {
            name: format!("search-{}", attach.name()),
            title: format!(
                "Table search over a bare redirect, {}",
                attach.name().to_uppercase()
            ),
            x: Axis { label: "rules" },
            y: Axis {
                label: "nanoseconds per packet",
            },
            curves,
        });
    }
}

/// Measures one number of masks with every number of rules; gives curves over these.
fn of_masks(
    bench: &Bench,
    attach: Attach,
    masks: usize,
    options: &Options,
    report: &mut Report,
) -> Result<[Curve; 2]> {
    let name = |rest: &str| format!("pipeline/{}/{masks}-masks/{rest}", attach.name());
    let mut curves = ["same rule", "any rule"].map(|rule| Curve {
        name: format!("{masks} masks, {rule}"),
        points: Vec::new(),
    });
    let mut all = Vec::new();
    for rules in RULES {
        // A mask without a rule is none.
        let rules = rules.max(masks);
        let costs = measure(bench, attach, rules, masks, options)
            .with_context(|| format!("with {rules} rules"))?;
        let mut figure = costs.over_lookup(name(&format!("{rules}-rules/miss")), &costs.same)?;
        if masks == USUAL_MASKS {
            figure = figure.bar(Bar::AtMost(6.0));
        }
        report.add(figure);
        for (curve, cost) in curves.iter_mut().zip([&costs.same, &costs.any]) {
            let cost = median(cost).context("no rounds")?;
            curve.points.push((rules as f64, cost));
        }
        all.push((rules, costs));
    }
    let [(few, least), .., (many, most)] = &all[..] else {
        return Ok(curves);
    };
    let scale = Figure::paired(
        name(&format!("{many}-rules/scale")),
        &most.same,
        "ns",
        format!("the same with {few} rules"),
        &least.same,
    )?;
    report.add(if masks == USUAL_MASKS {
        scale.bar(Bar::AtMost(1.25))
    } else {
        scale
    });
    report.add(Figure::paired(
        name(&format!("{many}-rules/due-to-cpu-caches")),
        &most.any,
        "ns",
        "packets of any rule beside packets of one",
        &most.same,
    )?);
    report.add(cache_off(name("random-flows"), &most.same, &most.off)?);
    Ok(curves)
}

/// Flows that never repeat, with the flow cache on and off.
fn cache_off(name: String, on: &[f64], off: &[f64]) -> Result<Figure> {
    let figure = Figure::paired(name, on, "ns", "the flow cache switched off", off)?;
    Ok(figure.bar(Bar::AtMost(1.1)))
}

/// Nanoseconds per packet over a bare redirect, round by round.
struct Costs {
    /// Flows that never repeat, all of one rule.
    same: Vec<f64>,
    /// The same without the flow cache.
    off: Vec<f64>,
    /// Flows that never repeat, of all rules of a mask.
    any: Vec<f64>,
    base: Base,
}

impl Costs {
    fn over_lookup(&self, name: String, cost: &[f64]) -> Result<Figure> {
        Figure::paired(name, cost, "ns", HASH_NAME, &self.base.hash)
    }
}

/// Packets hit the tuple that is searched last, after all others were looked into in vain.
fn measure(
    bench: &Bench,
    attach: Attach,
    rules: usize,
    masks: usize,
    options: &Options,
) -> Result<Costs> {
    let set = ruleset::numbered(rules, masks, 1);
    let name = format!("{}-{masks}-{rules}", attach.name());
    let on = bench.switch(&name, &set, true)?;
    let off = bench.switch(&format!("{name}-off"), &set, false)?;
    let case = |switch, rules| Case {
        switch,
        tables: 1,
        flows: ruleset::flows(masks - 1, masks, rules, MANY),
    };
    let cases = [case(&on, 1), case(&off, 1), case(&on, rules / masks)];
    let (costs, base) = bench.measure(attach, &cases, options)?;
    let [same, off, any] = costs.try_into().ok().context("a case was not measured")?;
    Ok(Costs {
        same,
        off,
        any,
        base,
    })
}
