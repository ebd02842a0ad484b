//! The whole pipeline with two tables: one flow that repeats, flows that never do, and numbers between.

use anyhow::{Context, Result};
use switch_agent::objects;

use super::turns::{Bench, Case};
use super::{MANY, cache_off};
use crate::options::{Group, Options};
use crate::programs::{Attach, HASH_NAME};
use crate::report::{Axis, Bar, Curve, Figure, Plot, Report};
use crate::ruleset;
use crate::stats::median;

/// Rules per table, and their masks: those of a small tenant.
const RULES: usize = 100;
const MASKS: usize = 4;
/// Numbers of flows, for the curve.
const FLOWS: [u32; 7] = [1, 16, 256, 1024, 4096, 65_536, 1 << 20];

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    // The agent sets it when it loads programs that have it.
    let constant = b"FLOW_CACHE\0";
    if !objects::SWITCH
        .windows(constant.len())
        .any(|w| w == constant)
    {
        report.note("These kernel programs have no flow cache: a flow that repeats is searched for as well.");
    }
    let bench = match Bench::build().await {
        Ok(built) => built,
        Err(e) => return report.failed("cache", &e),
    };
    for attach in Attach::BOTH {
        let name = format!("cache/{}/2-tables", attach.name());
        if let Err(e) = both_tables(&bench, attach, &name, options, report) {
            report.failed(&name, &e);
        }
        if options.only_bars(Group::Cache) {
            continue;
        }
        match curve(&bench, attach, options) {
            Ok(plot) => report.plot(plot),
            Err(e) => report.failed(&format!("{name}/flows"), &e),
        }
    }
}

fn both_tables(
    bench: &Bench,
    attach: Attach,
    name: &str,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let set = ruleset::in_two_tables(RULES, MASKS);
    let on = bench.switch(&format!("{}-on", attach.name()), &set, true)?;
    let off = bench.switch(&format!("{}-off", attach.name()), &set, false)?;
    let case = |switch, macs| Case {
        switch,
        tables: 2,
        flows: ruleset::flows(MASKS - 1, MASKS, 1, macs),
    };
    let cases = [case(&on, 1), case(&on, MANY), case(&off, MANY)];
    let (costs, base) = bench.measure(attach, &cases, options)?;
    let [hit, miss, without] = &costs[..] else {
        anyhow::bail!("a case was not measured");
    };
    let hit = Figure::paired(format!("{name}/hit"), hit, "ns", HASH_NAME, &base.hash)?;
    report.add(hit.bar(Bar::AtMost(1.5)));
    report.add(cache_off(format!("{name}/random-flows"), miss, without)?);
    let bare = format!("cache/{}/bare-redirect", attach.name());
    report.add(Figure::paired(
        bare,
        &base.redirect,
        "ns",
        HASH_NAME,
        &base.hash,
    )?);
    Ok(())
}

/// Cost by the number of flows, all of one rule.
fn curve(bench: &Bench, attach: Attach, options: &Options) -> Result<Plot> {
    let set = ruleset::in_two_tables(RULES, MASKS);
    let mut curves = Vec::new();
    for (name, flow_cache) in [("with flow cache", true), ("without", false)] {
        let pins = format!("{}-curve-{flow_cache}", attach.name());
        let switch = bench.switch(&pins, &set, flow_cache)?;
        let cases = FLOWS.map(|macs| Case {
            switch: &switch,
            tables: 2,
            flows: ruleset::flows(MASKS - 1, MASKS, 1, macs),
        });
        let (costs, base) = bench.measure(attach, &cases, options)?;
        let points = FLOWS
            .iter()
            .zip(&costs)
            .map(|(&flows, cost)| Ok((f64::from(flows), median(cost).context("no rounds")?)));
        curves.push(Curve {
            name: name.into(),
            points: points.collect::<Result<_>>()?,
        });
        if flow_cache {
            let lookup = base.lookup()?;
            curves.push(Curve {
                name: HASH_NAME.into(),
                points: FLOWS.map(|flows| (f64::from(flows), lookup)).into(),
            });
        }
    }
    Ok(Plot {
        name: format!("flows-{}", attach.name()),
        title: format!(
            "Two tables over a bare redirect, {}",
            attach.name().to_uppercase()
        ),
        x: Axis { label: "flows" },
        y: Axis {
            label: "nanoseconds per packet",
        },
        curves,
    })
}
