//! A network namespace with an underlay device and some port devices, and a directory in bpffs.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, unshare};
use switch_agent::Config;
use switch_agent::datapath::{AttachMode, Limits};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Runs `ip` with these arguments in the calling thread's namespace.
pub fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("iproute2 is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
}

/// Runs a test in a network namespace of its own, with a runtime of its own.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
        ip("link set lo up");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test(World::new()));
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Devices and directories of one test. What is pinned goes when this goes; the namespace goes with its thread.
pub struct World {
    id: String,
}

/// A running agent.
pub struct Agent {
    stop: CancellationToken,
    task: JoinHandle<Result<(), switch_agent::AgentError>>,
}

impl World {
    /// The underlay (10.88.0.1/24), and ports `port1` and `port2` whose far ends are `host1` and `host2`.
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let world = Self {
            id: format!("agent-test-{}-{count}", std::process::id()),
        };
        Self::veth("underlay0", "wire0", 9000);
        ip("address add 10.88.0.1/24 dev underlay0");
        for n in 1..=2 {
            Self::veth(&format!("port{n}"), &format!("host{n}"), 1500);
        }
        world
    }

    /// A veth pair without IPv6 of its own.
    pub fn veth(a: &str, b: &str, mtu: u32) {
        ip(&format!(
            "link add {a} mtu {mtu} type veth peer name {b} mtu {mtu}"
        ));
        for device in [a, b] {
            ip(&format!("link set {device} addrgenmode none"));
            ip(&format!("link set {device} up"));
        }
    }

    /// Another port, `portN` with far end `hostN`.
    pub fn more_ports(&self, n: u32) {
        Self::veth(&format!("port{n}"), &format!("host{n}"), 1500);
    }

    pub fn bpffs(&self) -> PathBuf {
        PathBuf::from("/sys/fs/bpf").join(&self.id)
    }

    pub fn state_dir(&self) -> PathBuf {
        std::env::temp_dir().join(&self.id)
    }

    pub fn config(&self, coordinator: &str) -> Config {
        Config {
            host: "alpha".into(),
            coordinator: coordinator.into(),
            underlay_device: Some("underlay0".into()),
            underlay_address: None,
            underlay_attach: AttachMode::Tc,
            bpffs: self.bpffs(),
            state_dir: self.state_dir(),
            limits: Limits {
                rules: 4096,
                ports: 256,
                networks: 16,
                switches: 64,
                peers: 64,
                event_ring_bytes: 1 << 20,
                flow_cache: 64,
            },
        }
    }

    /// Starts an agent.
    pub fn agent(&self, coordinator: &str) -> Agent {
        let stop = CancellationToken::new();
        let agent = switch_agent::run(self.config(coordinator), stop.clone());
        let task = tokio::spawn(async {
            let result = agent.await;
            if let Err(error) = &result {
                eprintln!("the agent ended: {}", switch_agent::error::chain(error));
            }
            result
        });
        Agent { stop, task }
    }
}

impl Agent {
    /// Stops it as a signal would.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.bpffs());
        let _ = std::fs::remove_dir_all(self.state_dir());
    }
}
