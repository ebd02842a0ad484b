//! How many rules per second can be installed: through the whole system (from a client of the API until they are in force on the host),
//! and by the data path's own interface, each beside one `bpf()` call per rule.

use std::time::Instant;

use anyhow::{Context, Result};
use lime_core::{Epoch, NetworkId, SwitchId};
use switch_agent::datapath::{Datapath, Limits};

use crate::api::{BATCH, Installation};
use crate::options::Options;
use crate::report::{Bar, Figure, Report};
use crate::ruleset;
use crate::settings::active;
use crate::site::Site;
use crate::stats::median;
use crate::syscall::{self, PerRule};

const HOST: &str = "a";
/// Masks of the rules that are installed.
const MASKS: usize = 8;
/// Rules per round.
const COUNT: usize = 50_000;

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    let name = "rules/datapath-stage";
    match by_datapath(options).await {
        Ok((rate, reference)) => report.add(figure(name, rate, reference).bar(Bar::AtLeast(50.0))),
        Err(e) => report.failed(name, &e),
    }
    let name = "rules/end-to-end";
    match end_to_end(options).await {
        Ok((rate, reference)) => report.add(figure(name, rate, reference)),
        Err(e) => report.failed(name, &e),
    }
}

fn figure(name: &str, rate: f64, reference: f64) -> Figure {
    Figure::new(name, rate, "rules/s").beside(syscall::NAME, reference)
}

/// Rates of writing by API, and of the reference.
async fn end_to_end(options: &Options) -> Result<(f64, f64)> {
    let mut reference = PerRule::new(COUNT as u32)?;
    let mut installation = Installation::build(1).await?;
    let mut rates = (Vec::new(), Vec::new());
    for round in 0..options.pick(5, 1) {
        let switch = format!("s{round}");
        installation.create_switch(&switch, HOST).await?;
        let seconds = installation
            .add_rules(&switch, ruleset::rules(COUNT, MASKS))
            .await?;
        rates.0.push(COUNT as f64 / seconds);
        installation.delete_switch(&switch).await?;
        rates.1.push(reference.write(COUNT as u32)?);
    }
    medians(&rates.0, &rates.1)
}

/// Rates of writing by [`Datapath::stage`], and of the reference.
async fn by_datapath(options: &Options) -> Result<(f64, f64)> {
    let mut reference = PerRule::new(COUNT as u32)?;
    let site = Site::build(1).await?;
    let mut datapath = site.datapath(HOST, "rules", &Limits::default())?;
    let mut rates = (Vec::new(), Vec::new());
    for round in 1..=options.pick(7, 2) {
        rates
            .0
            .push(tokio::task::block_in_place(|| stage(&mut datapath, round))?);
        rates.1.push(reference.write(COUNT as u32)?);
    }
    medians(&rates.0, &rates.1)
}

/// Rules per second into a switch of its own.
fn stage(datapath: &mut Datapath, round: u32) -> Result<f64> {
    const VNI: u32 = 4244;
    let (network, switch) = (NetworkId(round), SwitchId(round));
    datapath.set_network(network, VNI, false)?;
    datapath.set_switch(network, &active(switch))?;
    let rules = ruleset::numbered(COUNT, MASKS, 1);
    let start = Instant::now();
    for (batch, epoch) in rules.chunks(BATCH).zip(1..) {
        datapath
            .stage(network, Epoch(epoch), Some(switch), batch, &[])
            .with_context(|| format!("cannot stage {} rules", batch.len()))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    datapath.remove_network(network)?;
    Ok(COUNT as f64 / seconds)
}

fn medians(rates: &[f64], reference: &[f64]) -> Result<(f64, f64)> {
    median(rates).zip(median(reference)).context("no rounds")
}
