//! Catalogs that the user trusts: added with a key, read anew when something is pulled, never taken
//! back to an older state. What was read last is kept, for when nobody answers.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use banger_image::{
    bundle::{Bundle, BundleError},
    catalog::{
        Catalog, Downloads, ImageEntry, KeyError, Place, PlaceError, PublicKey, PublishError,
        Publisher, SecretKey, Signed, SignedError, SourceError,
    },
    fetch::Patience,
    kernel::{CatalogEntry, KernelName},
    progress::{SharedProgress, Step},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    error::{Error, Kind},
    name::{CatalogName, ImageName},
    record::Seconds,
    store::{CatalogRow, Store},
};

/// A catalog is small, and there is what was read last.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    headers: Duration::from_secs(10),
    stall: Duration::from_secs(10),
    tries: 2,
    pause: Duration::from_millis(500),
};

/// Why a catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("cannot read the catalog {name} at {place}")]
    Source {
        name: CatalogName,
        place: Place,
        source: SourceError,
    },
    #[error("the catalog {name} at {place} is refused")]
    Refused {
        name: CatalogName,
        place: Place,
        source: SignedError,
    },
    #[error(
        "the catalog {name} at {place} is older than one that was seen before: its number is {found}, and {seen} was seen"
    )]
    Rollback {
        name: CatalogName,
        place: Place,
        seen: u64,
        found: u64,
    },
    #[error(
        "the catalog {name} at {place} is another than before, but has the same number, {serial}"
    )]
    Forked {
        name: CatalogName,
        place: Place,
        serial: u64,
    },
    #[error("the catalog {name} at {place} has expired on {expiry}")]
    Expired {
        name: CatalogName,
        place: Place,
        expiry: String,
    },
    #[error("the catalog {catalog} has no {kind} \"{entry}\"")]
    NoEntry {
        catalog: CatalogName,
        kind: Kind,
        entry: String,
    },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("cannot publish {what}")]
    Publish { what: String, source: PublishError },
}

impl CatalogError {
    /// Whether nobody answered, so that what was read last will have to do.
    fn is_silence(&self) -> bool {
        match self {
            Self::Source { .. } => true,
            Self::Place(_)
            | Self::Key(_)
            | Self::Refused { .. }
            | Self::Rollback { .. }
            | Self::Forked { .. }
            | Self::Expired { .. }
            | Self::NoEntry { .. }
            | Self::Bundle(_)
            | Self::Publish { .. } => false,
        }
    }
}

/// What somebody wants to put where others find it.
#[derive(Debug, Clone)]
pub struct Publication {
    pub directory: PathBuf,
    /// The file of the secret key.
    pub key: PathBuf,
    /// For people; absent, what is known already.
    pub description: Option<String>,
    /// How long the catalog holds from now on; absent, for ever.
    pub valid: Option<Duration>,
}

/// What was published.
#[derive(Debug, Clone)]
pub struct Published {
    pub bundle: Bundle,
    pub serial: u64,
    /// What readers of the catalog need.
    pub key: PublicKey,
}

/// Something that a catalog has, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    pub catalog: CatalogName,
    pub place: Place,
    pub entry: T,
}

/// A trusted catalog and what was read of it last.
#[derive(Debug, Clone)]
pub struct Known {
    pub row: CatalogRow,
    pub catalog: Catalog,
}

/// All catalogs that are trusted by a key.
#[derive(Debug)]
pub struct Catalogs {
    store: Arc<Store>,
    downloads: Downloads,
    /// Bundles are large, and there is nothing in their place.
    bundles: Downloads,
    clock: fn() -> Seconds,
}

impl Catalogs {
    #[must_use]
    pub fn new(store: Arc<Store>, extra_cas: Vec<PathBuf>, clock: fn() -> Seconds) -> Self {
        Self {
            store,
            downloads: Downloads::new(PATIENCE, extra_cas.clone()),
            bundles: Downloads::new(Patience::default(), extra_cas),
            clock,
        }
    }

    /// Whoever fetches bundles.
    #[must_use]
    pub fn bundles(&self) -> &Downloads {
        &self.bundles
    }

    /// Trusts a catalog, once it was read and found signed with the key.
    pub async fn add(
        &self,
        name: CatalogName,
        place: Place,
        key: PublicKey,
    ) -> Result<Known, Error> {
        if self.store.catalog(&name)?.is_some() {
            return Err(crate::store::StoreError::CatalogTaken(name).into());
        }
        let now = (self.clock)();
        let mut row = CatalogRow {
            name,
            place,
            key,
            serial: 0,
            note: String::new(),
            added_at: now,
            seen_at: now,
        };
        let Signed { catalog, note } = self.read(&row).await?;
        row.serial = catalog.serial;
        row.note = note;
        self.store.insert_catalog(&row)?;
        Ok(Known { row, catalog })
    }

    pub fn remove(&self, name: &CatalogName) -> Result<(), Error> {
        Ok(self.store.delete_catalog(name)?)
    }

    /// All that are trusted, in the order in which they are asked, as they were read last.
    pub fn list(&self) -> Result<Vec<Known>, Error> {
        self.store.catalogs()?.into_iter().map(known).collect()
    }

    /// Whether a catalog of this name is trusted.
    pub fn has(&self, name: &CatalogName) -> Result<bool, Error> {
        Ok(self.store.catalog(name)?.is_some())
    }

    /// Reads all catalogs anew. One that cannot be read stays what it was, and why is told.
    pub async fn refresh(&self) -> Result<Vec<(Known, Option<CatalogError>)>, Error> {
        let mut all = Vec::new();
        for row in self.store.catalogs()? {
            let problem = match self.renew(&row).await {
                Ok(_) => None,
                Err(Error::Catalog(problem)) => Some(problem),
                Err(error) => return Err(error),
            };
            // Somebody may have removed it meanwhile.
            if let Some(row) = self.store.catalog(&row.name)? {
                all.push((known(row)?, problem));
            }
        }
        Ok(all)
    }

    /// An image of any catalog, or of one: the first that has it, as it is now.
    pub async fn image(
        &self,
        catalog: Option<&CatalogName>,
        name: &ImageName,
        progress: &SharedProgress,
    ) -> Result<Option<Found<ImageEntry>>, Error> {
        let pick = |read: &Catalog| {
            let mut images = read.images();
            let found = images.find(|entry| entry.name.as_str() == name.as_str());
            found.cloned()
        };
        self.find(catalog, pick, progress).await
    }

    /// A kernel of any catalog, or of one: the first that has it, as it is now.
    pub async fn kernel(
        &self,
        catalog: Option<&CatalogName>,
        name: &KernelName,
        progress: &SharedProgress,
    ) -> Result<Option<Found<CatalogEntry>>, Error> {
        let pick = |read: &Catalog| read.kernel(name).ok().cloned();
        self.find(catalog, pick, progress).await
    }

    async fn find<T>(
        &self,
        only: Option<&CatalogName>,
        pick: impl Fn(&Catalog) -> Option<T>,
        progress: &SharedProgress,
    ) -> Result<Option<Found<T>>, Error> {
        let rows = match only {
            None => self.store.catalogs()?,
            Some(name) => vec![self.store.catalog(name)?.ok_or_else(|| Error::NotFound {
                kind: Kind::Catalog,
                target: name.to_string(),
            })?],
        };
        for row in rows {
            progress.report(Step {
                stage: "catalog",
                detail: format!("reading the catalog {}", row.name),
                done: 0,
                total: None,
            });
            let catalog = match self.renew(&row).await {
                Ok(catalog) => catalog,
                Err(Error::Catalog(error)) if error.is_silence() => {
                    let told = Error::from(error).chain();
                    warn!(catalog = %row.name, error = told, "using what was read last");
                    self.still_holds(known(row.clone())?)?
                }
                Err(error) => return Err(error),
            };
            if let Some(entry) = pick(&catalog) {
                let CatalogRow { name, place, .. } = row;
                return Ok(Some(Found {
                    catalog: name,
                    place,
                    entry,
                }));
            }
        }
        Ok(None)
    }

    /// Reads a catalog and remembers what it is now.
    async fn renew(&self, row: &CatalogRow) -> Result<Catalog, Error> {
        let Signed { catalog, note } = self.read(row).await?;
        let (name, place, serial) = (row.name.clone(), row.place.clone(), catalog.serial);
        if serial < row.serial {
            return Err(CatalogError::Rollback {
                name,
                place,
                seen: row.serial,
                found: serial,
            }
            .into());
        }
        if serial == row.serial && catalog != known(row.clone())?.catalog {
            return Err(CatalogError::Forked {
                name,
                place,
                serial,
            }
            .into());
        }
        let now = (self.clock)();
        self.store.renew_catalog(&name, serial, &note, now)?;
        Ok(catalog)
    }

    /// What a catalog's place has now, if it is signed with its key and still holds.
    async fn read(&self, row: &CatalogRow) -> Result<Signed, CatalogError> {
        let (name, place) = (row.name.clone(), row.place.clone());
        let bytes = row.place.signed(&self.downloads).await;
        let bytes = bytes.map_err(|source| CatalogError::Source {
            name: name.clone(),
            place: place.clone(),
            source,
        })?;
        let signed = Signed::open(&bytes, &row.key);
        let signed = signed.map_err(|source| CatalogError::Refused {
            name,
            place,
            source,
        })?;
        self.hold(&row.name, &row.place, &signed.catalog)?;
        Ok(signed)
    }

    fn still_holds(&self, known: Known) -> Result<Catalog, Error> {
        let Known { row, catalog } = known;
        self.hold(&row.name, &row.place, &catalog)?;
        Ok(catalog)
    }

    fn hold(&self, name: &CatalogName, place: &Place, read: &Catalog) -> Result<(), CatalogError> {
        let now = UNIX_EPOCH + Duration::from_secs((self.clock)());
        match read.expires {
            Some(expiry) if expiry.is_past(now) => Err(CatalogError::Expired {
                name: name.clone(),
                place: place.clone(),
                expiry: expiry.to_string(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Puts what `work` makes, and a catalog with it, into a directory. Dropping the future gives
    /// it up; the catalog is then what it was.
    pub(crate) async fn publish(
        &self,
        what: String,
        publication: Publication,
        work: impl FnOnce(&mut Publisher, &CancellationToken) -> Result<Bundle, BundleError>
        + Send
        + 'static,
    ) -> Result<Published, Error> {
        let cancel = CancellationToken::new();
        let _given_up = cancel.clone().drop_guard();
        let now = UNIX_EPOCH + Duration::from_secs((self.clock)());
        let published = tokio::task::spawn_blocking(move || -> Result<Published, CatalogError> {
            let failed = |source| CatalogError::Publish {
                what: what.clone(),
                source,
            };
            let secret = SecretKey::read(&publication.key)?;
            let key = secret.public();
            let mut publisher = Publisher::open(&publication.directory, secret).map_err(failed)?;
            let bundle = work(&mut publisher, &cancel)?;
            if cancel.is_cancelled() {
                return Err(BundleError::GivenUp.into());
            }
            let serial = publisher.publish(now, publication.valid).map_err(failed)?;
            Ok(Published {
                bundle,
                serial,
                key,
            })
        });
        Ok(published.await.map_err(|_| Error::Ending)??)
    }
}

/// Makes a key of a signer's name, in a file of its own and one for the public half.
pub fn generate_key(path: &Path, signer: &str) -> Result<PublicKey, Error> {
    let key = SecretKey::generate(signer.parse().map_err(CatalogError::from)?);
    key.save(path).map_err(CatalogError::from)?;
    Ok(key.public())
}

/// What was read last. It was signed when it was stored, and is held to that again.
fn known(row: CatalogRow) -> Result<Known, Error> {
    match Signed::open(row.note.as_bytes(), &row.key) {
        Ok(Signed { catalog, .. }) => Ok(Known { row, catalog }),
        Err(source) => Err(CatalogError::Refused {
            name: row.name,
            place: row.place,
            source,
        }
        .into()),
    }
}

#[cfg(test)]
mod tests;
