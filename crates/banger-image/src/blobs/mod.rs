//! Owns the blobs that are fetched from registries: each once at a time, on disk while they
//! arrive, readable from the first byte on, kept by their digest once they are whole.
//! Knows digests and files; knows no manifest and makes no image.

mod download;
mod layer;
mod shared;
mod verified;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

pub use layer::{BlobLayer, Verdict};
pub(crate) use verified::Verified;
pub use verified::WrongDigest;

use crate::digest::Sha256;
use crate::pins::{Pinned, Pins};
use crate::registry::{RegistryError, Session};
use download::Download;

const PARTIAL: &str = "partial-";

/// A directory of blobs. The only one of its directory: it knows what is being fetched, and what
/// running pulls need.
#[derive(Debug)]
pub struct BlobStore {
    directory: PathBuf,
    pins: Pins,
    running: Mutex<HashMap<Sha256, Weak<Download>>>,
}

/// A whole blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    pub digest: Sha256,
    pub bytes: u64,
    pub arrived: SystemTime,
}

/// What is to be fetched, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) session: Arc<Session>,
    pub(crate) digest: Sha256,
    pub(crate) size: u64,
    /// Bounds how much is fetched at once; first come, first served.
    pub(crate) gate: Arc<Semaphore>,
}

impl BlobStore {
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            pins: Pins::default(),
            running: Mutex::default(),
        }
    }

    /// Removes what an earlier process left half-fetched.
    pub fn sweep(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The whole blobs.
    pub fn list(&self) -> io::Result<Vec<StoredBlob>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut blobs = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match entry.metadata() {
                Ok(meta) => blobs.push(StoredBlob {
                    digest,
                    bytes: meta.len(),
                    arrived: meta.modified()?,
                }),
                // A pull that has come to its end removed it just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        blobs.sort_by_key(|blob| blob.digest);
        Ok(blobs)
    }

    /// Keeps a blob from being pruned, whether it is here yet or not.
    pub(crate) fn pin(&self, digest: Sha256) -> Pinned {
        self.pins.pin([digest])
    }

    pub(crate) fn is_in_use(&self, digest: Sha256) -> bool {
        self.pins.holds(digest)
    }

    /// Removes a blob that no pull needs; whether it did.
    pub(crate) fn remove_unused(&self, digest: Sha256) -> io::Result<bool> {
        let removed = self.pins.unless_held(digest, || self.remove(digest));
        Ok(removed.transpose()?.is_some())
    }

    /// Removes a blob; whoever reads it goes on. Removing what is not there is no error.
    pub fn remove(&self, digest: Sha256) -> io::Result<()> {
        self.running().remove(&digest);
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A blob that is here already.
    pub(crate) fn whole(&self, digest: Sha256, size: u64) -> Option<File> {
        let file = File::open(self.path(digest)).ok()?;
        let fits = file.metadata().is_ok_and(|file| file.len() == size);
        fits.then_some(file)
    }

    /// Joins the download of a blob, or begins it. It ends when nobody holds it any more.
    pub(crate) fn fetch(
        &self,
        wanted: &Wanted,
        runtime: &Handle,
    ) -> Result<Arc<Download>, RegistryError> {
        let mut running = self.running();
        running.retain(|_, download| download.strong_count() > 0);
        let known = running.get(&wanted.digest).and_then(Weak::upgrade);
        if let Some(download) = known.filter(|download| !download.has_failed()) {
            return Ok(download);
        }
        let failed = |source| RegistryError::File {
            operation: "make a file in",
            path: self.directory.clone(),
            source,
        };
        let file = self.partial().map_err(failed)?;
        let destination = self.path(wanted.digest);
        let download = Download::begin(wanted.clone(), file, destination, runtime);
        let download = Arc::new(download.map_err(failed)?);
        running.insert(wanted.digest, Arc::downgrade(&download));
        Ok(download)
    }

    fn partial(&self) -> io::Result<tempfile::NamedTempFile> {
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        tempfile::Builder::new()
            .prefix(PARTIAL)
            .tempfile_in(&self.directory)
    }

    fn path(&self, digest: Sha256) -> PathBuf {
        self.directory.join(digest.to_hex())
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Sha256, Weak<Download>>> {
        self.running
            .lock()
            .expect("no holder of the download map's lock panics")
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
