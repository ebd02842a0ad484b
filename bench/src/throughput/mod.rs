//! TCP in bulk between two stations, one connection.

mod tcp;

use std::time::Duration;

use crate::options::Options;
use crate::report::{Bar, Figure, Report};
use crate::site::Site;
use crate::turns::{Rounds, Turn, take_turns};
use crate::ways::{self, Way};

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    let site = match Site::build(2).await {
        Ok(site) => site,
        Err(e) => return report.failed("throughput", &e),
    };
    let name = "throughput/one-host";
    let ways = ways::on_one_host(&site, name, report).await;
    let bar = (ways::LIME, Bar::AtLeast(0.95));
    measure(name, ways, ways::BRIDGE, bar, options, report);
    let name = "throughput/two-hosts";
    let ways = ways::on_two_hosts(&site, name, report).await;
    let bar = (ways::GENEVE, Bar::AtLeast(1.0));
    measure(name, ways, ways::VXLAN, bar, options, report);
}

/// Adds a figure per way, beside that of the way `reference`. The bar is for the way that it names: LIME as it attaches by default.
fn measure(
    name: &str,
    mut ways: Vec<Turn<Way, 1>>,
    reference: &str,
    bar: (&str, Bar),
    options: &Options,
    report: &mut Report,
) {
    let millis = |thorough, quick| Duration::from_millis(options.pick(thorough, quick));
    let (warm_up, time) = (millis(200, 200), millis(800, 400));
    tokio::task::block_in_place(|| {
        take_turns(&mut ways, reference, Rounds::new(options, 9, 31), |way| {
            let [from, to] = &way.stations;
            Ok([tcp::bulk(&from.ns, &to.ns, to.address, warm_up, time)?])
        });
    });
    for figure in figures(name, &ways, 0, "Gb/s", reference, bar, report) {
        report.add(figure);
    }
}

/// One figure per way but the reference, of value number `which`; what was not measured is reported.
pub fn figures<const N: usize>(
    name: &str,
    ways: &[Turn<Way, N>],
    which: usize,
    unit: &'static str,
    reference: &str,
    (barred, bar): (&str, Bar),
    report: &mut Report,
) -> Vec<Figure> {
    let beside = match ways.iter().find(|w| w.name == reference) {
        Some(way) => way.values(which).map(<[f64]>::to_vec),
        None => Err(anyhow::anyhow!("{reference} could not be built")),
    };
    let mut figures = Vec::new();
    for way in ways.iter().filter(|w| w.name != reference) {
        let name = format!("{name}/{}", way.name);
        let paired = match (way.values(which), &beside) {
            (Err(e), _) => Err(e),
            (_, Err(e)) => Err(anyhow::anyhow!("nothing to compare with: {e:#}")),
            (Ok(values), Ok(beside)) => {
                Figure::paired(name.clone(), values, unit, reference, beside)
            }
        };
        match paired {
            Ok(figure) if way.name == barred => figures.push(figure.bar(bar)),
            Ok(figure) => figures.push(figure),
            Err(e) => report.failed(&name, &e),
        }
    }
    figures
}
