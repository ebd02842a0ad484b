//! `lime-agent`: LIME's per-host agent.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use switch_agent::Config;
use switch_agent::datapath::{AttachMode, Limits};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs a host's part of LIME: loads the kernel programs, keeps the tables, plugs ports and tunnels.
///
/// SIGTERM and SIGINT stop the agent and leave the kernel's part in place: traffic goes on, and the next start adopts it.
/// `--unload` removes everything.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// This host's name, as operators call it.
    #[arg(long, env = "LIME_HOST")]
    host: String,

    /// Where the coordinator listens: http://ADDRESS:PORT.
    #[arg(long, env = "LIME_COORDINATOR", required_unless_present = "unload")]
    coordinator: Option<String>,

    /// Device that carries tunnel frames (default: the one that has the underlay address).
    #[arg(long, visible_alias = "underlay", env = "LIME_UNDERLAY_DEVICE")]
    underlay_device: Option<String>,

    /// Where other agents reach this one (default: the first global address of the underlay device).
    #[arg(long, env = "LIME_UNDERLAY_ADDRESS")]
    underlay_address: Option<IpAddr>,

    /// Where the underlay's programs run.
    #[arg(long, env = "LIME_ATTACH", default_value = "auto")]
    attach: Attach,

    /// Directory in a bpffs, of this agent alone, to pin programs, maps and links in.
    #[arg(long, env = "LIME_BPFFS", default_value = "/sys/fs/bpf/lime")]
    bpffs: PathBuf,

    /// Directory for what must survive restarts (default: /var/lib/lime/HOST).
    #[arg(long, env = "LIME_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// Rules that this host has room for, all networks together (only when the maps are made).
    #[arg(long, env = "LIME_RULES", default_value_t = Limits::default().rules)]
    rules: u32,

    /// Ports that this host has room for, local and remote (only when the maps are made).
    #[arg(long, env = "LIME_PORTS", default_value_t = Limits::default().ports)]
    ports: u32,

    /// Flows that each CPU remembers: a power of two, or 0 for none (only when the programs are loaded).
    #[arg(long, env = "LIME_FLOW_CACHE", default_value_t = Limits::default().flow_cache)]
    flow_cache: u32,

    /// Remove programs, maps, links, the recirculation device and saved state, and exit. Traffic stops.
    #[arg(long)]
    unload: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Attach {
    /// Native XDP for devices that are best served so, else TC.
    Auto,
    /// Native XDP, with TC behind it.
    Xdp,
    /// TC only.
    Tc,
}

impl Options {
    fn config(self) -> Config {
        Config {
            state_dir: self
                .state_dir
                .unwrap_or_else(|| PathBuf::from("/var/lib/lime").join(&self.host)),
            host: self.host,
            coordinator: self.coordinator.unwrap_or_default(),
            underlay_device: self.underlay_device,
            underlay_address: self.underlay_address,
            underlay_attach: match self.attach {
                Attach::Auto => AttachMode::Auto,
                Attach::Xdp => AttachMode::Xdp,
                Attach::Tc => AttachMode::Tc,
            },
            bpffs: self.bpffs,
            limits: Limits {
                rules: self.rules,
                ports: self.ports,
                flow_cache: self.flow_cache,
                ..Limits::default()
            },
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    log();
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes in one line, without a back-trace: it is for the operator.
            eprintln!("lime-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<()> {
    if options.unload {
        return Ok(switch_agent::unload(&options.config()).await?);
    }
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to SIGINT")?;
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(switch_agent::run(options.config(), shutdown).await?)
}

/// Logs to stderr; what is logged is set by LIME_LOG, else RUST_LOG, else `info`.
fn log() {
    let filter = EnvFilter::try_from_env("LIME_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
