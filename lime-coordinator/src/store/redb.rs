//! The store in one redb file. A thread of its own writes; commits that wait together become one transaction.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use super::{Bytes, Change, Commit, Store, StoreError, Table};

/// Changes that one transaction takes at most, beside those of its first commit.
const MAX_SHARED: usize = 200_000;

type Job = (Vec<Change>, oneshot::Sender<Result<(), StoreError>>);

/// A store in a file.
#[derive(Debug)]
pub struct RedbStore {
    database: Arc<Database>,
    jobs: std_mpsc::Sender<Job>,
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Io(Box::new(error))
}

impl RedbStore {
    /// Opens the file, or makes it. Only one process can have it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source: redb::DatabaseError| StoreError::Open {
            path: path.display().to_string(),
            source: Box::new(source),
        };
        let database = Arc::new(Database::create(path).map_err(open)?);
        let write = database.begin_write().map_err(failed)?;
        for table in Table::ALL {
            write.open_table(definition(table)).map_err(failed)?;
        }
        write.commit().map_err(failed)?;
        let (jobs, queue) = std_mpsc::channel();
        let writer = Arc::clone(&database);
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(&writer, &queue))
            .map_err(failed)?;
        Ok(Self { database, jobs })
    }
}

fn run(database: &Database, queue: &std_mpsc::Receiver<Job>) {
    while let Ok((mut changes, reply)) = queue.recv() {
        let mut replies = vec![reply];
        while changes.len() < MAX_SHARED {
            let Ok((more, reply)) = queue.try_recv() else {
                break;
            };
            changes.extend(more);
            replies.push(reply);
        }
        let result = write(database, &changes);
        let failure = result.as_ref().err().map(ToString::to_string);
        let mut result = Some(result);
        for reply in replies {
            let outcome = match (result.take(), &failure) {
                (Some(first), _) => first,
                (None, None) => Ok(()),
                (None, Some(text)) => Err(StoreError::Io(text.clone().into())),
            };
            // Nobody waits for it any more: written all the same.
            let _ = reply.send(outcome);
        }
    }
}

fn write(database: &Database, changes: &[Change]) -> Result<(), StoreError> {
    let write = database.begin_write().map_err(failed)?;
    for table in Table::ALL {
        let mut changes = changes.iter().filter(|c| c.table == table).peekable();
        if changes.peek().is_none() {
            continue;
        }
        let mut open = write.open_table(definition(table)).map_err(failed)?;
        for change in changes {
            match &change.value {
                Some(value) => {
                    open.insert(change.key.as_slice(), value.as_slice())
                        .map_err(failed)?;
                }
                None => {
                    open.remove(change.key.as_slice()).map_err(failed)?;
                }
            }
        }
    }
    write.commit().map_err(failed)
}

impl Store for RedbStore {
    fn load(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let open = read.open_table(definition(table)).map_err(failed)?;
        let mut all = Vec::new();
        for row in open.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            all.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(all)
    }

    fn commit(&self, changes: Vec<Change>) -> Commit {
        let (reply, done) = oneshot::channel();
        // Queued now, not when the future is polled: commits are in the order of their calls.
        let queued = self.jobs.send((changes, reply));
        Box::pin(async move {
            queued.map_err(|_| StoreError::Closed)?;
            done.await.map_err(|_| StoreError::Closed)?
        })
    }
}
