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
    journal::{Act, Ledger, Owner, Page},
    name::{ImageName, VmId},
    record::Seconds,
    recovery,
    store::{ImageRow, ImageStage, Store, StoreError},
};

/// What making an image needs on a thread of its own.
pub(super) struct Workshop {
    ledger: Arc<Ledger>,
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
        ledger: Arc<Ledger>,
        directory: PathBuf,
        host: Arc<dyn Host>,
        clock: fn() -> Seconds,
    ) -> Self {
        Self {
            ledger,
            directory,
            host,
            clock,
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn store(&self) -> &Store {
        self.ledger.store()
    }

    /// Where the acts for an image are written down.
    pub(super) fn page(&self, name: &ImageName) -> Page {
        self.ledger.page(Owner::Image(name.clone()))
    }

    fn act(&self, directory: &str) -> Act {
        Act::Image(self.directory.join(directory))
    }

    /// Record, make, confirm.
    pub(super) fn make(
        &self,
        job: &Job,
        work: impl FnOnce(&Path) -> Result<Made, Error>,
    ) -> Result<ImageRow, Error> {
        let directory = VmId::random().to_string();
        self.host.has_room(&self.directory, job.least_bytes)?;
        let (page, act) = (self.page(&job.name), self.act(&directory));
        page.journal().intend(&act)?;
        let now = (self.clock)();
        let reserved = self
            .store()
            .reserve_image(&job.name, &directory, &job.origin, now);
        if let Err(error) = reserved {
            page.journal().strike(&act)?;
            return Err(error.into());
        }
        let made = self
            .room(&directory)
            .and_then(|rootfs| work(&rootfs))
            .and_then(|made| self.confirm(job, made));
        match made {
            Ok(row) => {
                if row.rootfs.is_some() {
                    // It needs no room of ours.
                    self.drop_copy(&row);
                }
                self.write_card(&row);
                page.journal().confirm(&act)?;
                Ok(row)
            }
            Err(error) => {
                self.discard(&job.name, &directory);
                Err(error)
            }
        }
    }

    /// Does something to an image's directory that the journal is to know of.
    pub(super) fn recorded<T>(
        &self,
        row: &ImageRow,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (page, act) = (self.page(&row.name), self.act(&row.directory));
        page.journal().act(&act, work)
    }

    /// Forgets an image that nothing uses, then removes what it has of its own.
    pub(super) fn delete(&self, name: &ImageName, directory: &str) -> Result<(), Error> {
        let (page, act) = (self.page(name), self.act(directory));
        page.journal().undoing(&act)?;
        if let Err(error) = self.store().delete_image(name) {
            page.journal().confirm(&act)?;
            return Err(error.into());
        }
        self.remove(directory)?;
        Ok(page.journal().strike(&act)?)
    }

    /// The image is in the store already: without a card it is only lost together with the store.
    pub(super) fn write_card(&self, row: &ImageRow) {
        let written =
            recovery::write_image(self.store(), &self.directory, &row.name, &row.directory);
        if let Err(error) = written {
            warn!(image = %row.name, error = error.chain(), "cannot write an image's card");
        }
    }

    fn confirm(&self, job: &Job, made: Made) -> Result<ImageRow, Error> {
        let row = self.store().image(&job.name)?;
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
        self.store().publish_image(&row)?;
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
        let rows = self.store().images()?;
        self.sweep_orphans(&rows);
        for row in rows {
            match row.stage {
                ImageStage::Ready if row.rootfs.is_some() => {
                    self.drop_copy(&row);
                    self.finish(&row);
                }
                ImageStage::Ready => self.finish(&row),
                ImageStage::Building => {
                    info!(image = %row.name, "removing a half-made image");
                    self.discard(&row.name, &row.directory);
                }
            }
        }
        self.settle();
        Ok(())
    }

    /// An image that was published, and not yet confirmed.
    fn finish(&self, row: &ImageRow) {
        if !recovery::image_card(&self.directory, &row.directory).exists() {
            self.write_card(row);
        }
        let halves = self.ledger.halves_of(&Owner::Image(row.name.clone()));
        let act = self.act(&row.directory);
        if halves.iter().any(|half| half.act == act)
            && let Err(error) = self.page(&row.name).judge(&act)
        {
            warn!(image = %row.name, %error, "cannot confirm an image");
        }
    }

    /// Strikes what is gone by now, and tells what became of it.
    fn settle(&self) {
        for owner in self.ledger.owners_of_halves() {
            if let Owner::Image(name) = &owner {
                for half in self.ledger.halves_of(&owner) {
                    let gone = half.act.trace().is_some_and(|path| !path.exists());
                    // Parts of downloads are swept when a daemon begins.
                    let is_over = gone || half.act.is_passing();
                    if is_over && let Err(error) = self.page(name).journal().strike(&half.act) {
                        warn!(image = %name, %error, "cannot strike an image");
                    }
                }
                self.ledger.settle(&owner);
            }
        }
    }

    /// A file of the host has no copy of ours: what there is of one was cut short.
    pub(super) fn drop_copy(&self, row: &ImageRow) {
        let (page, act) = (self.page(&row.name), self.act(&row.directory));
        let remove = || remove_tree(&self.directory.join(&row.directory));
        let removed = page.journal().undo(&act, remove);
        if let Err(error) = removed {
            warn!(image = %row.name, error = error.chain(), "cannot remove half a copy");
        }
    }

    /// Whether an image was accepted for deletion.
    fn is_being_undone(&self, directory: &str) -> bool {
        let act = self.act(directory);
        let owners = self.ledger.owners_of_halves();
        let mut halves = owners.iter().flat_map(|owner| self.ledger.halves_of(owner));
        halves.any(|half| half.act == act)
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
            // What has a card is no orphan: it can be had again.
            let has_card = recovery::image_card(&self.directory, name).exists();
            let is_going = self.is_being_undone(name);
            if rows.iter().all(|row| row.directory != name) && (!has_card || is_going) {
                info!(
                    directory = name,
                    "removing an image that is not in the store"
                );
                if let Err(error) = self.remove(name) {
                    warn!(error = error.chain(), "cannot remove a forgotten image");
                }
            }
        }
    }

    /// Removes an image that was not finished: the file first, so that the row still names it
    /// if this is cut short too.
    fn discard(&self, name: &ImageName, directory: &str) {
        let (page, act) = (self.page(name), self.act(directory));
        let forgotten = page.journal().undo(&act, || {
            self.remove(directory)?;
            Ok::<_, Error>(self.store().delete_image(name)?)
        });
        if let Err(error) = forgotten {
            warn!(image = %name, error = error.chain(), "cannot remove a half-made image");
        }
    }

    /// Removes an image's own files.
    pub(super) fn remove(&self, directory: &str) -> Result<(), Error> {
        recovery::forget_image(&self.directory, directory)?;
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
