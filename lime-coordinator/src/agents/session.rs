//! One agent's stream: a bounded queue towards it, and the requests that it has not answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lime_core::{HostId, NetworkId};
use lime_proto::v1;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::warn;
use v1::coordinator_message::Message;

/// Messages that may wait for one agent; beyond, its stream is closed, and it comes back for what it has missed.
const QUEUE: usize = 8192;

/// Who waits for a Done.
#[derive(Debug)]
pub enum Waiting {
    /// A request of an operation.
    Request(oneshot::Sender<v1::Done>),
    /// A packet-out of a network.
    PacketOut(NetworkId),
    /// Nobody; an error is only logged.
    Nobody(&'static str),
}

/// The stream to one agent. Cheap to clone; messages are sent in the order of the calls.
#[derive(Clone, Debug)]
pub struct Session {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: Arc<str>,
    /// Tells this stream from the host's earlier ones.
    pub number: u64,
    /// The agent process.
    pub incarnation: u64,
    /// Ends the stream.
    pub cancel: CancellationToken,
    queue: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    waiting: Arc<Mutex<HashMap<u64, Waiting>>>,
    ids: Arc<AtomicU64>,
}

impl Session {
    /// A new stream, and what is to be sent on it. `ids` are request ids, unique over all streams.
    pub fn new(
        host: HostId,
        name: &str,
        number: u64,
        incarnation: u64,
        ids: Arc<AtomicU64>,
    ) -> (Self, mpsc::Receiver<Result<v1::CoordinatorMessage, Status>>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let session = Self {
            host,
            name: name.into(),
            number,
            incarnation,
            cancel: CancellationToken::new(),
            queue,
            waiting: Arc::default(),
            ids,
        };
        (session, receiver)
    }

    /// Queues a message. An agent that does not keep up is disconnected, not buffered for ever.
    pub fn send(&self, message: Message) {
        let message = v1::CoordinatorMessage {
            message: Some(message),
        };
        if self.queue.try_send(Ok(message)).is_err() && !self.cancel.is_cancelled() {
            warn!(host = %self.name, "the agent does not keep up with {QUEUE} messages: closing its stream");
            self.cancel.cancel();
        }
    }

    /// Queues a request; the answer comes by the channel, which closes when the stream does.
    pub fn request(&self, make: impl FnOnce(u64) -> Message) -> oneshot::Receiver<v1::Done> {
        let (reply, answer) = oneshot::channel();
        let id = self.next_id();
        self.expect(id, Waiting::Request(reply));
        self.send(make(id));
        answer
    }

    /// An id for a request.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Says who waits for this id.
    pub fn expect(&self, id: u64, waiting: Waiting) {
        let mut map = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.cancel.is_cancelled() {
            map.insert(id, waiting);
        }
    }

    /// Takes who waits for this id.
    pub fn answered(&self, id: u64) -> Option<Waiting> {
        let mut map = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        map.remove(&id)
    }

    /// The stream has ended: nobody will be answered.
    pub fn close(&self) {
        self.cancel.cancel();
        let mut map = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        map.clear();
    }
}
