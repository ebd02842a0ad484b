//! The store in one redb file. A thread of its own writes; commits that wait together become one transaction.

use std::path::Path;
use std::sync::mpsc as std_mpsc;
use std::thread;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::oneshot;

use super::{Bytes, Change, Commit, FORMAT, Store, StoreError, Table};

/// Changes that one transaction takes at most, beside those of its first commit.
const MAX_SHARED: usize = 200_000;

/// Which format the records are of: one number.
const FORMATS: TableDefinition<'static, (), u32> = TableDefinition::new("format");

/// That of the first stores, whose records were JSON; they do not say so.
const UNNUMBERED: u32 = 1;

type Rows = Vec<(Bytes, Bytes)>;

enum Job {
    Commit(Vec<Change>, oneshot::Sender<Result<(), StoreError>>),
    Load(Table, std_mpsc::Sender<Result<Rows, StoreError>>),
    Close(std_mpsc::Sender<()>),
}

/// A store in a file. Only its thread has the database, so that it is closed when the thread ends.
#[derive(Debug)]
pub struct RedbStore {
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
        let database = Database::create(path).map_err(open)?;
        let write = database.begin_write().map_err(failed)?;
        check_format(&write, path)?;
        for table in Table::ALL {
            write.open_table(definition(table)).map_err(failed)?;
        }
        write.commit().map_err(failed)?;
        let (jobs, queue) = std_mpsc::channel();
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(database, &queue))
            .map_err(failed)?;
        Ok(Self { jobs })
    }
}

/// Refuses a file of another format as it is; numbers one that is new.
fn check_format(write: &WriteTransaction, path: &Path) -> Result<(), StoreError> {
    let is_new = write.list_tables().map_err(failed)?.next().is_none();
    let mut formats = write.open_table(FORMATS).map_err(failed)?;
    if is_new {
        formats.insert((), FORMAT).map_err(failed)?;
    }
    let found = formats.get(()).map_err(failed)?.map(|n| n.value());
    let found = found.unwrap_or(UNNUMBERED);
    if found == FORMAT {
        return Ok(());
    }
    Err(StoreError::Format {
        path: path.display().to_string(),
        found,
    })
}

fn run(database: Database, queue: &std_mpsc::Receiver<Job>) {
    let mut next = queue.recv().ok();
    while let Some(job) = next.take() {
        match job {
            Job::Commit(mut changes, reply) => {
                let mut replies = vec![reply];
                while changes.len() < MAX_SHARED {
                    match queue.try_recv() {
                        Ok(Job::Commit(more, reply)) => {
                            changes.extend(more);
                            replies.push(reply);
                        }
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                answer(replies, write(&database, &changes));
            }
            Job::Load(table, reply) => {
                // Whoever asked has gone otherwise.
                let _ = reply.send(load(&database, table));
            }
            Job::Close(reply) => {
                drop(database);
                let _ = reply.send(());
                return;
            }
        }
        if next.is_none() {
            next = queue.recv().ok();
        }
    }
}

fn answer(replies: Vec<oneshot::Sender<Result<(), StoreError>>>, result: Result<(), StoreError>) {
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

fn load(database: &Database, table: Table) -> Result<Rows, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let open = read.open_table(definition(table)).map_err(failed)?;
    let mut all = Vec::new();
    for row in open.iter().map_err(failed)? {
        let (key, value) = row.map_err(failed)?;
        all.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(all)
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
        let (reply, answer) = std_mpsc::channel();
        let closed = || StoreError::Closed;
        let job = Job::Load(table, reply);
        self.jobs.send(job).map_err(|_| closed())?;
        answer.recv().map_err(|_| closed())?
    }

    fn commit(&self, changes: Vec<Change>) -> Commit {
        let (reply, done) = oneshot::channel();
        // Queued now, not when the future is polled: commits are in the order of their calls.
        let queued = self.jobs.send(Job::Commit(changes, reply));
        Box::pin(async move {
            queued.map_err(|_| StoreError::Closed)?;
            done.await.map_err(|_| StoreError::Closed)?
        })
    }

    fn close(&self) {
        let (reply, closed) = std_mpsc::channel();
        if self.jobs.send(Job::Close(reply)).is_ok() {
            // It answers when all before it is written; an error means that it was closed already.
            let _ = closed.recv();
        }
    }
}
