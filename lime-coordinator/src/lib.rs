//! LIME's coordinator: serves operators and tenants, keeps the store, and drives the agents by what `lime-core` decides.
//!
//! Tasks: one actor per network owns its model and log (`network`); one task per agent's stream reads it (`agents`); operations and
//! migrations are tasks that ask the actors (`ops`, `migration`). All channels are bounded.

mod agents;
mod migration;
mod network;
mod ops;
mod recovery;
mod service;
mod shared;
mod store;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lime_proto::MAX_MESSAGE_BYTES;
use lime_proto::v1::agents_server::AgentsServer;
use lime_proto::v1::controller_server::ControllerServer;
use lime_proto::v1::lime_server::LimeServer;
use lime_proto::v1::statistics_server::StatisticsServer;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use store::{Change, Commit, RedbStore, Store, StoreError, Table};

/// How the coordinator is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The store's file.
    pub store: PathBuf,
    /// How long one step of an operation or migration waits for a host.
    pub step_timeout: Duration,
    /// How long frames may be under way between hosts: waited for before a host's last counters are read.
    pub drain: Duration,
    /// How long frames may be under way between an end host and its host, after it has moved.
    pub settle: Duration,
    /// How long a host that cannot be reached may hold up updates of switches that run elsewhere too (rule 17). Then it has stopped, and the
    /// others go on without it. Zero: for ever.
    pub lease: Duration,
}

impl Config {
    /// The usual times.
    pub fn new(listen: SocketAddr, store: PathBuf) -> Self {
        Self {
            listen,
            store,
            step_timeout: Duration::from_secs(30),
            drain: Duration::from_millis(250),
            settle: Duration::from_millis(20),
            lease: Duration::from_secs(30),
        }
    }
}

/// Why the coordinator does not start, or stops.
#[derive(Debug, Error)]
pub enum RunError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store does not open or does not read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server broke.
    #[error("the server broke")]
    Serve(#[from] tonic::transport::Error),
}

/// How long tasks have to end.
const GRACE: Duration = Duration::from_secs(5);

/// Runs until `shutdown` is done (or the store fails).
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let address = config.listen;
    let listen = |source| RunError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    run_on(listener, config, shutdown).await
}

/// The same on a listener that is open already: tests let the system choose the port.
pub async fn run_on(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let store = Arc::new(RedbStore::open(&config.store)?);
    run_with(listener, config, store, shutdown).await
}

/// The same on a given store.
pub async fn run_with(
    listener: TcpListener,
    config: Config,
    store: Arc<dyn Store>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let end = CancellationToken::new();
    let shared = recovery::recover(config, store, end.clone()).await?;
    let agents = AgentsServer::new(agents::AgentsService::new(Arc::clone(&shared)))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let lime = LimeServer::new(service::LimeService::new(Arc::clone(&shared)))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let controller = ControllerServer::new(service::ControlService::new(Arc::clone(&shared)))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let statistics = StatisticsServer::new(service::StatisticsService::new(Arc::clone(&shared)))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let address = listener.local_addr().ok();
    info!(?address, "listening");
    let serve = tonic::transport::Server::builder()
        // A dead peer is noticed within ten seconds.
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .tcp_nodelay(true)
        .add_service(agents)
        .add_service(lime)
        .add_service(controller)
        .add_service(statistics)
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            end.clone().cancelled_owned(),
        );
    let mut serve = std::pin::pin!(serve);
    let mut result = None;
    tokio::select! {
        served = &mut serve => result = Some(served),
        () = shutdown => {}
        () = end.cancelled() => {}
    };
    info!("stopping");
    end.cancel();
    for host in shared.hosts.lock().values() {
        if let Some(session) = &host.session {
            session.cancel.cancel();
        }
    }
    if result.is_none() {
        result = tokio::time::timeout(GRACE, serve).await.ok();
    }
    shared.tasks.close();
    if tokio::time::timeout(GRACE, shared.tasks.wait())
        .await
        .is_err()
    {
        info!("some tasks did not end within {} s", GRACE.as_secs());
    }
    shared.store.close();
    result.unwrap_or(Ok(())).map_err(RunError::from)
}
