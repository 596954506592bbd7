//! Images as the engine uses them: made once, never changed, deleted when no VM needs them.
//!
//! An image is recorded before its file is made and confirmed when the file is whole, so a
//! restart finds and removes whatever was cut short.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use banger_image::{
    progress::{SharedProgress, Step},
    rootfs::{self, ImportOptions, ImportReport, Scrub, Source},
};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::{
    debian_settings::DebianSettings,
    error::{Error, Kind},
    host::{Host, RootTar},
    image_catalog::{self, CATALOG, Recipe},
    locks::NameLocks,
    name::{ImageName, VmId},
    record::Seconds,
    store::{ImageRow, ImageStage, Store, StoreError},
};

/// The images of this user.
pub struct Images {
    work: Arc<Workshop>,
    host: Arc<dyn Host>,
    debian: DebianSettings,
    locks: NameLocks,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images")
            .field("work", &self.work)
            .finish_non_exhaustive()
    }
}

/// What making an image needs on a thread of its own.
#[derive(Debug)]
struct Workshop {
    store: Arc<Store>,
    directory: PathBuf,
    clock: fn() -> Seconds,
}

impl Images {
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        directory: PathBuf,
        host: Arc<dyn Host>,
        debian: DebianSettings,
        clock: fn() -> Seconds,
    ) -> Self {
        let work = Arc::new(Workshop {
            store,
            directory,
            clock,
        });
        Self {
            work,
            host,
            debian,
            locks: NameLocks::default(),
        }
    }

    /// Removes images that an earlier daemon began and did not finish, or deleted in half.
    pub fn sweep(&self) -> Result<(), Error> {
        let rows = self.work.store.images()?;
        self.work.sweep_orphans(&rows);
        for row in rows {
            match row.stage {
                ImageStage::Ready => {}
                ImageStage::Building => {
                    info!(image = %row.name, "removing a half-made image");
                    self.work.discard(&row.name, &row.directory);
                }
            }
        }
        Ok(())
    }

    /// All finished images, by name.
    pub fn list(&self) -> Result<Vec<ImageRow>, Error> {
        let rows = self.work.store.images()?;
        Ok(rows
            .into_iter()
            .filter(|row| row.stage == ImageStage::Ready)
            .collect())
    }

    /// A finished image.
    pub fn get(&self, name: &ImageName) -> Result<ImageRow, Error> {
        let found = self
            .work
            .store
            .image(name)?
            .filter(|row| row.stage == ImageStage::Ready);
        found.ok_or_else(|| Error::NotFound {
            kind: Kind::Image,
            target: name.to_string(),
        })
    }

    /// The read-only file that VMs boot from.
    pub fn rootfs(&self, name: &ImageName) -> Result<PathBuf, Error> {
        Ok(self.rootfs_of(&self.get(name)?))
    }

    #[must_use]
    pub fn rootfs_of(&self, row: &ImageRow) -> PathBuf {
        self.work.rootfs(&row.directory)
    }

    /// Makes sure that an image is here: makes it if the catalog knows how.
    pub async fn ensure(&self, name: &ImageName, progress: SharedProgress) -> Result<(), Error> {
        match self.get(name) {
            Err(Error::NotFound { .. }) => {}
            found => return found.map(drop),
        }
        let lock = self.lock(name, &progress).await;
        match self.get(name) {
            Err(Error::NotFound { .. }) => self
                .make_of_catalog(name, name, lock, progress)
                .await
                .map(drop),
            // Somebody else made it while this waited.
            found => found.map(drop),
        }
    }

    /// Makes an image of the catalog under a name of its own.
    pub async fn pull(
        &self,
        entry: &ImageName,
        name: &ImageName,
        progress: SharedProgress,
    ) -> Result<ImageRow, Error> {
        self.refuse_taken(name)?;
        let lock = self.lock(name, &progress).await;
        self.make_of_catalog(entry, name, lock, progress).await
    }

    /// Makes an image of a tar. Dropping the future gives it up and leaves nothing.
    pub async fn import(
        &self,
        name: &ImageName,
        source: Source,
        origin: String,
        progress: SharedProgress,
    ) -> Result<ImageRow, Error> {
        self.refuse_taken(name)?;
        let lock = self.lock(name, &progress).await;
        self.make(name, origin, lock, progress, move |_| {
            Ok((source, Scrub::No))
        })
        .await
    }

    /// Deletes an image that no VM uses: the row first, so that a file without a row is the
    /// worst that a crash leaves.
    pub fn delete(&self, name: &ImageName) -> Result<(), Error> {
        let row = self.get(name)?;
        self.work.store.delete_image(name)?;
        remove_tree(&self.work.directory.join(row.directory))
    }

    fn refuse_taken(&self, name: &ImageName) -> Result<(), Error> {
        match self.work.store.image(name)? {
            Some(row) if row.stage == ImageStage::Ready => {
                Err(StoreError::ImageTaken(name.clone()).into())
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn lock(&self, name: &ImageName, progress: &SharedProgress) -> OwnedMutexGuard<()> {
        let busy = || {
            let detail = format!("waiting for another request that makes {name}");
            progress.report(Step {
                stage: "image",
                detail,
                done: 0,
                total: None,
            });
        };
        self.locks.lock(name.as_str(), busy).await
    }

    async fn make_of_catalog(
        &self,
        entry: &ImageName,
        name: &ImageName,
        lock: OwnedMutexGuard<()>,
        progress: SharedProgress,
    ) -> Result<ImageRow, Error> {
        let Some(entry) = image_catalog::find(entry) else {
            let available = CATALOG.iter().map(|image| image.name.to_owned()).collect();
            return Err(Error::NotInCatalog {
                name: entry.clone(),
                available,
            });
        };
        let Recipe::Debian { suite, packages } = entry.recipe;
        let suite = suite.parse().expect("the catalog's suites are suite names");
        let archive = DebianSettings {
            suite,
            ..self.debian.clone()
        }
        .archive()?;
        let root = image_catalog::debian_root(packages, &archive);
        let detail = format!("building {} from Debian's archive", entry.name);
        progress.report(Step {
            stage: "image",
            detail,
            done: 0,
            total: None,
        });
        let host = self.host.clone();
        let origin = format!("mmdebstrap {} from {}", archive.suite, archive.mirror);
        let steps = progress.clone();
        self.make(name, origin, lock, progress, move |cancel| {
            let tar = host.debian_root(&root)?;
            watch_over(tar.as_ref(), cancel.clone(), steps);
            Ok((
                Source::Stream(Box::new(ProgramTar(Some(tar)))),
                Scrub::BuilderTraces,
            ))
        })
        .await
    }

    /// Record, make, confirm, on a thread that ends by itself when nobody waits any more.
    async fn make(
        &self,
        name: &ImageName,
        origin: String,
        lock: OwnedMutexGuard<()>,
        progress: SharedProgress,
        source: impl FnOnce(&CancellationToken) -> Result<(Source, Scrub), Error> + Send + 'static,
    ) -> Result<ImageRow, Error> {
        let cancel = CancellationToken::new();
        let _given_up: DropGuard = cancel.clone().drop_guard();
        let (work, name) = (self.work.clone(), name.clone());
        let made = tokio::task::spawn_blocking(move || {
            // Held until the thread is through, also when the future is gone.
            let _lock = lock;
            work.make(&name, &origin, &progress, &cancel, source)
        });
        made.await.map_err(|_| Error::Ending)?
    }
}

impl Workshop {
    fn make(
        &self,
        name: &ImageName,
        origin: &str,
        progress: &SharedProgress,
        cancel: &CancellationToken,
        source: impl FnOnce(&CancellationToken) -> Result<(Source, Scrub), Error>,
    ) -> Result<ImageRow, Error> {
        let directory = VmId::random().to_string();
        self.store
            .reserve_image(name, &directory, origin, (self.clock)())?;
        let made = self
            .fill(&directory, progress, cancel, name, source)
            .and_then(|report| {
                let mut row = self
                    .store
                    .image(name)?
                    .ok_or_else(|| StoreError::NoImage(name.clone()))?;
                describe(&mut row, report);
                self.store.publish_image(&row)?;
                Ok(ImageRow {
                    stage: ImageStage::Ready,
                    ..row
                })
            });
        if made.is_err() {
            self.discard(name, &directory);
        }
        made
    }

    fn fill(
        &self,
        directory: &str,
        progress: &SharedProgress,
        cancel: &CancellationToken,
        name: &ImageName,
        source: impl FnOnce(&CancellationToken) -> Result<(Source, Scrub), Error>,
    ) -> Result<ImportReport, Error> {
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
        let (source, scrub) = source(cancel)?;
        let options = ImportOptions {
            scrub,
            cancel: cancel.clone(),
            ..ImportOptions::default()
        };
        rootfs::import(source, &self.rootfs(directory), &options, progress).map_err(|source| {
            Error::Import {
                image: name.clone(),
                source,
            }
        })
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

    fn rootfs(&self, directory: &str) -> PathBuf {
        self.directory.join(directory).join("rootfs.ext4")
    }

    /// Removes an image that was not finished: the file first, so that the row still names it
    /// if this is cut short too.
    fn discard(&self, name: &ImageName, directory: &str) {
        let removed = remove_tree(&self.directory.join(directory));
        let forgotten = removed.and_then(|()| Ok(self.store.delete_image(name)?));
        if let Err(error) = forgotten {
            warn!(image = %name, error = error.chain(), "cannot remove a half-made image");
        }
    }
}

fn describe(row: &mut ImageRow, report: ImportReport) {
    row.digest = report.tar_digest.to_string();
    row.size_bytes = report.image_bytes;
    row.content_bytes = report.content_bytes;
    row.entries = report.entries;
    row.os = report.facts.os_release.pretty_name;
    row.has_systemd = report.facts.systemd.is_some();
    row.has_shell = report.facts.has_shell;
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

/// Shows what the program says while it works, and ends it when the work is given up: it may
/// be silent for long before its first byte.
fn watch_over(tar: &dyn RootTar, cancel: CancellationToken, progress: SharedProgress) {
    let mut said = tar.progress();
    let stop = tar.stopper();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return stop(),
                changed = said.changed() => {
                    if changed.is_err() {
                        // Nothing more is said; the stream may go on for long.
                        cancel.cancelled().await;
                        return stop();
                    }
                    // mmdebstrap marks what it does with `I:`, and grumbles with `W:`.
                    let line = said.borrow_and_update().clone();
                    let Some(detail) = line.strip_prefix("I: ").map(str::to_owned) else {
                        continue;
                    };
                    progress.report(Step { stage: "mmdebstrap", detail, done: 0, total: None });
                }
            }
        }
    });
}

/// A program's tar whose end is only the end if the program was content with its work.
struct ProgramTar(Option<Box<dyn RootTar>>);

impl io::Read for ProgramTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tar) = &mut self.0 else { return Ok(0) };
        match tar.read(buffer)? {
            0 if !buffer.is_empty() => {
                let tar = self.0.take().expect("it was here a line above");
                tar.finish().map_err(io::Error::other)?;
                Ok(0)
            }
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests;
