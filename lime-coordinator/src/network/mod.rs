//! One actor per network: the only owner of its model, rules and log.
//!
//! Its mailbox takes [`Job`]s: closures of operations, and what agents say. Each is short and never waits; whatever takes time (the
//! store, agents) comes back as another job. Mailboxes are bounded: agents' streams are slowed down by a full one.

mod agent;
mod carry;
mod clones;
mod controllers;
mod counters;
mod cut;
mod exclusion;
mod idle;
mod lifetimes;
mod packet_out;
mod state;
mod statistics;
mod updates;
mod wire;

use std::sync::Arc;

use lime_core::log::{ProtocolError, Ticket};
use lime_core::{Epoch, HostId, NetworkId};
use lime_proto::v1;
use tokio::sync::{Mutex, mpsc, oneshot};
use tonic::Status;
use v1::agent_message::Message as FromAgent;

use crate::agents::Session;
use crate::shared::Shared;

pub use controllers::{Connection, QUEUE, Sink};
pub use counters::Finals;
pub use state::State;
pub use updates::{MAX_MODS, MAX_RULES};

/// Jobs that may wait.
const MAILBOX: usize = 4096;

/// Something for the actor to do.
pub type Job = Box<dyn FnOnce(&mut State) + Send>;

/// The way to a network's actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The network's number.
    pub id: NetworkId,
    /// Its name.
    pub name: Arc<str>,
    /// Held by operations that change the network's shape, one at a time.
    pub ops: Arc<Mutex<()>>,
    mailbox: mpsc::Sender<Job>,
}

impl Handle {
    /// Starts the actor.
    pub fn spawn(shared: &Arc<Shared>, mut state: State) -> Self {
        let (mailbox, mut jobs) = mpsc::channel::<Job>(MAILBOX);
        state.mailbox = Some(mailbox.downgrade());
        let handle = Self {
            id: state.model.id,
            name: state.model.name.as_str().into(),
            ops: Arc::default(),
            mailbox,
        };
        let end = shared.shutdown.clone();
        shared.tasks.spawn(async move {
            let mut tick = tokio::time::interval(state::TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            state.carry_out();
            loop {
                tokio::select! {
                    job = jobs.recv() => match job {
                        Some(job) => {
                            job(&mut state);
                            state.carry_out();
                        }
                        None => break,
                    },
                    _ = tick.tick() => state.tick(),
                    () = end.cancelled() => break,
                }
            }
        });
        handle
    }

    /// Runs this on the network's state and answers with its result.
    pub async fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut State) -> R + Send + 'static,
    ) -> Result<R, Status> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |state| {
            // The caller may have gone; what it asked for is done all the same.
            let _ = reply.send(f(state));
        });
        let gone = || Status::unavailable(format!("network {} is closing", self.name));
        self.mailbox.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    async fn tell(&self, job: impl FnOnce(&mut State) + Send + 'static) {
        // The actor ends only with the coordinator, or when its network is deleted.
        let _ = self.mailbox.send(Box::new(job)).await;
    }

    /// An agent's stream is open.
    pub async fn host_up(&self, session: Session, adopted: Option<v1::AdoptedNetwork>) {
        self.tell(move |state| state.host_up(&session, adopted.as_ref()))
            .await;
    }

    /// An agent's stream has ended.
    pub async fn host_down(&self, session: Session) {
        self.tell(move |state| state.host_down(&session)).await;
    }

    /// An agent said something about this network.
    pub async fn heard(&self, session: Session, message: FromAgent) {
        self.tell(move |state| state.heard(&session, message)).await;
    }

    /// A packet-out was executed.
    pub async fn packet_out_done(&self, done: v1::Done) {
        self.tell(move |state| state.packet_out_done(&done)).await;
    }

    /// Whether the host is a member of the network.
    pub async fn is_member(&self, host: HostId) -> bool {
        self.call(move |state| state.model.members.contains_key(&host))
            .await
            .unwrap_or(false)
    }

    /// Submits with `f` and waits until it has taken effect everywhere.
    pub async fn complete(
        &self,
        f: impl FnOnce(&mut State) -> Ticket + Send + 'static,
    ) -> Result<Epoch, Status> {
        let submitted = self.complete_with(move |state| Ok((f(state), ())));
        submitted.await.map(|(epoch, ())| epoch)
    }

    /// The same for what may be refused, or has more to tell than its epoch.
    pub async fn complete_with<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut State) -> Result<(Ticket, R), Status> + Send + 'static,
    ) -> Result<(Epoch, R), Status> {
        let (reply, done) = oneshot::channel();
        let result = self
            .call(move |state| {
                let (ticket, result) = f(state)?;
                let waiter = move |s: &mut State, r: Result<Epoch, _>| {
                    drop(reply.send(r.map_err(|e| s.stage_status(&e))));
                };
                state.on_completion(ticket, Box::new(waiter));
                Ok::<_, Status>(result)
            })
            .await??;
        let gone = |_| Status::unavailable(format!("network {} is closing", self.name));
        Ok((done.await.map_err(gone)??, result))
    }
}

/// What an agent did wrong, for the log.
fn misbehaved(session: &Session, error: &ProtocolError) {
    tracing::error!(host = %session.name, "closing the agent's stream: {error}");
    session.cancel.cancel();
}
