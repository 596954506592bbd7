//! Owns kernels that travel as one file: how they are packed and unpacked, and directories of them
//! that are trusted for being where they are. Knows no release and no configuration.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::assemble::{self, CMDLINE, CONFIG, MODULES, NOTICES, Transfer, VMLINUX};
use super::error::KernelError;
use super::manifest::{CommandLine, KernelName, Manifest, Origin};
use super::staging::{GiveUpOnDrop, Staging};
use super::store::{IfTaken, Kernel, KernelStore};
use crate::blocking;
use crate::bundle::{Bundle, BundleError, OpenBundle, Packer};
use crate::catalog::{self, Catalog, CatalogFault, Downloads, Place, SourceError};
use crate::debian::DebError;
use crate::debian::package::{self, Unpacked, Verdict};
use crate::decompress::Bounded;
use crate::progress::{SharedProgress, Step};

const UNPACKED: &str = "unpacked";
/// More than a kernel with all of a distribution's modules unpacks to.
const LARGEST_CONTENT: u64 = 2 * 1024 * 1024 * 1024;
const DEEPEST: usize = 32;

/// A directory with a catalog and the bundles that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    directory: PathBuf,
}

/// Why a shelf cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("cannot use the kernel catalog in {}", directory.display())]
    Read {
        directory: PathBuf,
        source: SourceError,
    },
    #[error("the kernel catalog in {} cannot be used", directory.display())]
    Catalog {
        directory: PathBuf,
        source: CatalogFault,
    },
}

impl Shelf {
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    #[must_use]
    pub fn place(&self) -> Place {
        Place::Directory(self.directory.clone())
    }

    /// What is on it; nothing where there is no such directory.
    pub fn catalog(&self) -> Result<Option<Catalog>, ShelfError> {
        let directory = || self.directory.clone();
        let json = catalog::plain(&self.directory).map_err(|source| ShelfError::Read {
            directory: directory(),
            source,
        })?;
        let catalog = json.map(|json| Catalog::parse(&json)).transpose();
        catalog.map_err(|source| ShelfError::Catalog {
            directory: directory(),
            source,
        })
    }
}

impl KernelStore {
    /// Makes a kernel of a bundle. May be dropped at any moment: what it has begun is then given
    /// up and cleared away. Work on one name waits for each other.
    pub async fn unpack(
        &self,
        name: &KernelName,
        (bundle, place): (&Bundle, &Place),
        downloads: &Downloads,
        progress: &SharedProgress,
        if_taken: IfTaken,
    ) -> Result<Manifest, KernelError> {
        let lock = self.lock(name).await;
        if let Some(present) = self.check_taken(name, if_taken)? {
            return Ok(present);
        }
        let staging = Arc::new(self.stage(name)?);
        let _give_up = GiveUpOnDrop(staging.clone());
        let bundle = place
            .bundle(bundle, staging.path(), downloads, progress)
            .await?;
        let (store, name, progress) = (self.clone(), name.clone(), progress.clone());
        blocking::run(move || {
            // The name stays locked until this is through, even if nobody waits for it any more.
            let _lock = lock;
            let origin = Origin::Bundle {
                catalog: bundle.from().to_owned(),
                file: bundle.bundle().file.to_string(),
                sha256: bundle.bundle().sha256,
            };
            let unpacked = staging.path().join(UNPACKED);
            fs::create_dir(&unpacked).map_err(KernelError::io("create", &unpacked))?;
            unpack(bundle, &unpacked, &staging, &progress)?;
            let mut assembled = assemble::assemble(&unpacked, staging.path(), Transfer::Move)?;
            assembled.cmdline = told(&unpacked)?;
            fs::remove_dir_all(&unpacked).map_err(KernelError::io("remove", &unpacked))?;
            if staging.is_given_up() {
                return Err(KernelError::GivenUp { name });
            }
            store.publish(&name, &staging, assembled, origin, if_taken)
        })
        .await
    }
}

/// Unpacks a bundle that is what its catalog promises.
fn unpack(
    bundle: OpenBundle,
    into: &Path,
    staging: &Staging,
    progress: &SharedProgress,
) -> Result<(), BundleError> {
    bundle.read(|content, bundle| {
        let go_on = |done: Unpacked| {
            progress.report(Step {
                stage: "unpack",
                detail: bundle.file.to_string(),
                done: done.bytes,
                total: None,
            });
            !staging.is_given_up()
        };
        let content = Bounded::new(content, LARGEST_CONTENT);
        let unpacked = package::unpack_tar(content, |member| wanted(member, into), go_on);
        unpacked
            .map(drop)
            .map_err(|source: DebError| BundleError::Unpack {
                file: bundle.file.clone(),
                source,
            })
    })
}

/// The kernel, its configuration and its modules, what it must be told and what its licence is.
fn wanted(member: &Path, into: &Path) -> Verdict {
    let first = member.iter().next().and_then(|part| part.to_str());
    let kept =
        |part| [VMLINUX, CONFIG, MODULES, CMDLINE].contains(&part) || NOTICES.contains(&part);
    if first.is_some_and(kept) {
        Verdict::Place(into.join(member))
    } else {
        Verdict::Skip
    }
}

fn told(unpacked: &Path) -> Result<CommandLine, KernelError> {
    let path = unpacked.join(CMDLINE);
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(CommandLine::default()),
        Err(source) => Err(KernelError::io("open", &path)(source)),
        Ok(file) => {
            let limit = CommandLine::MAX as u64 + 1;
            let text = io::read_to_string(io::Read::take(file, limit));
            let text = text.map_err(KernelError::io("read", &path))?;
            Ok(text.parse()?)
        }
    }
}

impl Kernel {
    /// Makes a bundle in `directory` of all that its store has of it. Asks before each file
    /// whether to go on.
    pub fn pack(
        &self,
        directory: &Path,
        progress: &SharedProgress,
        go_on: impl Fn() -> bool,
    ) -> Result<Bundle, BundleError> {
        let name = &self.manifest.name;
        let pack = || -> io::Result<Option<Bundle>> {
            let mut packer = Packer::create(directory)?;
            let cmdline = self.manifest.cmdline.to_string();
            if !cmdline.is_empty() {
                packer.add(CMDLINE, cmdline.len() as u64, cmdline.as_bytes())?;
            }
            let mut done = 0;
            for (member, path) in self.members()? {
                if !go_on() {
                    return Ok(None);
                }
                let file = File::open(path)?;
                let size = file.metadata()?.len();
                packer.add(&member, size, file)?;
                done += size;
                progress.report(Step {
                    stage: "pack",
                    detail: name.to_string(),
                    done,
                    total: Some(self.manifest.size_bytes),
                });
            }
            let bundle = packer.finish(&format!("{name}-{}", self.manifest.arch))?;
            Ok(Some(bundle))
        };
        match pack() {
            Ok(Some(bundle)) => Ok(bundle),
            Ok(None) => Err(BundleError::GivenUp),
            Err(source) => Err(BundleError::Pack {
                what: format!("the kernel {name}"),
                source,
            }),
        }
    }

    /// Its files, by their names in a bundle, in an order that is always the same.
    fn members(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let mut members = vec![(VMLINUX.to_owned(), self.vmlinux.clone())];
        if let Some(config) = &self.config {
            members.push((CONFIG.to_owned(), config.clone()));
        }
        for notice in NOTICES {
            let path = self.vmlinux.with_file_name(notice);
            if path.is_file() {
                members.push((notice.to_owned(), path));
            }
        }
        if let Some(modules) = &self.modules {
            files(modules, MODULES, DEEPEST, &mut members)?;
        }
        members.sort();
        Ok(members)
    }
}

fn files(
    directory: &Path,
    name: &str,
    depth: usize,
    members: &mut Vec<(String, PathBuf)>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let own = entry.file_name().into_string();
        let own = own.map_err(|_| io::ErrorKind::InvalidFilename)?;
        let (path, name) = (entry.path(), format!("{name}/{own}"));
        let kind = entry.file_type()?;
        if kind.is_file() {
            members.push((name, path));
        } else if kind.is_dir() && depth > 0 {
            files(&path, &name, depth - 1, members)?;
        }
    }
    Ok(())
}
