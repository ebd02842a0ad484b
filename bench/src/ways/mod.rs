//! Ways from one station to another: through LIME's switch, a bare redirect or a Linux bridge on one host, and across two hosts through
//! LIME's tunnel or through VXLAN. All exist side by side, each with stations of its own.

pub mod bare;
pub mod lime;
pub mod linux;

use anyhow::Result;
use aya::Ebpf;
use switch_agent::datapath::{AttachMode, Datapath};

use crate::report::Report;
use crate::site::{Site, Station};
use crate::turns::Turn;

/// The reference on one host.
pub const BRIDGE: &str = "linux-bridge";
/// The reference across two.
pub const VXLAN: &str = "linux-bridge-vxlan";
/// LIME on one host, attached as it is by default.
pub const LIME: &str = "lime-tc";
/// LIME across two.
pub const GENEVE: &str = "lime-geneve";

const ONE_HOST: [&str; 5] = [
    LIME,
    "lime-xdp",
    "bare-tc-redirect",
    "bare-xdp-redirect",
    BRIDGE,
];
const TWO_HOSTS: [&str; 2] = [GENEVE, VXLAN];

/// A way from one station to another.
pub struct Way {
    /// From, to.
    pub stations: [Station; 2],
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

/// All ways on host `a`. What cannot be built is reported under `name`.
pub async fn on_one_host<const N: usize>(
    site: &Site,
    name: &str,
    report: &mut Report,
) -> Vec<Turn<Way, N>> {
    all(&ONE_HOST, site, name, report).await
}

/// All ways from host `a` to host `b`. What cannot be built is reported under `name`.
pub async fn on_two_hosts<const N: usize>(
    site: &Site,
    name: &str,
    report: &mut Report,
) -> Vec<Turn<Way, N>> {
    all(&TWO_HOSTS, site, name, report).await
}

async fn all<const N: usize>(
    names: &[&'static str],
    site: &Site,
    name: &str,
    report: &mut Report,
) -> Vec<Turn<Way, N>> {
    let mut ways = Vec::new();
    for way in names {
        let built = if TWO_HOSTS.contains(way) {
            two_hosts(site, way).await
        } else {
            one_host(site, way).await
        };
        match built {
            Ok(built) => ways.push(Turn::new(way, built)),
            Err(e) => report.failed(&format!("{name}/{way}"), &e),
        }
    }
    ways
}

async fn one_host(site: &Site, name: &'static str) -> Result<Way> {
    const HOST: &str = "a";
    let xdp = name.contains("xdp");
    let mode = if xdp { AttachMode::Xdp } else { AttachMode::Tc };
    // Device names are short: the kind's first letters and the mode.
    let device = format!("{}{}", &name[..3], if xdp { "x" } else { "t" });
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
    Ok(Way {
        stations: [first, second],
        _by: by,
    })
}

async fn two_hosts(site: &Site, name: &'static str) -> Result<Way> {
    let is_lime = name == GENEVE;
    let device = if is_lime { "gnv" } else { "vx" };
    let first = site.station("a", device, 1, false).await?;
    let second = site.station("b", device, 2, false).await?;
    let ends = [("a", &first), ("b", &second)];
    let by = if is_lime {
        By::Lime(lime::on_two_hosts(site, ends, name)?.into())
    } else {
        linux::bridges_and_vxlan(site, ends).await?;
        By::Linux
    };
    Ok(Way {
        stations: [first, second],
        _by: by,
    })
}
