//! Operations: what changes a network's shape, step by step, across the store and the hosts.
//!
//! Each is written so that it can be begun again at any point: it looks at how far the model has come and does the rest. A restart
//! therefore needs no other code, and an undo is another operation. One runs at a time per network ([`Handle::ops`]).

mod instance;
mod link;
mod member;
mod moving;
mod port;
mod rejoin;
mod switch;

use std::sync::Arc;
use std::time::Duration;

use lime_core::HostId;
use lime_core::model::MemberState;
use lime_proto::v1;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};
use v1::coordinator_message::Message;

use crate::network::{Handle, State};
use crate::shared::Shared;

pub use member::CountersOf;
pub use moving::MoveTo;
pub use port::{DEFAULT_MTU, NewPort, check_device_name};

/// One operation on one network.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The coordinator.
    pub shared: Arc<Shared>,
    /// The network.
    pub network: Handle,
    deadline: Instant,
}

impl Operation {
    /// Begins one: hosts that go away in the middle are waited for as long as a step may take.
    pub fn new(shared: &Arc<Shared>, network: &Handle) -> Self {
        Self {
            shared: Arc::clone(shared),
            network: network.clone(),
            deadline: Instant::now() + shared.config.step_timeout,
        }
    }

    /// A wait of a fixed length that the protocol needs: for frames that are under way.
    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn late(&self, host: HostId) -> Status {
        let name = self.shared.hosts.name(host);
        let seconds = self.shared.config.step_timeout.as_secs_f32();
        Status::unavailable(format!(
            "host {name} did not answer within {seconds} s: see whether its lime-agent runs and reaches the coordinator"
        ))
    }

    /// Sends a request and waits for its answer. When the host's stream breaks, sends it again on the next one: requests can be
    /// repeated.
    pub async fn request(
        &self,
        host: HostId,
        make: impl Fn(&mut State, u64) -> Message + Clone + Send + 'static,
    ) -> Result<v1::Done, Status> {
        loop {
            let mut changes = self.shared.hosts.watch();
            changes.mark_unchanged();
            let make = make.clone();
            let answer = self
                .network
                .call(move |state| {
                    let session = state.sessions.get(&host)?.clone();
                    Some(session.request(|id| make(state, id)))
                })
                .await?;
            if let Some(answer) = answer {
                match timeout_at(self.deadline, answer).await {
                    Err(_) => return Err(self.late(host)),
                    Ok(Ok(done)) => {
                        return match &done.error {
                            None => Ok(done),
                            Some(e) => Err(agent_error(&self.shared.hosts.name(host), e)),
                        };
                    }
                    // The stream broke.
                    Ok(Err(_)) => {}
                }
            }
            if timeout_at(self.deadline, changes.changed()).await.is_err() {
                return Err(self.late(host));
            }
        }
    }

    /// Brings a host to its desired state.
    pub async fn configure(&self, host: HostId) -> Result<(), Status> {
        self.request(host, move |state, id| {
            Message::Configure(state.desired_message(host, id))
        })
        .await?;
        Ok(())
    }

    /// Brings all members to their desired state, all at a time.
    pub async fn configure_all(&self) -> Result<(), Status> {
        let hosts = self
            .network
            .call(|state| {
                // Those that are excluded are told when they come back.
                let members = state.model.members.iter();
                let told = members.filter(|(_, m)| **m != MemberState::Excluded);
                told.map(|(h, _)| *h).collect::<Vec<_>>()
            })
            .await?;
        self.configure_these(hosts).await
    }

    /// Brings the members that are connected to their desired state; the others get it when they come back.
    pub async fn configure_connected(&self) -> Result<(), Status> {
        let hosts = self
            .network
            .call(|state| {
                let members = state.model.members.keys().copied();
                let here = members.filter(|h| state.sessions.contains_key(h));
                here.collect::<Vec<_>>()
            })
            .await?;
        self.configure_these(hosts).await
    }

    /// Brings these to their desired state, all at a time.
    pub async fn configure_these(&self, hosts: Vec<HostId>) -> Result<(), Status> {
        let all = hosts.into_iter().map(|h| self.configure(h));
        let results = futures_util::future::join_all(all).await;
        results.into_iter().collect()
    }

    /// Changes the model, durably.
    pub async fn change<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut lime_core::model::Network) -> R + Send + 'static,
    ) -> Result<R, Status> {
        let (result, commit) = self.network.call(|state| state.change(f)).await?;
        self.committed(commit).await?;
        Ok(result)
    }

    /// Waits for a commit.
    pub async fn committed(&self, commit: crate::store::Commit) -> Result<(), Status> {
        commit.await.map_err(|e| {
            self.shared.fail(&e);
            Status::internal("the store failed: see the coordinator's log")
        })
    }

    /// Waits for something of the network, no longer than the step may take.
    pub async fn within<T>(&self, f: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        match timeout_at(self.deadline, f).await {
            Ok(result) => result,
            Err(_) => {
                let waiting = self.network.call(|state| state.waiting_for()).await?;
                Err(Status::unavailable(format!(
                    "network {}: no acknowledgement within {} s from {}",
                    self.network.name,
                    self.shared.config.step_timeout.as_secs_f32(),
                    if waiting.is_empty() {
                        "its hosts".to_owned()
                    } else {
                        waiting.join(", ")
                    }
                )))
            }
        }
    }
}

/// What an agent's error is to the operator.
pub fn agent_error(host: &str, error: &v1::AgentError) -> Status {
    use v1::agent_error::Code as C;
    let code = match error.code() {
        C::NotFound => Code::NotFound,
        C::InUse | C::Unsupported | C::Mtu => Code::FailedPrecondition,
        C::NoSpace => Code::ResourceExhausted,
        C::Invalid => Code::InvalidArgument,
        C::Internal | C::Unspecified => Code::Internal,
    };
    Status::new(code, format!("host {host}: {}", error.message))
}
