//! How many rules per second can be installed: through the whole system (from a client of the API until they are in force on the host),
//! and by the data path's own interface, each beside one `bpf()` call per rule.

use anyhow::{Context, Result};
use lime_core::flow::Rule;
use lime_core::{Epoch, NetworkId, RuleId, SwitchId};
use switch_agent::datapath::{Datapath, Limits};

use crate::api::{BATCH, Installation};
use crate::busy::Busy;
use crate::options::{Group, Options};
use crate::report::{Bar, Figure, Report};
use crate::ruleset;
use crate::settings::active;
use crate::site::Site;
use crate::stores::{Entries, Order};
use crate::syscall::{self, PerRule};

const HOST: &str = "a";
/// Masks of the rules that are installed.
const MASKS: usize = 8;
/// Rules per round.
const COUNT: usize = 50_000;

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    let name = "rules/datapath-stage";
    let staged = by_datapath(options).await;
    let staged = staged.and_then(|rates| figure(name, &rates));
    report.add_or_fail(name, staged.map(|f| f.bar(Bar::AtLeast(50.0))));
    floors(options, report);
    if options.only_bars(Group::Rules) {
        return;
    }
    let name = "rules/end-to-end";
    let rates = end_to_end(options).await;
    report.add_or_fail(name, rates.and_then(|rates| figure(name, &rates)));
}

fn figure(name: &str, (rates, references): &Rates) -> Result<Figure> {
    Figure::paired(name, rates, "rules/s", syscall::NAME, references)
}

/// Of LIME and of the reference, round by round.
type Rates = (Vec<f64>, Vec<f64>);

/// Rates of writing by API, and of the reference.
async fn end_to_end(options: &Options) -> Result<Rates> {
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
        rates.1.push(reference.write()?);
    }
    Ok(rates)
}

/// Rates of writing by [`Datapath::stage`], and of the reference.
async fn by_datapath(options: &Options) -> Result<Rates> {
    let mut reference = PerRule::new(COUNT as u32)?;
    let site = Site::build(1).await?;
    let mut datapath = site.datapath(HOST, "rules", &Limits::default())?;
    let mut rates = (Vec::new(), Vec::new());
    for round in 1..=options.pick(15, 2) {
        rates
            .0
            .push(tokio::task::block_in_place(|| stage(&mut datapath, round))?);
        rates.1.push(reference.write()?);
    }
    Ok(rates)
}

/// What no way of writing entries gets above, beside the same reference: their bytes alone, in two orders, and with the rules read too.
fn floors(options: &Options, report: &mut Report) {
    let ways: [(&str, Floor); 3] = [
        ("rules/floor/stores-in-sequence", |entries, _| {
            entries.store(Order::Sequential)
        }),
        ("rules/floor/stores-at-random", |entries, _| {
            entries.store(Order::Random)
        }),
        ("rules/floor/reads-and-stores", Entries::read_and_store),
    ];
    for (name, floor) in ways {
        let rates = tokio::task::block_in_place(|| floor_rates(options, floor));
        report.add_or_fail(name, rates.and_then(|rates| figure(name, &rates)));
    }
}

type Floor = fn(&mut Entries, &[(RuleId, Rule)]) -> Result<f64>;

fn floor_rates(options: &Options, floor: Floor) -> Result<Rates> {
    let mut reference = PerRule::new(COUNT as u32)?;
    let mut entries = Entries::new(COUNT as u32)?;
    let mut rates = (Vec::new(), Vec::new());
    for _ in 0..options.pick(15, 2) {
        let rules = ruleset::numbered(COUNT, MASKS, 1);
        rates.0.push(floor(&mut entries, &rules)?);
        rates.1.push(reference.write()?);
    }
    Ok(rates)
}

/// Rules per second into a switch of its own.
fn stage(datapath: &mut Datapath, round: u32) -> Result<f64> {
    const VNI: u32 = 4244;
    let (network, switch) = (NetworkId(round), SwitchId(round));
    datapath.set_network(network, VNI, false)?;
    datapath.set_switch(network, &active(switch))?;
    let rules = ruleset::numbered(COUNT, MASKS, 1);
    let busy = Busy::start()?;
    for (batch, epoch) in rules.chunks(BATCH).zip(1..) {
        datapath
            .stage(network, Epoch(epoch), Some(switch), batch, &[])
            .with_context(|| format!("cannot stage {} rules", batch.len()))?;
    }
    let seconds = busy.seconds()?;
    datapath.remove_network(network)?;
    Ok(COUNT as f64 / seconds)
}
