//! Owns the directory in which a kernel comes to be, and its publication by one rename. Whoever
//! lets go of it unpublished leaves nothing behind. Knows nothing of what is in it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use tempfile::TempDir;

use super::manifest::KernelName;

const SUFFIX: &str = ".partial";

/// A directory beside the kernels, whose name no kernel can have.
#[derive(Debug)]
pub(super) struct Staging {
    directory: TempDir,
    given_up: AtomicBool,
}

/// Tells the work in a staging directory to stop when the future that waits for it is dropped.
#[derive(Debug)]
pub(super) struct GiveUpOnDrop(pub(super) Arc<Staging>);

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        self.0.given_up.store(true, Ordering::Relaxed);
    }
}

impl Staging {
    pub(super) fn create(store: &Path, name: &KernelName) -> io::Result<Self> {
        fs::create_dir_all(store)?;
        let directory = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(SUFFIX)
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(store)?;
        Ok(Self {
            directory,
            given_up: AtomicBool::new(false),
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Makes the directory appear as `target`; fails with `AlreadyExists` where there is one.
    pub(super) fn publish(&self, target: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, self.path(), CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => sync_parent(target),
            Err(Errno::INVAL | Errno::NOSYS) => self.publish_unflagged(target),
            Err(error) => Err(error.into()),
        }
    }

    /// For file systems without `RENAME_NOREPLACE`: a rename never replaces a directory that
    /// has anything in it, and kernels have.
    fn publish_unflagged(&self, target: &Path) -> io::Result<()> {
        match fs::rename(self.path(), target) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            Err(error) => Err(error),
            Ok(()) => sync_parent(target),
        }
    }

    /// Like [`Self::publish`], in place of what is there: readers see the old or the new, whole.
    pub(super) fn replace(&self, target: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, self.path(), CWD, target, RenameFlags::EXCHANGE) {
            // The old contents are in the staging directory now and go away with it.
            Ok(()) => sync_parent(target),
            Err(Errno::NOENT) => self.publish(target),
            Err(Errno::INVAL | Errno::NOSYS) => {
                remove(target)?;
                self.publish(target)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Removes a published directory: it vanishes under its name at once, whatever happens then.
pub(super) fn remove(target: &Path) -> io::Result<()> {
    let parent = target.parent().unwrap_or(Path::new("."));
    let grave = tempfile::Builder::new()
        .prefix(".removed.")
        .suffix(SUFFIX)
        .tempdir_in(parent)?;
    fs::rename(target, grave.path().join("kernel"))?;
    grave.close()
}

/// Removes what work that was killed has left in a store.
pub(super) fn sweep(store: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(store) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut swept = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(SUFFIX) {
            fs::remove_dir_all(entry.path())?;
            swept.push(entry.path());
        }
    }
    Ok(swept)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
