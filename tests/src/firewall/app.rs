//! The controller application: one task per [`App`], which owns the controller channel and opens it again when it breaks.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lime_proto::v1::control_reply::Reply;
use lime_proto::v1::control_request::Request;
use lime_proto::v1::controller_client::ControllerClient;
use lime_proto::v1::{
    ControlReply, ControlRequest, FlowMod, OpenChannel, PacketIn, PacketOut, SendPacketOutRequest,
    UpdateRulesRequest,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::packet::{UdpPacket, ipv4_source};
use super::{COOKIE_BLOCK, COOKIE_NEW, COOKIE_RETURN, COOKIE_VIOLATION};
use crate::record::Channel;
use crate::rules::{CONTROLLER, RuleSpec, output};

/// Pause before the channel is opened again.
const RETRY: Duration = Duration::from_millis(50);

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
    task: JoinHandle<()>,
}

impl App {
    /// Opens the channel and starts. Returns when the channel is open; fails when the coordinator refuses it.
    pub async fn start(
        client: ControllerClient<Channel>,
        policy: Policy,
    ) -> Result<Self, tonic::Status> {
        let report = Arc::new(Mutex::new(AppReport::default()));
        let (opened, is_open) = oneshot::channel();
        let task = tokio::spawn(run(client, policy, report.clone(), opened));
        match is_open.await {
            Ok(Ok(())) => Ok(Self { report, task }),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(tonic::Status::unavailable("the application ended")),
        }
    }

    /// What it saw and did so far.
    pub fn report(&self) -> AppReport {
        lock(&self.report).clone()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    mut client: ControllerClient<Channel>,
    policy: Policy,
    report: Arc<Mutex<AppReport>>,
    opened: oneshot::Sender<Result<(), tonic::Status>>,
) {
    let mut opened = Some(opened);
    loop {
        let result = session(&mut client, &policy, &report, &mut opened).await;
        if let (Err(status), Some(opened)) = (result, opened.take()) {
            let _ = opened.send(Err(status));
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn session(
    client: &mut ControllerClient<Channel>,
    policy: &Policy,
    report: &Mutex<AppReport>,
    opened: &mut Option<oneshot::Sender<Result<(), tonic::Status>>>,
) -> Result<(), tonic::Status> {
    let (requests, outgoing) = mpsc::unbounded_channel();
    let open = Request::Open(OpenChannel {
        network: policy.network.clone(),
    });
    let _ = requests.send(request(1, open));
    let mut replies = client
        .control(UnboundedReceiverStream::new(outgoing))
        .await?
        .into_inner();
    let mut firewall = Firewall {
        policy,
        report,
        requests,
        known: HashSet::new(),
        blocked: HashSet::new(),
        xid: 1,
    };
    while let Some(reply) = replies.message().await? {
        if matches!(reply.reply, Some(Reply::Opened(_))) {
            lock(report).opened += 1;
            if let Some(opened) = opened.take() {
                let _ = opened.send(Ok(()));
            }
            continue;
        }
        if let (Some(Reply::Error(e)), true) = (&reply.reply, opened.is_some()) {
            return Err(tonic::Status::new(
                (e.code as i32).into(),
                e.message.clone(),
            ));
        }
        firewall.handle(reply);
    }
    Ok(())
}

struct Firewall<'a> {
    policy: &'a Policy,
    report: &'a Mutex<AppReport>,
    requests: mpsc::UnboundedSender<ControlRequest>,
    known: HashSet<UdpPacket>,
    blocked: HashSet<Ipv4Addr>,
    /// Of the last request. Each has its own, so that who records the channel sees when it has been done.
    xid: u64,
}

impl Firewall<'_> {
    fn handle(&mut self, reply: ControlReply) {
        match reply.reply {
            Some(Reply::Event(event)) => {
                if let Some(packet) = event.packet_in {
                    self.packet_in(packet);
                }
            }
            Some(Reply::Error(e)) => {
                let mut r = lock(self.report);
                r.errors += 1;
                r.first_error.get_or_insert(e.message);
            }
            _ => {}
        }
    }

    fn packet_in(&mut self, packet: PacketIn) {
        lock(self.report).packet_ins += 1;
        let parsed = UdpPacket::parse(&packet.data);
        match (packet.cookie, parsed) {
            (COOKIE_NEW, Some(udp)) if self.policy.inside.contains_key(&udp.source) => {
                self.admit(udp, packet);
            }
            (COOKIE_VIOLATION, _) => self.violation(&packet.data),
            _ => lock(self.report).unexpected += 1,
        }
    }

    /// The rule for the answers first, then the packet: both in the same FIFO channel.
    fn admit(&mut self, udp: UdpPacket, packet: PacketIn) {
        if self.known.insert(udp) {
            let rule = RuleSpec::new(300)
                .cookie(COOKIE_RETURN)
                .in_port(self.policy.outside)
                .ipv4()
                .proto(17)
                .from_to(udp.destination.into(), udp.source.into())
                .udp_ports(udp.destination_port, udp.source_port)
                .output(self.policy.inside[&udp.source]);
            self.update(rule.add());
            lock(self.report).rules += 1;
        }
        self.send(Request::PacketOut(SendPacketOutRequest {
            network: self.policy.network.clone(),
            switch: self.policy.switch.clone(),
            packet_out: Some(PacketOut {
                in_port: packet.in_port,
                actions: vec![output(self.policy.outside)],
                data: packet.data,
            }),
        }));
        lock(self.report).released += 1;
    }

    fn violation(&mut self, frame: &[u8]) {
        lock(self.report).violations += 1;
        let Some(outside) = ipv4_source(frame) else {
            return;
        };
        if self.blocked.insert(outside) {
            lock(self.report).blocked.push(outside);
            let rule = RuleSpec::new(1000)
                .cookie(COOKIE_BLOCK)
                .in_port(self.policy.outside)
                .ipv4()
                .ipv4_src(outside);
            self.update(rule.add());
        }
    }

    fn update(&mut self, change: FlowMod) {
        self.send(Request::UpdateRules(UpdateRulesRequest {
            network: self.policy.network.clone(),
            switch: self.policy.switch.clone(),
            mods: vec![change],
        }));
    }

    fn send(&mut self, r: Request) {
        self.xid += 1;
        // A closed channel shows at the receiving side, which opens it again.
        let _ = self.requests.send(request(self.xid, r));
    }
}

fn request(xid: u64, request: Request) -> ControlRequest {
    ControlRequest {
        xid,
        request: Some(request),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
