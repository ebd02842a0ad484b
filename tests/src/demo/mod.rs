//! The demonstration: a network of two linked switches and four end hosts migrates from host `a` to host `b`, live, under traffic in all
//! directions and with a reactive firewall, and everything is accounted for to the packet.
//!
//! [`run`] is the whole of it; `cargo xtask demo` is its command line, and the end-to-end tests run it too.

mod counters;
mod flows;
mod network;
mod report;
mod timeline;

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lime_proto::v1::migration::State;
use lime_proto::v1::{Consistency, Migration, PortAttach};

pub use report::{CounterReport, DemoReport, MigrationReport, PhaseReport};

use crate::firewall::{App, AppReport, Prober, ProberReport};
use crate::lab::{Lab, LabError};
use crate::record::Verdict;
use crate::tenant::Tenant;
use crate::traffic::{Echo, Origin};

/// How the demonstration is to be run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Attach mode of the ports.
    pub attach: PortAttach,
    /// Without version tags and waiting: to see what they are for.
    pub naive: bool,
    /// Seconds of traffic; the migration starts after a third of it.
    pub seconds: u32,
    /// Packets per second of each UDP flow.
    pub rate: u32,
    /// Records of 1,024 bytes per second of each TCP stream.
    pub tcp_rate: u32,
    /// Pause between new flows through the firewall.
    pub new_flow_interval: Duration,
    /// Where the timeline goes.
    pub svg: Option<PathBuf>,
    /// Say what is being done, on standard error.
    pub talk: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            attach: PortAttach::Auto,
            naive: false,
            seconds: 9,
            rate: 2000,
            tcp_rate: 500,
            new_flow_interval: Duration::from_millis(4),
            svg: None,
            talk: false,
        }
    }
}

/// Why the demonstration could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The lab or the coordinator.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Traffic.
    #[error("cannot run the traffic")]
    Traffic(#[from] std::io::Error),
    /// The firewall application.
    #[error("the firewall application cannot open its channel: {0}")]
    App(Box<tonic::Status>),
}

/// Everything the demonstration found out.
#[derive(Debug)]
pub struct Outcome {
    /// What scripts read.
    pub report: DemoReport,
    /// What the firewall application saw.
    pub app: AppReport,
    /// What its traffic saw.
    pub probes: ProberReport,
    /// Every counter that was compared.
    pub comparisons: Vec<counters::Comparison>,
    /// The migration as the coordinator tells it.
    pub migration: Migration,
    /// Whether one switch could have shown all that was seen.
    pub verdict: Verdict,
}

impl Outcome {
    /// The report for people.
    pub fn text(&self) -> String {
        report::text(self)
    }
}

/// Runs the demonstration. Nothing of its lab stays, whatever happens.
pub async fn run(options: &Options) -> Result<Outcome, DemoError> {
    let say = Say(options.talk);
    say.step("building the lab: hosts a and b, a coordinator, four end hosts");
    let mut lab = Lab::builder()
        .hosts(2)
        .end_hosts(4)
        .xdp(options.attach == PortAttach::Xdp)
        .build()
        .await?;
    let result = run_in(&lab, options, &say).await;
    if result.is_err() {
        eprintln!("{}", lab.logs());
    }
    // The report says it.
    lab.unwatch();
    result
}

async fn run_in(lab: &Lab, options: &Options, say: &Say) -> Result<Outcome, DemoError> {
    say.step("creating the network: switches s1 and s2 on host a, linked, two end hosts on each");
    let consistency = if options.naive {
        Consistency::None
    } else {
        Consistency::Causal
    };
    let mut tenant = network::create(lab, consistency, options.attach).await?;
    let policy = network::policy(lab, &tenant)?;
    tenant.rules("s1", policy.base_rules()).await?;

    say.step("starting the firewall application and the traffic");
    let app = App::start(lab.controller()?, policy)
        .await
        .map_err(|s| DemoError::App(Box::new(s)))?;
    let baseline = counters::Baseline::at_rest(lab, &mut tenant, options.attach).await?;
    let origin = Origin::now();
    let traffic = {
        let plan = network::flow_plan(lab, options);
        tenant.rules("s1", plan.rules("s1")).await?;
        tenant.rules("s2", plan.rules("s2")).await?;
        tokio::task::block_in_place(|| flows::Traffic::start(lab, &plan, origin))?
    };
    let (echoes, probers) = start_probes(lab, options)?;
    let watch = counters::Watch::start(tenant.clone());

    let third = Duration::from_secs(options.seconds.max(3).into()) / 3;
    say.step(&format!(
        "traffic runs: {} flows, {} packets/s per UDP flow; migration in {:.0} s",
        traffic.len(),
        options.rate,
        third.as_secs_f64()
    ));
    tokio::time::sleep(third).await;

    say.step("migrating both switches and all end hosts from a to b");
    let started_at = origin.elapsed();
    let migration = migrate(&mut tenant, say).await?;
    say.step(&format!(
        "migration {}; traffic goes on for {:.0} s",
        report::outcome(&migration),
        third.as_secs_f64()
    ));
    tokio::time::sleep(third).await;

    say.step("stopping the traffic and comparing counters");
    let (flows, series, probes) = tokio::task::block_in_place(|| -> std::io::Result<_> {
        let mut probes = ProberReport::default();
        for prober in &probers {
            prober.stop();
        }
        for prober in probers {
            probes.add(&prober.finish()?);
        }
        let (flows, series) = traffic.finish()?;
        Ok((flows, series, probes))
    })?;
    let (went_back, reads) = watch.stop().await;
    let answered: u64 = echoes.iter().map(Echo::answered).sum();
    let comparisons = baseline
        .compare(lab, &mut tenant, options.attach, &flows, &probes, answered)
        .await?;
    lab.check_processes()?;

    if let Some(path) = &options.svg {
        let svg = timeline::draw(&series, started_at, &migration);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, svg)?;
        say.step(&format!("timeline written to {}", path.display()));
    }
    say.step("judging what everybody has seen");
    let verdict = tokio::task::block_in_place(|| lab.verdict(tenant.network()));
    let app = app.report();
    let counters = counters::summary(&comparisons, went_back, reads);
    let report = DemoReport::new(
        options,
        flows,
        counters,
        &app,
        &probes,
        &migration,
        &comparisons,
    )
    .judged(&verdict);
    Ok(Outcome {
        verdict,
        report,
        app,
        probes,
        comparisons,
        migration,
    })
}

fn start_probes(lab: &Lab, options: &Options) -> Result<(Vec<Echo>, Vec<Prober>), DemoError> {
    let outside: Vec<_> = network::outside(lab).collect();
    let echoes = outside
        .iter()
        .map(|h| Echo::start(h, (h.ipv4(), crate::firewall::PROBE_PORT).into()))
        .collect::<Result<_, _>>()?;
    let targets: Vec<_> = outside.iter().map(|h| h.ipv4()).collect();
    let probers = network::inside(lab)
        .map(|h| Prober::start(h, targets.clone(), options.new_flow_interval * 2))
        .collect::<Result<_, _>>()?;
    Ok((echoes, probers))
}

async fn migrate(tenant: &mut Tenant, say: &Say) -> Result<Migration, LabError> {
    let request = tenant.migration_request("a", "b");
    let started = tenant.start_migration(request).await?;
    let bar = say.bar(u64::from(started.steps));
    let ended = tenant
        .watch_migration(started.id, Duration::from_secs(60), |m| {
            bar.set_length(m.steps.into());
            bar.set_position(m.steps_done.into());
            bar.set_message(m.step.clone());
        })
        .await;
    bar.finish_and_clear();
    let ended = ended?;
    if ended.state() != State::Completed {
        say.step(&format!("the migration did not complete: {}", ended.error));
    }
    Ok(ended)
}

/// Tells people what is being done.
struct Say(bool);

impl Say {
    fn step(&self, text: &str) {
        if self.0 {
            eprintln!("demo: {text}");
        }
    }

    fn bar(&self, length: u64) -> ProgressBar {
        if !self.0 {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template(
            "      [{bar:40}] step {pos}/{len} {elapsed_precise} {msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(length).with_style(style)
    }
}
