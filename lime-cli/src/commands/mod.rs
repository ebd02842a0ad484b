//! One room per command: its arguments, and what it asks and prints.

pub mod bundle;
pub mod completions;
pub mod events;
pub mod group;
pub mod host;
pub mod link;
pub mod meter;
pub mod migrate;
pub mod network;
pub mod packet_out;
pub mod port;
pub mod rule;
pub mod statistics;
pub mod stats;
pub mod switch;

use crate::args::{Args, Command};
use crate::client::Context;
use crate::error::CliError;

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    let ctx = Context::new(&args.global);
    match args.command {
        Command::Network(c) => network::run(&ctx, c).await,
        Command::Switch(c) => switch::run(&ctx, c).await,
        Command::Port(c) => port::run(&ctx, c).await,
        Command::Link(c) => link::run(&ctx, c).await,
        Command::Host(c) => host::run(&ctx, c).await,
        Command::Rule(c) => rule::run(&ctx, c).await,
        Command::Group(c) => group::run(&ctx, c).await,
        Command::Bundle(c) => bundle::run(&ctx, c).await,
        Command::Meter(c) => meter::run(&ctx, c).await,
        Command::Stats(c) => stats::run(&ctx, c).await,
        Command::Events(c) => events::run(&ctx, c).await,
        Command::PacketOut(c) => packet_out::run(&ctx, c).await,
        Command::Migrate(c) => migrate::run(&ctx, c).await,
        Command::Completions(c) => completions::run(&c),
    }
}
