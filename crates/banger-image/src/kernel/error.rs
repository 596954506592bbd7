//! Owns how work on kernels fails, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::boot_modules::BootModulesError;
use super::bundle::ShelfError;
use super::bzimage::BzImageError;
use super::catalog::UnknownKernel;
use super::elf::ElfError;
use super::manifest::{CommandLineError, KernelName};
use crate::bundle::BundleError;
use crate::debian::{ArchiveError, DebError, Suite};

/// Why something could not be done with a kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error(transparent)]
    Unknown(#[from] UnknownKernel),
    #[error("there is no kernel named {name} here; present: {}", or_none(.present))]
    NotFound {
        name: KernelName,
        present: Vec<String>,
    },
    #[error("there is a kernel named {name} already")]
    Taken { name: KernelName },
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("{suite} has no package {package} of version {series}")]
    NoPackage {
        package: String,
        series: String,
        suite: Suite,
    },
    #[error("{package} needs {dependency}, which {suite} does not have")]
    NoDependency {
        package: String,
        dependency: String,
        suite: Suite,
    },
    #[error("cannot unpack the package {package}")]
    Unpack { package: String, source: DebError },
    #[error("{} has no vmlinux and no vmlinuz", directory.display())]
    NoKernel { directory: PathBuf },
    #[error("{} has more than one kernel: {}", directory.display(), found.join(", "))]
    ManyKernels {
        directory: PathBuf,
        found: Vec<String>,
    },
    #[error("the kernel says that it is {version}, but {} is not there", modules.display())]
    ForeignModules { version: String, modules: PathBuf },
    #[error("cannot unpack the kernel {}", path.display())]
    Extract { path: PathBuf, source: BzImageError },
    #[error("{} is not a kernel that can be booted", path.display())]
    NotBootable { path: PathBuf, source: ElfError },
    #[error("{} is too large for a kernel", path.display())]
    TooLarge { path: PathBuf },
    #[error("cannot use the modules in {}", path.display())]
    Modules {
        path: PathBuf,
        source: BootModulesError,
    },
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the manifest {} is damaged", path.display())]
    Manifest {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("the manifest {} has the format {found}, which this version does not know", path.display())]
    ManifestFormat { path: PathBuf, found: u32 },
    #[error("the file {} of the kernel {name} has changed", path.display())]
    Damaged { name: KernelName, path: PathBuf },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    #[error("the kernel {name} is neither in this release nor in a configured catalog")]
    NotOffered { name: KernelName },
    #[error("the work on {name} was given up")]
    GivenUp { name: KernelName },
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl KernelError {
    /// For `map_err`: which action on which path an I/O error belongs to.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Archive(error) => Some(error.hint()),
            Self::Unknown(_) => Some("see `banger kernel list --available`"),
            Self::NotFound { .. } => Some("pull it with `banger kernel pull NAME`"),
            Self::Taken { .. } => Some("replace it with --force, or choose another name"),
            Self::NoPackage { .. } => Some("check debian.suite in the configuration"),
            Self::NoDependency { .. } => {
                Some("the mirror may be in the middle of an update: try again in a few minutes")
            }
            Self::Io { source, .. }
            | Self::Unpack {
                source: DebError::Write { source, .. },
                ..
            } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space on that file system and try again")
            }
            Self::NoKernel { .. } | Self::ManyKernels { .. } => {
                Some("the directory must hold one vmlinux (ELF) or one vmlinuz (bzImage)")
            }
            Self::ForeignModules { .. } => {
                Some("put the kernel's own modules into modules/ or lib/modules/VERSION/")
            }
            Self::Manifest { .. } | Self::ManifestFormat { .. } | Self::Damaged { .. } => {
                Some("pull or import the kernel again with --force")
            }
            Self::Extract { .. } | Self::NotBootable { .. } => Some(
                "give a vmlinux (ELF) or a bzImage of an x86-64 kernel that was built with \
                 CONFIG_PVH",
            ),
            Self::Modules { source, .. } => source.hint(),
            Self::NotOffered { .. } => Some(
                "build it with `make kernel` in banger's source, import a build of it with \
                 `banger kernel import NAME --from DIR`, or add a catalog that has it: \
                 `banger catalog add`",
            ),
            // Whoever classifies failures knows what to do about those.
            Self::Bundle(_) | Self::Shelf(_) | Self::CommandLine(_) => None,
            Self::Unpack { .. }
            | Self::TooLarge { .. }
            | Self::Io { .. }
            | Self::GivenUp { .. } => None,
        }
    }
}
