//! Migrations.

use std::sync::Arc;

use futures_util::StreamExt;
use lime_core::migration::Progress;
use lime_proto::v1;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::{LimeService, Out};
use crate::migration::{self, Record, now_ms, prepare};
use crate::store::Change;

impl LimeService {
    pub(super) async fn plan_migration(
        &self,
        request: v1::MigrationRequest,
    ) -> Result<v1::MigrationPlan, Status> {
        let prepared = prepare(&self.shared, &request).await?;
        let network = self.network(&request.network)?;
        let steps = prepared.plan.steps.iter().zip(prepared.lines);
        Ok(v1::MigrationPlan {
            warnings: network.call(|s| s.warnings()).await?,
            steps: steps
                .map(|(step, description)| v1::PlanStep {
                    phase: step.phase().name().to_owned(),
                    description,
                })
                .collect(),
            rules: prepared.rules,
        })
    }

    pub(super) async fn start_migration(
        &self,
        request: v1::MigrationRequest,
    ) -> Result<v1::Migration, Status> {
        let network = self.network(&request.network)?;
        let shared = Arc::clone(&self.shared);
        self.operate(&network, move |_| async move {
            let prepared = prepare(&shared, &request).await?;
            let mut record = Record {
                id: shared.ids.migration(),
                network: prepared.network.id,
                switches: prepared.plan.switches,
                request: prepared.asked,
                progress: Progress::new(prepared.plan.steps),
                lines: prepared.lines,
                phases: Vec::new(),
                moves: Vec::new(),
                error: String::new(),
                rules_cloned: 0,
                started_at: now_ms(),
                ended_at: 0,
            };
            record.keep_time();
            let id = record.id;
            let entry = shared.migrations.add(record.clone())?;
            let mut changes = vec![Change::migration(id, &record)];
            changes.extend(shared.ids.persisted());
            if let Err(e) = shared.commit(changes).await {
                shared.migrations.remove(id);
                return Err(e);
            }
            migration::spawn(&shared, entry);
            Ok(record.reply())
        })
        .await
    }

    pub(super) async fn get_migration(
        &self,
        request: v1::GetMigrationRequest,
    ) -> Result<v1::Migration, Status> {
        let entry = self.shared.migrations.get(request.id)?;
        let reply = entry.record.borrow().reply();
        Ok(reply)
    }

    pub(super) async fn list_migrations(
        &self,
        _: v1::ListMigrationsRequest,
    ) -> Result<v1::ListMigrationsResponse, Status> {
        let all = self.shared.migrations.list();
        let migrations = all.iter().map(|e| e.record.borrow().reply()).collect();
        Ok(v1::ListMigrationsResponse { migrations })
    }

    pub(super) async fn watch_migration(
        &self,
        request: v1::GetMigrationRequest,
    ) -> Result<Out<v1::Migration>, Status> {
        let entry = self.shared.migrations.get(request.id)?;
        let records = WatchStream::new(entry.record.subscribe());
        let stream = records.map(|r| Ok(r.reply()));
        let end = self.shared.shutdown.clone();
        // Ended records change no more, so the stream must not wait for a change after one.
        let stream = futures_util::stream::unfold(
            (Box::pin(stream), false),
            |(mut stream, ended)| async move {
                if ended {
                    return None;
                }
                let next: Result<v1::Migration, Status> = stream.next().await?;
                let ended = next.as_ref().is_ok_and(is_over);
                Some((next, (stream, ended)))
            },
        );
        Ok(Box::pin(stream.take_until(end.cancelled_owned())))
    }

    pub(super) async fn rollback_migration(
        &self,
        request: v1::GetMigrationRequest,
    ) -> Result<v1::Migration, Status> {
        let entry = self.shared.migrations.get(request.id)?;
        let was_failed =
            entry.record.borrow().progress.state() == lime_core::migration::State::Failed;
        let mut refused = None;
        migration::journal(&self.shared, &entry, |record| {
            match record.progress.roll_back() {
                Ok(()) if record.error.is_empty() => {
                    record.error = "rolled back on request".to_owned();
                }
                Ok(()) => {}
                Err(e) => refused = Some(e),
            }
        })
        .await?;
        if let Some(e) = refused {
            return Err(Status::failed_precondition(format!(
                "migration {}: {e}",
                request.id
            )));
        }
        if was_failed {
            migration::spawn(&self.shared, entry.clone());
        } else {
            entry.wake.notify_waiters();
        }
        let reply = entry.record.borrow().reply();
        Ok(reply)
    }
}

fn is_over(migration: &v1::Migration) -> bool {
    use v1::migration::State as S;
    !matches!(migration.state(), S::Running | S::RollingBack)
}
