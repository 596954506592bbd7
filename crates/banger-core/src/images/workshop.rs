//! The making of one image, whatever of: record, make, confirm, and nothing left of a failure.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use banger_image::{kernel::KernelName, manifest::ImageConfig, rootfs::Facts};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::{
    error::Error,
    host::Host,
    name::{ImageName, VmId},
    record::Seconds,
    store::{ImageRow, ImageStage, Store, StoreError},
};

/// What making an image needs on a thread of its own.
pub(super) struct Workshop {
    store: Arc<Store>,
    directory: PathBuf,
    host: Arc<dyn Host>,
    clock: fn() -> Seconds,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workshop")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// What is known of an image before it is made.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) name: ImageName,
    /// Where it comes from, for people.
    pub(super) origin: String,
    pub(super) reference: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) config: ImageConfig,
    pub(super) kernel: Option<KernelName>,
    /// The file of the host that it is, where none is made.
    pub(super) rootfs: Option<PathBuf>,
    /// What it takes on the disk at least, as far as that is known.
    pub(super) least_bytes: u64,
}

impl Job {
    pub(super) fn new(name: &ImageName, origin: String) -> Self {
        Self {
            name: name.clone(),
            origin,
            reference: None,
            platform: None,
            config: ImageConfig::default(),
            kernel: None,
            rootfs: None,
            least_bytes: 0,
        }
    }
}

/// What is known of it afterwards.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) digest: String,
    pub(super) size_bytes: u64,
    pub(super) content_bytes: u64,
    pub(super) entries: u64,
    pub(super) facts: Facts,
    /// How it wants to be run, where its source said so only at the end.
    pub(super) wants: Option<Wants>,
}

/// How an image wants to be run.
#[derive(Debug)]
pub(super) struct Wants {
    pub(super) config: ImageConfig,
    pub(super) kernel: Option<KernelName>,
}

/// Makes an image on a thread that ends by itself when nobody waits any more. The lock is held
/// until the thread is through, also when the future is gone.
pub(super) async fn make(
    workshop: &Arc<Workshop>,
    job: Job,
    lock: Arc<OwnedMutexGuard<()>>,
    work: impl FnOnce(&Path, &CancellationToken) -> Result<Made, Error> + Send + 'static,
) -> Result<ImageRow, Error> {
    let cancel = CancellationToken::new();
    let _given_up: DropGuard = cancel.clone().drop_guard();
    let workshop = workshop.clone();
    let made = tokio::task::spawn_blocking(move || {
        let _lock = lock;
        workshop.make(&job, |rootfs| work(rootfs, &cancel))
    });
    made.await.map_err(|_| Error::Ending)?
}

impl Workshop {
    pub(super) fn new(
        store: Arc<Store>,
        directory: PathBuf,
        host: Arc<dyn Host>,
        clock: fn() -> Seconds,
    ) -> Self {
        Self {
            store,
            directory,
            host,
            clock,
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Record, make, confirm.
    pub(super) fn make(
        &self,
        job: &Job,
        work: impl FnOnce(&Path) -> Result<Made, Error>,
    ) -> Result<ImageRow, Error> {
        let directory = VmId::random().to_string();
        self.host.has_room(&self.directory, job.least_bytes)?;
        self.store
            .reserve_image(&job.name, &directory, &job.origin, (self.clock)())?;
        let made = self
            .room(&directory)
            .and_then(|rootfs| work(&rootfs))
            .and_then(|made| self.confirm(job, made));
        if made.is_err() {
            self.discard(&job.name, &directory);
        }
        made
    }

    fn confirm(&self, job: &Job, made: Made) -> Result<ImageRow, Error> {
        let row = self.store.image(&job.name)?;
        let row = row.ok_or_else(|| StoreError::NoImage(job.name.clone()))?;
        let wants = made.wants.unwrap_or_else(|| Wants {
            config: job.config.clone(),
            kernel: job.kernel.clone(),
        });
        let row = ImageRow {
            stage: ImageStage::Ready,
            digest: made.digest,
            size_bytes: made.size_bytes,
            content_bytes: made.content_bytes,
            entries: made.entries,
            os: made.facts.os_release.pretty_name,
            has_systemd: made.facts.systemd.is_some(),
            has_shell: made.facts.has_shell,
            reference: job.reference.clone(),
            platform: job.platform.clone(),
            config: wants.config,
            kernel: wants.kernel,
            rootfs: job.rootfs.clone(),
            ..row
        };
        self.store.publish_image(&row)?;
        Ok(row)
    }

    /// The directory of a new image, and in it the name that its file will have.
    fn room(&self, directory: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join(directory);
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path);
        made.map_err(|source| Error::File {
            operation: "make",
            path: path.clone(),
            source,
        })?;
        Ok(managed(&path))
    }

    /// The file that VMs boot from.
    pub(super) fn rootfs(&self, row: &ImageRow) -> PathBuf {
        let own = || managed(&self.directory.join(&row.directory));
        row.rootfs.clone().unwrap_or_else(own)
    }

    /// Where an image's file would be if it were our own.
    pub(super) fn own_rootfs(&self, row: &ImageRow) -> Result<PathBuf, Error> {
        self.room(&row.directory)
    }

    /// Removes what an earlier daemon began and did not finish.
    pub(super) fn sweep(&self) -> Result<(), Error> {
        let rows = self.store.images()?;
        self.sweep_orphans(&rows);
        for row in rows {
            match row.stage {
                ImageStage::Ready if row.rootfs.is_some() => self.drop_copy(&row),
                ImageStage::Ready => {}
                ImageStage::Building => {
                    info!(image = %row.name, "removing a half-made image");
                    self.discard(&row.name, &row.directory);
                }
            }
        }
        Ok(())
    }

    /// A file of the host has no copy of ours: what there is of one was cut short.
    pub(super) fn drop_copy(&self, row: &ImageRow) {
        if let Err(error) = self.remove(&row.directory) {
            warn!(image = %row.name, error = error.chain(), "cannot remove half a copy");
        }
    }

    /// Removes directories that no row names. Touches nothing that is not named as ours are.
    fn sweep_orphans(&self, rows: &[ImageRow]) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.parse::<VmId>().is_ok()) else {
                continue;
            };
            if rows.iter().all(|row| row.directory != name) {
                info!(
                    directory = name,
                    "removing an image that is not in the store"
                );
                if let Err(error) = remove_tree(&entry.path()) {
                    warn!(error = error.chain(), "cannot remove a forgotten image");
                }
            }
        }
    }

    /// Removes an image that was not finished: the file first, so that the row still names it
    /// if this is cut short too.
    fn discard(&self, name: &ImageName, directory: &str) {
        let removed = self.remove(directory);
        let forgotten = removed.and_then(|()| Ok(self.store.delete_image(name)?));
        if let Err(error) = forgotten {
            warn!(image = %name, error = error.chain(), "cannot remove a half-made image");
        }
    }

    /// Removes an image's own files.
    pub(super) fn remove(&self, directory: &str) -> Result<(), Error> {
        remove_tree(&self.directory.join(directory))
    }
}

fn managed(directory: &Path) -> PathBuf {
    directory.join("rootfs.ext4")
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File {
            operation: "remove",
            path: path.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}
