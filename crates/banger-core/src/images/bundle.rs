//! Images that travel as one file: taken from catalogs, and published for others.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use banger_image::{
    bundle::{ImageManifest, unpack_image},
    catalog::{EntryName, ImageEntry},
    manifest::Platform,
    progress::SharedProgress,
    rootfs::{Facts, OsRelease},
};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Images, PullSummary, Pulled,
    workshop::{self, Job, Made, Wants},
};
use crate::{
    catalogs::{CatalogError, Found, Known, Publication, Published},
    error::{Error, Kind},
    image_catalog::{CATALOG, CatalogImage},
    name::{CatalogName, ImageName},
    store::ImageRow,
};

/// An image that can be pulled by name.
#[derive(Debug, Clone)]
pub enum ImageOffer {
    /// Of banger's own list.
    Own(&'static CatalogImage),
    Entry(Box<Found<ImageEntry>>),
}

impl Images {
    /// Pulls an entry of one catalog, unless that was done before.
    pub(super) async fn pull_entry(
        &self,
        catalog: &CatalogName,
        entry: &ImageName,
        name: Option<&ImageName>,
        progress: SharedProgress,
    ) -> Result<Pulled, Error> {
        let reference = format!("{catalog}/{entry}");
        let here = match name {
            None => self.pulled_by(&reference)?,
            Some(name) => self.get(name).ok(),
        };
        let same = |row: &ImageRow| row.reference.as_ref() == Some(&reference);
        if let Some(row) = here.filter(same) {
            return Ok(Pulled {
                row,
                summary: PullSummary::nothing(),
            });
        }
        let name = name.unwrap_or(entry);
        self.refuse_taken(name)?;
        let lock = self.lock(name, &progress).await;
        let found = self.catalogs.image(Some(catalog), entry, &progress).await?;
        let found = found.ok_or_else(|| CatalogError::NoEntry {
            catalog: catalog.clone(),
            kind: Kind::Image,
            entry: entry.to_string(),
        })?;
        let row = self.make_of_bundle(found, name, lock, progress).await?;
        Ok(Pulled {
            row,
            summary: PullSummary::default(),
        })
    }

    /// All that can be pulled by name, as far as it is known here, in the order of their asking.
    pub fn offers(&self) -> Result<Vec<ImageOffer>, Error> {
        let mut offers = Vec::new();
        for Known { row, catalog } in self.catalogs.list()? {
            offers.extend(catalog.images().map(|entry| {
                ImageOffer::Entry(Box::new(Found {
                    catalog: row.name.clone(),
                    place: row.place.clone(),
                    entry: entry.clone(),
                }))
            }));
        }
        offers.extend(CATALOG.iter().map(ImageOffer::Own));
        Ok(offers)
    }

    /// Where bundles lie until they are unpacked.
    fn fetched_bundles(&self) -> PathBuf {
        self.sources.scratch.join("bundles")
    }

    /// Removes what an earlier daemon fetched and did not unpack.
    pub(super) fn sweep_bundles(&self) {
        let path = self.fetched_bundles();
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %path.display(), %error, "cannot sweep fetched bundles");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Makes an image of a bundle. Dropping the future gives it up and leaves nothing.
    pub(super) async fn make_of_bundle(
        &self,
        found: Found<ImageEntry>,
        name: &ImageName,
        lock: OwnedMutexGuard<()>,
        progress: SharedProgress,
    ) -> Result<ImageRow, Error> {
        let Found {
            catalog,
            place,
            entry,
        } = found;
        let scratch = self.fetched_bundles();
        fs::create_dir_all(&scratch).map_err(|source| Error::File {
            operation: "make",
            path: scratch.clone(),
            source,
        })?;
        let downloads = self.catalogs.bundles();
        let bundle = place.bundle(&entry.bundle, &scratch, downloads, &progress);
        let bundle = bundle.await.map_err(CatalogError::from)?;
        let job = Job {
            reference: Some(format!("{catalog}/{}", entry.name.as_str())),
            platform: Some(Platform::host().to_string()),
            ..Job::new(name, format!("{} of {place}", entry.bundle.file))
        };
        let work = move |rootfs: &Path, cancel: &CancellationToken| {
            let manifest = unpack_image(bundle, entry.image_bytes, rootfs, cancel, &progress);
            Ok(made(manifest.map_err(CatalogError::from)?))
        };
        workshop::make(&self.work, job, Arc::new(lock), work).await
    }

    /// Puts an image and a new catalog into a directory for others.
    pub async fn publish(
        &self,
        name: &ImageName,
        publication: Publication,
        progress: SharedProgress,
    ) -> Result<Published, Error> {
        let row = self.get(name)?;
        let rootfs = self.rootfs_of(&row);
        let size = fs::metadata(&rootfs).map_err(|source| Error::File {
            operation: "look at",
            path: rootfs.clone(),
            source,
        })?;
        let manifest = manifest(&row, size.len());
        let description = publication.description.clone();
        let description = description.or_else(|| row.os.clone()).unwrap_or_default();
        let published = self.catalogs.publish(
            format!("the image {name}"),
            publication,
            move |publisher, cancel| {
                let bundle = manifest.pack(&rootfs, publisher.directory(), cancel, &progress)?;
                publisher.put_image(ImageEntry {
                    name: manifest.name,
                    description,
                    arch: manifest.arch,
                    bundle: bundle.clone(),
                    image_bytes: manifest.size_bytes,
                });
                Ok(bundle)
            },
        );
        published.await
    }
}

fn manifest(row: &ImageRow, size: u64) -> ImageManifest {
    let name: EntryName = row.name.as_str().parse().expect("both are the same names");
    ImageManifest {
        content_bytes: row.content_bytes,
        entries: row.entries,
        digest: row.digest.parse().ok(),
        os: row.os.clone(),
        has_systemd: row.has_systemd,
        has_shell: row.has_shell,
        kernel: row.kernel.clone(),
        config: row.config.clone(),
        ..ImageManifest::new(name, size)
    }
}

fn made(manifest: ImageManifest) -> Made {
    let facts = Facts {
        // Where it is was found out when the image was made; that it is there is what is kept.
        systemd: manifest.has_systemd.then_some("systemd"),
        has_shell: manifest.has_shell,
        os_release: OsRelease {
            pretty_name: manifest.os.map(|os| os.chars().take(200).collect()),
            ..OsRelease::default()
        },
        ..Facts::default()
    };
    let digest = manifest.digest.map(|digest| digest.to_string());
    Made {
        digest: digest.unwrap_or_default(),
        size_bytes: manifest.size_bytes,
        content_bytes: manifest.content_bytes,
        entries: manifest.entries,
        facts,
        wants: Some(Wants {
            config: manifest.config,
            kernel: manifest.kernel,
        }),
    }
}
