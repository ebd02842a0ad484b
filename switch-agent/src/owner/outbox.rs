//! What waits to be sent to the coordinator.

use std::collections::VecDeque;

use lime_proto::v1::{self, agent_message::Message};
use tokio::sync::mpsc;

use crate::error::CommandResult;

/// Above this many messages nothing is read that would add to them.
const HIGH_WATER: usize = 256;

/// The queue, and the stream it goes to. Without a stream, everything is dropped: a new stream starts with a greeting that says it all.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<v1::AgentMessage>,
    stream: Option<mpsc::Sender<v1::AgentMessage>>,
    /// The greeting is in the queue, or was. Nothing goes before it.
    greeted: bool,
    session: u64,
}

impl Outbox {
    /// A new stream.
    pub fn open(&mut self, stream: mpsc::Sender<v1::AgentMessage>) {
        self.queue.clear();
        self.stream = Some(stream);
        self.greeted = false;
        self.session += 1;
    }

    /// The first message on the stream; from here on the others go.
    pub fn greet(&mut self, hello: v1::Hello) {
        self.greeted = true;
        self.push(Message::Hello(hello));
    }

    /// The stream has ended.
    pub fn close(&mut self) {
        self.queue.clear();
        self.stream = None;
        self.greeted = false;
    }

    /// Counts streams: an answer to an earlier one is not for this one.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Messages are taken.
    pub fn is_open(&self) -> bool {
        self.stream.is_some() && self.greeted
    }

    pub fn has_room(&self) -> bool {
        self.queue.len() < HIGH_WATER
    }

    pub fn is_waiting(&self) -> bool {
        self.stream.is_some() && !self.queue.is_empty()
    }

    /// Puts a message at the end.
    pub fn push(&mut self, message: Message) {
        if self.is_open() {
            self.queue.push_back(v1::AgentMessage {
                message: Some(message),
            });
        }
    }

    /// Answers a request.
    pub fn done(&mut self, request_id: u64, result: CommandResult<Option<v1::done::Result>>) {
        let (error, result) = match result {
            Ok(result) => (None, result),
            Err(error) => (Some(error.into()), None),
        };
        self.push(Message::Done(v1::Done {
            request_id,
            error,
            result,
        }));
    }

    /// Hands on as much as the stream takes; waits until that is at least one message. Safe to cancel.
    pub async fn flush(&mut self) {
        let Some(stream) = &self.stream else { return };
        let Ok(permit) = stream.reserve().await else {
            // The stream has ended; the session's task will say so.
            self.queue.clear();
            return;
        };
        if let Some(message) = self.queue.pop_front() {
            permit.send(message);
        }
        while let Ok(permit) = stream.try_reserve() {
            match self.queue.pop_front() {
                Some(message) => permit.send(message),
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(epoch: u32) -> Message {
        Message::Staged(v1::Staged {
            network: 1,
            epoch,
            error: None,
        })
    }

    #[tokio::test]
    async fn order_is_kept_and_a_full_stream_waits() {
        let (tx, mut rx) = mpsc::channel(2);
        let mut outbox = Outbox::default();
        outbox.open(tx);
        outbox.push(staged(0));
        outbox.greet(v1::Hello::default());
        (1..=5).for_each(|e| outbox.push(staged(e)));
        let mut seen = Vec::new();
        while outbox.is_waiting() {
            outbox.flush().await;
            while let Ok(message) = rx.try_recv() {
                seen.extend(message.message);
            }
        }
        assert_eq!(seen.remove(0), Message::Hello(v1::Hello::default()));
        assert_eq!(seen, (1..=5).map(staged).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_ended_stream_does_not_fill_memory() {
        let (tx, rx) = mpsc::channel(2);
        let mut outbox = Outbox::default();
        outbox.open(tx);
        outbox.greet(v1::Hello::default());
        (0..9).for_each(|e| outbox.push(staged(e)));
        drop(rx);
        outbox.flush().await;
        outbox.flush().await;
        assert!(!outbox.is_waiting());
        outbox.close();
        outbox.push(staged(1));
        assert!(outbox.queue.is_empty());
    }
}
