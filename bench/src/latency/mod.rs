//! UDP request and response between two stations: one at a time, one small datagram each way.

mod udp;

use crate::options::Options;
use crate::report::{Bar, Report};
use crate::site::Site;
use crate::stats::percentile;
use crate::throughput::figures;
use crate::turns::{Rounds, Turn, take_turns};
use crate::ways::{self, Way};

/// What is taken of the times of a round, and the values' place.
const SHARES: [(&str, f64); 2] = [("median", 0.5), ("p99", 0.99)];

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    let site = match Site::build(2).await {
        Ok(site) => site,
        Err(e) => return report.failed("latency", &e),
    };
    let bar = Bar::AtMost(1.1);
    let name = "latency/one-host";
    let ways = ways::on_one_host(&site, name, report).await;
    measure(name, ways, ways::BRIDGE, (ways::LIME, bar), options, report);
    let name = "latency/two-hosts";
    let ways = ways::on_two_hosts(&site, name, report).await;
    measure(
        name,
        ways,
        ways::VXLAN,
        (ways::GENEVE, bar),
        options,
        report,
    );
}

fn measure(
    name: &str,
    mut ways: Vec<Turn<Way, 2>>,
    reference: &str,
    bar: (&str, Bar),
    options: &Options,
    report: &mut Report,
) {
    let exchanges = options.pick(4000, 1000);
    tokio::task::block_in_place(|| {
        take_turns(&mut ways, reference, Rounds::new(options, 11, 61), |way| {
            let [from, to] = &way.stations;
            let times = udp::exchange(&from.ns, &to.ns, to.address, exchanges)?;
            // No times make no number, which no figure is made of.
            Ok(SHARES.map(|(_, share)| percentile(&times, share).unwrap_or(f64::NAN)))
        });
    });
    for (which, (what, _)) in SHARES.iter().enumerate() {
        let name = format!("{name}/{what}");
        for figure in figures(&name, &ways, which, "µs", reference, bar, report) {
            report.add(figure);
        }
    }
}
