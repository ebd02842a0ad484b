//! Bundles: changes of a switch that come in several requests and are made together (ONF EXT-230; OpenFlow 1.4.0, 6.9).

use std::collections::BTreeMap;

use lime_core::flow::SwitchMod;
use lime_core::model::ChangeError;
use lime_proto::{MAX_MESSAGE_BYTES, v1};
use prost::Message as _;
use tonic::Status;

use super::LimeService;
use super::rules::convert;
use crate::network::MAX_MODS;

/// Open bundles of one connection.
const MAX_BUNDLES: usize = 16;

/// Bytes of all open bundles of one connection, as they came: as much as one request may have.
const MAX_BYTES: usize = MAX_MESSAGE_BYTES;

#[derive(Debug)]
struct Bundle {
    switch: String,
    mods: Vec<SwitchMod>,
    bytes: usize,
}

/// The open bundles of one connection.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    open: BTreeMap<u32, Bundle>,
}

/// The domain's form of changes that begin at this index; refused for what can be known without the switch.
fn mods_of(mods: Vec<v1::SwitchMod>, at: usize) -> Result<Vec<SwitchMod>, Status> {
    let mods = convert(mods, at, SwitchMod::try_from)?;
    for (i, m) in mods.iter().enumerate() {
        let index = at + i;
        // Groups and meters have been checked by their conversion.
        if let SwitchMod::Rule(m) = m
            && let Some(rule) = m.rule()
            && let Err(error) = rule.check()
        {
            return Err(super::invalid(ChangeError::Rule { index, error }));
        }
    }
    Ok(mods)
}

impl Bundles {
    pub(super) fn open(&mut self, request: v1::OpenBundle) -> Result<(), Status> {
        let id = request.bundle_id;
        if self.open.contains_key(&id) {
            return Err(Status::already_exists(format!(
                "bundle {id} is open already: commit or discard it, or take another number"
            )));
        }
        if self.open.len() >= MAX_BUNDLES {
            return Err(Status::resource_exhausted(format!(
                "bundle {id}: this connection has {MAX_BUNDLES} open bundles, the most that are allowed: commit or discard one"
            )));
        }
        let bundle = Bundle {
            switch: request.switch,
            mods: Vec::new(),
            bytes: 0,
        };
        self.open.insert(id, bundle);
        Ok(())
    }

    pub(super) fn add(&mut self, request: v1::AddToBundle) -> Result<(), Status> {
        let id = request.bundle_id;
        let bytes = request.encoded_len();
        let open = self.open.values();
        let (bytes_before, mods_before) = open.fold((0, 0), |(bytes, mods), b| {
            (bytes + b.bytes, mods + b.mods.len())
        });
        let bundle = self.open.get_mut(&id).ok_or_else(|| not_open(id))?;
        if bytes_before + bytes > MAX_BYTES || mods_before + request.mods.len() > MAX_MODS {
            return Err(Status::resource_exhausted(format!(
                "bundle {id}: the open bundles of this connection would have more than {} MiB or {MAX_MODS} changes: commit or discard some",
                MAX_BYTES >> 20
            )));
        }
        let within = |e: Status| Status::new(e.code(), format!("bundle {id}: {}", e.message()));
        let mods = mods_of(request.mods, bundle.mods.len()).map_err(within)?;
        bundle.mods.extend(mods);
        bundle.bytes += bytes;
        Ok(())
    }

    /// Ends a bundle: its switch, and what is in it.
    pub(super) fn take(&mut self, id: u32) -> Result<(String, Vec<SwitchMod>), Status> {
        let bundle = self.open.remove(&id).ok_or_else(|| not_open(id))?;
        Ok((bundle.switch, bundle.mods))
    }
}

fn not_open(id: u32) -> Status {
    Status::not_found(format!(
        "bundle {id} is not open on this connection: open it first"
    ))
}

impl LimeService {
    pub(super) async fn update_switch(
        &self,
        request: v1::UpdateSwitchRequest,
    ) -> Result<v1::UpdateSwitchResponse, Status> {
        let network = self.network(&request.network)?;
        let mods = mods_of(request.mods, 0)?;
        let (epoch, updated) = network
            .complete_with(move |s| {
                let updated = s.update(&request.switch, mods)?;
                Ok((updated.ticket, updated))
            })
            .await?;
        Ok(v1::UpdateSwitchResponse {
            epoch: epoch.0,
            rules_added: updated.added,
            rules_removed: updated.removed,
        })
    }
}
