//! Owns a directory of published bundles: who may write to it, and that its catalog is replaced as a
//! whole. What others may be reading stays where it is.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use super::document::{Catalog, Expiry, ImageEntry};
use super::key::SecretKey;
use super::place::{SIGNED, read};
use super::{NoteError, Signed, SignedError, note};
use crate::kernel::CatalogEntry;

/// A directory to publish into, which nobody else publishes into meanwhile.
#[derive(Debug)]
pub struct Publisher {
    directory: PathBuf,
    key: SecretKey,
    catalog: Catalog,
    /// Locked; the lock goes with it.
    _lock: File,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("cannot {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// It stays as it is.
    #[error("the catalog {} is somebody else's", path.display())]
    Foreign { path: PathBuf, source: NoteError },
    #[error("cannot go on from the catalog {}", path.display())]
    Damaged { path: PathBuf, source: SignedError },
    #[error("a catalog cannot hold for {} days from now", valid.as_secs() / 86_400)]
    Forever { valid: Duration },
}

impl Publisher {
    /// Takes up a directory, which is made where it is not there. Waits for another publisher.
    pub fn open(directory: &Path, key: SecretKey) -> Result<Self, PublishError> {
        let failed = |operation| {
            move |source| PublishError::File {
                operation,
                path: directory.to_owned(),
                source,
            }
        };
        make(directory).map_err(failed("make"))?;
        let lock = File::open(directory).map_err(failed("open"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| failed("lock")(error.into()))?;
        Ok(Self {
            catalog: present(&directory.join(SIGNED), &key)?,
            directory: directory.to_owned(),
            key,
            _lock: lock,
        })
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn put_kernel(&mut self, entry: CatalogEntry) {
        self.catalog.put_kernel(entry);
    }

    pub fn put_image(&mut self, entry: ImageEntry) {
        self.catalog.put_image(entry);
    }

    /// Puts the new catalog in the place of the old one, and gives its number.
    pub fn publish(
        mut self,
        now: SystemTime,
        valid: Option<Duration>,
    ) -> Result<u64, PublishError> {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // It grows also where the directory was lost and is begun anew.
        self.catalog.serial = seconds.max(self.catalog.serial + 1);
        self.catalog.expires = match valid {
            None => None,
            Some(valid) => {
                let expiry = Expiry::after(now, valid);
                Some(expiry.ok_or(PublishError::Forever { valid })?)
            }
        };
        let note = note::sign(&self.catalog.to_json(), &self.key);
        let path = self.directory.join(SIGNED);
        let written = replace(&path, &self.directory, note.as_bytes());
        written.map_err(|source| PublishError::File {
            operation: "write",
            path,
            source,
        })?;
        Ok(self.catalog.serial)
    }
}

/// What was published before, by us.
fn present(path: &Path, key: &SecretKey) -> Result<Catalog, PublishError> {
    let note = match read(path) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Catalog::empty()),
        Err(source) => {
            return Err(PublishError::File {
                operation: "read",
                path: path.to_owned(),
                source,
            });
        }
    };
    let path = path.to_owned();
    match Signed::open(&note, &key.public()) {
        Ok(signed) => Ok(signed.catalog),
        Err(SignedError::Note {
            source: source @ NoteError::Stranger { .. },
        }) => Err(PublishError::Foreign { path, source }),
        Err(source) => Err(PublishError::Damaged { path, source }),
    }
}

/// Makes a directory that everybody can read, whatever the process's mask is.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o755))
}

fn replace(path: &Path, directory: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    let file_of_all = Permissions::from_mode(0o644);
    fs::set_permissions(file.path(), file_of_all)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}
