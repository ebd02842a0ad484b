//! Open vSwitch with its userspace data path: database, daemon, sockets and logs of its own, in a host's namespace of the site. Nothing of
//! an Open vSwitch that the machine may run otherwise is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lime_core::RuleId;
use lime_core::flow::Rule;
use lime_core::flow::ofctl::format_rule;
use lime_tests::lab::Process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::site::{Site, Station};

const DAEMON: &str = "/usr/sbin/ovs-vswitchd";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const BRIDGE: &str = "br0";

/// How Open vSwitch reaches its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// By packet sockets.
    System,
    /// By AF_XDP sockets, which a thread polls without end.
    Afxdp,
}

/// A running Open vSwitch with one bridge. It sleeps unless it is woken, so as not to disturb what else is measured. Ends when dropped,
/// or with the site.
pub struct Ovs {
    // Dropped in this order.
    switch: Process,
    _database: Process,
}

impl Ovs {
    /// Joins two stations of `host`, ports 1 and 2, with these rules.
    pub fn start(
        site: &Site,
        host: &str,
        name: &str,
        stations: [&Station; 2],
        rules: &[(RuleId, Rule)],
        ports: Ports,
    ) -> Result<Self> {
        ensure!(
            Path::new(DAEMON).exists(),
            "there is no Open vSwitch ({DAEMON}): Debian's package is openvswitch-switch"
        );
        let ns = site.host(host)?.netns();
        let directory = site.scratch().join(name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let tools = Tools { directory };
        let path = |file: &str| tools.directory.join(file);
        let text = |path: &Path| path.display().to_string();
        let log = path("log");
        tools.run("ovsdb-tool", &["create", &text(&path("conf.db")), SCHEMA])?;
        let socket = format!("unix:{}", text(&path("db.sock")));
        let start = |what: &str, args: &[String]| {
            // By env(1), which becomes the daemon: where its files go is told by its environment.
            let all = tools.environment().chain([what.to_owned()]);
            let all = all.chain(args.iter().cloned());
            Process::start(what, ns, Path::new("/usr/bin/env"), all, &log)
                .with_context(|| format!("cannot start {what}"))
        };
        let database = start(
            "ovsdb-server",
            &[
                text(&path("conf.db")),
                format!("--remote=p{socket}"),
                format!("--unixctl={}", text(&path("ovsdb.ctl"))),
            ],
        )?;
        tools.run(
            "ovs-vsctl",
            &["--retry", "--timeout=10", "--no-wait", "init"],
        )?;
        let unixctl = format!("--unixctl={}", text(&path("switch.ctl")));
        let switch = start("ovs-vswitchd", &[socket, unixctl])?;
        let this = Self {
            switch,
            _database: database,
        };
        let joined = tools.join(stations, ports);
        joined
            .and_then(|()| tools.add_rules(rules))
            .map_err(|e| this.switch.problem(format!("{e:#}")))?;
        kill(this.pid(), Signal::SIGSTOP).context("cannot put Open vSwitch to sleep")?;
        Ok(this)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.switch.pid() as i32)
    }

    /// Lets it run until what this gives is dropped.
    pub fn wake(&self) -> Result<Awake> {
        kill(self.pid(), Signal::SIGCONT).context("cannot wake Open vSwitch: has it ended?")?;
        Ok(Awake(self.pid()))
    }
}

/// While this is there, Open vSwitch runs.
pub struct Awake(Pid);

impl Drop for Awake {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGSTOP);
    }
}

/// Open vSwitch's tools, for the daemons of one directory.
struct Tools {
    directory: PathBuf,
}

impl Tools {
    fn environment(&self) -> impl Iterator<Item = String> + '_ {
        ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"]
            .into_iter()
            .map(|name| format!("{name}={}", self.directory.display()))
    }

    fn run(&self, tool: &str, args: &[&str]) -> Result<()> {
        let output = Command::new("env")
            .args(self.environment())
            .arg(tool)
            .args(args)
            .output()
            .with_context(|| format!("cannot run {tool}"))?;
        ensure!(
            output.status.success(),
            "{tool} {} failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    fn join(&self, stations: [&Station; 2], ports: Ports) -> Result<()> {
        let bridge = "set bridge br0 datapath_type=netdev fail_mode=secure";
        let mut command = format!("--timeout=30 add-br {BRIDGE} -- {bridge}");
        if ports == Ports::Afxdp {
            let mask = 1u64 << super::cpus()?.1;
            command += &format!(" -- set Open_vSwitch . other_config:pmd-cpu-mask={mask:#x}");
        }
        for (station, number) in stations.into_iter().zip(1..) {
            let device = &station.device;
            command += &format!(
                " -- add-port {BRIDGE} {device} -- set interface {device} ofport_request={number}"
            );
            if ports == Ports::Afxdp {
                command += " type=afxdp options:n_rxq=1 options:xdp-mode=native";
            }
        }
        let args: Vec<&str> = command.split(' ').collect();
        self.run("ovs-vsctl", &args)?;
        for station in stations {
            // Set when it has opened the device.
            let condition = ["ofport>0", "error=[]"];
            let args = ["--timeout=10", "wait-until", "interface", &station.device];
            self.run("ovs-vsctl", &[&args[..], &condition[..]].concat())
                .with_context(|| format!("Open vSwitch cannot use {}", station.device))?;
        }
        Ok(())
    }

    fn add_rules(&self, rules: &[(RuleId, Rule)]) -> Result<()> {
        let file = self.directory.join("rules");
        let lines: Vec<String> = rules.iter().map(|(_, rule)| format_rule(rule)).collect();
        fs::write(&file, lines.join("\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let file = file.display().to_string();
        self.run("ovs-ofctl", &["--bundle", "add-flows", BRIDGE, &file])
    }
}
