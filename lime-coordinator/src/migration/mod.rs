//! Migrations: the journal, and the tasks that carry them out.

/// All migrations.
#[derive(Debug, Default)]
pub struct Migrations {}

use std::sync::Arc;

use crate::shared::Shared;
use crate::store::StoreError;

/// Goes on with what a restart interrupted.
pub async fn resume(_shared: &Arc<Shared>) -> Result<(), StoreError> {
    Ok(())
}

impl Migrations {
    /// Refuses to change the shape of switches that are being migrated.
    pub fn refuse_changes(
        &self,
        _network: lime_core::NetworkId,
        _switches: impl IntoIterator<Item = lime_core::SwitchId>,
    ) -> Result<(), tonic::Status> {
        Ok(())
    }
}
