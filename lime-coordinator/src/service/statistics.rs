//! Statistics and descriptions of switches: for operators, and for controllers' channels.

use std::sync::Arc;

use lime_core::PortNo;
use lime_core::flow::RuleFilter;
use lime_proto::v1;
use tonic::{Request, Response, Status};

use super::Out;
use super::describe::describe;
use super::rules::{PART, gather, gathered, rules_of};
use crate::network::Handle;
use crate::ops::CountersOf;
use crate::shared::Shared;

/// Serves [`v1::statistics_server::Statistics`].
#[derive(Debug)]
pub struct StatisticsService {
    shared: Arc<Shared>,
}

impl StatisticsService {
    /// On the coordinator's state.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

fn filter_of(filter: Option<v1::FlowFilter>) -> Result<RuleFilter, Status> {
    let filter = RuleFilter::try_from(filter.unwrap_or_default());
    filter.map_err(|e| e.within("filter").into())
}

/// The rules that a request selects, with their counters.
pub(super) async fn flow_stats(
    shared: &Arc<Shared>,
    network: &Handle,
    request: v1::FlowStatsRequest,
) -> Result<v1::FlowStatsResponse, Status> {
    let filter = filter_of(request.filter)?;
    let rules = rules_of(shared, network, &request.switch, filter, true).await?;
    Ok(v1::FlowStatsResponse { rules })
}

/// The sums over these.
pub(super) async fn aggregate_stats(
    shared: &Arc<Shared>,
    network: &Handle,
    request: v1::FlowStatsRequest,
) -> Result<v1::AggregateStatsResponse, Status> {
    let rules = flow_stats(shared, network, request).await?.rules;
    let sum = |of: fn(&v1::RuleStats) -> u64| rules.iter().map(of).fold(0, u64::saturating_add);
    Ok(v1::AggregateStatsResponse {
        packets: sum(|r| r.packets),
        bytes: sum(|r| r.bytes),
        rules: rules.len() as u64,
    })
}

pub(super) async fn table_stats(
    shared: &Arc<Shared>,
    network: &Handle,
    request: v1::TableStatsRequest,
) -> Result<v1::TableStatsResponse, Status> {
    let switch = gathered(shared, network, request.switch, true).await?;
    let tables = network.call(move |s| s.table_stats(switch)).await?;
    Ok(v1::TableStatsResponse { tables })
}

pub(super) async fn queue_stats(
    shared: &Arc<Shared>,
    network: &Handle,
    request: v1::QueueStatsRequest,
) -> Result<v1::QueueStatsResponse, Status> {
    let (port, queue) = (request.port_no.map(PortNo), request.queue_id);
    let switch = network
        .call(move |s| {
            if let Some(port) = port {
                super::find_port(&s.model, &request.switch, port.0)?;
            }
            s.switch(&request.switch).map(|s| s.id)
        })
        .await??;
    gather(shared, network, CountersOf::Ports).await?;
    let queues = network
        .call(move |s| s.queue_stats(switch, port, queue))
        .await?;
    Ok(v1::QueueStatsResponse { queues })
}

#[tonic::async_trait]
impl v1::statistics_server::Statistics for StatisticsService {
    type FlowStatsStream = Out<v1::FlowStatsResponse>;

    async fn flow_stats(
        &self,
        request: Request<v1::FlowStatsRequest>,
    ) -> Result<Response<Self::FlowStatsStream>, Status> {
        let request = request.into_inner();
        let network = self.shared.network(&request.network)?;
        let mut rules = flow_stats(&self.shared, &network, request).await?.rules;
        let mut parts = Vec::new();
        while !rules.is_empty() {
            let rest = rules.split_off(rules.len().min(PART));
            parts.push(Ok(v1::FlowStatsResponse { rules }));
            rules = rest;
        }
        Ok(Response::new(Box::pin(futures_util::stream::iter(parts))))
    }

    async fn aggregate_stats(
        &self,
        request: Request<v1::FlowStatsRequest>,
    ) -> Result<Response<v1::AggregateStatsResponse>, Status> {
        let request = request.into_inner();
        let network = self.shared.network(&request.network)?;
        let reply = aggregate_stats(&self.shared, &network, request).await?;
        Ok(Response::new(reply))
    }

    async fn table_stats(
        &self,
        request: Request<v1::TableStatsRequest>,
    ) -> Result<Response<v1::TableStatsResponse>, Status> {
        let request = request.into_inner();
        let network = self.shared.network(&request.network)?;
        let reply = table_stats(&self.shared, &network, request).await?;
        Ok(Response::new(reply))
    }

    async fn queue_stats(
        &self,
        request: Request<v1::QueueStatsRequest>,
    ) -> Result<Response<v1::QueueStatsResponse>, Status> {
        let request = request.into_inner();
        let network = self.shared.network(&request.network)?;
        let reply = queue_stats(&self.shared, &network, request).await?;
        Ok(Response::new(reply))
    }

    async fn describe_switch(
        &self,
        request: Request<v1::DescribeSwitchRequest>,
    ) -> Result<Response<v1::SwitchDescription>, Status> {
        let request = request.into_inner();
        let network = self.shared.network(&request.network)?;
        Ok(Response::new(describe(&network, request).await?))
    }
}
