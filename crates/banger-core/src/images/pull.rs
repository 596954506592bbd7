//! Images that are pulled: found where their reference leads, fetched, built, and known by their
//! reference afterwards. Decides what is here already; fetches nothing itself.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use banger_image::{
    blobs::{BlobLayer, Verdict},
    layers::{self, BuildOptions, LayerCache, LayerSource},
    layout::Kind,
    manifest::Platform,
    progress::{SharedProgress, Step},
    pull::{self, Resolved},
    reference::ImageRef,
    registry::RegistryError,
    rootfs::{Scrub, Source},
};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    ImageSources, Images,
    workshop::{self, Job, Made},
};
use crate::{
    error::Error,
    journal::{Act, Passing},
    name::ImageName,
    store::{ImageRow, StoreError},
};

/// How often progress is looked at: what a terminal can show.
const GLANCE: Duration = Duration::from_millis(100);
/// Names that are tried before one is refused.
const NAMES: u32 = 100;

/// What is to be pulled, and how.
#[derive(Debug, Clone)]
pub struct PullRequest {
    pub reference: ImageRef,
    /// The name in the local store; made from the reference when absent.
    pub name: Option<ImageName>,
    pub platform: Platform,
    /// The registry may be plain HTTP or have any certificate.
    pub insecure: bool,
}

impl PullRequest {
    /// For this host, under a name that the reference suggests.
    #[must_use]
    pub fn of(reference: ImageRef) -> Self {
        Self {
            reference,
            name: None,
            platform: Platform::host(),
            insecure: false,
        }
    }
}

/// An image, and what it took to get it.
#[derive(Debug, Clone)]
pub struct Pulled {
    pub row: ImageRow,
    pub summary: PullSummary,
}

/// What a pull did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullSummary {
    /// Nothing was done: the image was here.
    pub was_here: bool,
    pub layers: u64,
    /// Layers that were unpacked before.
    pub reused_layers: u64,
    /// Packed bytes of all layers.
    pub layer_bytes: u64,
    /// Of these, what came over the network.
    pub fetched_bytes: u64,
}

impl PullSummary {
    pub(super) fn nothing() -> Self {
        Self {
            was_here: true,
            ..Self::default()
        }
    }
}

impl Images {
    /// Pulls what a reference leads to, unless it is here. Dropping the future gives it up; what
    /// is whole by then is kept for the next try.
    pub async fn pull_reference(
        &self,
        request: PullRequest,
        progress: SharedProgress,
    ) -> Result<Pulled, Error> {
        let found = match &request.reference {
            ImageRef::Registry(_) => None,
            ImageRef::Tar(path) => {
                return self.pull_tar(path.clone(), &request, progress).await;
            }
            // What lies on this host may have become another: looking costs little.
            local => Some(self.resolve_local(local, &request, &progress).await?),
        };
        if let Some(here) = self.is_here(&request, found.as_ref())? {
            return Ok(here);
        }
        let name = self.name_for(&request)?;
        let lock = self.lock(&name, &progress).await;
        // Somebody else may have pulled it while this waited.
        if let Some(here) = self.is_here(&request, found.as_ref())? {
            return Ok(here);
        }
        self.refuse_taken(&name)?;
        let resolved = match found {
            Some(found) => found,
            None => self.resolve(&request, &progress).await?,
        };
        let built = self
            .build(&request, name, resolved, Arc::new(lock), progress)
            .await;
        self.keep_to_budget().await;
        built
    }

    /// The image of a reference, as it is known; nothing is asked for it.
    fn is_here(
        &self,
        request: &PullRequest,
        found: Option<&Resolved>,
    ) -> Result<Option<Pulled>, Error> {
        let row = match &request.name {
            None => self.pulled_before(&request.reference, &request.platform)?,
            Some(name) => {
                let (reference, platform) = (request.reference.to_string(), &request.platform);
                let same = |row: &ImageRow| {
                    row.reference.as_ref() == Some(&reference)
                        && row.platform.as_ref() == Some(&platform.to_string())
                };
                self.get(name).ok().filter(same)
            }
        };
        let unchanged =
            |row: &ImageRow| found.is_none_or(|found| found.digest.to_string() == row.digest);
        Ok(row.filter(unchanged).map(|row| Pulled {
            row,
            summary: PullSummary::nothing(),
        }))
    }

    /// The name that was asked for, or a free one that tells what the image is.
    fn name_for(&self, request: &PullRequest) -> Result<ImageName, Error> {
        if let Some(name) = &request.name {
            self.refuse_taken(name)?;
            return Ok(name.clone());
        }
        let suggested = request.reference.suggested_name();
        let parse = |text: String| -> Result<ImageName, Error> { Ok(text.parse()?) };
        let first = parse(suggested.clone())?;
        let mut refused = match self.refuse_taken(&first) {
            Ok(()) => return Ok(first),
            Err(refused) => refused,
        };
        for number in 2..NAMES {
            let name = parse(format!("{suggested}-{number}"))?;
            match self.refuse_taken(&name) {
                Ok(()) => return Ok(name),
                Err(error @ Error::Store(StoreError::ImageTaken(_))) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    async fn pull_tar(
        &self,
        path: PathBuf,
        request: &PullRequest,
        progress: SharedProgress,
    ) -> Result<Pulled, Error> {
        let name = self.name_for(request)?;
        let lock = self.lock(&name, &progress).await;
        let job = Job::new(&name, format!("tar:{}", path.display()));
        let source = move |_: &CancellationToken| Ok((Source::File(path), Scrub::No));
        let row = self.import_as(job, lock, progress, source).await?;
        Ok(Pulled {
            row,
            summary: PullSummary::default(),
        })
    }

    /// Finds out what a reference means now.
    async fn resolve(
        &self,
        request: &PullRequest,
        progress: &SharedProgress,
    ) -> Result<Resolved, Error> {
        let ImageRef::Registry(at) = &request.reference else {
            return self
                .resolve_local(&request.reference, request, progress)
                .await;
        };
        report_resolving(&request.reference, progress);
        let ImageSources {
            registries, cache, ..
        } = &self.sources;
        let (platform, insecure) = (&request.platform, request.insecure);
        let resolved = pull::of_registry(registries, cache.blobs(), at, platform, insecure).await;
        resolved.map_err(|source| Error::Pull {
            reference: request.reference.to_string(),
            source: source.into(),
        })
    }

    async fn resolve_local(
        &self,
        reference: &ImageRef,
        request: &PullRequest,
        progress: &SharedProgress,
    ) -> Result<Resolved, Error> {
        report_resolving(reference, progress);
        let (kind, at) = match reference {
            ImageRef::OciDirectory(at) => (Kind::OciDirectory, at),
            ImageRef::OciArchive(at) => (Kind::OciArchive, at),
            ImageRef::DockerArchive(at) => (Kind::DockerArchive, at),
            ImageRef::Registry(_) | ImageRef::Tar(_) => {
                unreachable!("only layouts are resolved on this host")
            }
        };
        let scratch = self.sources.scratch.clone();
        let found = pull::of_layout(kind, at.clone(), request.platform.clone(), scratch).await;
        found.map_err(|source| Error::Pull {
            reference: reference.to_string(),
            source: source.into(),
        })
    }

    /// Builds the image, and once more if a layer turned out to be another than promised.
    async fn build(
        &self,
        request: &PullRequest,
        name: ImageName,
        resolved: Resolved,
        lock: Arc<OwnedMutexGuard<()>>,
        progress: SharedProgress,
    ) -> Result<Pulled, Error> {
        let job = Job {
            reference: Some(request.reference.to_string()),
            platform: Some(request.platform.to_string()),
            config: resolved.config.clone(),
            // What is packed takes no less when it is unpacked.
            least_bytes: summary(&resolved, 0).layer_bytes,
            ..Job::new(&name, request.reference.to_string())
        };
        let closing = CloseOnDrop(resolved.blobs.clone());
        let _downloading = self.downloading(&job.name)?;
        let mut wrong_before = false;
        loop {
            let fetch = Fetch {
                blobs: &resolved.blobs,
                progress: &progress,
            };
            let attempt = self.attempt(job.clone(), &resolved, lock.clone(), progress.clone());
            let failed = match fetch.watched(attempt).await {
                Ok((row, reused)) => {
                    // Once it is closed, nothing is known of what was fetched.
                    let summary = summary(&resolved, reused);
                    drop(closing);
                    return Ok(Pulled { row, summary });
                }
                Err(failed) => failed,
            };
            match blame(&resolved.blobs).await {
                Blame::Nobody => return Err(failed),
                Blame::Wrong(_) if !wrong_before => wrong_before = true,
                Blame::Wrong(Some(source)) | Blame::Unreachable(source) => {
                    return Err(Error::Blob {
                        image: name,
                        source,
                    });
                }
                Blame::Wrong(None) => return Err(failed),
            }
        }
    }

    /// Written down before anything is fetched.
    fn downloading(&self, name: &ImageName) -> Result<Passing, Error> {
        let page = self.work.page(name);
        let blobs = self.sources.cache.blobs().directory().to_owned();
        Ok(Passing::begin(page, Act::Download(blobs))?)
    }

    async fn attempt(
        &self,
        job: Job,
        resolved: &Resolved,
        lock: Arc<OwnedMutexGuard<()>>,
        progress: SharedProgress,
    ) -> Result<(ImageRow, u64), Error> {
        let (layers, cache) = (resolved.layers.clone(), self.sources.cache.layers().clone());
        let limits = self.sources.limits.clone();
        let (digest, image) = (resolved.digest.to_string(), job.name.clone());
        let (told, reused) = tokio::sync::oneshot::channel();
        let blobs = resolved.blobs.clone();
        let diff_ids = layers.iter().map(|layer| layer.descriptor().diff_id);
        let pinned = cache.pin(diff_ids);
        let work = move |rootfs: &Path, cancel: &CancellationToken| {
            let _pinned = pinned;
            prefetch(&blobs, &cache);
            let options = BuildOptions {
                limits,
                cancel: cancel.clone(),
            };
            let built = layers::build(&layers, &cache, rootfs, &options, &progress);
            let built = built.map_err(|source| Error::Layers { image, source })?;
            // Nobody listens only when nobody waits any more.
            let _ = told.send(built.reused.len() as u64);
            Ok(Made {
                digest,
                size_bytes: built.image_bytes,
                content_bytes: built.content_bytes,
                entries: built.entries,
                facts: built.facts,
                wants: None,
            })
        };
        let row = workshop::make(&self.work, job, lock, work).await?;
        for blob in &resolved.blobs {
            // Their content is in the image, and in the layers that are kept.
            if let Err(error) = blob.discard() {
                warn!(%error, "cannot remove a blob that is not needed any more");
            }
        }
        Ok((row, reused.await.unwrap_or_default()))
    }
}

/// Begins to fetch all layers that will be needed, so that none waits for the ones below it.
fn prefetch(blobs: &[Arc<BlobLayer>], cache: &LayerCache) {
    for blob in blobs {
        if !cache.contains(blob.descriptor().diff_id) {
            // A failure comes up again, with its name, when the layer is built.
            let _ = blob.open();
        }
    }
}

fn report_resolving(reference: &ImageRef, progress: &SharedProgress) {
    progress.report(Step {
        stage: "resolve",
        detail: reference.to_string(),
        done: 0,
        total: None,
    });
}

fn summary(resolved: &Resolved, reused: u64) -> PullSummary {
    let blobs = &resolved.blobs;
    let fetched = blobs.iter().filter(|blob| blob.was_fetched());
    let sizes = resolved
        .layers
        .iter()
        .filter_map(|layer| layer.descriptor().size);
    PullSummary {
        was_here: false,
        layers: resolved.layers.len() as u64,
        reused_layers: reused,
        layer_bytes: sizes.sum(),
        fetched_bytes: fetched.map(|blob| blob.size()).sum(),
    }
}

/// Lets go of downloads when a pull is over, however it ends.
struct CloseOnDrop(Vec<Arc<BlobLayer>>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        for blob in &self.0 {
            blob.close();
        }
    }
}

/// Tells how far layers have come, one by one and in total.
struct Fetch<'a> {
    blobs: &'a [Arc<BlobLayer>],
    progress: &'a SharedProgress,
}

impl Fetch<'_> {
    async fn watched<T>(&self, work: impl Future<Output = T>) -> T {
        let mut told = vec![u64::MAX; self.blobs.len()];
        let mut glances = tokio::time::interval(GLANCE);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    self.tell(&mut told);
                    return done;
                }
                _ = glances.tick(), if !self.blobs.is_empty() => self.tell(&mut told),
            }
        }
    }

    fn tell(&self, told: &mut [u64]) {
        let count = self.blobs.len();
        let mut moved = false;
        for (index, (blob, told)) in self.blobs.iter().zip(told).enumerate() {
            let done = blob.done();
            if std::mem::replace(told, done) == done || done == 0 {
                continue;
            }
            moved = true;
            let digest = blob.descriptor().digest;
            self.progress.report(Step {
                stage: "layer",
                detail: format!("{}/{count} {}", index + 1, &digest.to_hex()[..12]),
                done,
                total: Some(blob.size()),
            });
        }
        if moved {
            self.progress.report(Step {
                stage: "download",
                detail: String::new(),
                done: self.blobs.iter().map(|blob| blob.done()).sum(),
                total: Some(self.blobs.iter().map(|blob| blob.size()).sum()),
            });
        }
    }
}

/// Whose fault it is that no image was made.
enum Blame {
    Nobody,
    /// A registry that sent, or a disk that kept, something else. The next try fetches it again.
    Wrong(Option<Arc<RegistryError>>),
    Unreachable(Arc<RegistryError>),
}

async fn blame(blobs: &[Arc<BlobLayer>]) -> Blame {
    let mut found = Blame::Nobody;
    for blob in blobs {
        match blob.verdict().await {
            Verdict::Innocent => {}
            Verdict::Rotten => found = Blame::Wrong(None),
            Verdict::Failed(error) if error.is_wrong() => found = Blame::Wrong(Some(error)),
            Verdict::Failed(error) => return Blame::Unreachable(error),
        }
    }
    found
}
