//! `cargo xtask`: the commands of those who develop LIME or want to see it run.

mod bench;
mod binaries;
mod debian;
mod demo;
mod ebpf;
mod fuzz;
mod lab;
mod process;
mod soak;
mod test;
mod verify;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Developer and demonstration commands of LIME
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Migrate a live network between two hosts on this machine, under traffic, and account for every packet (needs root)
    Demo(demo::Args),
    /// Build everything and run all tests, or those that FILTER selects (needs root)
    Test(test::Args),
    /// Hosts, end hosts and a coordinator as network namespaces, to try things in (needs root)
    #[command(subcommand)]
    Lab(lab::Command),
    /// Build the kernel objects from source
    Ebpf(ebpf::Args),
    /// Compare with reference implementations on random input, for long (needs root)
    #[command(subcommand)]
    Fuzz(fuzz::Command),
    /// Check the consistency protocol on models: all that can happen in small worlds around the coordinator's own code
    #[command(disable_help_flag = true)]
    Verify(verify::Args),
    /// Random lives of networks for a while: updates, joins, moves, migrations, deaths; all that was seen is judged (needs root)
    Soak(soak::Args),
    /// Measure (needs root)
    Bench(bench::Args),
    /// The first process of the virtual machine that `test --kernel` boots
    #[command(hide = true)]
    VmGuest,
}

fn main() -> ExitCode {
    // What the lab's own code has to say, with RUST_LOG.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Lab(command) => lab::run(&command).map(|()| ExitCode::SUCCESS),
        Command::Ebpf(args) => ebpf::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Fuzz(command) => fuzz::run(&command),
        Command::Verify(args) => verify::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Command::VmGuest => vm::guest::main(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
