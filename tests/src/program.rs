//! Runs a tenant's controller program on a controller channel, which it opens again when it breaks.

use std::time::Duration;

use lime_proto::v1::control_reply::Reply;
use lime_proto::v1::control_request::Request;
use lime_proto::v1::controller_client::ControllerClient;
use lime_proto::v1::{
    Action, ControlReply, ControlRequest, FlowMod, ListRulesRequest, OpenChannel, PacketIn,
    PacketOut, RuleStats, SendPacketOutRequest, UpdateRulesRequest,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use crate::record::Channel;

/// Pause before the channel is opened again.
const RETRY: Duration = Duration::from_millis(50);

/// A controller program: what it does when something comes by its channel.
pub trait Program: Send + 'static {
    /// The channel is open, for the first time or again. What was not answered on an earlier one will not be.
    fn opened(&mut self, _commands: &mut Commands) {}
    /// A packet of a switch.
    fn packet_in(&mut self, switch: &str, packet: PacketIn, commands: &mut Commands);
    /// An update has taken effect.
    fn updated(&mut self, _xid: u64, _commands: &mut Commands) {}
    /// The counters that were asked for.
    fn stats(&mut self, _xid: u64, _rules: Vec<RuleStats>, _commands: &mut Commands) {}
    /// A request was refused.
    fn refused(&mut self, _xid: u64, _message: String) {}
}

/// What a program may ask for. Each request has an xid of its own, which is returned.
#[derive(Debug)]
pub struct Commands {
    requests: mpsc::UnboundedSender<ControlRequest>,
    network: String,
    xid: u64,
}

impl Commands {
    /// Changes rules of a switch, all at once.
    pub fn update(&mut self, switch: &str, mods: Vec<FlowMod>) -> u64 {
        self.send(Request::UpdateRules(UpdateRulesRequest {
            network: self.network.clone(),
            switch: switch.to_owned(),
            mods,
        }))
    }

    /// Sends a packet out.
    pub fn packet_out(
        &mut self,
        switch: &str,
        in_port: u32,
        actions: Vec<Action>,
        data: Vec<u8>,
    ) -> u64 {
        self.send(Request::PacketOut(SendPacketOutRequest {
            network: self.network.clone(),
            switch: switch.to_owned(),
            packet_out: Some(PacketOut {
                in_port,
                actions,
                data,
            }),
        }))
    }

    /// Asks for the counters of a switch's rules.
    pub fn flow_stats(&mut self, switch: &str) -> u64 {
        self.send(Request::FlowStats(ListRulesRequest {
            network: self.network.clone(),
            switch: switch.to_owned(),
            stats: true,
            ..Default::default()
        }))
    }

    fn send(&mut self, request: Request) -> u64 {
        self.xid += 1;
        // A closed channel shows at the receiving side, which opens it again.
        let _ = self.requests.send(ControlRequest {
            xid: self.xid,
            request: Some(request),
        });
        self.xid
    }
}

/// A program that runs, until it is dropped.
#[derive(Debug)]
pub struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Opened = Option<oneshot::Sender<Result<(), Status>>>;

/// Opens the channel to a network's switches and starts the program. Returns when the channel is open; fails when the coordinator refuses it.
pub async fn start(
    client: ControllerClient<Channel>,
    network: &str,
    program: impl Program,
) -> Result<Running, Status> {
    let (opened, is_open) = oneshot::channel();
    let task = tokio::spawn(run(client, network.to_owned(), program, Some(opened)));
    let running = Running(task);
    match is_open.await {
        Ok(Ok(())) => Ok(running),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::unavailable("the program ended")),
    }
}

async fn run(
    mut client: ControllerClient<Channel>,
    network: String,
    mut program: impl Program,
    mut opened: Opened,
) {
    loop {
        let result = session(&mut client, &network, &mut program, &mut opened).await;
        if let (Err(status), Some(opened)) = (result, opened.take()) {
            let _ = opened.send(Err(status));
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn session(
    client: &mut ControllerClient<Channel>,
    network: &str,
    program: &mut impl Program,
    opened: &mut Opened,
) -> Result<(), Status> {
    let (requests, outgoing) = mpsc::unbounded_channel();
    let mut commands = Commands {
        requests,
        network: network.to_owned(),
        xid: 0,
    };
    commands.send(Request::Open(OpenChannel {
        network: network.to_owned(),
    }));
    let outgoing = UnboundedReceiverStream::new(outgoing);
    let mut replies = client.control(outgoing).await?.into_inner();
    while let Some(ControlReply { xid, reply }) = replies.message().await? {
        match reply {
            Some(Reply::Opened(_)) => {
                program.opened(&mut commands);
                if let Some(opened) = opened.take() {
                    let _ = opened.send(Ok(()));
                }
            }
            Some(Reply::Event(event)) => {
                if let Some(packet) = event.packet_in {
                    program.packet_in(&event.switch, packet, &mut commands);
                }
            }
            Some(Reply::Updated(_)) => program.updated(xid, &mut commands),
            Some(Reply::FlowStats(stats)) => program.stats(xid, stats.rules, &mut commands),
            Some(Reply::Error(e)) if opened.is_some() => {
                return Err(Status::new((e.code as i32).into(), e.message));
            }
            Some(Reply::Error(e)) => program.refused(xid, e.message),
            _ => {}
        }
    }
    Ok(())
}
