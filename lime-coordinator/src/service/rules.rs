//! Rules, counters, packet-outs.

use std::sync::Arc;

use lime_core::SwitchId;
use lime_core::flow::{FlowMod, RuleFilter, SwitchMod};
use lime_proto::convert::ConvertError;
use lime_proto::v1;
use tokio::sync::oneshot;
use tonic::Status;

use super::{LimeService, Out};
use crate::network::Handle;
use crate::ops::{CountersOf, Operation};
use crate::shared::Shared;

/// Rules in one message of a list.
pub(super) const PART: usize = 2000;

/// So many rules are asked for by their numbers, and not with all of their switch.
const FEW: usize = 1000;

/// The domain's form of an update.
pub(super) fn mods_of(mods: Vec<v1::FlowMod>) -> Result<Vec<SwitchMod>, Status> {
    convert(mods, 0, |m| FlowMod::try_from(m).map(SwitchMod::Rule))
}

/// The domain's form of changes, of which the first is the `at`th of its request.
pub(super) fn convert<T, M>(
    mods: Vec<T>,
    at: usize,
    one: impl Fn(T) -> Result<M, ConvertError>,
) -> Result<Vec<M>, Status> {
    let mods = mods.into_iter().enumerate();
    mods.map(|(i, m)| one(m).map_err(|e| e.within(&format!("mods[{}]", at + i)).into()))
        .collect()
}

/// A switch of this name, with its counters brought together if they are asked for.
pub(super) async fn gathered(
    shared: &Arc<Shared>,
    network: &Handle,
    switch: String,
    with_stats: bool,
) -> Result<SwitchId, Status> {
    let switch = network
        .call(move |s| s.switch(&switch).map(|s| s.id))
        .await??;
    if with_stats {
        gather(shared, network, CountersOf::Switch(switch)).await?;
    }
    Ok(switch)
}

/// Brings the counters of a network's members together.
pub(super) async fn gather(
    shared: &Arc<Shared>,
    network: &Handle,
    wanted: CountersOf,
) -> Result<(), Status> {
    let switch = match wanted {
        CountersOf::Ports => None,
        CountersOf::Switch(switch) | CountersOf::Rules(switch, _) => Some(switch),
    };
    let hosts = network
        .call(move |s| {
            let members = s.model.members.keys().copied();
            let asked = members.filter(|h| switch.is_none_or(|sw| s.model.has_instance(sw, *h)));
            asked.collect::<Vec<_>>()
        })
        .await?;
    let op = Operation::new(shared, network);
    let replies = hosts.into_iter().map(|host| {
        let (op, wanted) = (&op, wanted.clone());
        async move { Ok::<_, Status>((host, op.read_counters(host, wanted).await?)) }
    });
    for reply in futures_util::future::join_all(replies).await {
        let (host, counters) = reply?;
        network.call(move |s| s.observe(host, &counters)).await?;
    }
    Ok(())
}

/// The rules of a switch that a filter selects, with their counters if asked for.
pub(super) async fn rules_of(
    shared: &Arc<Shared>,
    network: &Handle,
    switch: &str,
    filter: RuleFilter,
    stats: bool,
) -> Result<Vec<v1::RuleStats>, Status> {
    let (name, which) = (switch.to_owned(), filter.clone());
    let (switch, few) = network
        .call(move |s| {
            let switch = s.switch(&name)?.id;
            let table = s.rules.table(switch);
            let ids = table.into_iter().flat_map(|t| t.selected_by(&which));
            let ids: Vec<_> = ids.take(FEW + 1).collect();
            Ok::<_, Status>((switch, (ids.len() <= FEW).then_some(ids)))
        })
        .await??;
    match few {
        _ if !stats => {}
        Some(ids) if ids.is_empty() => {}
        Some(ids) => gather(shared, network, CountersOf::Rules(switch, ids)).await?,
        None => gather(shared, network, CountersOf::Switch(switch)).await?,
    }
    network
        .call(move |s| s.rule_stats(switch, &filter, stats))
        .await
}

/// A switch's rules with their counters at one entry of the log.
async fn exact_rules_of(network: &Handle, switch: String) -> Result<Vec<v1::RuleStats>, Status> {
    let (reply, answer) = oneshot::channel();
    network
        .call(move |s| s.cut(&switch, move |stats| drop(reply.send(stats))))
        .await??;
    let gone = |_| Status::unavailable(format!("network {} is closing", network.name));
    answer.await.map_err(gone)?
}

/// Ports' counters.
pub(super) async fn ports_of(
    shared: &Arc<Shared>,
    network: &Handle,
    switch: &str,
) -> Result<Vec<v1::PortStatsOf>, Status> {
    let only = switch.to_owned();
    let known = only.clone();
    network
        .call(move |s| {
            if known.is_empty() {
                return Ok(());
            }
            s.switch(&known).map(|_| ())
        })
        .await??;
    gather(shared, network, CountersOf::Ports).await?;
    network
        .call(move |s| {
            let mut wanted = Vec::new();
            for switch in s.model.switches.values() {
                if only.is_empty() || switch.name == only {
                    let ports = s.model.ports_of(switch.id);
                    let ports = ports.iter();
                    wanted.extend(ports.map(|p| (switch.name.clone(), p.no.0, p.id, p.since)));
                }
            }
            let network = s.model.name.clone();
            let stats = wanted
                .into_iter()
                .map(|(switch, port_no, id, since)| v1::PortStatsOf {
                    network: network.clone(),
                    switch,
                    port_no,
                    counters: Some(s.port_counters(id)),
                    duration_ms: s.age(since),
                });
            stats.collect()
        })
        .await
}

impl LimeService {
    pub(super) async fn update_rules(
        &self,
        request: v1::UpdateRulesRequest,
    ) -> Result<v1::UpdateRulesResponse, Status> {
        let network = self.network(&request.network)?;
        let mods = mods_of(request.mods)?;
        let (epoch, updated) = network
            .complete_with(move |s| {
                let updated = s.update(&request.switch, mods)?;
                Ok((updated.ticket, updated))
            })
            .await?;
        Ok(v1::UpdateRulesResponse {
            epoch: epoch.0,
            added: updated.added,
            removed: updated.removed,
        })
    }

    pub(super) async fn list_rules(
        &self,
        request: v1::ListRulesRequest,
    ) -> Result<Out<v1::ListRulesResponse>, Status> {
        let network = self.network(&request.network)?;
        let exact = request.stats && request.exact;
        let rules = if exact {
            exact_rules_of(&network, request.switch).await?
        } else {
            let all = RuleFilter::all();
            rules_of(&self.shared, &network, &request.switch, all, request.stats).await?
        };
        let mut parts = Vec::new();
        let mut rules = rules.into_iter().peekable();
        while rules.peek().is_some() {
            let rules = rules.by_ref().take(PART).collect();
            parts.push(Ok(v1::ListRulesResponse { rules, exact }));
        }
        Ok(Box::pin(futures_util::stream::iter(parts)))
    }

    pub(super) async fn port_stats(
        &self,
        request: v1::PortStatsRequest,
    ) -> Result<v1::PortStatsResponse, Status> {
        let mut ports = Vec::new();
        for network in self.selected(&request.network)? {
            ports.extend(ports_of(&self.shared, &network, &request.switch).await?);
        }
        Ok(v1::PortStatsResponse { ports })
    }

    pub(super) async fn send_packet_out(
        &self,
        request: v1::SendPacketOutRequest,
    ) -> Result<v1::Empty, Status> {
        let network = self.network(&request.network)?;
        let packet = packet_of(request.packet_out)?;
        let (_, done) = network
            .call(move |s| s.packet_out(&request.switch, packet, lime_core::log::Ticket(0)))
            .await??;
        let closing = |_| Status::unavailable("the coordinator is stopping");
        done.await.map_err(closing)??;
        Ok(v1::Empty {})
    }
}

/// The domain's form of a packet-out.
pub(super) fn packet_of(
    packet: Option<v1::PacketOut>,
) -> Result<lime_core::flow::PacketOut, Status> {
    let packet = packet.ok_or_else(|| Status::invalid_argument("packet_out: is missing"))?;
    Ok(lime_core::flow::PacketOut::try_from(packet)?)
}
