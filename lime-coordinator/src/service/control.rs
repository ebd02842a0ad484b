//! Controllers' channels: one FIFO per connection, to all switches of one network (rule 11).

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::Stream;
use lime_core::Epoch;
use lime_core::flow::RuleFilter;
use lime_core::log::{StageError, Ticket};
use lime_proto::v1;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};
use v1::control_reply::Reply;
use v1::control_request::Request as Asked;

use super::bundles::Bundles;
use super::describe::describe;
use super::events::until_overflow;
use super::groups::{group_mods_of, groups_of};
use super::meters::{meter_mods_of, meters_of};
use super::rules::{mods_of, packet_of, ports_of, rules_of};
use super::statistics::{aggregate_stats, flow_stats, queue_stats, table_stats};
use crate::network::{Connection, Handle, Sink, State};
use crate::ops::Operation;
use crate::shared::Shared;

/// Serves [`v1::controller_server::Controller`].
#[derive(Debug)]
pub struct ControlService {
    shared: Arc<Shared>,
}

impl ControlService {
    /// On the coordinator's state.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

type Outgoing = Pin<Box<dyn Stream<Item = Result<v1::ControlReply, Status>> + Send>>;

#[tonic::async_trait]
impl v1::controller_server::Controller for ControlService {
    type ControlStream = Outgoing;

    async fn control(
        &self,
        request: Request<Streaming<v1::ControlRequest>>,
    ) -> Result<Response<Outgoing>, Status> {
        let incoming = request.into_inner();
        let (connection, queue, overflow) = Connection::new();
        let channel = Channel {
            shared: Arc::clone(&self.shared),
            connection,
            last: Ticket(0),
            bundles: Bundles::default(),
            packet_outs: Arc::default(),
        };
        self.shared.tasks.spawn(channel.run(incoming));
        let outgoing = until_overflow(queue, overflow, self.shared.shutdown.clone());
        Ok(Response::new(Box::pin(outgoing)))
    }
}

struct Channel {
    shared: Arc<Shared>,
    connection: Connection,
    /// The newest submission of this connection.
    last: Ticket,
    bundles: Bundles,
    /// Its packet-outs that are not done.
    packet_outs: Arc<Mutex<BTreeSet<u64>>>,
}

impl Channel {
    async fn run(mut self, mut incoming: Streaming<v1::ControlRequest>) {
        let Some((xid, network)) = self.open(&mut incoming).await else {
            return;
        };
        let sink = Sink::Controller(self.connection.clone());
        let connection = self.connection.clone();
        let subscribed = network
            .call(move |s| {
                // In the actor, so that no event comes before it.
                connection.send(xid, Reply::Opened(v1::Empty {}));
                s.subscribe(sink)
            })
            .await;
        let Ok(subscription) = subscribed else { return };
        let end = self.shared.shutdown.clone();
        loop {
            let next = tokio::select! {
                next = incoming.message() => next,
                () = end.cancelled() => break,
            };
            let Ok(Some(request)) = next else { break };
            let xid = request.xid;
            if let Err(status) = self.serve(&network, request).await {
                self.connection.error(xid, &status);
            }
            if self.connection.is_closed() {
                break;
            }
        }
        // Gone with the network, if that is gone.
        let _ = network.call(move |s| s.unsubscribe(subscription)).await;
    }

    /// Rule 19: a controller gets in when recovery has ended.
    async fn open(&self, incoming: &mut Streaming<v1::ControlRequest>) -> Option<(u64, Handle)> {
        let first = incoming.message().await.ok()??;
        let Some(Asked::Open(open)) = first.request else {
            let status = Status::invalid_argument("the first request must open a network");
            self.connection.error(first.xid, &status);
            return None;
        };
        let opened = async {
            let network = self.shared.network(&open.network)?;
            let op = Operation::new(&self.shared, &network);
            let recovered = op.all_acknowledged();
            timeout(self.shared.config.step_timeout, recovered)
                .await
                .map_err(|_| Status::unavailable("the network is still recovering"))??;
            Ok::<_, Status>(network)
        };
        match opened.await {
            Ok(network) => Some((first.xid, network)),
            Err(status) => {
                self.connection.error(first.xid, &status);
                None
            }
        }
    }

    async fn serve(&mut self, network: &Handle, request: v1::ControlRequest) -> Result<(), Status> {
        let xid = request.xid;
        let connection = self.connection.clone();
        let Some(asked) = request.request else {
            return Err(Status::invalid_argument("an empty request"));
        };
        match asked {
            Asked::Open(_) => Err(Status::failed_precondition("the channel is open already")),
            Asked::UpdateRules(request) => {
                same_network(network, &request.network)?;
                let mods = mods_of(request.mods)?;
                self.submit(network, xid, move |s| {
                    let updated = s.update(&request.switch, mods)?;
                    let reply = move |epoch: Epoch| {
                        Reply::Updated(v1::UpdateRulesResponse {
                            epoch: epoch.0,
                            added: updated.added,
                            removed: updated.removed,
                        })
                    };
                    Ok((updated.ticket, reply))
                })
                .await
            }
            Asked::PacketOut(request) => self.packet_out(network, xid, request).await,
            Asked::Barrier(_) => {
                let after = self.last;
                let outs: Vec<u64> = {
                    let outs = self.packet_outs.lock();
                    let outs = outs.unwrap_or_else(PoisonError::into_inner);
                    outs.iter().copied().collect()
                };
                network
                    .call(move |s| s.barrier(connection, xid, after, outs))
                    .await
            }
            Asked::FlowStats(request) => {
                same_network(network, &request.network)?;
                if request.stats && request.exact {
                    // In its place among the controller's commands, and so is the reply.
                    let then = move |stats: Result<_, Status>| {
                        match stats {
                            Ok(rules) => {
                                let exact = true;
                                let reply = v1::ListRulesResponse { rules, exact };
                                connection.send(xid, Reply::FlowStats(reply))
                            }
                            Err(status) => connection.error(xid, &status),
                        };
                    };
                    self.last = network
                        .call(move |s| s.cut(&request.switch, then))
                        .await??;
                    return Ok(());
                }
                self.later(network, xid, move |shared, network| async move {
                    let all = RuleFilter::all();
                    let stats = request.stats;
                    let rules = rules_of(&shared, &network, &request.switch, all, stats).await?;
                    let exact = false;
                    Ok(Reply::FlowStats(v1::ListRulesResponse { rules, exact }))
                })
            }
            Asked::SelectedFlowStats(r) => {
                same_network(network, &r.network)?;
                self.later(network, xid, move |shared, network| async move {
                    let stats = flow_stats(&shared, &network, r).await?;
                    Ok(Reply::SelectedFlowStats(stats))
                })
            }
            Asked::AggregateStats(r) => {
                same_network(network, &r.network)?;
                self.later(network, xid, move |shared, network| async move {
                    let stats = aggregate_stats(&shared, &network, r).await?;
                    Ok(Reply::AggregateStats(stats))
                })
            }
            Asked::TableStats(r) => {
                same_network(network, &r.network)?;
                self.later(network, xid, move |shared, network| async move {
                    let stats = table_stats(&shared, &network, r).await?;
                    Ok(Reply::TableStats(stats))
                })
            }
            Asked::QueueStats(r) => {
                same_network(network, &r.network)?;
                self.later(network, xid, move |shared, network| async move {
                    let stats = queue_stats(&shared, &network, r).await?;
                    Ok(Reply::QueueStats(stats))
                })
            }
            Asked::Describe(r) => {
                same_network(network, &r.network)?;
                self.later(network, xid, move |_, network| async move {
                    Ok(Reply::Description(describe(&network, r).await?))
                })
            }
            Asked::UpdateGroups(request) => {
                same_network(network, &request.network)?;
                let mods = group_mods_of(request.mods)?;
                self.submit(network, xid, move |s| {
                    let updated = s.update(&request.switch, mods)?;
                    let reply = move |epoch: Epoch| {
                        Reply::GroupsUpdated(v1::UpdateGroupsResponse {
                            epoch: epoch.0,
                            removed_rules: updated.removed,
                        })
                    };
                    Ok((updated.ticket, reply))
                })
                .await
            }
            Asked::OpenBundle(request) => {
                // Known now already, so that not a whole bundle is sent in vain.
                let switch = request.switch.clone();
                network
                    .call(move |s| s.switch(&switch).map(|_| ()))
                    .await??;
                let opened = self.bundles.open(request);
                self.done(xid, opened)
            }
            Asked::AddToBundle(request) => {
                let added = self.bundles.add(request);
                self.done(xid, added)
            }
            Asked::CommitBundle(request) => {
                let (switch, mods) = self.bundles.take(request.bundle_id)?;
                self.submit(network, xid, move |s| {
                    let updated = s.update(&switch, mods)?;
                    let reply = move |epoch: Epoch| {
                        Reply::Committed(v1::UpdateSwitchResponse {
                            epoch: epoch.0,
                            rules_added: updated.added,
                            rules_removed: updated.removed,
                        })
                    };
                    Ok((updated.ticket, reply))
                })
                .await
            }
            Asked::DiscardBundle(request) => {
                let taken = self.bundles.take(request.bundle_id);
                self.done(xid, taken.map(drop))
            }
            Asked::GroupStats(r) => {
                same_network(network, &r.network)?;
                self.later(network, xid, move |shared, network| async move {
                    let groups = groups_of(&shared, &network, &r).await?;
                    Ok(Reply::GroupStats(groups))
                })
            }
            Asked::UpdateMeters(request) => {
                same_network(network, &request.network)?;
                let mods = meter_mods_of(request.mods)?;
                self.submit(network, xid, move |s| {
                    let updated = s.update(&request.switch, mods)?;
                    let reply = move |epoch: Epoch| {
                        Reply::MetersUpdated(v1::UpdateMetersResponse {
                            epoch: epoch.0,
                            removed_rules: updated.removed,
                        })
                    };
                    Ok((updated.ticket, reply))
                })
                .await
            }
            Asked::MeterStats(r) => {
                same_network(network, &r.network)?;
                self.later(network, xid, move |shared, network| async move {
                    let meters = meters_of(&shared, &network, &r).await?;
                    Ok(Reply::MeterStats(meters))
                })
            }
            Asked::PortStats(r) => {
                same_network(network, &r.network)?;
                self.later(network, xid, move |shared, network| async move {
                    let ports = ports_of(&shared, &network, &r.switch).await?;
                    Ok(Reply::PortStats(v1::PortStatsResponse { ports }))
                })
            }
        }
    }

    /// Answers with what takes a while, and goes on with the next request meanwhile.
    fn later<F>(
        &self,
        network: &Handle,
        xid: u64,
        ask: impl FnOnce(Arc<Shared>, Handle) -> F + Send + 'static,
    ) -> Result<(), Status>
    where
        F: Future<Output = Result<Reply, Status>> + Send + 'static,
    {
        let asked = ask(Arc::clone(&self.shared), network.clone());
        let connection = self.connection.clone();
        self.shared.tasks.spawn(async move {
            match asked.await {
                Ok(reply) => connection.send(xid, reply),
                Err(status) => connection.error(xid, &status),
            }
        });
        Ok(())
    }

    /// Answers what is done at once.
    fn done(&self, xid: u64, result: Result<(), Status>) -> Result<(), Status> {
        result?;
        if xid != 0 {
            self.connection.send(xid, Reply::Done(v1::Empty {}));
        }
        Ok(())
    }

    /// Submits with `f`, which also says how the reply is made when that has taken effect everywhere.
    async fn submit<R>(
        &mut self,
        network: &Handle,
        xid: u64,
        f: impl FnOnce(&mut State) -> Result<(Ticket, R), Status> + Send + 'static,
    ) -> Result<(), Status>
    where
        R: FnOnce(Epoch) -> Reply + Send + 'static,
    {
        let connection = self.connection.clone();
        self.last = network
            .call(move |s| {
                let (ticket, reply) = f(s)?;
                let waiter = move |s: &mut State, result: Result<Epoch, StageError>| {
                    match result {
                        Ok(epoch) if xid != 0 => connection.send(xid, reply(epoch)),
                        Ok(_) => true,
                        Err(e) => connection.error(xid, &s.stage_status(&e)),
                    };
                };
                s.on_completion(ticket, Box::new(waiter));
                Ok::<_, Status>(ticket)
            })
            .await??;
        Ok(())
    }

    async fn packet_out(
        &mut self,
        network: &Handle,
        xid: u64,
        request: v1::SendPacketOutRequest,
    ) -> Result<(), Status> {
        same_network(network, &request.network)?;
        let packet = packet_of(request.packet_out)?;
        let after = self.last;
        let (id, done) = network
            .call(move |s| s.packet_out(&request.switch, packet, after))
            .await??;
        let outstanding = Arc::clone(&self.packet_outs);
        let connection = self.connection.clone();
        outstanding
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
        self.shared.tasks.spawn(async move {
            let result = done.await;
            outstanding
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
            match result {
                Ok(Ok(())) if xid != 0 => connection.send(xid, Reply::Done(v1::Empty {})),
                Ok(Err(status)) => connection.error(xid, &status),
                _ => true,
            }
        });
        Ok(())
    }
}

/// Requests may name the channel's network, or leave it out.
fn same_network(network: &Handle, name: &str) -> Result<(), Status> {
    if name.is_empty() || name == &*network.name {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "network {name:?}: this channel is for {}, open another one",
        network.name
    )))
}
