//! The coordinator under test and its clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lime_coordinator::{Change, Commit, Config, RedbStore, Store, StoreError, Table};
use lime_proto::v1;
use lime_proto::v1::controller_client::ControllerClient;
use lime_proto::v1::lime_client::LimeClient;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::FakeAgent;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A store's file that goes with this.
pub struct TempStore(pub PathBuf);

impl TempStore {
    pub fn new() -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lime-coordinator-test-{}-{n}.redb", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempStore {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A store that fails for good after some more commits: the coordinator stops there, as if it had been killed.
#[derive(Debug)]
pub struct CrashingStore {
    inner: RedbStore,
    left: Arc<AtomicI64>,
}

impl Store for CrashingStore {
    fn load(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.inner.load(table)
    }

    fn commit(&self, changes: Vec<Change>) -> Commit {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Box::pin(std::future::ready(Err(StoreError::Closed)));
        }
        self.inner.commit(changes)
    }

    fn close(&self) {
        self.inner.close();
    }
}

/// A coordinator that can be killed and started again on the same store and address.
pub struct Coordinator {
    pub address: SocketAddr,
    pub config: Config,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    /// Commits that the store still takes.
    pub commits: Arc<AtomicI64>,
    store: TempStore,
}

pub fn init_logs() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}

impl Coordinator {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        init_logs();
        let store = TempStore::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config::new(address, store.0.clone());
        config.step_timeout = Duration::from_secs(10);
        config.drain = Duration::from_millis(5);
        config.settle = Duration::from_millis(2);
        change(&mut config);
        let mut this = Self {
            address,
            config,
            stop: None,
            task: None,
            commits: Arc::new(AtomicI64::new(i64::MAX)),
            store,
        };
        this.run(listener);
        this
    }

    fn run(&mut self, listener: TcpListener) {
        let (stop, stopped) = oneshot::channel::<()>();
        let config = self.config.clone();
        self.stop = Some(stop);
        self.commits = Arc::new(AtomicI64::new(i64::MAX));
        let store = CrashingStore {
            inner: RedbStore::open(&self.store.0).unwrap(),
            left: Arc::clone(&self.commits),
        };
        self.task = Some(tokio::spawn(async move {
            let shutdown = async move { drop(stopped.await) };
            lime_coordinator::run_with(listener, config, Arc::new(store), shutdown)
                .await
                .unwrap();
        }));
    }

    /// Whether it has stopped by itself.
    pub fn has_crashed(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops it; what it has not written is lost.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        let deadline = Instant::now() + Duration::from_secs(5);
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(e) if Instant::now() > deadline => panic!("{e}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        self.run(listener);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(self.url()).unwrap();
        until("the coordinator to listen", || async {
            endpoint.connect().await.ok()
        })
        .await
    }

    pub async fn client(&self) -> LimeClient<Channel> {
        LimeClient::new(self.channel().await)
    }

    pub async fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel().await)
    }
}

/// Waits until `f` gives something, at most 15 seconds.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, f: impl Fn() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        if let Some(found) = f().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn network(client: &mut LimeClient<Channel>, name: &str) {
    client
        .create_network(v1::CreateNetworkRequest {
            name: name.into(),
            consistency: 0,
        })
        .await
        .unwrap();
}

pub async fn switch(client: &mut LimeClient<Channel>, network: &str, name: &str, host: &str) {
    client
        .create_switch(v1::CreateSwitchRequest {
            network: network.into(),
            name: name.into(),
            host: host.into(),
            packet_ins: None,
        })
        .await
        .unwrap();
}

/// Clones switch `switch` of network n onto a further host.
pub async fn add_instance(
    client: &mut LimeClient<Channel>,
    switch: &str,
    host: &str,
) -> v1::Switch {
    let request = v1::AddInstanceRequest {
        network: "n".into(),
        switch: switch.into(),
        host: host.into(),
    };
    client.add_instance(request).await.unwrap().into_inner()
}

/// Host a with switch s of network n.
pub async fn one_host(coordinator: &Coordinator) -> (FakeAgent, LimeClient<Channel>) {
    let a = FakeAgent::start(&coordinator.url(), "a").await;
    let mut client = coordinator.client().await;
    network(&mut client, "n").await;
    switch(&mut client, "n", "s", "a").await;
    (a, client)
}

/// Hosts a and b, both with an instance of switch s of network n.
pub async fn two_instances(
    coordinator: &Coordinator,
) -> (FakeAgent, FakeAgent, LimeClient<Channel>) {
    let (a, mut client) = one_host(coordinator).await;
    let b = FakeAgent::start(&coordinator.url(), "b").await;
    add_instance(&mut client, "s", "b").await;
    (a, b, client)
}

pub fn port_request(
    network: &str,
    switch: &str,
    host: &str,
    device: &str,
) -> v1::CreatePortRequest {
    v1::CreatePortRequest {
        network: network.into(),
        switch: switch.into(),
        host: host.into(),
        device: device.into(),
        driver: "plug:test".into(),
        ..Default::default()
    }
}

/// An ADD of a rule that sends IPv4 packets to a port, at this priority.
pub fn add(priority: u32, port: u32) -> v1::FlowMod {
    v1::FlowMod {
        command: 0,
        rule: Some(v1::Rule {
            priority,
            actions: vec![v1::Action {
                action: Some(v1::action::Action::Output(v1::action::Output {
                    port,
                    max_len: 0xffff,
                })),
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn update(network: &str, switch: &str, mods: Vec<v1::FlowMod>) -> v1::UpdateRulesRequest {
    v1::UpdateRulesRequest {
        network: network.into(),
        switch: switch.into(),
        mods,
    }
}
