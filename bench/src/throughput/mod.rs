//! TCP in bulk between two stations: through LIME's switch and through a Linux bridge on one host, and across two hosts through LIME's
//! tunnel and through VXLAN. All ways exist side by side, each with stations of its own, and take turns.

mod bare;
mod lime;
mod linux;
mod tcp;

use std::time::Duration;

use anyhow::{Context, Error, Result};
use aya::Ebpf;
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
    _by: By,
}

/// What joins the stations of a way.
#[allow(dead_code, reason = "kept for what dropping it ends")]
enum By {
    Lime(Vec<Datapath>),
    Bare(Ebpf),
    /// Devices that stay until the site goes.
    Linux,
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
    for name in [
        "lime-tc",
        "lime-xdp",
        "bare-tc-redirect",
        "bare-xdp-redirect",
        "linux-bridge",
    ] {
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
        ("lime-tc", Bar::AtLeast(0.95)),
    );
}

async fn one_host_way(site: &Site, name: &'static str) -> Result<Way> {
    const HOST: &str = "a";
    let mode = if name.contains("xdp") {
        AttachMode::Xdp
    } else {
        AttachMode::Tc
    };
    let xdp = mode == AttachMode::Xdp;
    // Device names are short.
    let device = name.replace("-redirect", "").replace("linux-", "");
    let first = site.station(HOST, &format!("{device}1"), 1, xdp).await?;
    let second = site.station(HOST, &format!("{device}2"), 2, xdp).await?;
    let stations = [&first, &second];
    let host = site.host(HOST)?;
    let by = match name.split_once('-') {
        Some(("lime", _)) => By::Lime(vec![lime::on_one_host(site, HOST, name, stations, mode)?]),
        Some(("bare", _)) => By::Bare(bare::redirect(host.netns(), stations, mode)?),
        _ => {
            linux::bridge(host, "br-lan", &stations).await?;
            By::Linux
        }
    };
    Ok(Way::new(name, [first, second], by))
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
        ("lime-geneve", Bar::AtLeast(1.0)),
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
    let by = if is_lime {
        By::Lime(lime::on_two_hosts(site, ends, name)?.into())
    } else {
        linux::bridges_and_vxlan(site, ends).await?;
        By::Linux
    };
    Ok(Way::new(name, [first, second], by))
}

impl Way {
    fn new(name: &'static str, stations: [Station; 2], by: By) -> Self {
        Self {
            name,
            stations,
            gigabits: Vec::new(),
            error: None,
            _by: by,
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

/// Adds a figure per way, beside that of the way `reference`. The bar is for the way that it names: LIME as it attaches by default.
fn add(report: &mut Report, place: &str, ways: &[Way], reference: &str, bar: (&str, Bar)) {
    let beside = ways
        .iter()
        .find(|w| w.name == reference)
        .and_then(|w| w.result().ok());
    for way in ways {
        let name = format!("throughput/{place}/{}", way.name);
        let mut figure = match way.result() {
            Ok(gigabits) => Figure::new(name, gigabits, "Gb/s"),
            Err(e) => {
                report.failed(&name, &e);
                continue;
            }
        };
        if let Some(beside) = beside.filter(|_| way.name != reference) {
            figure = figure.beside(reference, beside);
        }
        if way.name == bar.0 {
            figure = figure.bar(bar.1);
        }
        report.add(figure);
    }
}
