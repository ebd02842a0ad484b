//! `cargo xtask demo`: the command line of [`lime_tests::demo`].

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;
use lime_proto::v1::PortAttach;
use lime_tests::demo::{self, Options};

use crate::binaries;

/// Options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Without version tags and waiting: the application is then seen to misbehave, and the command fails
    #[arg(long)]
    naive: bool,
    /// Where the switch hooks into its ports
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    attach: Attach,
    /// Seconds of traffic
    #[arg(long, default_value_t = Options::default().seconds, value_parser = clap::value_parser!(u32).range(3..=600))]
    seconds: u32,
    /// Packets per second of each UDP flow
    #[arg(long, default_value_t = Options::default().rate, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Write the report for scripts to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the timeline of throughput per flow to this file [default: target/demo/timeline.svg]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Attach {
    /// What suits the device best: TC for the lab's veth ports
    Auto,
    /// Native XDP
    Xdp,
    /// TC
    Tc,
}

/// Runs the demonstration. The exit code is success only when nothing at all went wrong.
pub fn run(args: &Args) -> Result<ExitCode> {
    binaries::need_root("the demonstration")?;
    eprintln!("demo: building agent, coordinator and CLI (the first time takes a few minutes)");
    binaries::build()?;
    let options = Options {
        attach: match args.attach {
            Attach::Auto => PortAttach::Auto,
            Attach::Xdp => PortAttach::Xdp,
            Attach::Tc => PortAttach::Tc,
        },
        naive: args.naive,
        seconds: args.seconds,
        rate: args.rate,
        svg: Some(args.svg.clone().unwrap_or_else(default_svg)),
        talk: true,
        ..Options::default()
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = demo::run(&options) => outcome.map_err(anyhow::Error::from),
            // The lab goes with the future that is dropped here.
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    })?;
    println!("{}", outcome.text());
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&outcome.report)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if outcome.report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn default_svg() -> PathBuf {
    let mut target = lime_tests::lab::bin_directory();
    target.pop();
    target.join("demo/timeline.svg")
}
