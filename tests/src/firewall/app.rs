//! The controller application.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use lime_proto::v1::controller_client::ControllerClient;
use lime_proto::v1::{FlowMod, PacketIn};

use super::packet::{UdpPacket, ipv4_source};
use super::{COOKIE_BLOCK, COOKIE_NEW, COOKIE_RETURN, COOKIE_VIOLATION};
use crate::program::{self, Commands, Program, Running};
use crate::record::Channel;
use crate::rules::{CONTROLLER, RuleSpec, output};

/// Where the firewall stands and who is inside.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The network.
    pub network: String,
    /// The switch that is the firewall.
    pub switch: String,
    /// Its ports with inside hosts.
    pub inside: HashMap<Ipv4Addr, u32>,
    /// Its port towards the outside.
    pub outside: u32,
}

impl Policy {
    /// The rules that send what no other rule matches to the application. All other rules need a priority above 10.
    pub fn base_rules(&self) -> Vec<FlowMod> {
        let mut ports: Vec<_> = self.inside.values().copied().collect();
        ports.sort_unstable();
        let mut rules: Vec<_> = ports
            .into_iter()
            .map(|port| {
                RuleSpec::new(10)
                    .cookie(COOKIE_NEW)
                    .in_port(port)
                    .ipv4()
                    .output(CONTROLLER)
                    .add()
            })
            .collect();
        rules.push(
            RuleSpec::new(10)
                .cookie(COOKIE_VIOLATION)
                .in_port(self.outside)
                .ipv4()
                .output(CONTROLLER)
                .add(),
        );
        rules
    }
}

/// What the application saw and did.
#[derive(Clone, Debug, Default)]
pub struct AppReport {
    /// Packets that came to the controller.
    pub packet_ins: u64,
    /// Rules installed for answers.
    pub rules: u64,
    /// Packets released.
    pub released: u64,
    /// Answers that met the switch without their rule.
    pub violations: u64,
    /// Outside hosts blocked for that.
    pub blocked: Vec<Ipv4Addr>,
    /// Packets that nobody expected here.
    pub unexpected: u64,
    /// Requests that the coordinator refused.
    pub errors: u64,
    /// The first of those.
    pub first_error: Option<String>,
    /// How often the channel was opened.
    pub opened: u64,
}

/// The running application.
#[derive(Debug)]
pub struct App {
    report: Arc<Mutex<AppReport>>,
    _running: Running,
}

impl App {
    /// Opens the channel and starts. Returns when the channel is open; fails when the coordinator refuses it.
    pub async fn start(
        client: ControllerClient<Channel>,
        policy: Policy,
    ) -> Result<Self, tonic::Status> {
        let report = Arc::new(Mutex::new(AppReport::default()));
        let network = policy.network.clone();
        let firewall = Firewall {
            policy,
            report: report.clone(),
            known: HashSet::new(),
            blocked: HashSet::new(),
        };
        Ok(Self {
            _running: program::start(client, &network, firewall).await?,
            report,
        })
    }

    /// What it saw and did so far.
    pub fn report(&self) -> AppReport {
        lock(&self.report).clone()
    }
}

struct Firewall {
    policy: Policy,
    report: Arc<Mutex<AppReport>>,
    known: HashSet<UdpPacket>,
    blocked: HashSet<Ipv4Addr>,
}

impl Program for Firewall {
    fn opened(&mut self, _: &mut Commands) {
        self.known.clear();
        self.blocked.clear();
        lock(&self.report).opened += 1;
    }

    fn packet_in(&mut self, _: &str, packet: PacketIn, commands: &mut Commands) {
        lock(&self.report).packet_ins += 1;
        let parsed = UdpPacket::parse(&packet.data);
        match (packet.cookie, parsed) {
            (COOKIE_NEW, Some(udp)) if self.policy.inside.contains_key(&udp.source) => {
                self.admit(udp, packet, commands);
            }
            (COOKIE_VIOLATION, _) => self.violation(&packet.data, commands),
            _ => lock(&self.report).unexpected += 1,
        }
    }

    fn refused(&mut self, _: u64, message: String) {
        let mut r = lock(&self.report);
        r.errors += 1;
        r.first_error.get_or_insert(message);
    }
}

impl Firewall {
    /// The rule for the answers first, then the packet: both in the same FIFO channel.
    fn admit(&mut self, udp: UdpPacket, packet: PacketIn, commands: &mut Commands) {
        let policy = &self.policy;
        if self.known.insert(udp) {
            let rule = RuleSpec::new(300)
                .cookie(COOKIE_RETURN)
                .in_port(policy.outside)
                .ipv4()
                .proto(17)
                .from_to(udp.destination.into(), udp.source.into())
                .udp_ports(udp.destination_port, udp.source_port)
                .output(policy.inside[&udp.source]);
            commands.update(&policy.switch, vec![rule.add()]);
            lock(&self.report).rules += 1;
        }
        let out = vec![output(policy.outside)];
        commands.packet_out(&policy.switch, packet.in_port, out, packet.data);
        lock(&self.report).released += 1;
    }

    fn violation(&mut self, frame: &[u8], commands: &mut Commands) {
        lock(&self.report).violations += 1;
        let Some(outside) = ipv4_source(frame) else {
            return;
        };
        if self.blocked.insert(outside) {
            lock(&self.report).blocked.push(outside);
            let rule = RuleSpec::new(1000)
                .cookie(COOKIE_BLOCK)
                .in_port(self.policy.outside)
                .ipv4()
                .ipv4_src(outside);
            commands.update(&self.policy.switch, vec![rule.add()]);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
