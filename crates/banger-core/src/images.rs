//! Images as the engine uses them: made once, never changed, deleted when no VM needs them.
//!
//! An image is recorded before its file is made and confirmed when the file is whole, so a
//! restart finds and removes whatever was cut short.

mod adopt;
mod bundle;
mod pull;
mod recipe;
mod workshop;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use banger_image::{
    cache::{CacheItem, ImageCache, Pruned},
    catalog::ImageEntry,
    manifest::Platform,
    progress::{SharedProgress, Step},
    reference::ImageRef,
    registry::Registries,
    rootfs::{self, ImportOptions, Limits, Scrub, Source},
};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use adopt::Registration;
pub use bundle::ImageOffer;
pub use pull::{PullRequest, PullSummary, Pulled};

use crate::{
    catalogs::{Catalogs, Found},
    debian_settings::DebianSettings,
    error::{Error, Kind},
    host::Host,
    image_catalog,
    image_target::ImageTarget,
    journal::Ledger,
    locks::NameLocks,
    name::ImageName,
    record::Seconds,
    store::{ImageRow, ImageStage, StoreError},
};
use workshop::{Job, Made, Workshop};

/// Where images come from besides tars and the catalog's recipes.
#[derive(Debug)]
pub struct ImageSources {
    pub registries: Registries,
    /// What earlier pulls left for later ones.
    pub cache: ImageCache,
    /// The most that it may take at first, in bytes.
    pub cache_budget: Option<u64>,
    /// How much one image may ask for.
    pub limits: Limits,
    /// Where large temporary files may be made.
    pub scratch: PathBuf,
    /// Where credentials are kept that a login gave us.
    pub auth_file: PathBuf,
}

/// The images of this user.
pub struct Images {
    work: Arc<Workshop>,
    host: Arc<dyn Host>,
    debian: DebianSettings,
    sources: ImageSources,
    catalogs: Arc<Catalogs>,
    locks: NameLocks,
    /// The most that the cache may take, which may become another while it is used.
    budget: Mutex<Option<u64>>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images")
            .field("work", &self.work)
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl Images {
    #[must_use]
    pub fn new(
        ledger: Arc<Ledger>,
        directory: PathBuf,
        host: Arc<dyn Host>,
        debian: DebianSettings,
        sources: ImageSources,
        catalogs: Arc<Catalogs>,
        clock: fn() -> Seconds,
    ) -> Self {
        Self {
            work: Arc::new(Workshop::new(ledger, directory, host.clone(), clock)),
            host,
            debian,
            budget: Mutex::new(sources.cache_budget),
            sources,
            catalogs,
            locks: NameLocks::default(),
        }
    }

    /// Where images are, for who measures them.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.work.directory()
    }

    pub(crate) fn sources(&self) -> &ImageSources {
        &self.sources
    }

    /// Removes images that an earlier daemon began and did not finish, or deleted in half.
    pub fn sweep(&self) -> Result<(), Error> {
        if let Err(error) = self.sources.cache.sweep() {
            warn!(%error, cause = %error.io(), "cannot sweep the cache of images");
        }
        self.sweep_bundles();
        self.work.sweep()
    }

    /// What earlier pulls left for later ones.
    pub fn cached(&self) -> Result<Vec<CacheItem>, Error> {
        Ok(self.sources.cache.list()?)
    }

    /// Removes what was not used for longest, until the rest takes at most `keep` bytes.
    pub fn prune_cache(&self, keep: u64, dry_run: bool) -> Result<Pruned, Error> {
        Ok(self.sources.cache.prune(keep, dry_run)?)
    }

    /// The most that the cache may take, in bytes.
    #[must_use]
    pub fn cache_budget(&self) -> Option<u64> {
        *self.held_budget()
    }

    /// It is kept to from the next pull on.
    pub fn set_cache_budget(&self, budget: Option<u64>) {
        *self.held_budget() = budget;
    }

    fn held_budget(&self) -> MutexGuard<'_, Option<u64>> {
        let budget = self.budget.lock();
        budget.expect("no holder of the budget's lock panics")
    }

    /// After each pull, whatever became of it.
    async fn keep_to_budget(&self) {
        let (cache, budget) = (self.sources.cache.clone(), self.cache_budget());
        // It ends with the daemon, at the worst: the next pull does what is left to do.
        let _ = tokio::task::spawn_blocking(move || keep_to(&cache, budget)).await;
    }

    /// All finished images, by name.
    pub fn list(&self) -> Result<Vec<ImageRow>, Error> {
        let rows = self.work.store().images()?;
        Ok(rows
            .into_iter()
            .filter(|row| row.stage == ImageStage::Ready)
            .collect())
    }

    /// A finished image.
    pub fn get(&self, name: &ImageName) -> Result<ImageRow, Error> {
        let found = self
            .work
            .store()
            .image(name)?
            .filter(|row| row.stage == ImageStage::Ready);
        found.ok_or_else(|| Error::NotFound {
            kind: Kind::Image,
            target: name.to_string(),
        })
    }

    /// A finished image by its name, or by what it was pulled by.
    pub fn find(&self, target: &ImageTarget) -> Result<ImageRow, Error> {
        let found = match target {
            ImageTarget::Named(name) => return self.get(name),
            ImageTarget::Either { catalog, .. } if self.catalogs.has(catalog)? => {
                self.pulled_by(&target.to_string())?
            }
            ImageTarget::Either { reference, .. } | ImageTarget::At(reference) => {
                self.pulled_before(reference, &Platform::host())?
            }
        };
        found.ok_or_else(|| Error::NotFound {
            kind: Kind::Image,
            target: target.to_string(),
        })
    }

    /// The read-only file that VMs boot from.
    pub fn rootfs(&self, name: &ImageName) -> Result<PathBuf, Error> {
        Ok(self.rootfs_of(&self.get(name)?))
    }

    #[must_use]
    pub fn rootfs_of(&self, row: &ImageRow) -> PathBuf {
        self.work.rootfs(row)
    }

    /// Makes sure that an image is here, and gives its name: a name of the catalog is made, a
    /// reference is pulled.
    pub async fn ensure(
        &self,
        target: &ImageTarget,
        progress: SharedProgress,
    ) -> Result<ImageName, Error> {
        match self.find(target) {
            Err(Error::NotFound { .. }) => {}
            found => return found.map(|row| row.name),
        }
        match target {
            ImageTarget::Named(name) => self.ensure_named(name, progress).await,
            ImageTarget::Either { catalog, entry, .. } if self.catalogs.has(catalog)? => {
                let pulled = Box::pin(self.pull_entry(catalog, entry, None, progress)).await?;
                Ok(pulled.row.name)
            }
            ImageTarget::Either { reference, .. } | ImageTarget::At(reference) => {
                let request = PullRequest::of(reference.clone());
                let pulled = self.pull_reference(request, progress).await?;
                Ok(pulled.row.name)
            }
        }
    }

    async fn ensure_named(
        &self,
        name: &ImageName,
        progress: SharedProgress,
    ) -> Result<ImageName, Error> {
        let lock = self.lock(name, &progress).await;
        let row = match self.get(name) {
            Err(Error::NotFound { .. }) => {
                let found = Box::pin(self.catalogs.image(None, name, &progress)).await?;
                Box::pin(self.make_of_catalog(name, found, name, lock, progress)).await?
            }
            // Somebody else made it while this waited.
            found => found?,
        };
        Ok(row.name)
    }

    /// Makes an image of the catalog, or of a reference, under a name of its own.
    pub async fn pull(
        &self,
        target: &ImageTarget,
        mut request: PullRequest,
        progress: SharedProgress,
    ) -> Result<Pulled, Error> {
        match target {
            ImageTarget::At(_) => {}
            ImageTarget::Either { catalog, entry, .. } if self.catalogs.has(catalog)? => {
                let name = request.name.as_ref();
                return Box::pin(self.pull_entry(catalog, entry, name, progress)).await;
            }
            ImageTarget::Either { reference, .. } => request.reference = reference.clone(),
            ImageTarget::Named(word) => {
                // If it is in no catalog, it is a repository of Docker Hub.
                request.reference = word.as_str().parse()?;
                let name = request.name.clone().unwrap_or_else(|| word.clone());
                if let Some(row) = self.of_catalog(&name, word)? {
                    let summary = PullSummary::nothing();
                    return Ok(Pulled { row, summary });
                }
                if self
                    .pulled_before(&request.reference, &request.platform)?
                    .is_none()
                {
                    let found = Box::pin(self.catalogs.image(None, word, &progress)).await?;
                    if found.is_some() || image_catalog::find(word).is_some() {
                        return self.pull_of_catalog(word, found, &name, progress).await;
                    }
                }
            }
        }
        self.pull_reference(request, progress).await
    }

    /// The image of this name, if it came as this entry of some catalog.
    fn of_catalog(&self, name: &ImageName, entry: &ImageName) -> Result<Option<ImageRow>, Error> {
        let row = match self.get(name) {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        let target = row.reference.as_ref().and_then(|text| text.parse().ok());
        let same = matches!(&target, Some(ImageTarget::Either { entry: was, .. }) if was == entry);
        Ok(same.then_some(row))
    }

    async fn pull_of_catalog(
        &self,
        entry: &ImageName,
        found: Option<Found<ImageEntry>>,
        name: &ImageName,
        progress: SharedProgress,
    ) -> Result<Pulled, Error> {
        self.refuse_taken(name)?;
        let lock = self.lock(name, &progress).await;
        let made = self.make_of_catalog(entry, found, name, lock, progress);
        let row = Box::pin(made).await?;
        Ok(Pulled {
            row,
            summary: PullSummary::default(),
        })
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
        let job = Job::new(name, origin);
        self.import_as(job, lock, progress, move |_| Ok((source, Scrub::No)))
            .await
    }

    async fn import_as(
        &self,
        job: Job,
        lock: OwnedMutexGuard<()>,
        progress: SharedProgress,
        source: impl FnOnce(&CancellationToken) -> Result<(Source, Scrub), Error> + Send + 'static,
    ) -> Result<ImageRow, Error> {
        let (image, limits) = (job.name.clone(), self.sources.limits.clone());
        let work = move |rootfs: &std::path::Path, cancel: &CancellationToken| {
            let (source, scrub) = source(cancel)?;
            let options = ImportOptions {
                scrub,
                limits,
                cancel: cancel.clone(),
                ..ImportOptions::default()
            };
            let report = rootfs::import(source, rootfs, &options, &progress);
            let report = report.map_err(|source| Error::Import { image, source })?;
            Ok(Made {
                digest: report.tar_digest.to_string(),
                size_bytes: report.image_bytes,
                content_bytes: report.content_bytes,
                entries: report.entries,
                facts: report.facts,
                wants: None,
            })
        };
        workshop::make(&self.work, job, Arc::new(lock), work).await
    }

    /// Deletes an image that no VM uses: the row first, so that a file without a row is the
    /// worst that a crash leaves. A file that we do not manage stays.
    pub fn delete(&self, name: &ImageName) -> Result<(), Error> {
        let row = self.get(name)?;
        self.work.delete(name, &row.directory)?;
        // Layers in the cache may have become what keeps the image's data.
        keep_to(&self.sources.cache, self.cache_budget());
        Ok(())
    }

    fn refuse_taken(&self, name: &ImageName) -> Result<(), Error> {
        match self.work.store().image(name)? {
            Some(row) if row.stage == ImageStage::Ready => {
                Err(StoreError::ImageTaken(name.clone()).into())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn pulled_before(
        &self,
        reference: &ImageRef,
        platform: &Platform,
    ) -> Result<Option<ImageRow>, Error> {
        let (reference, platform) = (reference.to_string(), platform.to_string());
        Ok(self
            .work
            .store()
            .image_by_reference(&reference, &platform)?)
    }

    /// What was pulled as this entry of a catalog.
    fn pulled_by(&self, reference: &str) -> Result<Option<ImageRow>, Error> {
        let platform = Platform::host().to_string();
        let store = self.work.store();
        Ok(store.image_by_reference(reference, &platform)?)
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
}

/// What was asked for is done: a cache that stays too large is for the log.
fn keep_to(cache: &ImageCache, budget: Option<u64>) {
    let Some(budget) = budget else {
        return;
    };
    match cache.prune(budget, false) {
        Ok(pruned) if pruned.items.is_empty() => {}
        Ok(pruned) => info!(
            items = pruned.items.len(),
            bytes = pruned.freed,
            "pruned the cache of images"
        ),
        Err(error) => warn!(%error, cause = %error.io(), "cannot prune the cache of images"),
    }
}

#[cfg(test)]
mod source_tests;
#[cfg(test)]
mod tests;
