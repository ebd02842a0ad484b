//! Controllers and watchers: who gets the events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lime_core::log::Ticket;
use lime_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;
use tracing::warn;
use v1::control_reply::Reply;

use super::state::State;

/// Messages that may wait for one controller or watcher.
pub const QUEUE: usize = 8192;

/// One controller's connection.
#[derive(Clone, Debug)]
pub struct Connection {
    queue: mpsc::Sender<v1::ControlReply>,
    overflow: Arc<AtomicBool>,
}

impl Connection {
    /// A connection and its queue.
    pub fn new() -> (Self, mpsc::Receiver<v1::ControlReply>, Arc<AtomicBool>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let overflow = Arc::new(AtomicBool::new(false));
        let this = Self {
            queue,
            overflow: Arc::clone(&overflow),
        };
        (this, receiver, overflow)
    }

    /// Queues a reply; false: the connection is to be closed.
    pub fn send(&self, xid: u64, reply: Reply) -> bool {
        let message = v1::ControlReply {
            xid,
            reply: Some(reply),
        };
        match self.queue.try_send(message) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.overflow.store(true, Ordering::Relaxed);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Queues an error.
    pub fn error(&self, xid: u64, status: &Status) -> bool {
        // gRPC codes are 0 to 16.
        let code = u32::try_from(i32::from(status.code())).unwrap_or(2);
        let message = status.message().to_owned();
        self.send(xid, Reply::Error(v1::ControlError { code, message }))
    }

    /// Whether the controller has gone, or did not keep up.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed() || self.overflow.load(Ordering::Relaxed)
    }
}

/// Where events go.
#[derive(Debug)]
pub enum Sink {
    /// A watcher of all switches, or of one.
    Watcher {
        /// The switch; none: all.
        switch: Option<String>,
        /// Its queue.
        queue: mpsc::Sender<v1::ControllerEvent>,
        /// Set when it did not keep up.
        overflow: Arc<AtomicBool>,
    },
    /// A controller.
    Controller(Connection),
}

/// One that gets events.
#[derive(Debug)]
pub(super) struct Subscriber {
    id: u64,
    sink: Sink,
}

impl State {
    /// Adds one that gets events from now on.
    pub fn subscribe(&mut self, sink: Sink) -> u64 {
        let id = self.next_subscriber;
        self.next_subscriber += 1;
        self.subscribers.push(Subscriber { id, sink });
        id
    }

    /// Takes it away.
    pub fn unsubscribe(&mut self, id: u64) {
        self.subscribers.retain(|s| s.id != id);
    }

    /// Gives a released event to all. One that does not keep up is dropped, and its stream ends with RESOURCE_EXHAUSTED.
    pub(super) fn publish(&mut self, event: &v1::ControllerEvent) {
        let network = &self.model.name;
        self.subscribers.retain(|s| match &s.sink {
            Sink::Watcher {
                switch,
                queue,
                overflow,
            } => {
                if switch.as_ref().is_some_and(|s| *s != event.switch) {
                    return true;
                }
                let sent = queue.try_send(event.clone());
                if let Err(mpsc::error::TrySendError::Full(_)) = &sent {
                    warn!(%network, "a watcher of events does not keep up: closing its stream");
                    overflow.store(true, Ordering::Relaxed);
                }
                sent.is_ok()
            }
            Sink::Controller(connection) => connection.send(0, Reply::Event(event.clone())),
        });
    }

    /// Rule 12: answers when everything before it has taken effect everywhere.
    pub fn barrier(&mut self, connection: Connection, xid: u64, after: Ticket, outs: Vec<u64>) {
        let ticket = self.seq.barrier(after, outs);
        self.on_completion(
            ticket,
            Box::new(move |_, _| {
                connection.send(xid, Reply::Done(v1::Empty {}));
            }),
        );
    }
}
