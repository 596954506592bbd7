//! Kernels as the engine uses them: which one a VM gets, the local store, and whoever has what the
//! store has not: this release, configured catalogs, Debian's archive.

mod record;

use std::{path::Path, str::FromStr, sync::Arc};

use banger_image::{
    bundle::Bundle,
    catalog::{Catalog, Place},
    debian::Keyring,
    fetch::{Fetcher, Patience},
    kernel::{
        self, CatalogEntry, CommandLine, IfTaken, Kernel, KernelError, KernelName, KernelSource,
        KernelStore, Manifest, Origin, Shelf, UnknownKernel, Upstream,
    },
    progress::SharedProgress,
};
use tracing::{info, warn};

use crate::{
    catalogs::{CatalogError, Catalogs, Found, Publication, Published},
    debian_settings::DebianSettings,
    error::{Error, Kind},
    events::{Subject, What},
    host::Host,
    journal::{Act, Ledger},
    name::CatalogName,
    store::Store,
};
use record::Recorded;

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
    pub directories: Vec<Shelf>,
    /// What the user trusts by a key.
    pub catalogs: Arc<Catalogs>,
    pub debian: DebianSettings,
}

/// A kernel for a VM, and why it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelChoice {
    pub name: KernelName,
    pub reason: String,
}

/// What people call a kernel that they want: `NAME`, or `CATALOG/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelTarget {
    pub catalog: Option<CatalogName>,
    pub name: KernelName,
}

/// A kernel that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub entry: CatalogEntry,
    /// The catalog that was added and has it.
    pub catalog: Option<CatalogName>,
    /// Where its files are; banger's own list has none.
    pub place: Option<Place>,
}

/// The kernels of this user.
pub struct Kernels {
    store: KernelStore,
    sources: KernelSources,
    /// Hears of what comes and goes.
    events: Arc<Store>,
    ledger: Arc<Ledger>,
    host: Arc<dyn Host>,
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels")
            .field("store", &self.store)
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl Kernels {
    #[must_use]
    pub fn new(
        store: KernelStore,
        sources: KernelSources,
        ledger: Arc<Ledger>,
        host: Arc<dyn Host>,
    ) -> Self {
        Self {
            host,
            store,
            sources,
            events: ledger.store().clone(),
            ledger,
        }
    }

    /// A kernel is there, or gone, whether or not that can be told.
    fn tell(&self, name: &KernelName, what: What, detail: Option<&str>) {
        let told = self
            .events
            .note(Subject::Kernel, name.as_str(), what, detail);
        if let Err(error) = told {
            warn!(%name, %error, "cannot note an event");
        }
    }

    /// Removes what work that was killed has left behind.
    pub fn sweep(&self) {
        match self.store.sweep() {
            Ok(swept) if swept.is_empty() => {}
            Ok(swept) => info!(?swept, "removed half-made kernels"),
            Err(error) => warn!(%error, "cannot sweep the kernel store"),
        }
        record::settle(&self.ledger);
    }

    /// Writes down that a kernel is about to be made, replaced or removed.
    fn recorded(&self, name: &KernelName) -> Result<Recorded, Error> {
        let act = Act::Kernel(self.store.path(name));
        Ok(Recorded::begin(&self.ledger, name, act)?)
    }

    pub fn list(&self) -> Result<Vec<Manifest>, Error> {
        Ok(self.store.list()?)
    }

    pub fn get(&self, name: &KernelName) -> Result<Kernel, Error> {
        Ok(self.store.get(name)?)
    }

    /// All that can be pulled, as far as it is known here: what is nearest comes first. Of a name
    /// that several have, the first is pulled; the others are had as `CATALOG/NAME`.
    pub fn offers(&self) -> Result<Vec<Offer>, Error> {
        let mut offers = self.near()?;
        for known in self.sources.catalogs.list()? {
            let (catalog, place) = (Some(&known.row.name), Some(&known.row.place));
            offers.extend(all(&known.catalog, catalog, place));
        }
        offers.extend(all(&kernel::embedded(), None, None));
        Ok(offers)
    }

    /// What lies on this host.
    fn near(&self) -> Result<Vec<Offer>, Error> {
        let mut offers = Vec::new();
        let shelves = self.sources.release.iter().chain(&self.sources.directories);
        for shelf in shelves {
            if let Some(catalog) = shelf.catalog().map_err(KernelError::from)? {
                offers.extend(all(&catalog, None, Some(&shelf.place())));
            }
        }
        Ok(offers)
    }

    /// What a target means now.
    async fn find(&self, target: &KernelTarget, progress: &SharedProgress) -> Result<Offer, Error> {
        let KernelTarget { catalog, name } = target;
        let named = |offers: Vec<Offer>| offers.into_iter().find(|offer| offer.entry.name == *name);
        if catalog.is_none()
            && let Some(offer) = named(self.near()?)
        {
            return Ok(offer);
        }
        let catalogs = &self.sources.catalogs;
        let found = catalogs.kernel(catalog.as_ref(), name, progress).await?;
        if let Some(found) = found {
            let Found {
                catalog,
                place,
                entry,
            } = found;
            return Ok(Offer {
                entry,
                catalog: Some(catalog),
                place: Some(place),
            });
        }
        if let Some(catalog) = catalog {
            return Err(CatalogError::NoEntry {
                catalog: catalog.clone(),
                kind: Kind::Kernel,
                entry: name.to_string(),
            }
            .into());
        }
        if let Some(offer) = named(all(&kernel::embedded(), None, None).collect()) {
            return Ok(offer);
        }
        let mut available: Vec<String> = Vec::new();
        for offer in self.offers()? {
            let name = offer.entry.name.to_string();
            if !available.contains(&name) {
                available.push(name);
            }
        }
        let name = name.clone();
        Err(KernelError::from(UnknownKernel { name, available }).into())
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
                    let from = (&bundle, &shelf.place());
                    let _recorded = self.recorded(name)?;
                    self.unpack(name, from, &progress, IfTaken::Replace).await
                }
            },
            Err(KernelError::NotFound { .. }) => {
                let target = KernelTarget {
                    catalog: None,
                    name: name.clone(),
                };
                self.fetch(&target, &progress, IfTaken::Keep).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Pulls a kernel of a catalog.
    pub async fn pull(
        &self,
        target: &KernelTarget,
        force: bool,
        progress: SharedProgress,
    ) -> Result<Kernel, Error> {
        if !force && let Ok(present) = self.store.get(&target.name) {
            let name = present.manifest.name;
            return Err(KernelError::Taken { name }.into());
        }
        self.fetch(target, &progress, if_taken(force)).await?;
        self.get(&target.name)
    }

    /// Puts a kernel and a new catalog into a directory for others.
    pub async fn publish(
        &self,
        name: &KernelName,
        publication: Publication,
        progress: SharedProgress,
    ) -> Result<Published, Error> {
        let kernel = self.get(name)?;
        let description = publication.description.clone();
        let description =
            description.unwrap_or_else(|| format!("Linux {}", kernel.manifest.version));
        let published = self.sources.catalogs.publish(
            format!("the kernel {name}"),
            publication,
            move |publisher, cancel| {
                let go_on = || !cancel.is_cancelled();
                let bundle = kernel.pack(publisher.directory(), &progress, go_on)?;
                publisher.put_kernel(CatalogEntry {
                    name: kernel.manifest.name.clone(),
                    description,
                    arch: kernel.manifest.arch.into(),
                    source: KernelSource::Bundle(bundle.clone()),
                });
                Ok(bundle)
            },
        );
        published.await
    }

    /// Copies a kernel out of a directory of this host.
    pub async fn import(
        &self,
        name: &KernelName,
        from: &Path,
        cmdline: CommandLine,
        force: bool,
    ) -> Result<Kernel, Error> {
        let told = format!("from {}", from.display());
        let (store, name, from) = (self.store.clone(), name.clone(), from.to_owned());
        self.host.has_room(&store.path(&name), 0)?;
        let recorded = self.recorded(&name)?;
        let kernel = tokio::task::spawn_blocking(move || {
            let _recorded = recorded;
            store.import_told(&name, &from, cmdline, if_taken(force))?;
            store.get(&name)
        });
        let kernel = kernel.await.map_err(|_| Error::Ending)??;
        self.tell(&kernel.manifest.name, What::Added, Some(&told));
        Ok(kernel)
    }

    pub async fn delete(&self, name: &KernelName) -> Result<(), Error> {
        let (store, removed) = (self.store.clone(), name.clone());
        let recorded = self.recorded(name)?;
        let removed = tokio::task::spawn_blocking(move || {
            let _recorded = recorded;
            store.remove(&removed)
        });
        removed.await.map_err(|_| Error::Ending)??;
        self.tell(name, What::Deleted, None);
        Ok(())
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
        let entry = catalog
            .as_ref()
            .and_then(|catalog| catalog.kernel(name).ok());
        Ok(match entry.map(|entry| &entry.source) {
            Some(KernelSource::Bundle(bundle)) => Some((bundle.clone(), shelf.clone())),
            Some(KernelSource::Debian(_) | KernelSource::Built) | None => None,
        })
    }

    /// The release's build of a kernel that came with another release. What the user imported or
    /// pulled stays.
    fn newer_release(&self, present: &Manifest) -> Result<Option<(Bundle, Shelf)>, Error> {
        let Origin::Bundle {
            sha256, catalog, ..
        } = &present.source
        else {
            return Ok(None);
        };
        if self.is_elsewhere(catalog) {
            return Ok(None);
        }
        let released = self.released(&present.name)?;
        Ok(released.filter(|(bundle, _)| bundle.sha256 != *sha256))
    }

    /// Whether a bundle's origin is a catalog that is no release's. Releases may move.
    fn is_elsewhere(&self, catalog: &str) -> bool {
        let place = catalog.parse::<Place>();
        let mut configured = self.sources.directories.iter().map(Shelf::place);
        place.is_ok_and(|place| match place {
            Place::Web(_) => true,
            Place::Directory(_) => configured.any(|own| own == place),
        })
    }

    async fn fetch(
        &self,
        target: &KernelTarget,
        progress: &SharedProgress,
        if_taken: IfTaken,
    ) -> Result<(), Error> {
        let offer = self.find(target, progress).await?;
        let name = &target.name;
        let packed = match &offer.entry.source {
            KernelSource::Bundle(bundle) => bundle.bytes,
            KernelSource::Debian(_) | KernelSource::Built => 0,
        };
        // What is packed takes no less when it is unpacked.
        self.host.has_room(&self.store.path(name), packed)?;
        let _recorded = self.recorded(name)?;
        match (&offer.entry.source, &offer.place) {
            (KernelSource::Debian(package), _) => {
                let upstream = Upstream {
                    fetcher: Fetcher::new(Patience::default())?,
                    keyring: Keyring::debian(),
                    config: self.sources.debian.archive()?,
                };
                let pull = self
                    .store
                    .pull(name, package, &upstream, progress, if_taken);
                pull.await?;
                self.tell(name, What::Added, Some("from Debian's archive"));
                Ok(())
            }
            (KernelSource::Bundle(bundle), Some(place)) => {
                self.unpack(name, (bundle, place), progress, if_taken).await
            }
            (KernelSource::Bundle(_), None) | (KernelSource::Built, _) => {
                Err(KernelError::NotOffered { name: name.clone() }.into())
            }
        }
    }

    async fn unpack(
        &self,
        name: &KernelName,
        from: (&Bundle, &Place),
        progress: &SharedProgress,
        if_taken: IfTaken,
    ) -> Result<(), Error> {
        let downloads = self.sources.catalogs.bundles();
        let unpack = self.store.unpack(name, from, downloads, progress, if_taken);
        unpack.await?;
        self.tell(name, What::Added, Some(&format!("from {}", from.1)));
        Ok(())
    }
}

impl FromStr for KernelTarget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (catalog, name) = match text.split_once('/') {
            Some((catalog, name)) => (Some(catalog.parse()?), name),
            None => (None, text),
        };
        let name = name.parse()?;
        Ok(Self { catalog, name })
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

/// What a catalog offers.
fn all(
    read: &Catalog,
    catalog: Option<&CatalogName>,
    place: Option<&Place>,
) -> impl Iterator<Item = Offer> {
    let entries: Vec<_> = read.kernels().cloned().collect();
    let (catalog, place) = (catalog.cloned(), place.cloned());
    entries.into_iter().map(move |entry| Offer {
        entry,
        catalog: catalog.clone(),
        place: place.clone(),
    })
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
