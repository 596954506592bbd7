//! Kernels as the engine uses them: which one a VM gets, the local store, and whoever has what the
//! store has not: this release, configured catalogs, Debian's archive.

use std::path::Path;

use banger_image::{
    debian::Keyring,
    fetch::{Fetcher, Patience},
    kernel::{
        Bundle, Catalog, CatalogEntry, CommandLine, IfTaken, Kernel, KernelError, KernelName,
        KernelSource, KernelStore, Manifest, Origin, Shelf, UnknownKernel, Upstream,
    },
    progress::SharedProgress,
};
use tracing::{info, warn};

use crate::{debian_settings::DebianSettings, error::Error};

/// The kernel that a VM gets where nobody chooses, if it can be had without a download.
const PREFERRED: &str = "generic-6.12";
/// The one that it gets otherwise.
const FALLBACK: &str = "debian-6.1";

/// Where kernels come from.
#[derive(Debug, Clone)]
pub struct KernelSources {
    /// What came with this release, where it did.
    pub release: Option<Shelf>,
    /// What the configuration adds.
    pub catalogs: Vec<Shelf>,
    pub debian: DebianSettings,
}

/// A kernel for a VM, and why it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelChoice {
    pub name: KernelName,
    pub reason: String,
}

/// A kernel that can be pulled, and where it is if it is a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub entry: CatalogEntry,
    pub shelf: Option<Shelf>,
}

/// The kernels of this user.
#[derive(Debug)]
pub struct Kernels {
    store: KernelStore,
    sources: KernelSources,
}

impl Kernels {
    #[must_use]
    pub fn new(store: KernelStore, sources: KernelSources) -> Self {
        Self { store, sources }
    }

    /// Removes what work that was killed has left behind.
    pub fn sweep(&self) {
        match self.store.sweep() {
            Ok(swept) if swept.is_empty() => {}
            Ok(swept) => info!(?swept, "removed half-made kernels"),
            Err(error) => warn!(%error, "cannot sweep the kernel store"),
        }
    }

    pub fn list(&self) -> Result<Vec<Manifest>, Error> {
        Ok(self.store.list()?)
    }

    pub fn get(&self, name: &KernelName) -> Result<Kernel, Error> {
        Ok(self.store.get(name)?)
    }

    /// All that can be pulled, each name once: what is nearest comes first.
    pub fn offers(&self) -> Result<Vec<Offer>, Error> {
        let mut offers: Vec<Offer> = Vec::new();
        let shelves = self.sources.release.iter().chain(&self.sources.catalogs);
        for shelf in shelves {
            let catalog = shelf.catalog().map_err(KernelError::from)?;
            add(&mut offers, catalog.as_ref(), Some(shelf));
        }
        add(&mut offers, Some(&Catalog::embedded()), None);
        Ok(offers)
    }

    /// The kernel of a new VM: the one that is asked for, the configured one, or ours.
    pub fn choose(
        &self,
        asked: Option<&KernelName>,
        configured: Option<&KernelName>,
    ) -> Result<KernelChoice, Error> {
        let preferred = preferred();
        let whereabouts = match (asked, configured) {
            (None, None) => self.whereabouts(&preferred)?,
            (Some(_), _) | (None, Some(_)) => Whereabouts::Elsewhere,
        };
        Ok(decide(asked, configured, whereabouts))
    }

    /// Makes sure that a kernel is here, and that one that came with a release is this release's.
    pub async fn ensure(&self, name: &KernelName, progress: SharedProgress) -> Result<(), Error> {
        match self.store.get(name) {
            Ok(kernel) => match self.newer_release(&kernel.manifest)? {
                None => Ok(()),
                Some((bundle, shelf)) => {
                    info!(%name, "this release brings another build of the kernel");
                    self.unpack(name, &bundle, &shelf, &progress, IfTaken::Replace)
                        .await
                }
            },
            Err(KernelError::NotFound { .. }) => self.fetch(name, &progress, IfTaken::Keep).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Pulls a kernel of a catalog.
    pub async fn pull(
        &self,
        name: &KernelName,
        force: bool,
        progress: SharedProgress,
    ) -> Result<Kernel, Error> {
        self.fetch(name, &progress, if_taken(force)).await?;
        self.get(name)
    }

    /// Copies a kernel out of a directory of this host.
    pub async fn import(
        &self,
        name: &KernelName,
        from: &Path,
        cmdline: CommandLine,
        force: bool,
    ) -> Result<Kernel, Error> {
        let (store, name, from) = (self.store.clone(), name.clone(), from.to_owned());
        let kernel = tokio::task::spawn_blocking(move || {
            store.import_told(&name, &from, cmdline, if_taken(force))?;
            store.get(&name)
        });
        Ok(kernel.await.map_err(|_| Error::Ending)??)
    }

    pub async fn delete(&self, name: &KernelName) -> Result<(), Error> {
        let (store, name) = (self.store.clone(), name.clone());
        let removed = tokio::task::spawn_blocking(move || store.remove(&name));
        Ok(removed.await.map_err(|_| Error::Ending)??)
    }

    fn whereabouts(&self, name: &KernelName) -> Result<Whereabouts, Error> {
        match self.store.get(name) {
            Ok(_) => Ok(Whereabouts::Store),
            Err(KernelError::NotFound { .. }) => match self.released(name)? {
                Some(_) => Ok(Whereabouts::Release),
                None => Ok(Whereabouts::Elsewhere),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// The bundle of this name that came with this release.
    fn released(&self, name: &KernelName) -> Result<Option<(Bundle, Shelf)>, Error> {
        let Some(shelf) = &self.sources.release else {
            return Ok(None);
        };
        let catalog = shelf.catalog().map_err(KernelError::from)?;
        let entry = catalog.as_ref().and_then(|catalog| catalog.get(name).ok());
        Ok(match entry.map(|entry| &entry.source) {
            Some(KernelSource::Bundle(bundle)) => Some((bundle.clone(), shelf.clone())),
            Some(KernelSource::Debian(_) | KernelSource::Built) | None => None,
        })
    }

    /// The release's build of a kernel that came with another release. What the user imported or
    /// pulled stays.
    fn newer_release(&self, present: &Manifest) -> Result<Option<(Bundle, Shelf)>, Error> {
        let Origin::Bundle { sha256, .. } = &present.source else {
            return Ok(None);
        };
        let released = self.released(&present.name)?;
        Ok(released.filter(|(bundle, _)| bundle.sha256 != *sha256))
    }

    async fn fetch(
        &self,
        name: &KernelName,
        progress: &SharedProgress,
        if_taken: IfTaken,
    ) -> Result<(), Error> {
        let offers = self.offers()?;
        let Some(offer) = offers.iter().find(|offer| offer.entry.name == *name) else {
            let available = offers.iter().map(|offer| offer.entry.name.to_string());
            return Err(KernelError::from(UnknownKernel {
                name: name.clone(),
                available: available.collect(),
            })
            .into());
        };
        match (&offer.entry.source, &offer.shelf) {
            (KernelSource::Debian(package), _) => {
                let upstream = Upstream {
                    fetcher: Fetcher::new(Patience::default())?,
                    keyring: Keyring::debian(),
                    config: self.sources.debian.archive()?,
                };
                let pull = self
                    .store
                    .pull(name, package, &upstream, progress, if_taken);
                Ok(pull.await.map(drop)?)
            }
            (KernelSource::Bundle(bundle), Some(shelf)) => {
                self.unpack(name, bundle, shelf, progress, if_taken).await
            }
            (KernelSource::Bundle(_), None) | (KernelSource::Built, _) => {
                Err(KernelError::NotOffered { name: name.clone() }.into())
            }
        }
    }

    async fn unpack(
        &self,
        name: &KernelName,
        bundle: &Bundle,
        shelf: &Shelf,
        progress: &SharedProgress,
        if_taken: IfTaken,
    ) -> Result<(), Error> {
        let unpack = self.store.unpack(name, bundle, shelf, progress, if_taken);
        Ok(unpack.await.map(drop)?)
    }
}

/// Where the preferred kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    Store,
    Release,
    Elsewhere,
}

fn decide(
    asked: Option<&KernelName>,
    configured: Option<&KernelName>,
    preferred_is: Whereabouts,
) -> KernelChoice {
    let choice = |name: &KernelName, reason: &str| KernelChoice {
        name: name.clone(),
        reason: reason.to_owned(),
    };
    match (asked, configured, preferred_is) {
        (Some(name), _, _) => choice(name, "it was asked for"),
        (None, Some(name), _) => choice(name, "the configuration's default_kernel names it"),
        (None, None, Whereabouts::Store) => {
            choice(&preferred(), "banger's own kernel is in the store")
        }
        (None, None, Whereabouts::Release) => {
            choice(&preferred(), "banger's own kernel came with this release")
        }
        (None, None, Whereabouts::Elsewhere) => KernelChoice {
            name: FALLBACK.parse().expect("the fallback's name is a name"),
            reason: format!("{PREFERRED} is neither in the store nor in this release"),
        },
    }
}

fn preferred() -> KernelName {
    PREFERRED.parse().expect("the preferred name is a name")
}

/// Adds what is not offered under its name yet.
fn add(offers: &mut Vec<Offer>, catalog: Option<&Catalog>, shelf: Option<&Shelf>) {
    for entry in catalog.into_iter().flat_map(Catalog::entries) {
        let entry = entry.clone();
        if !offers.iter().any(|offer| offer.entry.name == entry.name) {
            let shelf = shelf.cloned();
            offers.push(Offer { entry, shelf });
        }
    }
}

fn if_taken(force: bool) -> IfTaken {
    if force {
        IfTaken::Replace
    } else {
        IfTaken::Refuse
    }
}

#[cfg(test)]
mod tests;
