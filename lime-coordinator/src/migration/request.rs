//! From the API's request to a plan whose preconditions hold.

use std::sync::Arc;

use lime_core::migration::{Plan, PlanError, Step, plan};
use lime_proto::v1;
use tonic::Status;

use super::record::Asked;
use crate::network::Handle;
use crate::ops::Operation;
use crate::shared::Shared;

/// Most ports that a request may name.
const MAX_TARGETS: usize = 10_000;

/// A plan, checked against the hosts as they are now. Nothing has been changed.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its network.
    pub network: Handle,
    /// What was asked for.
    pub asked: Asked,
    /// The steps.
    pub plan: Plan,
    /// One line on each.
    pub lines: Vec<String>,
    /// Rules to be cloned.
    pub rules: u64,
}

/// Plans a migration, and asks the hosts whether it can be.
pub async fn prepare(
    shared: &Arc<Shared>,
    request: &v1::MigrationRequest,
) -> Result<Prepared, Status> {
    let network = shared.network(&request.network)?;
    if request.ports.len() > MAX_TARGETS {
        return Err(Status::invalid_argument(format!(
            "ports: {} targets, at most {MAX_TARGETS} are allowed",
            request.ports.len()
        )));
    }
    for target in &request.ports {
        if !target.device.is_empty() {
            crate::ops::check_device_name(&target.device)?;
        }
    }
    let from = shared.hosts.named(&request.from)?.record;
    let to = shared.hosts.named(&request.to)?.record;
    let asked = Asked::new(request);
    let resolved = asked.resolve(from.id, to.id);
    let hosts = Arc::clone(shared);
    let (plan, lines) = network
        .call(move |s| {
            let plan = plan(&resolved, &s.model).map_err(|e| refusal(&e))?;
            let lines = plan
                .steps
                .iter()
                .map(|step| step.describe(&s.model, |h| hosts.hosts.name(h)))
                .collect();
            Ok::<(Plan, Vec<String>), Status>((plan, lines))
        })
        .await??;
    shared.hosts.usable(&to.name)?;
    if shared.hosts.named(&from.name)?.session.is_none() {
        return Err(Status::unavailable(format!(
            "host {} is not connected, so nothing can be moved off it: start its lime-agent",
            from.name
        )));
    }
    shared
        .migrations
        .refuse_changes(network.id, plan.switches.iter().copied())?;
    let op = Operation::new(shared, &network);
    op.check_underlay(to.id).await?;
    let mut rules = 0;
    for step in &plan.steps {
        match step {
            Step::Clone { switch, host } => {
                let (switch, host) = (*switch, *host);
                rules += network
                    .call(move |s| match s.model.has_instance(switch, host) {
                        true => 0,
                        false => s.rules.len(switch),
                    })
                    .await?;
            }
            Step::Move { port, to, .. } => {
                crate::ops::check_device_name(&to.name)?;
                op.check_free(to).await?;
                let port = *port;
                let mtu = network
                    .call(move |s| s.model.ports.get(&port).map(|p| p.mtu))
                    .await?;
                op.check_device(to, mtu.unwrap_or_default(), true).await?;
            }
            Step::Join { .. } | Step::Retire { .. } => {}
        }
    }
    let free = shared.hosts.named(&to.name)?.free_rules.max(0);
    if i64::try_from(rules).unwrap_or(i64::MAX) > free {
        return Err(Status::resource_exhausted(format!(
            "host {} has room for {free} more rules, and the switches have {rules}",
            to.name
        )));
    }
    Ok(Prepared {
        network,
        asked,
        plan,
        lines,
        rules: rules as u64,
    })
}

fn refusal(error: &PlanError) -> Status {
    let text = error.to_string();
    match error {
        PlanError::NoSuchSwitch(_) => Status::not_found(text),
        PlanError::NotThere(_) | PlanError::Nothing(_) => Status::failed_precondition(text),
        PlanError::SameHost | PlanError::NotMoving(_) | PlanError::DeviceTwice { .. } => {
            Status::invalid_argument(text)
        }
    }
}
