//! A controller's channel.

use lime_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use v1::control_reply::Reply;
use v1::control_request::Request;

use super::Coordinator;

/// An open channel; dropped, the connection ends.
pub struct Channel {
    up: mpsc::UnboundedSender<v1::ControlRequest>,
    down: Streaming<v1::ControlReply>,
    xid: u64,
}

impl Channel {
    pub async fn open(coordinator: &Coordinator, network: &str) -> Self {
        let mut controller = coordinator.controller().await;
        let (up, queue) = mpsc::unbounded_channel();
        let network = network.to_owned();
        up.send(v1::ControlRequest {
            xid: 1,
            request: Some(Request::Open(v1::OpenChannel { network })),
        })
        .unwrap();
        let down = controller.control(UnboundedReceiverStream::new(queue));
        let mut down = down.await.unwrap().into_inner();
        let opened = down.message().await.unwrap().unwrap();
        assert!(matches!(opened.reply, Some(Reply::Opened(_))), "{opened:?}");
        Self { up, down, xid: 1 }
    }

    /// Sends a request; its number.
    pub fn send(&mut self, request: Request) -> u64 {
        self.xid += 1;
        let request = v1::ControlRequest {
            xid: self.xid,
            request: Some(request),
        };
        self.up.send(request).unwrap();
        self.xid
    }

    /// What comes next.
    pub async fn next(&mut self) -> (u64, Reply) {
        let reply = self.down.message().await.unwrap().unwrap();
        (reply.xid, reply.reply.unwrap())
    }

    /// Sends a request and takes its reply, which must be what comes next.
    pub async fn ask(&mut self, request: Request) -> Reply {
        let xid = self.send(request);
        let (to, reply) = self.next().await;
        assert_eq!(to, xid, "{reply:?}");
        reply
    }
}
