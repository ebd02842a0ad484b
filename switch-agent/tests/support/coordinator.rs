//! A coordinator that takes agents' streams and does nothing by itself.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use lime_proto::v1::agents_server::{Agents, AgentsServer};
use lime_proto::v1::{self, agent_message, coordinator_message};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(120);

type ToAgent = mpsc::Sender<Result<v1::CoordinatorMessage, Status>>;

/// Listens; agents' streams come out of [`Coordinator::accept`].
pub struct Coordinator {
    pub address: String,
    sessions: mpsc::Receiver<(Streaming<v1::AgentMessage>, ToAgent)>,
}

struct Service(mpsc::Sender<(Streaming<v1::AgentMessage>, ToAgent)>);

#[tonic::async_trait]
impl Agents for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let sent = self.0.send((request.into_inner(), sender)).await;
        sent.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Coordinator {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, sessions) = mpsc::channel(4);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(AgentsServer::new(Service(sender)))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { address, sessions }
    }

    /// The next stream, greeted and welcomed.
    pub async fn accept(&mut self) -> (Session, v1::Hello) {
        self.accept_with_lease(0).await
    }

    /// The same, with a lease of so many milliseconds.
    pub async fn accept_with_lease(&mut self, lease_ms: u64) -> (Session, v1::Hello) {
        let next = timeout(DEADLINE, self.sessions.recv()).await;
        let (from_agent, to_agent) = next.expect("an agent dials").unwrap();
        let mut session = Session {
            from_agent,
            to_agent,
            next_request: 1,
            seen: Vec::new(),
        };
        let agent_message::Message::Hello(hello) = session.next().await else {
            panic!("the first message is no greeting");
        };
        session
            .send(coordinator_message::Message::Welcome(v1::Welcome {
                host_id: 1,
                forget: vec![],
                lease_ms,
            }))
            .await;
        (session, hello)
    }
}

/// One agent's stream.
pub struct Session {
    from_agent: Streaming<v1::AgentMessage>,
    to_agent: ToAgent,
    next_request: u64,
    /// What came while something else was waited for.
    pub seen: Vec<agent_message::Message>,
}

impl Session {
    pub async fn send(&self, message: coordinator_message::Message) {
        let message = v1::CoordinatorMessage {
            message: Some(message),
        };
        self.to_agent.send(Ok(message)).await.unwrap();
    }

    pub async fn next(&mut self) -> agent_message::Message {
        let next = timeout(DEADLINE, self.from_agent.message()).await;
        let message = next.expect("the agent says something").unwrap();
        message.expect("the stream goes on").message.unwrap()
    }

    /// Waits for a message; others go to `seen`.
    pub async fn wait<T>(&mut self, what: impl Fn(&agent_message::Message) -> Option<T>) -> T {
        if let Some(at) = self.seen.iter().position(|m| what(m).is_some()) {
            return what(&self.seen.remove(at)).unwrap();
        }
        loop {
            let message = self.next().await;
            match what(&message) {
                Some(found) => return found,
                None => self.seen.push(message),
            }
        }
    }

    /// Sends a request with an id of its own and waits for its answer.
    pub async fn request(
        &mut self,
        make: impl FnOnce(u64) -> coordinator_message::Message,
    ) -> v1::Done {
        let id = self.next_request;
        self.next_request += 1;
        self.send(make(id)).await;
        self.wait(|m| match m {
            agent_message::Message::Done(done) if done.request_id == id => Some(done.clone()),
            _ => None,
        })
        .await
    }

    pub async fn configure(&mut self, configure: v1::Configure) -> v1::Done {
        self.request(|request_id| {
            coordinator_message::Message::Configure(v1::Configure {
                request_id,
                ..configure
            })
        })
        .await
    }

    /// Stages rules and waits until they are.
    pub async fn stage(&mut self, stage: v1::Stage) -> v1::Staged {
        let epoch = stage.epoch;
        self.send(coordinator_message::Message::Stage(stage)).await;
        self.wait(|m| match m {
            agent_message::Message::Staged(s) if s.epoch == epoch => Some(s.clone()),
            _ => None,
        })
        .await
    }

    /// Activates an epoch and waits until it is.
    pub async fn activate(&mut self, network: u32, epoch: u32) {
        self.activate_past(network, epoch, 0).await;
    }

    /// Reads a network's clock.
    pub async fn clock(&mut self, network: u32) -> u32 {
        let read = |request_id| {
            coordinator_message::Message::ReadClock(v1::ReadClock {
                request_id,
                network,
            })
        };
        match self.request(read).await.result {
            Some(v1::done::Result::Clock(clock)) => clock,
            other => panic!("no clock: {other:?}"),
        }
    }

    /// As [`Session::activate`], and says that all members are past an earlier epoch.
    pub async fn activate_past(&mut self, network: u32, epoch: u32, past: u32) {
        let activate = v1::Activate {
            network,
            epoch,
            past,
        };
        self.send(coordinator_message::Message::Activate(activate))
            .await;
        self.wait(|m| match m {
            agent_message::Message::Activated(a) if a.epoch == epoch => Some(()),
            _ => None,
        })
        .await;
    }
}
