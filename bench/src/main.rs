//! Benchmarks of LIME, each beside what it is measured against, in the same run.
//!
//! Figures are meant as ratios: the machine, the kernel and its other load change the absolute ones. They come in groups, one module
//! each, which a run selects by name. A figure that cannot be measured is an error, and a bar that does not hold is printed as such.

mod api;
mod busy;
mod clone;
mod consistency;
mod latency;
mod memory;
mod options;
mod pipeline;
mod priority;
mod programs;
mod report;
mod rules;
mod ruleset;
mod settings;
mod site;
mod stats;
mod stores;
mod syscall;
mod throughput;
mod turns;
mod uplink;
mod ways;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use options::{Group, Options};
use priority::Priority;
use report::Report;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("lime-bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the process on SIGINT and SIGTERM. What was set up goes too: the labs' guardian processes see to that, as they do after any end.
async fn end_on_signal(priority: Priority) {
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
    priority.give_back();
    eprintln!("lime-bench: interrupted");
    std::process::exit(130);
}

/// Whether every figure could be measured.
fn run() -> Result<bool> {
    let options = Options::parse();
    if let Some(path) = &options.json {
        // Before minutes of measuring, not after.
        std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let priority = Priority::raise()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut report = Report::new(options.quick);
    runtime.spawn(end_on_signal(priority));
    runtime.block_on(async {
        for group in options.groups() {
            eprintln!("{}: {}", group.name(), group.about());
            match group {
                Group::Cache => pipeline::run_cache(&options, &mut report).await,
                Group::Uplink => uplink::run(&options, &mut report).await,
                Group::Latency => latency::run(&options, &mut report).await,
                Group::Memory => memory::run(&options, &mut report).await,
                Group::Pipeline => pipeline::run(&options, &mut report).await,
                Group::Rules => rules::run(&options, &mut report).await,
                Group::Consistency => consistency::run(&options, &mut report).await,
                Group::Clone => clone::run(&options, &mut report).await,
                Group::Throughput => throughput::run(&options, &mut report).await,
            }
        }
    });
    priority.give_back();
    print!("{}", report.table());
    if let Some(directory) = &options.plots {
        report.draw(directory)?;
    }
    if let Some(path) = &options.json {
        let text = report.json().context("cannot write the report as JSON")?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report.complete())
}
