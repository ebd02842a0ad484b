//! A LIME installation on one machine: hosts are network namespaces with a real agent in each, joined by an underlay; a real
//! coordinator; end hosts are namespaces with stacks of their own.
//!
//! ```text
//!   core: coordinator, bridge `mgmt` (10.99.0.1), bridge `underlay`, plug program
//!     |  mgmt0 10.99.0.2   |  underlay0 10.88.0.1   |  far ends p<host>-<end host>
//!   host a: lime-agent, ports vm-<end host>             end host h1: eth0, outer end e-h1 in core
//! ```
//!
//! Each end host has a port device on every host; the [`plug`] program decides on which of them it is. Management and underlay are
//! separate networks, so that either can be cut alone. All names are unique to the lab, several labs run side by side, and nothing stays
//! when the owner goes: not after [`Lab`] is dropped, nor after a panic, Ctrl-C or SIGKILL (a guardian process sees to that).

mod binaries;
mod builder;
pub mod cleanup;
mod client;
mod end_host;
mod error;
pub mod ethtool;
mod guard;
mod links;
mod names;
mod netns;
pub mod plug;
mod process;
pub mod registry;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::record::{Channel, Recording, Verdict};
use lime_proto::v1::controller_client::ControllerClient;
use lime_proto::v1::lime_client::LimeClient;
use lime_proto::v1::{Host as HostInfo, ListHostsRequest};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

pub use binaries::directory as bin_directory;
pub use builder::{Fabric, LabBuilder};
pub use end_host::{DEVICE as END_HOST_DEVICE, EndHost};
use error::Context;
pub use error::LabError;
pub use links::Links;
pub use names::LabName;
pub use netns::Netns;
pub use process::Process;

/// Port that the lab's coordinator listens at, in the core namespace.
pub const COORDINATOR: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)), 7600);
/// Underlay device in each host.
pub const UNDERLAY_DEVICE: &str = "underlay0";
/// How long agents and coordinator may take to become ready.
const READY: Duration = Duration::from_secs(60);

/// Whether this process may build labs.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// One host of the lab.
#[derive(Debug)]
pub struct LabHost {
    name: String,
    number: u8,
    links: Links,
    agent: Mutex<Option<Process>>,
}

impl LabHost {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        self.links.netns()
    }

    /// Its devices.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Its address on the underlay.
    pub fn underlay_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, 0, self.number)
    }
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    name: LabName,
    core: Links,
    xdp: bool,
    lease: Option<u32>,
    hosts: Vec<LabHost>,
    end_hosts: Vec<EndHost>,
    plug: Option<Mutex<plug::Plug>>,
    coordinator: Mutex<Option<Process>>,
    /// None: nobody is watched.
    recording: Option<Recording>,
    // Dropped in this order, after everything else: the name is free when all is gone, and the guardian ends last.
    _registration: registry::Registration,
    _guard: guard::Guard,
}

impl Lab {
    /// A lab to be.
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// Its name.
    pub fn name(&self) -> &LabName {
        &self.name
    }

    /// Devices of the core namespace.
    pub fn core(&self) -> &Links {
        &self.core
    }

    /// All hosts.
    pub fn hosts(&self) -> &[LabHost] {
        &self.hosts
    }

    /// All end hosts.
    pub fn end_hosts(&self) -> &[EndHost] {
        &self.end_hosts
    }

    /// A host by name.
    pub fn host(&self, name: &str) -> Result<&LabHost, LabError> {
        let found = self.hosts.iter().find(|h| h.name == name);
        found.ok_or_else(|| LabError::Unknown {
            kind: "host",
            name: name.to_owned(),
        })
    }

    /// An end host by name.
    pub fn end_host(&self, name: &str) -> Result<&EndHost, LabError> {
        let found = self.end_hosts.iter().find(|h| h.name() == name);
        found.ok_or_else(|| LabError::Unknown {
            kind: "end host",
            name: name.to_owned(),
        })
    }

    /// Name of the device on every host that is the port of an end host.
    pub fn port_device(end_host: &str) -> String {
        format!("vm-{end_host}")
    }

    /// Name, in the core namespace, of the far end of the port that `end_host` has on `host`.
    pub fn far_end(&self, end_host: &str, host: &str) -> Result<String, LabError> {
        let number = self.host(host)?.number;
        Ok(format!("p{number}-{end_host}"))
    }

    /// The driver of the ports of `end_host`, the same on every host: what `CreatePort`, `MovePort` and `PortTarget` take.
    pub fn driver(&self, end_host: &str) -> Result<String, LabError> {
        let outer = self.end_host(end_host)?.outer_index();
        Ok(self.lock_plug()?.driver(outer))
    }

    /// Plugs `end_host` into its port on `host`, behind LIME's back.
    pub async fn plug_in(&self, end_host: &str, host: &str) -> Result<(), LabError> {
        let outer = self.end_host(end_host)?.outer_index();
        let far_end = self.core.index(&self.far_end(end_host, host)?).await?;
        self.lock_plug()?.redirect(outer, far_end)
    }

    /// Name of the host that `end_host` is plugged in at.
    pub async fn plugged_at(&self, end_host: &str) -> Result<Option<&str>, LabError> {
        let outer = self.end_host(end_host)?.outer_index();
        let target = self.lock_plug()?.target(outer)?;
        for host in &self.hosts {
            let far_end = self.far_end(end_host, &host.name)?;
            if self.core.index(&far_end).await? == target {
                return Ok(Some(&host.name));
            }
        }
        Ok(None)
    }

    /// The operator's and tenant's API. The connection is made when it is used, and again after the coordinator was restarted.
    pub fn client(&self) -> Result<LimeClient<Channel>, LabError> {
        Ok(LimeClient::new(self.channel()?)
            .max_decoding_message_size(lime_proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(lime_proto::MAX_MESSAGE_BYTES))
    }

    /// The API of tenants' controllers.
    pub fn controller(&self) -> Result<ControllerClient<Channel>, LabError> {
        Ok(ControllerClient::new(self.channel()?)
            .max_decoding_message_size(lime_proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(lime_proto::MAX_MESSAGE_BYTES))
    }

    fn channel(&self) -> Result<Channel, LabError> {
        let inner = client::channel(self.core.netns(), COORDINATOR)?;
        let recorder = self.recording.as_ref().map(|r| r.recorder().clone());
        Ok(Channel::new(inner, recorder))
    }

    /// Whether ordinary switches could have shown what all end hosts and controllers of a network have seen until now.
    pub fn verdict(&self, network: &str) -> Verdict {
        match &self.recording {
            Some(recording) => recording.verdict(network),
            None => Verdict::Unknown("nobody is watched in this lab".to_owned()),
        }
    }

    /// Whether its devices are set for ports in XDP mode.
    pub fn is_xdp(&self) -> bool {
        self.xdp
    }

    /// Packets that the n-th end host, from 0, was seen to send.
    pub fn sent(&self, end: usize) -> usize {
        self.recording.as_ref().map_or(0, |r| r.sent(end))
    }

    /// What was seen until now is forgotten, and what is known of networks: for labs whose networks go and come.
    pub fn forget(&self) {
        if let Some(recording) = &self.recording {
            recording.forget();
        }
    }

    /// From now on nobody is watched, and nothing of what was seen is judged when the lab goes down.
    pub fn unwatch(&mut self) {
        self.recording.take();
    }

    /// An error if ordinary switches could not have shown what was seen of a network that promises consistency. Labs ask this themselves when
    /// they go down; who asks before has the error, and nothing more is asked then.
    pub fn check_histories(&mut self) -> Result<(), LabError> {
        let Some(recording) = self.recording.take() else {
            return Ok(());
        };
        match recording.contradiction() {
            Some(c) => Err(LabError::Contradiction(Box::new(c))),
            None => Ok(()),
        }
    }

    /// Kills a host's agent (SIGKILL). Its pinned programs go on.
    pub fn kill_agent(&self, host: &str) -> Result<(), LabError> {
        if let Some(agent) = lock(&self.host(host)?.agent).take() {
            agent.kill();
        }
        Ok(())
    }

    /// Stops a host's agent as a debugger would (SIGSTOP): it lives, and does nothing.
    pub fn suspend_agent(&self, host: &str) -> Result<(), LabError> {
        self.signal_agent(host, Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume_agent(&self, host: &str) -> Result<(), LabError> {
        self.signal_agent(host, Signal::SIGCONT)
    }

    fn signal_agent(&self, host: &str, signal: Signal) -> Result<(), LabError> {
        let host = self.host(host)?;
        if let Some(agent) = lock(&host.agent).as_ref() {
            let pid = Pid::from_raw(agent.pid().cast_signed());
            nix::sys::signal::kill(pid, signal)
                .doing(|| format!("cannot send {signal} to the agent of host {}", host.name))?;
        }
        Ok(())
    }

    /// Starts a host's agent, if it does not run.
    pub fn start_agent(&self, host: &str) -> Result<(), LabError> {
        let host = self.host(host)?;
        let mut agent = lock(&host.agent);
        if agent.is_some() {
            return Ok(());
        }
        let bpffs = self.bpffs(&host.name);
        let state = self.name.scratch().join(&host.name);
        let coordinator = format!("http://{COORDINATOR}");
        *agent = Some(Process::start(
            &format!("agent of host {}", host.name),
            host.netns(),
            &binaries::find("lime-agent")?,
            [
                "--host".as_ref(),
                host.name.as_ref(),
                "--coordinator".as_ref(),
                coordinator.as_ref(),
                "--underlay-device".as_ref(),
                UNDERLAY_DEVICE.as_ref(),
                "--bpffs".as_ref(),
                bpffs.as_os_str(),
                "--state-dir".as_ref(),
                state.as_os_str(),
                "--attach".as_ref(),
                if self.xdp { "xdp" } else { "auto" }.as_ref(),
            ],
            &self.log(&format!("agent-{}", host.name)),
        )?);
        Ok(())
    }

    /// Kills the coordinator (SIGKILL).
    pub fn kill_coordinator(&self) {
        if let Some(coordinator) = lock(&self.coordinator).take() {
            coordinator.kill();
        }
    }

    /// Starts the coordinator, with the store of its earlier runs.
    pub fn start_coordinator(&self) -> Result<(), LabError> {
        let mut coordinator = lock(&self.coordinator);
        if coordinator.is_some() {
            return Ok(());
        }
        let store = self.name.scratch().join("coordinator.redb");
        let mut args: Vec<OsString> = vec![
            "--listen".into(),
            COORDINATOR.to_string().into(),
            "--store".into(),
            store.into(),
        ];
        if let Some(seconds) = self.lease {
            args.extend(["--lease".into(), seconds.to_string().into()]);
        }
        *coordinator = Some(Process::start(
            "coordinator",
            self.core.netns(),
            &binaries::find("lime-coordinator")?,
            args,
            &self.log("coordinator"),
        )?);
        Ok(())
    }

    /// Waits until the coordinator answers and says that exactly the hosts whose agent runs are connected.
    pub async fn wait_ready(&self) -> Result<(), LabError> {
        let mut client = self.client()?;
        let deadline = Instant::now() + READY;
        loop {
            self.check_processes()?;
            let answer = client.list_hosts(ListHostsRequest {}).await;
            let state = match answer {
                Ok(hosts) => {
                    let hosts = hosts.into_inner().hosts;
                    if self.hosts.iter().all(|h| is_ready(h, &hosts)) {
                        return Ok(());
                    }
                    format!("{hosts:?}")
                }
                Err(status) => status.to_string(),
            };
            if Instant::now() > deadline {
                return Err(LabError::Process {
                    process: "the lab".into(),
                    problem: format!("not all agents are connected after {READY:?}: {state}"),
                    log: self.logs(),
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// An error if a process that should run has ended.
    pub fn check_processes(&self) -> Result<(), LabError> {
        for slot in self
            .hosts
            .iter()
            .map(|h| &h.agent)
            .chain([&self.coordinator])
        {
            if let Some(process) = lock(slot).as_mut() {
                process.check()?;
            }
        }
        Ok(())
    }

    /// Cuts a host off the underlay. The management network stays.
    pub async fn cut_underlay(&self, host: &str) -> Result<(), LabError> {
        self.set_cable("u", host, false).await
    }

    /// Mends what [`Lab::cut_underlay`] cut.
    pub async fn mend_underlay(&self, host: &str) -> Result<(), LabError> {
        self.set_cable("u", host, true).await
    }

    /// Cuts a host off the management network: its agent cannot reach the coordinator. The underlay stays.
    pub async fn cut_management(&self, host: &str) -> Result<(), LabError> {
        self.set_cable("m", host, false).await
    }

    /// Mends what [`Lab::cut_management`] cut.
    pub async fn mend_management(&self, host: &str) -> Result<(), LabError> {
        self.set_cable("m", host, true).await
    }

    async fn set_cable(&self, network: &str, host: &str, up: bool) -> Result<(), LabError> {
        let number = self.host(host)?.number;
        self.core.set_up(&format!("{network}{number}"), up).await
    }

    /// A command inside the lab, as a person at `core`, a host or an end host would give it: `lime` is in its path and knows the
    /// coordinator.
    pub fn command(&self, at: &str, program: &str) -> Result<std::process::Command, LabError> {
        if let Some(recording) = self.recording.as_ref().filter(|_| program == "lime") {
            recording.recorder().give_up("the command line was used");
        }
        let ns = Netns::open(&self.name.namespace(at))?;
        let directory = binaries::directory();
        let beside = directory.join(program);
        let mut command = match beside.is_file() {
            true => std::process::Command::new(beside),
            false => std::process::Command::new(program),
        };
        let mut path = directory.into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command
            .env("PATH", path)
            .env("LIME_COORDINATOR", format!("http://{COORDINATOR}"));
        process::enter_before_exec(&mut command, ns);
        Ok(command)
    }

    /// Directory of a host's pins.
    pub fn bpffs(&self, host: &str) -> PathBuf {
        self.name.bpffs().join(host)
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let mut text = process::tail(&self.log("coordinator"));
        for host in &self.hosts {
            text.push('\n');
            text.push_str(&process::tail(&self.log(&format!("agent-{}", host.name))));
        }
        text
    }

    fn log(&self, of: &str) -> PathBuf {
        self.name.scratch().join(format!("{of}.log"))
    }

    fn lock_plug(&self) -> Result<std::sync::MutexGuard<'_, plug::Plug>, LabError> {
        let plug = self
            .plug
            .as_ref()
            .ok_or_else(|| LabError::Plug("this lab joins its end hosts by a bridge".into()))?;
        Ok(lock(plug))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        // Agents first: they would report that their devices vanish.
        for host in &self.hosts {
            lock(&host.agent).take();
        }
        lock(&self.coordinator).take();
        let told = match std::thread::panicking() {
            true => Ok(()),
            false => self.check_histories(),
        };
        self.unwatch();
        cleanup::remove(&self.name, std::process::id());
        if let Err(contradiction) = told {
            panic!("{contradiction}");
        }
    }
}

fn is_ready(host: &LabHost, known: &[HostInfo]) -> bool {
    let connected = known.iter().any(|k| k.name == host.name && k.connected);
    connected == lock(&host.agent).is_some()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
