//! `lime-coordinator`: the coordinator's process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Keeps virtual networks in step with what their owners want, on all hosts at once.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// Address and port to listen on, for agents, operators and controllers.
    #[arg(long, env = "LIME_LISTEN", default_value = "127.0.0.1:7600")]
    listen: SocketAddr,
    /// File that keeps everything that must survive a restart; made if it is not there.
    #[arg(long, env = "LIME_STORE", default_value = "lime.redb")]
    store: PathBuf,
    /// Seconds that one step of a change or migration waits for a host.
    #[arg(long, default_value_t = 30.0, value_parser = seconds)]
    step_timeout: f64,
    /// Milliseconds that frames may be under way between hosts.
    #[arg(long, default_value_t = 250)]
    drain_ms: u64,
    /// Milliseconds that frames may be under way between an end host that has moved and the host it left.
    #[arg(long, default_value_t = 20)]
    settle_ms: u64,
    /// Seconds that a host which cannot be reached may hold up updates of switches that run on other hosts too; then it stops processing
    /// their packets, and the others go on without it. At least 1. 0: updates wait for it for ever, and it never stops.
    #[arg(long, default_value_t = 30.0, value_parser = lease)]
    lease: f64,
    /// Neither encrypt nor authenticate. For now there is nothing else, so this changes nothing.
    #[arg(long)]
    insecure: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.01..=86_400.0).contains(&value) {
        Ok(value)
    } else {
        Err("0.01 to 86400 seconds".to_owned())
    }
}

fn lease(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value == 0.0 || (1.0..=86_400.0).contains(&value) {
        Ok(value)
    } else {
        Err("0, or 1 to 86400 seconds".to_owned())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let config = lime_coordinator::Config {
        step_timeout: Duration::from_secs_f64(args.step_timeout),
        drain: Duration::from_millis(args.drain_ms),
        settle: Duration::from_millis(args.settle_ms),
        lease: Duration::from_secs_f64(args.lease),
        ..lime_coordinator::Config::new(args.listen, args.store)
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    lime_coordinator::run(config, shutdown).await?;
    Ok(())
}
