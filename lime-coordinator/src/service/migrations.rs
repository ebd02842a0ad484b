//! Migrations.

use lime_proto::v1;
use tonic::Status;

use super::{LimeService, Out};

impl LimeService {
    pub(super) async fn plan_migration(
        &self,
        _request: v1::MigrationRequest,
    ) -> Result<v1::MigrationPlan, Status> {
        Err(Status::unimplemented("migrations"))
    }

    pub(super) async fn start_migration(
        &self,
        _request: v1::MigrationRequest,
    ) -> Result<v1::Migration, Status> {
        Err(Status::unimplemented("migrations"))
    }

    pub(super) async fn get_migration(
        &self,
        _request: v1::GetMigrationRequest,
    ) -> Result<v1::Migration, Status> {
        Err(Status::unimplemented("migrations"))
    }

    pub(super) async fn list_migrations(
        &self,
        _request: v1::ListMigrationsRequest,
    ) -> Result<v1::ListMigrationsResponse, Status> {
        Ok(v1::ListMigrationsResponse::default())
    }

    pub(super) async fn watch_migration(
        &self,
        _request: v1::GetMigrationRequest,
    ) -> Result<Out<v1::Migration>, Status> {
        Err(Status::unimplemented("migrations"))
    }

    pub(super) async fn rollback_migration(
        &self,
        _request: v1::GetMigrationRequest,
    ) -> Result<v1::Migration, Status> {
        Err(Status::unimplemented("migrations"))
    }
}
