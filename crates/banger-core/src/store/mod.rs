//! The SQLite store: what was recorded, and nothing else. Knows rows, not tasks or files.
//!
//! One connection behind a lock. A call is a fraction of a millisecond, so asynchronous code
//! calls it directly. What a call has returned survives a SIGKILL of the daemon: the log is
//! written before it returns (`journal_mode=WAL`), and is on the disk for all that people were told
//! of (`synchronous=FULL`).

mod cards;
mod catalogs;
mod damage;
mod events;
mod images;
mod journal;
mod migrations;
mod operations;
mod pools;
mod snapshots;
mod upkeep;
mod vms;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::watch;

pub(crate) use cards::{Card, Table};
pub use catalogs::CatalogRow;
pub use images::{ImageRow, ImageStage};
pub use journal::JournalRow;

use crate::{
    name::{CatalogName, ImageName, PoolName, SnapshotName, VmId, VmName},
    record::Seconds,
};

/// How long another program may look into the store at a time.
const OTHERS: Duration = Duration::from_secs(5);

/// Why the store could not serve.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store {path}", path = .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("another program has the store {path} locked; `fuser {path}` tells which", path = .path.display())]
    Locked { path: PathBuf },
    #[error("the store {path} is damaged: {verdict}", path = .path.display())]
    Damaged { path: PathBuf, verdict: String },
    #[error("cannot put the damaged store {path} aside", path = .path.display())]
    SetAside {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot copy the store to {path} before it changes", path = .path.display())]
    Copy {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the store has schema version {found}, this banger knows versions up to {known}")]
    Newer { found: u32, known: u32 },
    #[error("cannot bring the store to schema version {version}")]
    Migrate {
        version: u32,
        #[source]
        source: rusqlite::Error,
    },
    #[error("cannot {operation} in the store")]
    Query {
        operation: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the store holds an unreadable {what}: \"{value}\"")]
    Unreadable { what: &'static str, value: String },
    #[error("a VM named {0} exists already")]
    VmTaken(VmName),
    #[error("an image named {0} exists already")]
    ImageTaken(ImageName),
    #[error("a snapshot named {0} exists already")]
    SnapshotTaken(SnapshotName),
    #[error("a pool named {0} exists already")]
    PoolTaken(PoolName),
    #[error("image {0} is not in the store")]
    NoImage(ImageName),
    #[error("pool {0} is not in the store")]
    NoPool(PoolName),
    #[error("VM {0} is not in the store")]
    NoVm(VmId),
    #[error("a catalog named {0} was added already")]
    CatalogTaken(CatalogName),
    #[error("there is no catalog {0}")]
    NoCatalog(CatalogName),
    #[error("image {0} is used by VMs")]
    ImageUsed(ImageName),
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
    event_written: watch::Receiver<()>,
}

impl Store {
    /// As [`Self::open`]; a store that is damaged is put aside, and an empty one is in its place.
    pub fn open_or_replace(
        path: &Path,
        now: Seconds,
    ) -> Result<(Self, Option<PathBuf>), StoreError> {
        match Self::open(path) {
            Err(damaged @ StoreError::Damaged { .. }) => {
                let kept = damage::set_aside(path, now)?;
                tracing::error!(error = %damaged, kept = %kept.display(), "the store is put aside");
                Ok((Self::open(path)?, Some(kept)))
            }
            opened => Ok((opened?, None)),
        }
    }

    /// Opens the store and brings its schema up to date; refuses a newer schema, and a store that
    /// is damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = damage::opening(path);
        let mut connection = Connection::open(path).map_err(&open)?;
        connection
            .execute_batch(
                "PRAGMA busy_timeout=200; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
                 PRAGMA foreign_keys=ON; PRAGMA cache_size=-256;",
            )
            .map_err(&open)?;
        damage::check(&connection, path)?;
        migrations::apply(&mut connection, path)?;
        let event_written = events::watched(&mut connection).map_err(&open)?;
        // Who looks into an open store is waited for; whoever keeps it closed is told of at once.
        connection.busy_timeout(OTHERS).map_err(&open)?;
        Ok(Self {
            connection: Mutex::new(connection),
            event_written,
        })
    }

    /// Takes no write from now on.
    #[cfg(test)]
    pub(crate) fn freeze(&self) {
        let frozen = self.lock().pragma_update(None, "query_only", true);
        frozen.expect("a connection can be made read-only");
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .expect("no holder of the store's lock panics")
    }
}

fn query(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Query { operation, source }
}

/// Whether an error is the breach of a constraint, of the given extended kind.
fn breaches(error: &rusqlite::Error, extended: i32) -> bool {
    error
        .sqlite_error()
        .is_some_and(|inner| inner.extended_code == extended)
}

#[cfg(test)]
mod tests;
