//! `lime-verify`: model checking from the command line. Usually started by `cargo xtask verify`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use lime_verify::explore::{Limits, Report, explore, shortest};
use lime_verify::mutation::Mutation;
use lime_verify::progress::{Progress, run_of};
use lime_verify::scenario::Scenario;
use lime_verify::scenarios;
use lime_verify::world::Setting;

/// Check the consistency protocol: walk through all that can happen in small worlds around the coordinator's production code
#[derive(Debug, Parser)]
#[command(name = "lime-verify", bin_name = "cargo xtask verify")]
struct Args {
    /// Minutes in all, shared out among the scenarios
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Only these scenarios (comma-separated)
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    scenario: Vec<String>,
    /// Order of the walk; another one finds other things first where time does not suffice for all
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Memory for fingerprints of states, in millions of states per scenario (8 to 20 bytes each)
    #[arg(long, default_value_t = 100, value_name = "MILLIONS")]
    states: u64,
    /// Note finished scenarios in this file, and go on behind those that the same program has noted there with the same options; it is
    /// removed at the end
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Take out the protocol's rules one by one instead: each must be missed
    #[arg(long)]
    mutations: bool,
    /// With --mutations: only these (comma-separated)
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    mutation: Vec<String>,
    /// Print the steps that lead to a violation
    #[arg(long)]
    trace: bool,
    /// List the scenarios and mutations
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Assertions that fail in the production code are reported as violations, with the way there.
    std::panic::set_hook(Box::new(|_| {}));
    let mut all = scenarios::all();
    if !args.mutations {
        all.extend(lime_verify::scenarios_long::long());
        all.extend(lime_verify::scenarios_strict::long());
    }
    if args.list {
        for s in &all {
            println!("{:24} {}", s.name, s.about);
        }
        for m in Mutation::ALL {
            println!("{m:?}");
        }
        return ExitCode::SUCCESS;
    }
    for name in &args.scenario {
        if !all.iter().any(|s| s.name == name) {
            eprintln!("error: no scenario is called {name}: --list shows them");
            return ExitCode::FAILURE;
        }
    }
    let wanted =
        |s: &Scenario| args.scenario.is_empty() || args.scenario.iter().any(|n| n == s.name);
    let chosen: Vec<Scenario> = all.into_iter().filter(wanted).collect();
    let good = if args.mutations {
        mutations(&args, &chosen)
    } else {
        match check(&args, chosen) {
            Ok(good) => good,
            Err(error) => {
                eprintln!("error: {error:#}");
                false
            }
        }
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print_trace(setting: &Setting, report: &Report) {
    let Some(trace) = &report.trace else { return };
    for line in lime_verify::explain::explain(setting, &trace.actions) {
        println!("      {line}");
    }
}

/// What was done before by the same program with the same options.
fn progress(args: &Args) -> anyhow::Result<Option<Progress>> {
    let Some(path) = &args.resume else {
        return Ok(None);
    };
    let options = format!(
        "{} {:?} {} {} {}",
        args.minutes, args.scenario, args.seed, args.threads, args.states
    );
    let run = run_of(&std::env::current_exe()?, &options)?;
    let progress = Progress::open(path, run).with_context(|| path.display().to_string())?;
    Ok(Some(progress))
}

fn check(args: &Args, chosen: Vec<Scenario>) -> anyhow::Result<bool> {
    let mut progress = progress(args)?;
    let before = progress.as_ref().map(Progress::time).unwrap_or_default();
    let began = Instant::now();
    let total = Duration::from_secs_f64(args.minutes * 60.0).saturating_sub(before);
    let (mut states, mut steps, mut good, mut complete) = (0, 0, true, 0);
    let count = chosen.len();
    for (i, scenario) in chosen.into_iter().enumerate() {
        let name = scenario.name;
        println!("{name} ({} of {count}): {}", i + 1, scenario.about);
        if let Some(done) = progress.as_ref().and_then(|p| p.of(name)) {
            println!(
                "    finished before: {} states, {} steps",
                done.states, done.steps
            );
            states += done.states;
            steps += done.steps;
            complete += usize::from(done.complete);
            continue;
        }
        let setting = Setting::new(scenario, None);
        let left = total.saturating_sub(began.elapsed());
        let limits = Limits {
            states: args.states * 1_000_000,
            time: left / u32::try_from(count - i).unwrap_or(1),
            threads: args.threads,
            seed: args.seed,
            progress: Some(Duration::from_secs(10)),
        };
        let report = explore(&setting, &limits);
        states += report.states;
        steps += report.steps;
        complete += usize::from(report.complete);
        println!(
            "    {} states, {} steps, {} ends, longest way {}, {:.1} s: {}",
            report.states,
            report.steps,
            report.ends,
            report.depth,
            report.time.as_secs_f64(),
            match (&report.trace, report.complete) {
                (Some(_), _) => "VIOLATION",
                (None, true) => "all states, no violation",
                (None, false) => "no violation in the time or memory given",
            }
        );
        println!("    {states} states so far");
        if let Some(found) = &report.trace {
            good = false;
            let minimal = shortest(&setting, 2_000_000, Duration::from_secs(120));
            let (trace, report) = match &minimal.trace {
                Some(trace) => (trace, &minimal),
                None => (found, &report),
            };
            println!(
                "    {:?}, after {} steps",
                trace.violation,
                trace.actions.len()
            );
            print_trace(&setting, report);
        } else if let Some(progress) = &mut progress {
            progress.add(name, &report)?;
        }
    }
    println!(
        "{states} states, {steps} steps in {:.0} s; {complete} of {count} scenarios to the end; {}",
        (before + began.elapsed()).as_secs_f64(),
        if good { "no violation" } else { "VIOLATIONS" }
    );
    if let Some(progress) = progress {
        progress.end()?;
    }
    Ok(good)
}

fn mutations(args: &Args, chosen: &[Scenario]) -> bool {
    let mut missed = Vec::new();
    let wanted = |m: &Mutation| {
        args.mutation.is_empty() || args.mutation.iter().any(|n| *n == format!("{m:?}"))
    };
    let all: Vec<Mutation> = Mutation::ALL.into_iter().filter(wanted).collect();
    let time = Duration::from_secs_f64(args.minutes * 60.0) / all.len().max(1) as u32;
    for &mutation in &all {
        let began = Instant::now();
        let mut caught = None;
        // First the one that is about it.
        let about = |s: &&Scenario| s.name == mutation.scenario();
        let first = chosen.iter().filter(about);
        let others = chosen.iter().filter(|s| !about(s));
        for scenario in first.chain(others) {
            let setting = Setting::new(scenario.clone(), Some(mutation));
            let left = time.saturating_sub(began.elapsed());
            let mut report = shortest(&setting, 400_000, left);
            if report.trace.is_none() && !report.complete {
                let limits = Limits {
                    states: 4_000_000,
                    time: time.saturating_sub(began.elapsed()),
                    threads: args.threads,
                    seed: args.seed,
                    progress: None,
                };
                report = explore(&setting, &limits);
            }
            if report.trace.is_some() {
                caught = Some((setting, report));
                break;
            }
        }
        match caught {
            None => {
                println!("{:26} NOT CAUGHT", format!("{mutation:?}"));
                missed.push(mutation);
            }
            Some((setting, report)) => {
                let Some(trace) = &report.trace else { continue };
                println!(
                    "{:26} caught by {:22} after {:>3} steps: {:?}",
                    format!("{mutation:?}"),
                    setting.scenario.name,
                    trace.actions.len(),
                    trace.violation
                );
                if args.trace {
                    print_trace(&setting, &report);
                }
            }
        }
    }
    println!(
        "{} of {} mutations caught",
        all.len() - missed.len(),
        all.len()
    );
    missed.is_empty()
}
