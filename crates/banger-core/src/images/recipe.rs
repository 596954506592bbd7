//! Images of the catalog that are built here, by programs of the host.

use std::io;

use banger_image::{
    catalog::ImageEntry,
    debian::SourcesError,
    progress::{SharedProgress, Step},
    rootfs::{Scrub, Source},
};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{ImageOffer, Images, PullRequest, workshop::Job};
use crate::{
    catalogs::{CatalogError, Found},
    debian_settings::DebianSettings,
    error::Error,
    host::RootTar,
    host_error::HostError,
    image_catalog::{self, CatalogImage, Source as CatalogSource},
    name::ImageName,
    store::ImageRow,
};

impl Images {
    pub(super) async fn make_of_catalog(
        &self,
        entry: &ImageName,
        found: Option<Found<ImageEntry>>,
        name: &ImageName,
        lock: OwnedMutexGuard<()>,
        progress: SharedProgress,
    ) -> Result<ImageRow, Error> {
        let own = image_catalog::find(entry);
        let Some(found) = found else {
            return match own {
                Some(own) => {
                    self.make_of_sources(own, name, Some(lock), None, progress)
                        .await
                }
                None => Err(self.in_no_catalog(entry)?),
            };
        };
        let made = Box::pin(self.make_of_bundle(found, name, lock, progress.clone())).await;
        match (made, own) {
            (Err(Error::Catalog(CatalogError::Bundle(error))), Some(own))
                if error.is_out_of_reach() =>
            {
                let error = Error::from(CatalogError::from(error));
                go_on(name, &error, &progress);
                self.make_of_sources(own, name, None, Some(error), progress)
                    .await
            }
            (made, _) => made,
        }
    }

    /// Asks the sources of an image of our own, one after the other.
    async fn make_of_sources(
        &self,
        entry: &CatalogImage,
        name: &ImageName,
        mut lock: Option<OwnedMutexGuard<()>>,
        mut refused: Option<Error>,
        progress: SharedProgress,
    ) -> Result<ImageRow, Error> {
        for source in entry.sources {
            let lock = match lock.take() {
                Some(lock) => lock,
                None => self.lock(name, &progress).await,
            };
            let made = match source {
                CatalogSource::Debian { suite, packages } => {
                    self.build_debian(entry, name, (suite, packages), lock, progress.clone())
                        .await
                }
                CatalogSource::Registry { reference } => {
                    drop(lock);
                    let reference = reference.parse().expect("a test reads the catalog");
                    let request = PullRequest {
                        name: Some(name.clone()),
                        ..PullRequest::of(reference)
                    };
                    let pulled = self.pull_reference(request, progress.clone()).await;
                    pulled.map(|pulled| pulled.row)
                }
            };
            match made {
                // What this host lacks, another source does without.
                Err(error) if is_of_the_source(&error) => {
                    go_on(name, &error, &progress);
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(refused.unwrap_or(error)),
                Ok(row) => return Ok(row),
            }
        }
        Err(refused.expect("every image of the catalog has a source"))
    }

    fn in_no_catalog(&self, name: &ImageName) -> Result<Error, Error> {
        let offers = self.offers()?.into_iter().map(|offer| match offer {
            ImageOffer::Own(image) => image.name.to_owned(),
            ImageOffer::Entry(found) => format!("{}/{}", found.catalog, found.entry.name),
        });
        Ok(Error::NotInCatalog {
            name: name.clone(),
            available: offers.collect(),
        })
    }

    async fn build_debian(
        &self,
        entry: &CatalogImage,
        name: &ImageName,
        (suite, packages): (&str, &[&str]),
        lock: OwnedMutexGuard<()>,
        progress: SharedProgress,
    ) -> Result<ImageRow, Error> {
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
        self.import_as(Job::new(name, origin), lock, progress, move |cancel| {
            let tar = host.debian_root(&root)?;
            watch_over(tar.as_ref(), cancel.clone(), steps);
            Ok((
                Source::Stream(Box::new(ProgramTar(Some(tar)))),
                Scrub::BuilderTraces,
            ))
        })
        .await
    }
}

/// Whether another source may do better.
fn is_of_the_source(error: &Error) -> bool {
    match error {
        Error::Host(HostError::ProgramMissing { .. })
        | Error::Sources(SourcesError::NoMirror { .. }) => true,
        Error::Import { source, .. } => is_of_a_program(source),
        _ => false,
    }
}

/// Whether the end of a chain of causes is a program that failed.
fn is_of_a_program(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(HostError::ProgramFailed { .. }) = error.downcast_ref() {
            return true;
        }
        // An I/O error hides what it wraps from `source`, but not from `get_ref`.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

fn go_on(name: &ImageName, error: &Error, progress: &SharedProgress) {
    let told = error.chain();
    info!(image = %name, error = told, "asking the next source");
    progress.report(Step {
        stage: "image",
        detail: format!("asking the next source: {told}"),
        done: 0,
        total: None,
    });
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
