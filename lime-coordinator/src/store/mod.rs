//! What survives a restart: a key-value store behind a trait, and the records in it.
//!
//! A commit is atomic and durable when its future is done. Commits that arrive together share one transaction.

mod keys;
mod records;
mod redb;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;

use thiserror::Error;

pub use keys::Table;
pub use records::*;
pub use redb::RedbStore;

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub table: Table,
    /// Which; big-endian numbers, so that keys of one network lie together.
    pub key: Vec<u8>,
    /// The new value; `None` deletes.
    pub value: Option<Vec<u8>>,
}

/// Why the store fails.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("cannot open the store {path}")]
    Open {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file's records are of another format.
    #[error(
        "the store {path} is of format {found}, and this coordinator has format {FORMAT}: start it with another file (--store), or start the version that wrote this one"
    )]
    Format {
        /// Which file.
        path: String,
        /// Its format.
        found: u32,
    },
    /// Reading or writing failed.
    #[error("the store failed")]
    Io(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A record does not decode.
    #[error("a record of table {table:?} is damaged")]
    Record {
        /// Where it is.
        table: Table,
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

/// A commit under way.
pub type Commit = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// A key, or a record, as bytes.
pub type Bytes = Vec<u8>;

/// Ordered tables of bytes. redb behind it by default.
pub trait Store: Send + Sync + 'static {
    /// All of a table, by key.
    fn load(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// Writes all of these or none; they are in the order given with respect to other commits.
    fn commit(&self, changes: Vec<Change>) -> Commit;

    /// Writes what has been committed and lets the file go; later calls fail.
    fn close(&self);
}
