//! What the domain says when it cannot. Each variant names the operation and its operand;
//! codes, statuses and hints are decided at the outermost edge.

use std::{io, path::PathBuf};

use crate::{
    host_error::{GuestError, HostError},
    journal::JournalError,
    name::{ImageName, NameError, SnapshotName, VmName},
    operations::OperationId,
    pool::PoolError,
    record::VmState,
    snapshot::SnapshotError,
    spec::SpecError,
    store::StoreError,
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Since(#[from] crate::events::SinceError),
    #[error("there is no {kind} \"{target}\"")]
    NotFound { kind: Kind, target: String },
    #[error("\"{target}\" fits several VMs: {}", .candidates.join(", "))]
    Ambiguous {
        target: String,
        candidates: Vec<String>,
    },
    #[error("VM {vm} is {}, so it cannot {verb}", .state.as_str())]
    State {
        vm: VmName,
        state: VmState,
        verb: &'static str,
    },
    #[error("image {image} is used by VM {vm}")]
    ImageUsed { image: ImageName, vm: String },
    #[error("image {image} is used by snapshot {snapshot}")]
    ImageSaved {
        image: ImageName,
        snapshot: SnapshotName,
    },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("kernel {kernel} is used by VM {vm}")]
    KernelUsed { kernel: String, vm: String },
    #[error("kernel {kernel} is used by snapshot {snapshot}")]
    KernelSaved {
        kernel: String,
        snapshot: SnapshotName,
    },
    #[error("the start of VM {vm} was interrupted by {by}")]
    Interrupted { vm: VmName, by: &'static str },
    #[error("cannot start VM {vm}")]
    Start {
        vm: VmName,
        /// Whether the VM is still there, in state `error`.
        kept: bool,
        #[source]
        source: Box<Error>,
    },
    #[error("cannot {operation} {path}", path = .path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error(transparent)]
    Disk(#[from] banger_image::ext4::DiskError),
    #[error(transparent)]
    Catalog(#[from] crate::catalogs::CatalogError),
    #[error(transparent)]
    Kernel(#[from] banger_image::kernel::KernelError),
    #[error(transparent)]
    KernelName(#[from] banger_image::kernel::NameError),
    #[error(transparent)]
    KernelCommandLine(#[from] banger_image::kernel::CommandLineError),
    #[error(transparent)]
    Initramfs(#[from] banger_image::initramfs::InitramfsError),
    #[error(transparent)]
    Sources(#[from] banger_image::debian::SourcesError),
    #[error(transparent)]
    Fetch(#[from] banger_image::fetch::FetchError),
    #[error("cannot make image {image}")]
    Import {
        image: ImageName,
        #[source]
        source: banger_image::rootfs::ImportError,
    },
    #[error(transparent)]
    Reference(#[from] banger_image::reference::ReferenceError),
    #[error(transparent)]
    Platform(#[from] banger_image::manifest::ParsePlatformError),
    #[error("cannot pull {reference}")]
    Pull {
        reference: String,
        #[source]
        source: banger_image::pull::PullError,
    },
    #[error("cannot fetch a layer of image {image}")]
    Blob {
        image: ImageName,
        #[source]
        source: std::sync::Arc<banger_image::registry::RegistryError>,
    },
    #[error("cannot make image {image}")]
    Layers {
        image: ImageName,
        #[source]
        source: banger_image::layers::LayersError,
    },
    #[error(transparent)]
    Cache(#[from] banger_image::cache::StockError),
    #[error(transparent)]
    Register(#[from] RegisterError),
    #[error("cannot log in to {registry}")]
    Login {
        registry: String,
        #[source]
        source: banger_image::registry::RegistryError,
    },
    #[error("a registry's user has a name without a colon, not {username:?}")]
    Username { username: String },
    #[error("no catalog has an image \"{name}\"; there is {}", .available.join(", "))]
    NotInCatalog {
        name: ImageName,
        available: Vec<String>,
    },
    #[error("the init of a machine that was booted to be saved did not settle within {} s", .after.as_secs())]
    Unsettled { after: std::time::Duration },
    #[error(
        "a machine of {wanted_mib} MiB does not boot to be saved where {spare_mib} MiB are to spare"
    )]
    StandsBack { wanted_mib: u64, spare_mib: u64 },
    #[error("operation {id} was cancelled")]
    Cancelled { id: OperationId },
    /// The daemon is going down.
    #[error("the daemon is ending")]
    Ending,
}

/// Why a file of the host does not become an image, or not one of our own.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("{} is no file with an ext4 file system", path.display())]
    NotExt4 { path: PathBuf },
    #[error("image {name} is in our own store already")]
    Managed { name: ImageName },
}

/// What a name may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Vm,
    Image,
    Kernel,
    Catalog,
    Operation,
    Snapshot,
    Pool,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Vm => "VM",
            Self::Image => "image",
            Self::Kernel => "kernel",
            Self::Catalog => "catalog",
            Self::Operation => "operation",
            Self::Snapshot => "snapshot",
            Self::Pool => "pool",
        })
    }
}

impl Error {
    /// The whole chain on one line, for a row of the store.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text
    }
}
