//! Meters.

use std::sync::Arc;

use lime_core::flow::{MAX_BANDS, MAX_METERS, MeterMod, SwitchMod};
use lime_proto::v1;
use tonic::Status;

use super::rules::{convert, gathered};
use super::{LimeService, number};
use crate::network::Handle;
use crate::shared::Shared;

/// The domain's form of a change.
pub(super) fn meter_mods_of(mods: Vec<v1::MeterMod>) -> Result<Vec<SwitchMod>, Status> {
    convert(mods, 0, |m| MeterMod::try_from(m).map(SwitchMod::Meter))
}

/// A switch's meters, with their counters if asked for.
pub(super) async fn meters_of(
    shared: &Arc<Shared>,
    network: &Handle,
    request: &v1::ListMetersRequest,
) -> Result<v1::ListMetersResponse, Status> {
    let with_stats = request.stats;
    let switch = gathered(shared, network, request.switch.clone(), with_stats).await?;
    network
        .call(move |s| {
            let meters = s.rules.meters(switch);
            let meters = meters.into_iter().flat_map(|m| m.iter());
            v1::ListMetersResponse {
                meters: meters.map(v1::Meter::from).collect(),
                stats: match with_stats {
                    true => s.meter_stats(switch),
                    false => Vec::new(),
                },
                max_meters: number(MAX_METERS),
                max_bands: number(MAX_BANDS),
            }
        })
        .await
}

impl LimeService {
    pub(super) async fn update_meters(
        &self,
        request: v1::UpdateMetersRequest,
    ) -> Result<v1::UpdateMetersResponse, Status> {
        let (mods, switch) = (meter_mods_of(request.mods)?, request.switch);
        let network = self.network(&request.network)?;
        let (epoch, removed_rules) = network
            .complete_with(move |s| {
                let updated = s.update(&switch, mods)?;
                Ok((updated.ticket, updated.removed))
            })
            .await?;
        Ok(v1::UpdateMetersResponse {
            epoch: epoch.0,
            removed_rules,
        })
    }

    pub(super) async fn list_meters(
        &self,
        request: v1::ListMetersRequest,
    ) -> Result<v1::ListMetersResponse, Status> {
        let network = self.network(&request.network)?;
        meters_of(&self.shared, &network, &request).await
    }
}
