//! The whole agent: puts the parts together, runs the tasks, stops them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, ConfigError};
use crate::datapath::{AttachMode, Datapath, DatapathError};
use crate::netlink::{Monitor, Netlink, NetlinkError};
use crate::owner::{Owner, Parts};
use crate::packet_out::Injector;
use crate::preflight::{self, Lock, PreflightError};
use crate::recirculation::Recirculation;
use crate::reconcile::{Store, StoreError};
use crate::session;
use crate::underlay::{self, Paths, Underlay, UnderlayError};

/// Messages from the coordinator that may wait for the owner.
const COMMANDS: usize = 64;
/// Network changes that may wait for the owner.
const CHANGES: usize = 1024;
/// How long the tasks may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the agent does not run.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The options are wrong.
    #[error("bad configuration")]
    Config(#[from] ConfigError),
    /// Something of the host is lacking.
    #[error("this host cannot run the agent")]
    Preflight(#[from] PreflightError),
    /// The coordinator's address is wrong.
    #[error("bad coordinator address")]
    Coordinator(#[from] tonic::transport::Error),
    /// The underlay is not there.
    #[error("no underlay")]
    Underlay(#[from] UnderlayError),
    /// The kernel's network side does not answer.
    #[error("network configuration")]
    Netlink(#[from] NetlinkError),
    /// The kernel's BPF side refuses.
    #[error("data path")]
    Datapath(#[from] DatapathError),
    /// The state directory is unusable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The raw socket is refused.
    #[error("opening a raw socket on the recirculation device")]
    Socket(#[source] io::Error),
    /// The event ring is unusable.
    #[error("polling the event ring")]
    Ring(#[source] io::Error),
    /// Pins cannot be removed.
    #[error("removing {path}")]
    Unload {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A task ended that should not.
    #[error("a task has ended unexpectedly; see the log")]
    TaskEnded,
}

/// Runs the agent until `shutdown`, in the network namespace of the calling thread. On return all tasks have ended; programs, maps and links stay pinned: traffic
/// goes on, and the next start adopts them.
///
/// # Errors
/// It could not start, or a task failed.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), AgentError> {
    config.check()?;
    preflight::check()?;
    let endpoint = session::endpoint(&config.coordinator)?;
    let _lock = Lock::take(&config.state_dir)?;
    let (owner, paths) = prepare(&config).await?;

    let monitor = Monitor::open()?;
    let (wanted, adopted, owner) = owner;
    let mut owner = Owner::new(owner).map_err(AgentError::Ring)?;
    owner.adopt(adopted).await;

    let (to_owner, from_session) = mpsc::channel(COMMANDS);
    let (changes, from_network) = mpsc::channel(CHANGES);
    let stop = shutdown.child_token();
    let mut tasks = JoinSet::new();
    tasks.spawn(underlay::watch(
        Netlink::open()?,
        monitor,
        paths,
        wanted,
        changes,
        stop.clone(),
    ));
    tasks.spawn(session::run(endpoint, to_owner, stop.clone()));
    tasks.spawn(owner.run(from_session, from_network, stop.clone()));
    info!(
        host = config.host,
        coordinator = config.coordinator,
        "running"
    );

    let early = tokio::select! {
        () = shutdown.cancelled() => false,
        ended = tasks.join_next() => ended.is_some(),
    };
    stop.cancel();
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, drained).await.is_err() {
        warn!("tasks did not stop in time; aborting them");
        tasks.shutdown().await;
    }
    if early && !shutdown.is_cancelled() {
        return Err(AgentError::TaskEnded);
    }
    Ok(())
}

type Prepared = (
    watch::Receiver<underlay::Wanted>,
    crate::datapath::Adopted,
    Parts,
);

/// Everything that can be refused, before anything runs.
async fn prepare(config: &Config) -> Result<(Prepared, Paths), AgentError> {
    let netlink = Netlink::open()?;
    let underlay = Underlay::find(
        &netlink,
        config.underlay_device.as_deref(),
        config.underlay_address,
    )
    .await?;
    info!(device = underlay.link.name, address = %underlay.address, mtu = underlay.link.mtu, "underlay");
    let (mut datapath, adopted) = Datapath::open(&config.bpffs, &config.limits)?;
    let recirculation = Recirculation::ensure(&netlink, &config.host).await?;
    datapath.set_recirculation(recirculation.receive_ifindex, &recirculation.route())?;
    datapath.attach_underlay(recirculation.receive_ifindex, AttachMode::Tc)?;
    datapath.set_underlay_device(underlay.link.ifindex, true)?;
    let mode = datapath.attach_underlay(underlay.link.ifindex, config.underlay_attach)?;
    info!(device = underlay.link.name, ?mode, "underlay attached");
    let injector = Injector::open(&recirculation).map_err(AgentError::Socket)?;
    let store = Store::open(&config.state_dir)?;
    let ring = datapath.event_ring()?;
    let paths = Paths::new(underlay.address);
    let (wanted, wanted_rx) = watch::channel(BTreeMap::new());
    let parts = Parts {
        host: config.host.clone(),
        incarnation: incarnation(),
        datapath,
        ring,
        netlink,
        underlay,
        recirculation,
        injector,
        store,
        wanted,
    };
    Ok(((wanted_rx, adopted, parts), paths))
}

/// A random number other than 0: two starts of an agent do not have the same.
fn incarnation() -> u64 {
    // The standard library's hash keys are random numbers of the operating system.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish().max(1)
}

/// Takes everything off this host that an agent of this configuration put there: pins (and with them the attached programs), the
/// recirculation device, saved state. Traffic through its switches stops.
///
/// # Errors
/// An agent runs, or something could not be removed; it can be tried again.
pub async fn unload(config: &Config) -> Result<(), AgentError> {
    preflight::check()?;
    let lock = Lock::take(&config.state_dir)?;
    let netlink = Netlink::open()?;
    Datapath::detach_unpinned(&config.bpffs)?;
    remove(&config.bpffs)?;
    Recirculation::remove(&netlink, &config.host).await?;
    remove(&config.state_dir)?;
    drop(lock);
    info!(host = config.host, "unloaded");
    Ok(())
}

fn remove(path: &Path) -> Result<(), AgentError> {
    let mut removed = std::fs::remove_dir_all(path);
    if removed
        .as_ref()
        .is_err_and(|e| e.kind() == io::ErrorKind::ResourceBusy)
    {
        // Empty now, and a bpffs of its own is mounted on it.
        removed = nix::mount::umount(path)
            .map_err(io::Error::from)
            .and_then(|()| std::fs::remove_dir(path));
    }
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(AgentError::Unload {
            path: path.into(),
            source,
        }),
        _ => Ok(()),
    }
}
