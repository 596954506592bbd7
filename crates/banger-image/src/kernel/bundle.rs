//! Owns kernels that travel as one file: a packed archive whose name and digest stand in a catalog
//! beside it, as a release carries them. Knows no release and no configuration.

use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::assemble::{self, CONFIG, MODULES, Transfer, VMLINUX};
use super::catalog::Catalog;
use super::error::KernelError;
use super::manifest::{KernelName, Manifest, Origin};
use super::staging::{GiveUpOnDrop, Staging};
use super::store::{IfTaken, KernelStore};
use crate::blocking;
use crate::debian::DebError;
use crate::debian::package::{self, Unpacked, Verdict};
use crate::decompress::{self, Bounded};
use crate::digest::Sha256;
use crate::progress::{SharedProgress, Step};

const CATALOG: &str = "catalog.json";
const UNPACKED: &str = "unpacked";
/// A catalog of a thousand kernels is smaller.
const LARGEST_CATALOG: u64 = 1024 * 1024;
/// More than a kernel with all of a distribution's modules unpacks to.
const LARGEST_CONTENT: u64 = 2 * 1024 * 1024 * 1024;

/// A directory with a catalog and the bundles that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    directory: PathBuf,
}

/// A kernel in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub file: BundleName,
    pub sha256: Sha256,
    pub bytes: u64,
}

/// The name of a bundle's file; never a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BundleName(String);

/// What was refused as a bundle's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name of a bundle: letters, digits and . + - _ are allowed")]
pub struct BundleNameError {
    text: String,
}

/// Why a shelf or a bundle on it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot read the kernel catalog {}", path.display())]
    ReadCatalog { path: PathBuf, source: io::Error },
    #[error("the kernel catalog {} is not valid", path.display())]
    Catalog {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("cannot read the kernel bundle {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the kernel bundle {} is {found}, but its catalog promises {promised}", path.display())]
    Changed {
        path: PathBuf,
        promised: Sha256,
        found: Sha256,
    },
    #[error("cannot unpack the kernel bundle {}", path.display())]
    Unpack { path: PathBuf, source: DebError },
}

impl BundleError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unpack {
                source: DebError::Write { source, .. },
                ..
            } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space on that file system and try again")
            }
            Self::ReadCatalog { .. } | Self::Read { .. } => {
                Some("check that this user can read that file")
            }
            Self::Catalog { .. } | Self::Changed { .. } | Self::Unpack { .. } => {
                Some("unpack the release again, or have the catalog made again")
            }
        }
    }
}

impl Shelf {
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is on it; nothing where there is no such directory.
    pub fn catalog(&self) -> Result<Option<Catalog>, BundleError> {
        let path = self.directory.join(CATALOG);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BundleError::ReadCatalog { path, source }),
        };
        let json = match decompress::read_all(file, LARGEST_CATALOG) {
            Ok(json) => json,
            Err(source) => return Err(BundleError::ReadCatalog { path, source }),
        };
        match serde_json::from_slice(&json) {
            Ok(catalog) => Ok(Some(catalog)),
            Err(source) => Err(BundleError::Catalog { path, source }),
        }
    }
}

impl KernelStore {
    /// Makes a kernel of a bundle. May be dropped at any moment: what it has begun is then given
    /// up and cleared away. Work on one name waits for each other.
    pub async fn unpack(
        &self,
        name: &KernelName,
        bundle: &Bundle,
        shelf: &Shelf,
        progress: &SharedProgress,
        if_taken: IfTaken,
    ) -> Result<Manifest, KernelError> {
        let lock = self.lock(name).await;
        if let Some(present) = self.check_taken(name, if_taken)? {
            return Ok(present);
        }
        let staging = Arc::new(self.stage(name)?);
        let _give_up = GiveUpOnDrop(staging.clone());
        let (store, name, progress) = (self.clone(), name.clone(), progress.clone());
        let (bundle, shelf) = (bundle.clone(), shelf.clone());
        blocking::run(move || {
            // The name stays locked until this is through, even if nobody waits for it any more.
            let _lock = lock;
            let unpacked = staging.path().join(UNPACKED);
            fs::create_dir(&unpacked).map_err(KernelError::io("create", &unpacked))?;
            place(&bundle, &shelf, &unpacked, &staging, &progress)?;
            let assembled = assemble::assemble(&unpacked, staging.path(), Transfer::Move)?;
            fs::remove_dir_all(&unpacked).map_err(KernelError::io("remove", &unpacked))?;
            if staging.is_given_up() {
                return Err(KernelError::GivenUp { name });
            }
            let origin = Origin::Bundle {
                catalog: shelf.directory.display().to_string(),
                file: bundle.file.0,
                sha256: bundle.sha256,
            };
            store.publish(&name, &staging, assembled, origin, if_taken)
        })
        .await
    }
}

/// Unpacks a bundle that is what its catalog promises.
fn place(
    bundle: &Bundle,
    shelf: &Shelf,
    into: &Path,
    staging: &Staging,
    progress: &SharedProgress,
) -> Result<(), BundleError> {
    let path = shelf.directory.join(&bundle.file.0);
    let mut file = match open_checked(&path, bundle) {
        Ok(Ok(file)) => file,
        Ok(Err(found)) => {
            let promised = bundle.sha256;
            return Err(BundleError::Changed {
                path,
                promised,
                found,
            });
        }
        Err(source) => return Err(BundleError::Read { path, source }),
    };
    let go_on = |done: Unpacked| {
        progress.report(Step {
            stage: "unpack",
            detail: bundle.file.0.clone(),
            done: done.bytes,
            total: None,
        });
        !staging.is_given_up()
    };
    let content = match decompress::reader(&mut file) {
        Ok(content) => Bounded::new(content, LARGEST_CONTENT),
        Err(source) => return Err(BundleError::Read { path, source }),
    };
    match package::unpack_tar(content, |member| wanted(member, into), go_on) {
        Ok(_) => Ok(()),
        Err(source) => Err(BundleError::Unpack { path, source }),
    }
}

/// The file at its beginning, or the digest that it has instead of the promised one. No byte is
/// unpacked before all are known.
fn open_checked(path: &Path, bundle: &Bundle) -> io::Result<Result<File, Sha256>> {
    let mut file = File::open(path)?;
    // One byte more than promised makes another digest.
    let found = Sha256::of_reader(io::Read::take(&file, bundle.bytes.saturating_add(1)))?;
    if found != bundle.sha256 {
        return Ok(Err(found));
    }
    file.rewind()?;
    Ok(Ok(file))
}

/// The kernel, its configuration and its modules; licences stay in the bundle.
fn wanted(member: &Path, into: &Path) -> Verdict {
    let first = member.iter().next().and_then(|part| part.to_str());
    if first.is_some_and(|part| [VMLINUX, CONFIG, MODULES].contains(&part)) {
        Verdict::Place(into.join(member))
    } else {
        Verdict::Skip
    }
}

impl TryFrom<String> for BundleName {
    type Error = BundleNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".+-_".contains(c);
        let good = (1..=200).contains(&text.len())
            && text.chars().all(allowed)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if good {
            Ok(Self(text))
        } else {
            let text = text.chars().take(80).collect();
            Err(BundleNameError { text })
        }
    }
}

impl From<BundleName> for String {
    fn from(name: BundleName) -> Self {
        name.0
    }
}
