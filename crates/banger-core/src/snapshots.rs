//! The snapshots that are kept: a directory for each, and the row that names it. What is half made or
//! half gone has a directory that says so. Knows neither VMs nor what is in the files.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use banger_image::digest::Sha256;
use tracing::warn;

use crate::{
    error::{Error, Kind},
    host::SnapshotPlaces,
    name::{NameError, SnapshotName, VmId},
    record::Seconds,
    recovery,
    snapshot::{Restoration, SnapshotError, SnapshotRecord},
    store::{Store, StoreError},
};

/// What the directory of a snapshot that is not whole, or is going, ends with.
const PARTIAL: &str = ".partial";

/// Owns the directory of all snapshots.
#[derive(Debug)]
pub struct Snapshots {
    store: Arc<Store>,
    directory: PathBuf,
    /// What machines read that are about to go on, by directory.
    in_use: Mutex<BTreeMap<String, Weak<()>>>,
}

impl Snapshots {
    #[must_use]
    pub fn new(store: Arc<Store>, directory: PathBuf) -> Self {
        Self {
            store,
            directory,
            in_use: Mutex::default(),
        }
    }

    /// Where all of them are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// All snapshots, saved boots too, by name.
    pub fn all(&self) -> Result<Vec<SnapshotRecord>, Error> {
        Ok(self.store.snapshots()?)
    }

    /// All snapshots that somebody asked for, by name.
    pub fn list(&self) -> Result<Vec<SnapshotRecord>, Error> {
        let mut snapshots = self.all()?;
        snapshots.retain(|snapshot| !snapshot.name.is_of_a_boot());
        Ok(snapshots)
    }

    /// Those that banger made by itself, the one that was used last first.
    pub(crate) fn boots(&self) -> Result<Vec<SnapshotRecord>, Error> {
        let mut snapshots = self.store.snapshots_by_use()?;
        snapshots.retain(|snapshot| snapshot.name.is_of_a_boot());
        Ok(snapshots)
    }

    pub(crate) fn was_used(&self, name: &SnapshotName, now: Seconds) -> Result<(), Error> {
        Ok(self.store.set_snapshot_used(name, now)?)
    }

    pub fn get(&self, name: &SnapshotName) -> Result<SnapshotRecord, Error> {
        let found = self.store.snapshot(name)?;
        found.ok_or_else(|| Error::NotFound {
            kind: Kind::Snapshot,
            target: name.to_string(),
        })
    }

    /// What a VM needs to go on from a snapshot whose files are whole.
    pub fn restoration(&self, snapshot: &SnapshotRecord) -> Result<Restoration, Error> {
        let hold = self.hold(&snapshot.directory);
        let files = self.files(snapshot);
        let lengths = [
            ("memory", files.memory(), snapshot.machine.memory.bytes()),
            ("disk", files.disk(), snapshot.machine.disk.bytes()),
            ("devices", files.devices(), 1),
        ];
        let ours = fs::metadata(&self.directory).ok().map(|meta| meta.uid());
        // A link would lead to what somebody else may change while a machine reads it.
        let is_whole = |path: &Path, least| {
            let meta = fs::symlink_metadata(path);
            meta.is_ok_and(|meta| meta.is_file() && meta.len() >= least && Some(meta.uid()) == ours)
        };
        for (file, path, least) in lengths {
            if !is_whole(&path, least) {
                return Err(damaged(snapshot, file));
            }
        }
        // A VMM would find out only when the machine that this replaces is gone.
        if !snapshot.devices_digest.is_empty()
            && digest(&files.devices()).ok().as_ref() != Some(&snapshot.devices_digest)
        {
            return Err(damaged(snapshot, "devices"));
        }
        Ok(Restoration {
            files,
            hold,
            origin_id: snapshot.origin_id,
            machine: snapshot.machine.clone(),
            binding: snapshot.binding.clone(),
        })
    }

    #[must_use]
    pub fn files(&self, snapshot: &SnapshotRecord) -> SnapshotPlaces {
        SnapshotPlaces {
            directory: self.directory.join(&snapshot.directory),
        }
    }

    pub(crate) fn refuse_taken(&self, name: &SnapshotName) -> Result<(), Error> {
        if name.is_of_a_boot() {
            return Err(NameError::SnapshotReserved(name.to_string()).into());
        }
        match self.store.snapshot(name)? {
            Some(_) => Err(StoreError::SnapshotTaken(name.clone()).into()),
            None => Ok(()),
        }
    }

    /// A directory for a machine that is about to be saved.
    pub(crate) fn stage(&self) -> Result<Staging, Error> {
        let name = VmId::random().to_string();
        let directory = self.partial(&name);
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&directory);
        made.map_err(file_error("make", &directory))?;
        let files = SnapshotPlaces { directory };
        Ok(Staging { name, files })
    }

    /// Makes a snapshot of what was staged: whole, or not at all. Its row comes first: where a daemon
    /// ends in between, the next one gives the directory its name.
    pub(crate) async fn publish(
        &self,
        staging: &Staging,
        record: SnapshotRecord,
    ) -> Result<SnapshotRecord, Error> {
        let files = staging.files.clone();
        // From here on the host's power may fail. A disk that is full says so now at the latest.
        let synced = tokio::task::spawn_blocking(move || {
            sync_all(&files)?;
            let devices = files.devices();
            digest(&devices).map_err(file_error("read", &devices))
        });
        let record = SnapshotRecord {
            devices_digest: synced.await.map_err(|_| Error::Ending)??,
            ..record
        };
        self.store.insert_snapshot(&record)?;
        let staged = &staging.files.directory;
        let place = self.directory.join(&record.directory);
        let published = recovery::write_snapshot(&self.store, &record.name, staged)
            .and_then(|()| fs::rename(staged, &place).map_err(file_error("publish", staged)))
            .and_then(|()| sync(&self.directory));
        if published.is_err() {
            self.store.delete_snapshot(&record.name)?;
        }
        published.map(|()| record)
    }

    fn hold(&self, directory: &str) -> Arc<()> {
        let mut in_use = self.in_use();
        in_use.retain(|_, hold| hold.strong_count() > 0);
        if let Some(hold) = in_use.get(directory).and_then(Weak::upgrade) {
            return hold;
        }
        let hold = Arc::default();
        in_use.insert(directory.to_owned(), Arc::downgrade(&hold));
        hold
    }

    fn in_use(&self) -> MutexGuard<'_, BTreeMap<String, Weak<()>>> {
        let in_use = self.in_use.lock();
        in_use.expect("no holder of this lock panics")
    }

    /// Forgets a snapshot. Machines that went on from it have what they need; one that is about to does
    /// not yet.
    pub fn delete(&self, name: &SnapshotName) -> Result<(), Error> {
        let snapshot = self.get(name)?;
        // Locked until it is gone: nobody begins to read it meanwhile.
        let in_use = self.in_use();
        match in_use.get(&snapshot.directory).map(Weak::strong_count) {
            None | Some(0) => self.remove(&snapshot),
            Some(_) => Err(SnapshotError::InUse(snapshot.name).into()),
        }
    }

    /// As [`Self::delete`], whoever reads it.
    pub(crate) fn remove(&self, snapshot: &SnapshotRecord) -> Result<(), Error> {
        let place = self.directory.join(&snapshot.directory);
        let going = self.partial(&snapshot.directory);
        match fs::rename(&place, &going) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error("remove", &place)(error));
            }
            Ok(()) | Err(_) => {}
        }
        self.store.delete_snapshot(&snapshot.name)?;
        match fs::remove_dir_all(&going) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file_error("remove", &going)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes what an earlier daemon left half made or half deleted. A directory with a whole
    /// snapshot's name stays, also where no row names it: the rows may be lost.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let known = self.store.snapshots()?;
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(id) = name.strip_suffix(PARTIAL) else {
                continue;
            };
            let place = self.directory.join(id);
            if known.iter().any(|row| row.directory == id) && !place.exists() {
                let partial = entry.path();
                fs::rename(&partial, &place).map_err(file_error("publish", &partial))?;
            } else {
                remove(&entry.path());
            }
        }
        Ok(())
    }

    fn partial(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}{PARTIAL}"))
    }
}

/// A directory that goes away unless it is published.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) name: String,
    pub(crate) files: SnapshotPlaces,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.files.directory.exists() {
            remove(&self.files.directory);
        }
    }
}

fn damaged(snapshot: &SnapshotRecord, file: &'static str) -> Error {
    let snapshot = snapshot.name.clone();
    SnapshotError::Damaged { snapshot, file }.into()
}

fn digest(devices: &Path) -> io::Result<String> {
    Ok(Sha256::of_reader(fs::File::open(devices)?)?.to_hex())
}

/// Waits until all files of a saved machine are on the disk, and that they are there.
fn sync_all(files: &SnapshotPlaces) -> Result<(), Error> {
    for path in [files.memory(), files.devices(), files.disk()] {
        sync(&path)?;
    }
    sync(&files.directory)
}

fn sync(path: &Path) -> Result<(), Error> {
    let synced = fs::File::open(path).and_then(|file| file.sync_all());
    synced.map_err(file_error("write", path))
}

/// Nobody waits for this; the next daemon tries again.
fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        warn!(path = %directory.display(), %error, "cannot remove what is left of a snapshot");
    }
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        operation,
        path,
        source,
    }
}
