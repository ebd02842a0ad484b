//! Carrying a migration out: one task each, from the journal's record to its end.

use std::sync::Arc;
use std::time::Duration;

use lime_core::migration::{Action, AfterFailure, Step};
use tonic::{Code, Status};
use tracing::{info, warn};

use super::Entry;
use super::record::{MoveRecord, Record};
use crate::network::Handle;
use crate::ops::{MoveTo, Operation};
use crate::shared::Shared;
use crate::store::Change;

/// Pause before an action that must succeed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Runs it to its end.
pub fn spawn(shared: &Arc<Shared>, entry: Entry) {
    let shared = Arc::clone(shared);
    shared.tasks.clone().spawn(async move {
        let end = shared.shutdown.clone();
        tokio::select! {
            () = run(&shared, &entry) => {}
            // The journal has what is needed to go on.
            () = end.cancelled() => {}
        }
    });
}

async fn run(shared: &Arc<Shared>, entry: &Entry) {
    loop {
        let record = entry.record.borrow().clone();
        let Some(network) = shared.network_by_id(record.network) else {
            fail(shared, entry, "its network is gone").await;
            return;
        };
        let Some(action) = record.progress.action() else {
            info!(migration = record.id, state = ?record.progress.state(), "migration has ended");
            return;
        };
        let begun = journal(shared, entry, |_| {}).await;
        if begun.is_err() {
            return;
        }
        let result = tokio::select! {
            result = act(shared, &network, &action) => result,
            () = turned_back(entry, &action) => continue,
        };
        let written = match result {
            Ok(outcome) => {
                journal(shared, entry, |r| {
                    r.rules_cloned += outcome.rules;
                    r.moves.extend(outcome.moved);
                    // An operator may have turned it back in the meantime: then this is not the action that counts.
                    if r.progress.action().as_ref() == Some(&action) {
                        r.progress.succeeded();
                        if !r.progress.has_turned_back() {
                            // What had to be tried again has passed.
                            r.error.clear();
                        }
                    }
                })
                .await
            }
            Err(status) => after_failure(shared, entry, &action, &status).await,
        };
        if written.is_err() {
            return;
        }
    }
}

/// The operator has asked for a rollback while this was being done: it is left where it is, and undone from there.
async fn turned_back(entry: &Entry, action: &Action) {
    loop {
        let woken = entry.wake.notified();
        if entry.record.borrow().progress.action().as_ref() != Some(action) {
            return;
        }
        woken.await;
    }
}

async fn after_failure(
    shared: &Arc<Shared>,
    entry: &Entry,
    action: &Action,
    status: &Status,
) -> Result<(), Status> {
    let may_pass = matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted
    );
    let mut next = AfterFailure::Retry;
    journal(shared, entry, |r| {
        if r.progress.action().as_ref() != Some(action) {
            return;
        }
        let was_back = matches!(action, Action::Undo(_));
        next = r.progress.failed(may_pass);
        match next {
            // Why it went back stays, whatever comes on the way.
            AfterFailure::RollBack => r.error = status.message().to_owned(),
            _ if was_back && !r.error.is_empty() => {}
            _ => r.error = status.message().to_owned(),
        }
        warn!(
            migration = r.id,
            ?next,
            "{}: {}",
            describe(action),
            status.message()
        );
    })
    .await?;
    if next == AfterFailure::Retry {
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}

fn describe(action: &Action) -> &'static str {
    match action {
        Action::Do(step) => step.phase().name(),
        Action::Undo(_) => "rollback",
    }
}

async fn fail(shared: &Arc<Shared>, entry: &Entry, why: &str) {
    let result = journal(shared, entry, |r| {
        r.error = why.to_owned();
        while !r.progress.state().has_ended() {
            r.progress.failed(false);
        }
    })
    .await;
    if let Err(e) = result {
        warn!("{}", e.message());
    }
}

/// Changes the record, in the store first as far as others can see.
pub async fn journal(
    shared: &Arc<Shared>,
    entry: &Entry,
    change: impl FnOnce(&mut Record),
) -> Result<(), Status> {
    let _one_at_a_time = entry.writing.lock().await;
    let mut record = entry.record.borrow().clone();
    change(&mut record);
    record.keep_time();
    shared
        .commit(vec![Change::migration(record.id, &record)])
        .await?;
    entry.record.send_replace(record);
    Ok(())
}

#[derive(Debug, Default)]
struct Outcome {
    rules: u64,
    moved: Option<MoveRecord>,
}

/// One action, holding the network's turn for as long as it takes.
async fn act(shared: &Arc<Shared>, network: &Handle, action: &Action) -> Result<Outcome, Status> {
    let (shared, network, action) = (Arc::clone(shared), network.clone(), action.clone());
    // Its own task: it ends cleanly also when the operator turns the migration back in the middle.
    let task = shared.tasks.clone().spawn(async move {
        let turn = Arc::clone(&network.ops);
        let _turn = turn.lock().await;
        let op = Operation::new(&shared, &network);
        match action {
            Action::Do(step) => forwards(&op, step).await,
            Action::Undo(step) => backwards(&op, step).await,
        }
    });
    let stopping = |_| Status::unavailable("the coordinator is stopping");
    task.await.map_err(stopping)?
}

async fn forwards(op: &Operation, step: Step) -> Result<Outcome, Status> {
    let mut outcome = Outcome::default();
    match step {
        Step::Join { host } => op.ensure_member(host).await?,
        Step::Clone { switch, host } => {
            outcome.rules = op.add_instance(switch, host).await? as u64;
        }
        Step::Move { port, to, .. } => {
            let moved = op.move_port(MoveTo { port, device: to }).await?;
            let name = op
                .network
                .call(move |s| {
                    let port = s.model.ports.get(&port);
                    port.map(|p| s.model.port_name(p)).unwrap_or_default()
                })
                .await?;
            outcome.moved = Some(MoveRecord {
                port: name,
                blackout_us: u64::try_from(moved.blackout.as_micros()).unwrap_or(u64::MAX),
            });
        }
        Step::Retire { switch, host } => op.remove_instance(switch, host).await?,
    }
    Ok(outcome)
}

async fn backwards(op: &Operation, step: Step) -> Result<Outcome, Status> {
    match step {
        Step::Join { host } => op.release_member(host).await?,
        Step::Clone { switch, host } => op.remove_instance(switch, host).await?,
        Step::Move { port, from, .. } => {
            op.move_port(MoveTo { port, device: from }).await?;
        }
        // Never planned backwards: what is retired is gone.
        Step::Retire { .. } => {}
    }
    Ok(Outcome::default())
}

/// Ends moves of single ports that a restart interrupted, as soon as the hosts are there.
pub(super) async fn settle(shared: Arc<Shared>, network: Handle) {
    let end = shared.shutdown.clone();
    loop {
        let turn = Arc::clone(&network.ops);
        let work = async {
            let _turn = turn.lock().await;
            Operation::new(&shared, &network).settle_ports().await
        };
        let result = tokio::select! {
            result = work => result,
            () = end.cancelled() => return,
        };
        match result {
            Ok(()) => return,
            Err(e) if e.code() == Code::Unavailable => {
                warn!(network = %network.name, "an interrupted move waits: {}", e.message());
            }
            Err(e) => {
                warn!(network = %network.name, "an interrupted move cannot be ended: {}", e.message());
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = end.cancelled() => return,
        }
    }
}
