//! The gRPC service that agents dial.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use lime_core::{HostId, NetworkId, check_name};
use lime_proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};
use v1::agent_message::Message as FromAgent;
use v1::coordinator_message::Message;

use super::{Host, Session, Waiting};
use crate::ops::Operation;
use crate::shared::Shared;
use crate::store::{Change, HostRecord};

/// How long a new stream may take to say Hello.
const HELLO: Duration = Duration::from_secs(10);

/// Serves [`v1::agents_server::Agents`].
#[derive(Debug)]
pub struct AgentsService {
    shared: Arc<Shared>,
}

impl AgentsService {
    /// On the coordinator's state.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

type Outgoing = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl v1::agents_server::Agents for AgentsService {
    type SessionStream = Outgoing;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Outgoing>, Status> {
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HELLO, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no Hello within 10 seconds"))??;
        let Some(FromAgent::Hello(hello)) = first.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("the first message must be Hello"));
        };
        let (session, queue, lease_ms) = register(&self.shared, &hello).await?;
        let shared = Arc::clone(&self.shared);
        let reader = session.clone();
        shared.tasks.clone().spawn(async move {
            read(&shared, &reader, hello, lease_ms, incoming).await;
        });
        let end = session.cancel.clone();
        let outgoing = ReceiverStream::new(queue).take_until(end.cancelled_owned());
        Ok(Response::new(Box::pin(outgoing)))
    }
}

/// Gives the host its id, its stream and (milliseconds) its lease, or refuses it.
async fn register(
    shared: &Arc<Shared>,
    hello: &v1::Hello,
) -> Result<
    (
        Session,
        tokio::sync::mpsc::Receiver<Result<v1::CoordinatorMessage, Status>>,
        u64,
    ),
    Status,
> {
    check_name("host", &hello.host).map_err(|e| Status::invalid_argument(e.to_string()))?;
    if hello.underlay_address.parse::<std::net::IpAddr>().is_err() {
        return Err(Status::invalid_argument(format!(
            "underlay_address {:?} is no IP address",
            hello.underlay_address
        )));
    }
    let known = {
        let hosts = shared.hosts.lock();
        hosts
            .values()
            .find(|h| h.record.name == hello.host)
            .cloned()
    };
    if let Some(old) = known.as_ref().and_then(|h| h.session.as_ref()) {
        if old.incarnation != hello.incarnation && !old.cancel.is_cancelled() {
            return Err(Status::already_exists(format!(
                "another agent is connected as host {}: give each host its own name, or stop the other agent",
                hello.host
            )));
        }
        // The same process again: its old stream is dead, even if that has not been noticed here.
        old.cancel.cancel();
    }
    let id = match &known {
        Some(host) => host.record.id,
        None => HostId(shared.ids.host()),
    };
    let record = HostRecord {
        id,
        name: hello.host.clone(),
        cordoned: known.as_ref().is_some_and(|h| h.record.cordoned),
        underlay_address: hello.underlay_address.clone(),
        underlay_mtu: hello.underlay_mtu,
        agent_version: hello.agent_version.clone(),
        lease_ms: match &known {
            // What it is told now is not what it has kept.
            Some(h) if u128::from(h.record.lease_ms) == shared.config.lease.as_millis() => {
                h.record.lease_ms
            }
            _ => 0,
        },
    };
    let mut changes = vec![Change::host(&record)];
    changes.extend(shared.ids.persisted());
    shared.commit(changes).await?;
    let (session, queue) = Session::new(
        id,
        &record.name,
        shared.ids.session(),
        hello.incarnation,
        shared.ids.requests(),
    );
    let free = hello.capacity.as_ref().map_or(0, |c| c.rules);
    let mut lease = known.map(|h| h.lease).unwrap_or_default();
    let granted = shared.hosts.grant(&mut lease);
    let host = Host {
        record,
        session: Some(session.clone()),
        free_rules: i64::try_from(free).unwrap_or(i64::MAX),
        lease,
    };
    let mut hosts = shared.hosts.lock();
    let raced = hosts
        .values()
        .find(|h| h.record.name == hello.host && h.record.id != id);
    let newer = hosts
        .get(&id)
        .and_then(|h| h.session.as_ref())
        .is_some_and(|s| !s.cancel.is_cancelled());
    if raced.is_some() || newer {
        return Err(Status::already_exists(format!(
            "another agent is just connecting as host {}",
            hello.host
        )));
    }
    hosts.insert(id, host);
    Ok((session, queue, granted))
}

/// Reads the stream to its end.
async fn read(
    shared: &Arc<Shared>,
    session: &Session,
    hello: v1::Hello,
    lease_ms: u64,
    mut incoming: Streaming<v1::AgentMessage>,
) {
    let networks = shared.networks();
    let forget = hello.networks.iter().map(|n| n.network);
    let mut unknown: Vec<u32> = Vec::new();
    for id in forget {
        let network = networks.iter().find(|n| n.id == NetworkId(id));
        let member = match network {
            Some(network) => network.is_member(session.host).await,
            None => false,
        };
        if !member {
            unknown.push(id);
        }
    }
    info!(host = %session.name, id = session.host.0, incarnation = session.incarnation, version = %hello.agent_version, "agent connected");
    session.send(Message::Welcome(v1::Welcome {
        host_id: session.host.0,
        forget: unknown,
        lease_ms,
    }));
    for network in &networks {
        let adopted = hello.networks.iter().find(|n| n.network == network.id.0);
        network.host_up(session.clone(), adopted.cloned()).await;
    }
    shared.hosts.notify();
    shared.tasks.spawn(tidy(Arc::clone(shared), session.host));
    loop {
        let next = tokio::select! {
            next = incoming.message() => next,
            () = session.cancel.cancelled() => break,
        };
        match next {
            Ok(Some(v1::AgentMessage {
                message: Some(message),
            })) => dispatch(shared, session, message).await,
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(status) => {
                info!(host = %session.name, code = ?status.code(), "agent's stream broke: {}", status.message());
                break;
            }
        }
    }
    session.close();
    if let Some(host) = shared.hosts.lock().get_mut(&session.host)
        && host
            .session
            .as_ref()
            .is_some_and(|s| s.number == session.number)
    {
        host.session = None;
    }
    info!(host = %session.name, "agent disconnected");
    for network in shared.networks() {
        network.host_down(session.clone()).await;
    }
    shared.hosts.notify();
}

/// What was deleted while the host was away is brought to its end.
async fn tidy(shared: Arc<Shared>, host: HostId) {
    for network in shared.networks() {
        if shared.migrations.is_busy(network.id) || !network.is_member(host).await {
            continue;
        }
        let turn = Arc::clone(&network.ops);
        let work = async {
            let _turn = turn.lock().await;
            if shared.migrations.is_busy(network.id) {
                return Ok(());
            }
            Operation::new(&shared, &network).tidy().await
        };
        let result = tokio::select! {
            result = work => result,
            () = shared.shutdown.cancelled() => return,
        };
        if let Err(e) = result {
            warn!(network = %network.name, "letting idle hosts leave: {}", e.message());
        }
    }
}

async fn dispatch(shared: &Arc<Shared>, session: &Session, message: FromAgent) {
    let network = match &message {
        FromAgent::Staged(m) => m.network,
        FromAgent::Activated(m) => m.network,
        FromAgent::Relaying(m) => m.network,
        FromAgent::Event(m) => m.network,
        FromAgent::EndedRules(m) => m.network,
        FromAgent::IdleVote(m) => m.network,
        FromAgent::PortStatus(m) => m.network,
        FromAgent::Done(done) => {
            let waiting = session.answered(done.request_id);
            let (FromAgent::Done(done), Some(waiting)) = (message, waiting) else {
                return;
            };
            match waiting {
                Waiting::Request(reply) => {
                    // The operation may have given up.
                    let _ = reply.send(done);
                    return;
                }
                Waiting::Nobody(what) => {
                    if let Some(error) = done.error {
                        warn!(host = %session.name, "{what} failed: {}", error.message);
                    }
                    return;
                }
                Waiting::PacketOut(network) => {
                    if let Some(network) = shared.network_by_id(network) {
                        network.packet_out_done(done).await;
                    }
                    return;
                }
            }
        }
        FromAgent::RenewLease(renewal) => {
            let Some((milliseconds, news)) = shared.hosts.renew(session) else {
                warn!(host = %session.name, "its lease was over: closing the stream");
                session.cancel.cancel();
                return;
            };
            if let Some(record) = news
                && shared.commit(vec![Change::host(&record)]).await.is_err()
            {
                return;
            }
            session.send(Message::Lease(v1::Lease {
                number: renewal.number,
                milliseconds,
            }));
            return;
        }
        FromAgent::UnderlayStatus(status) => {
            if let Some(host) = shared.hosts.lock().get_mut(&session.host) {
                host.record.underlay_mtu = status.mtu;
            }
            if !status.unreachable.is_empty() {
                warn!(host = %session.name, unreachable = ?status.unreachable, "hosts without a next hop in the underlay");
            }
            return;
        }
        FromAgent::Hello(_) => {
            warn!(host = %session.name, "a second Hello: closing the stream");
            session.cancel.cancel();
            return;
        }
    };
    match shared.network_by_id(NetworkId(network)) {
        Some(handle) => handle.heard(session.clone(), message).await,
        None => info!(host = %session.name, network, "message of a network that is gone"),
    }
}
