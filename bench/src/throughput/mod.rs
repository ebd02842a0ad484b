//! TCP in bulk between two stations: through LIME's switch and through a Linux bridge on one host, and across two hosts through LIME's
//! tunnel and through VXLAN. All ways exist side by side, each with stations of its own, and take turns.

mod lime;
mod linux;
mod tcp;

use std::time::Duration;

use anyhow::{Context, Error, Result};
use switch_agent::datapath::{AttachMode, Datapath};

use crate::options::Options;
use crate::report::{Bar, Figure, Report};
use crate::site::{Site, Station};
use crate::stats::{median, rotation};

/// A way from one station to another.
struct Way {
    name: &'static str,
    stations: [Station; 2],
    gigabits: Vec<f64>,
    /// Why there are no (or no more) measurements.
    error: Option<Error>,
    /// Kept as long as the way is used.
    _datapaths: Vec<Datapath>,
}

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    let site = match Site::build(2).await {
        Ok(site) => site,
        Err(e) => return report.failed("throughput", &e),
    };
    one_host(&site, options, report).await;
    two_hosts(&site, options, report).await;
}

async fn one_host(site: &Site, options: &Options, report: &mut Report) {
    let mut ways = Vec::new();
    for name in ["lime-tc", "lime-xdp", "linux-bridge"] {
        match one_host_way(site, name).await {
            Ok(way) => ways.push(way),
            Err(e) => report.failed(&format!("throughput/one-host/{name}"), &e),
        }
    }
    take_turns(&mut ways, options).await;
    add(
        report,
        "one-host",
        &ways,
        "linux-bridge",
        Bar::AtLeast(0.95),
    );
}

async fn one_host_way(site: &Site, name: &'static str) -> Result<Way> {
    const HOST: &str = "a";
    let (short, mode) = match name {
        "lime-tc" => ("tc", Some(AttachMode::Tc)),
        "lime-xdp" => ("xdp", Some(AttachMode::Xdp)),
        _ => ("br", None),
    };
    let xdp = mode == Some(AttachMode::Xdp);
    let first = site.station(HOST, &format!("{short}1"), 1, xdp).await?;
    let second = site.station(HOST, &format!("{short}2"), 2, xdp).await?;
    let stations = [&first, &second];
    let datapaths = match mode {
        Some(mode) => vec![lime::on_one_host(site, HOST, name, stations, mode)?],
        None => {
            linux::bridge(site.host(HOST)?, "br-lan", &stations).await?;
            Vec::new()
        }
    };
    Ok(Way::new(name, [first, second], datapaths))
}

async fn two_hosts(site: &Site, options: &Options, report: &mut Report) {
    let mut ways = Vec::new();
    for name in ["lime-geneve", "linux-bridge-vxlan"] {
        match two_hosts_way(site, name).await {
            Ok(way) => ways.push(way),
            Err(e) => report.failed(&format!("throughput/two-hosts/{name}"), &e),
        }
    }
    take_turns(&mut ways, options).await;
    add(
        report,
        "two-hosts",
        &ways,
        "linux-bridge-vxlan",
        Bar::AtLeast(1.0),
    );
}

async fn two_hosts_way(site: &Site, name: &'static str) -> Result<Way> {
    let (device, is_lime) = match name {
        "lime-geneve" => ("gnv", true),
        _ => ("vx", false),
    };
    let first = site.station("a", device, 1, false).await?;
    let second = site.station("b", device, 2, false).await?;
    let ends = [("a", &first), ("b", &second)];
    let datapaths = if is_lime {
        lime::on_two_hosts(site, ends, name)?.into()
    } else {
        linux::bridges_and_vxlan(site, ends).await?;
        Vec::new()
    };
    Ok(Way::new(name, [first, second], datapaths))
}

impl Way {
    fn new(name: &'static str, stations: [Station; 2], datapaths: Vec<Datapath>) -> Self {
        Self {
            name,
            stations,
            gigabits: Vec::new(),
            error: None,
            _datapaths: datapaths,
        }
    }

    fn measure(&mut self, options: &Options) {
        if self.error.is_some() {
            return;
        }
        let [from, to] = &self.stations;
        let millis = |thorough, quick| Duration::from_millis(options.pick(thorough, quick));
        let rate = tcp::bulk(
            &from.ns,
            &to.ns,
            to.address,
            millis(500, 200),
            millis(2000, 500),
        );
        match rate {
            Ok(rate) => self.gigabits.push(rate),
            Err(e) => self.error = Some(e),
        }
    }

    fn result(&self) -> Result<f64> {
        match &self.error {
            Some(e) => Err(anyhow::anyhow!("{e:#}")),
            None => median(&self.gigabits).context("no rounds"),
        }
    }
}

async fn take_turns(ways: &mut [Way], options: &Options) {
    for round in 0..options.pick(7, 2) {
        for which in rotation(ways.len(), round) {
            tokio::task::block_in_place(|| ways[which].measure(options));
        }
    }
}

/// Adds a figure per way. The bar is for LIME as it attaches by default (TC, on such devices) beside what Linux offers.
fn add(report: &mut Report, place: &str, ways: &[Way], reference: &str, bar: Bar) {
    let beside = ways
        .iter()
        .find(|w| w.name == reference)
        .and_then(|w| w.result().ok());
    for way in ways {
        let name = format!("throughput/{place}/{}", way.name);
        match way.result() {
            Ok(gigabits) => {
                let mut figure = Figure::new(name, gigabits, "Gb/s");
                if way.name != reference {
                    if let Some(beside) = beside {
                        figure = figure.beside(reference, beside);
                    }
                    if way.name != "lime-xdp" {
                        figure = figure.bar(bar);
                    }
                }
                report.add(figure);
            }
            Err(e) => report.failed(&name, &e),
        }
    }
}
