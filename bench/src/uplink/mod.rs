//! Frames of 64 bytes that arrive on an uplink, as many as pass, and leave by a second device: through LIME's switch at XDP, beside a bare
//! XDP redirect in its place, a Linux bridge, and Open vSwitch's userspace data path with the same rules.
//!
//! The uplink is a veth whose far end is fed by a kernel program (`BPF_PROG_TEST_RUN` in live-frames mode). As with a network card, whose
//! driver's receiving half runs where the XDP program does, one CPU does both: the feeder stands for the driver. Open vSwitch's daemon has
//! the others to itself. Frames are counted where they come out, by a program that drops them.
//!
//! `on-two-cpus`: NAPI of the uplink is a thread on another CPU than the feeder, so that LIME has one to itself; but then every frame that it
//! reads comes out of the other CPU's cache, which a bare redirect never reads, and no network card does.

mod feeder;
mod napi;
mod ovs;
mod sink;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use nix::sched::sched_getaffinity;
use nix::unistd::Pid;
use switch_agent::datapath::AttachMode;

use crate::options::Options;
use crate::pipeline::Switch;
use crate::report::{Bar, Figure, Report};
use crate::ruleset;
use crate::site::{Site, Station, inside};
use crate::turns::{Rounds, Turn, take_turns};
use crate::ways::{bare, linux};
use feeder::Feeder;
use ovs::{Ovs, Ports};
use sink::Sink;

const HOST: &str = "a";
/// Two of Open vSwitch do not fit into one namespace.
const SECOND_HOST: &str = "b";
/// Rules of LIME and of Open vSwitch, and their masks.
const RULES: usize = 1000;
const MASKS: usize = 16;
/// Rules that the frames hit, in turns: so many flows.
const FLOWS: usize = 32;

/// How long the first frame may take.
const PATIENCE: Duration = Duration::from_secs(3);

const LIME: &str = "lime-xdp";
const BARE: &str = "bare-xdp-redirect";
const LIME_ALONE: &str = "lime-xdp-on-two-cpus";
const BARE_ALONE: &str = "bare-xdp-redirect-on-two-cpus";
const BRIDGE: &str = "linux-bridge";
const OVS: &str = "open-vswitch";
const OVS_AFXDP: &str = "open-vswitch-afxdp";

/// From the uplink to the second device.
struct Lane {
    feeder: Feeder,
    sink: Sink,
    by: By,
}

/// What switches. Kept as long as the lane is.
#[allow(dead_code, reason = "kept for what dropping it ends")]
enum By {
    Lime(Box<Switch>),
    Bare(Ebpf),
    Bridge(Station),
    Ovs(Ovs),
}

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    let site = match Site::build(2).await {
        Ok(site) => site,
        Err(e) => return report.failed("uplink", &e),
    };
    let mut lanes = Vec::new();
    for name in [LIME, BARE, BRIDGE, OVS, OVS_AFXDP, LIME_ALONE, BARE_ALONE] {
        match lane(&site, name).await {
            Ok(lane) => lanes.push(Turn::new(name, lane)),
            Err(e) => report.failed(&format!("uplink/{name}"), &e),
        }
    }
    let millis = |thorough, quick| Duration::from_millis(options.pick(thorough, quick));
    let (warm_up, time) = (millis(100, 50), millis(400, 150));
    tokio::task::block_in_place(|| {
        take_turns(&mut lanes, BARE, Rounds::new(options, 11, 41), |lane| {
            Ok([lane.measure(warm_up, time)?])
        });
    });
    add(&lanes, report);
}

/// LIME beside each of the others.
fn add(lanes: &[Turn<Lane, 1>], report: &mut Report) {
    let rates = |name: &str| {
        let lane = lanes.iter().find(|l| l.name == name);
        lane.context("it could not be built")?.values(0)
    };
    for (lime, reference, bar) in [
        (LIME, BARE, Some(Bar::AtLeast(0.8))),
        (LIME, BRIDGE, Some(Bar::AtLeast(1.5))),
        (LIME, OVS, Some(Bar::AtLeast(3.0))),
        // Its ports poll without end, on a CPU of their own beside the one that receives.
        (LIME, OVS_AFXDP, None),
        (LIME_ALONE, BARE_ALONE, None),
    ] {
        let name = format!("uplink/{lime}-to-{reference}");
        let figure = || {
            let ours = rates(lime).with_context(|| format!("no rate of {lime}"))?;
            let other = rates(reference).with_context(|| format!("no rate of {reference}"))?;
            Figure::paired(name.clone(), ours, "Mpps", reference, other)
        };
        let with_bar = |f: Figure| bar.map_or(f.clone(), |bar| f.bar(bar));
        report.add_or_fail(&name, figure().map(with_bar));
    }
}

impl Lane {
    /// Millions of frames per second that come out.
    fn measure(&self, warm_up: Duration, time: Duration) -> Result<f64> {
        let (feeding, _) = cpus()?;
        let _running = match &self.by {
            By::Ovs(ovs) => Some(ovs.wake()?),
            _ => None,
        };
        // A bridge, and Open vSwitch beside rules, learn where the sink is.
        self.sink.say_hello()?;
        let idle = self.sink.count()?;
        let feed = self.feeder.start(feeding)?;
        // The kernel takes its time to begin.
        let deadline = Instant::now() + PATIENCE;
        while self.sink.count()? == idle {
            ensure!(Instant::now() < deadline, "no frame comes out");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(warm_up);
        let (before, start) = (self.sink.count()?, Instant::now());
        std::thread::sleep(time);
        let (after, took) = (self.sink.count()?, start.elapsed());
        feed.stop()?;
        ensure!(after > before, "frames no longer come out");
        Ok((after - before) as f64 / 1e6 / took.as_secs_f64())
    }
}

async fn lane(site: &Site, name: &'static str) -> Result<Lane> {
    let at = if name == OVS_AFXDP { SECOND_HOST } else { HOST };
    let host = site.host(at)?;
    let initials: String = name
        .split('-')
        .filter_map(|word| word.chars().next())
        .collect();
    // Unique on the machine, since kernel threads are found by it.
    let device = |end: &str| format!("{initials}{end}{}", std::process::id() % 1_000_000);
    let uplink = site.station(at, &device("u"), 1, true).await?;
    let out = site.station(at, &device("o"), 2, true).await?;
    let ends = [&uplink, &out];
    let rules = ruleset::numbered(RULES, MASKS, 1);
    let by = match name {
        LIME | LIME_ALONE => {
            let mut switch = Switch::build(site, at, name, ends, &rules, true)?;
            for end in ends {
                let datapath = switch.datapath();
                let attach = || datapath.attach_port(end.ifindex, AttachMode::Xdp);
                inside(host.netns(), attach)?
                    .with_context(|| format!("cannot attach to {}", end.device))?;
            }
            By::Lime(Box::new(switch))
        }
        BARE | BARE_ALONE => By::Bare(bare::redirect(host.netns(), ends, AttachMode::Xdp)?),
        BRIDGE => {
            linux::bridge(host, "br-uplink", &ends).await?;
            By::Bridge(out.clone())
        }
        _ => {
            let ports = if name == OVS {
                Ports::System
            } else {
                Ports::Afxdp
            };
            By::Ovs(Ovs::start(site, at, name, ends, &rules, ports)?)
        }
    };
    if name == LIME_ALONE || name == BARE_ALONE {
        napi::keep_on(host.netns(), &uplink.device, cpus()?.1)?;
    }
    let flows = ruleset::flows(MASKS - 1, MASKS, FLOWS, 1);
    Ok(Lane {
        feeder: Feeder::load(&uplink, flows)?,
        sink: Sink::attach(out)?,
        by,
    })
}

/// The CPU that feeds, and the one that what is measured runs on where that is another.
fn cpus() -> Result<(usize, usize)> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("cannot list the CPUs")?;
    let usable: Vec<usize> = (0..nix::sched::CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect();
    match usable[..] {
        [first, .., last] => Ok((first, last)),
        _ => anyhow::bail!("this takes two CPUs: one feeds, the other switches"),
    }
}
