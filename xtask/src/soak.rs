//! `cargo xtask soak`: the command line of [`lime_tests::soak`].

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use lime_tests::soak::{self, Life, Options, Report};

use crate::binaries;

/// Options of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// At most so many lives
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    lives: u64,
    /// Seed of the first life, each has the next one; one from the time of day if not given. What happens is the same again, not when
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs it. Success only if nothing was wrong.
pub fn run(args: &Args) -> Result<ExitCode> {
    binaries::need_root("the soak test")?;
    binaries::build()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let options = Options {
        time: Duration::from_secs(args.minutes * 60),
        lives: args.lives,
        seed: args.seed.unwrap_or_else(|| now.map_or(0, |d| d.as_secs())),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = soak::run(&options, tell) => report.map_err(anyhow::Error::from),
            // The lab goes with the future that is dropped here.
            _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
        }
    })?;
    summarize(&report);
    Ok(match report.wrong.is_empty() && report.lives > 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn tell(life: &Life, report: &Report) {
    let deeds = life.deeds.join(", ");
    match &life.end {
        Ok(s) => println!(
            "life {} (seed {}): {} updates, {} packets, {} steps placed; {deeds}",
            report.lives, life.seed, life.updates, s.packets, s.placed
        ),
        Err(what) => println!(
            "life {} (seed {}): WRONG: {what}\n  {} updates; {deeds}\n  again: cargo xtask soak --lives 1 --seed {}",
            report.lives, life.seed, life.updates, life.seed
        ),
    }
}

fn summarize(report: &Report) {
    let deeds: Vec<String> = report
        .deeds
        .iter()
        .map(|(k, n)| format!("{n} x {k}"))
        .collect();
    println!(
        "\n{} lives: {} packets under {} updates, {} steps placed; {}",
        report.lives,
        report.packets,
        report.updates,
        report.placed,
        deeds.join(", ")
    );
    println!("{} contradictions or wrong counters", report.wrong.len());
    for (seed, _) in &report.wrong {
        println!("  cargo xtask soak --lives 1 --seed {seed}");
    }
}
