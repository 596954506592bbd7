//! The one place where failures get their code, their hint, and what is left behind.

mod catalog;
mod pull;

use banger_api::error::{ApiError, ErrorCode};
use banger_core::{
    error::{Error, Kind},
    host_error::{BootFailure, GuestError, HostError, LogTail},
    kernel::KernelError,
    pool::PoolError,
    record::VmState,
    rootfs::{EntryError, HeaderError, ImportError},
    snapshot::SnapshotError,
    store::StoreError,
};

/// A failure as clients see it.
pub(crate) fn classify(error: &Error) -> ApiError {
    let judged = judge(error);
    let mut api = ApiError::new(judged.code, error.to_string()).with_causes_of(error);
    api.hint = judged.hint;
    api.left = left(error);
    if let Some(tail) = tail(error) {
        api.console = tail.console.clone();
        api.log = tail.vmm.clone();
    }
    if let Some(lines) = program_tail(error) {
        api.log = lines.to_vec();
    }
    api
}

/// A configuration that cannot be taken up, as clients see it.
pub(crate) fn configuration(error: &(dyn std::error::Error + 'static)) -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, error.to_string())
        .with_causes_of(error)
        .with_hint("`banger config check` says where, `banger config edit` mends it")
}

struct Judged {
    code: ErrorCode,
    hint: Option<String>,
}

fn judged(code: ErrorCode, hint: impl Into<String>) -> Judged {
    Judged {
        code,
        hint: Some(hint.into()),
    }
}

fn plain(code: ErrorCode) -> Judged {
    Judged { code, hint: None }
}

fn judge(error: &Error) -> Judged {
    match error {
        Error::Name(_)
        | Error::Spec(_)
        | Error::Since(_)
        | Error::KernelName(_)
        | Error::KernelCommandLine(_) => plain(ErrorCode::InvalidArgument),
        Error::NotFound { kind, .. } => judged(
            ErrorCode::NotFound,
            match kind {
                Kind::Vm => "see the VMs with `banger vm list`",
                Kind::Image => {
                    "see the images with `banger image list`; make one with `banger image pull` or \
                 `banger image import`"
                }
                Kind::Kernel => "see the kernels with `banger kernel list`",
                Kind::Pool => "see the pools with `banger pool list`",
                Kind::Snapshot => "see the snapshots with `banger vm snapshot list`",
                Kind::Catalog => "see the catalogs with `banger catalog list`",
                Kind::Operation => "see the operations with `banger operations list --all`",
            },
        ),
        Error::NotInCatalog { .. } => judged(
            ErrorCode::NotFound,
            "see what there is with `banger image list --available`; an image of a registry is written \
             with its registry or its tag: docker.io/library/alpine, alpine:3",
        ),
        Error::Ambiguous { .. } => judged(
            ErrorCode::Ambiguous,
            "give more of the name, or the whole id",
        ),
        Error::State {
            verb: "run a command" | "tell its ports" | "tell its agent's log",
            state: VmState::Paused,
            ..
        } => judged(ErrorCode::Conflict, "let it go on with `banger vm resume`"),
        Error::State { verb, state, .. } => judged(
            ErrorCode::Conflict,
            match *verb {
                "run a command" | "tell its ports" => "start it with `banger vm start`",
                "tell its agent's log" => {
                    "the agent keeps it in the guest's memory; what it warned of is on the console: \
                     `banger vm logs`"
                }
                "start" if *state == VmState::Paused => "let it go on with `banger vm resume`",
                "be changed" => "stop it first: a change holds from the next start on",
                "be saved" => "start it first: only a machine that runs can be saved",
                "be deleted" => "stop it first, or delete it with --force",
                _ => "see its state with `banger vm show`",
            },
        ),
        Error::ImageUsed { vm, .. } | Error::KernelUsed { vm, .. } => judged(
            ErrorCode::Conflict,
            format!("delete the VM first: `banger vm delete {vm}`"),
        ),
        Error::ImageSaved { snapshot, .. } | Error::KernelSaved { snapshot, .. } => judged(
            ErrorCode::Conflict,
            format!("delete the snapshot first: `banger vm snapshot delete {snapshot}`"),
        ),
        Error::Snapshot(error) => snapshot(error),
        Error::Pool(error) => pool(error),
        Error::Unsettled { .. } => judged(
            ErrorCode::GuestFailed,
            "see what its init waits for with `banger vm logs`, or use --init agent",
        ),
        Error::StandsBack { .. } => judged(
            ErrorCode::HostUnfit,
            "stop other machines, or use smaller ones: `--memory`",
        ),
        Error::Interrupted { .. } => plain(ErrorCode::Cancelled),
        Error::Start { source, .. } => judge(source),
        Error::File { source, .. } => io(source),
        Error::Store(error) => store(error),
        Error::Journal(error) => store(&error.source),
        Error::Host(error) => host(error),
        Error::Guest(error) => guest(error),
        Error::Disk(_) => judged(
            ErrorCode::HostFailed,
            "check the space and the permissions of banger's state directory",
        ),
        Error::Catalog(error) => catalog::catalog(error),
        Error::Kernel(error) => kernel(error),
        Error::Initramfs(error) => Judged {
            code: ErrorCode::HostFailed,
            hint: error.hint().map(ToOwned::to_owned),
        },
        Error::Sources(error) => judged(ErrorCode::HostUnfit, error.hint()),
        Error::Fetch(error) => judged(ErrorCode::SourceFailed, error.hint()),
        Error::Import { source, .. } => import(source),
        Error::Reference(_) | Error::Platform(_) | Error::Username { .. } => {
            plain(ErrorCode::InvalidArgument)
        }
        Error::Pull { source, .. } => pull::pull(source),
        Error::Blob { source, .. } => pull::registry(source),
        Error::Layers { source, .. } => pull::layers(source),
        Error::Cache(error) => io(error.io()),
        Error::Register(error) => pull::register(error),
        Error::Login { source, .. } => pull::registry(source),
        Error::Cancelled { .. } => judged(
            ErrorCode::Cancelled,
            "nothing of it is left; ask again to begin anew",
        ),
        Error::Ending => judged(
            ErrorCode::Cancelled,
            "try again: the next command starts a new daemon",
        ),
    }
}

fn snapshot(error: &SnapshotError) -> Judged {
    match error {
        SnapshotError::Unfit { .. } => judged(
            ErrorCode::HostUnfit,
            "bring back what it was saved with, or boot a VM and save it anew; its disk is in the \
             snapshot's directory, see `banger vm snapshot show`",
        ),
        SnapshotError::Foreign { snapshot, .. } => judged(
            ErrorCode::Conflict,
            format!("make a VM of it instead: `banger vm run --snapshot {snapshot}`"),
        ),
        SnapshotError::Fixed { .. } => judged(
            ErrorCode::InvalidArgument,
            "leave that out, or boot a VM without --snapshot",
        ),
        SnapshotError::Damaged { snapshot, .. } => judged(
            ErrorCode::HostFailed,
            format!("delete it: `banger vm snapshot delete {snapshot}`"),
        ),
        SnapshotError::InUse(_) => judged(
            ErrorCode::Conflict,
            "try again when that VM runs: it needs the snapshot no more then",
        ),
        SnapshotError::Forks { .. } | SnapshotError::NotStarted => {
            plain(ErrorCode::InvalidArgument)
        }
    }
}

fn pool(error: &PoolError) -> Judged {
    match error {
        PoolError::Size(_) | PoolError::NotStarted => plain(ErrorCode::InvalidArgument),
        PoolError::Fixed { .. } => judged(
            ErrorCode::InvalidArgument,
            "leave that out, or make a pool of such machines: `banger pool create`",
        ),
        PoolError::Gone(_) => judged(ErrorCode::NotFound, "see the pools with `banger pool list`"),
    }
}

fn io(error: &std::io::Error) -> Judged {
    match error.kind() {
        std::io::ErrorKind::StorageFull => judged(
            ErrorCode::HostUnfit,
            "free some space on that file system and try again",
        ),
        std::io::ErrorKind::PermissionDenied => {
            judged(ErrorCode::HostUnfit, "check the permissions of that path")
        }
        _ => plain(ErrorCode::HostFailed),
    }
}

fn store(error: &StoreError) -> Judged {
    match error {
        StoreError::VmTaken(name) => judged(
            ErrorCode::AlreadyExists,
            format!("choose another name, or delete the VM: `banger vm delete {name}`"),
        ),
        StoreError::ImageTaken(name) => judged(
            ErrorCode::AlreadyExists,
            format!("choose another name, or delete the image: `banger image delete {name}`"),
        ),
        StoreError::SnapshotTaken(name) => judged(
            ErrorCode::AlreadyExists,
            format!(
                "choose another name, or delete the snapshot: `banger vm snapshot delete {name}`"
            ),
        ),
        StoreError::PoolTaken(name) => judged(
            ErrorCode::AlreadyExists,
            format!("choose another name, or delete the pool: `banger pool delete {name}`"),
        ),
        StoreError::CatalogTaken(name) => judged(
            ErrorCode::AlreadyExists,
            format!("choose another name, or remove it: `banger catalog remove {name}`"),
        ),
        StoreError::NoCatalog(_) => judged(
            ErrorCode::NotFound,
            "see the catalogs with `banger catalog list`",
        ),
        StoreError::Damaged { .. } => judged(
            ErrorCode::HostFailed,
            "end the daemon with `banger daemon stop`: the next one puts the damaged store aside and has VMs \
             and images again from their files",
        ),
        StoreError::Locked { .. } => judged(
            ErrorCode::HostFailed,
            "end the program that has the store open, then try again",
        ),
        StoreError::SetAside { .. } | StoreError::Copy { .. } => judged(
            ErrorCode::HostFailed,
            "check the space and the permissions of banger's state directory",
        ),
        StoreError::NoImage(_) | StoreError::NoPool(_) | StoreError::NoVm(_) => {
            plain(ErrorCode::NotFound)
        }
        StoreError::ImageUsed(_) => plain(ErrorCode::Conflict),
        StoreError::Newer { .. } => judged(
            ErrorCode::HostUnfit,
            "use the banger that wrote it, or a newer one",
        ),
        StoreError::Open { .. }
        | StoreError::Migrate { .. }
        | StoreError::Query { .. }
        | StoreError::Unreadable { .. } => judged(
            ErrorCode::HostFailed,
            "check the space and the permissions of banger's state directory",
        ),
    }
}

fn host(error: &HostError) -> Judged {
    match error {
        HostError::ProgramMissing { package, .. } => judged(
            ErrorCode::HostUnfit,
            format!("install it: apt-get install {package} (see `banger doctor`)"),
        ),
        HostError::Memory { .. } => judged(
            ErrorCode::HostUnfit,
            "ask for less with --memory, or stop other VMs",
        ),
        HostError::Space { .. } => judged(
            ErrorCode::HostUnfit,
            "make room: `banger df` shows what takes it, `banger prune --dry-run` what can go; \
             `disk_reserve` in the configuration is what is kept free",
        ),
        HostError::SocketPath { .. } => judged(
            ErrorCode::HostUnfit,
            "choose a shorter BANGER_HOME or XDG_RUNTIME_DIR",
        ),
        HostError::Unsupported { .. } => judged(ErrorCode::HostUnfit, "see `banger doctor`"),
        HostError::Journal(error) => store(&error.source),
        HostError::File { source, .. } | HostError::Spawn { source, .. } => io(source),
        HostError::VmmExited { cause, .. } => judged(ErrorCode::GuestFailed, boot_hint(*cause)),
        HostError::VmmRefused { .. } => judged(
            ErrorCode::HostFailed,
            "change what it names, in the configuration or in the request; `banger vm logs --vmm` \
             has the VMM's own log",
        ),
        HostError::ProgramFailed { .. } => {
            judged(ErrorCode::HostFailed, "what it printed last says why")
        }
    }
}

fn boot_hint(cause: BootFailure) -> &'static str {
    match cause {
        BootFailure::KernelPanic => {
            "the guest's kernel panicked: its console says where; try another --kernel"
        }
        BootFailure::RootNotFound => {
            "the kernel found no root device: it may lack virtio drivers; try another --kernel"
        }
        BootFailure::RootBroken => {
            "the image's file system cannot be mounted: delete the image and make it again"
        }
        BootFailure::DiskBroken => {
            "the VM's own disk cannot be mounted: its console says why; a new VM gets a new disk"
        }
        BootFailure::InitFailed => {
            "the image's init ended: try --init agent, which needs nothing of the image"
        }
        BootFailure::OutOfMemory => "give the VM more with --memory",
        BootFailure::Unknown => "the console and the VMM's log say more: `banger vm logs`",
    }
}

fn guest(error: &GuestError) -> Judged {
    match error {
        GuestError::Silent { .. } => judged(
            ErrorCode::GuestFailed,
            "the guest may be overloaded or stuck: see `banger vm logs`",
        ),
        GuestError::Generation { .. } => judged(
            ErrorCode::GuestFailed,
            "stop and start the VM: it then boots with this banger's agent",
        ),
        GuestError::Broken { .. } => judged(
            ErrorCode::GuestFailed,
            "see whether the VM still runs: `banger vm list`",
        ),
        GuestError::TooOld { .. } => judged(
            ErrorCode::GuestFailed,
            "stop and start the VM: it then boots with this banger's agent",
        ),
        GuestError::Refused { .. } => plain(ErrorCode::GuestFailed),
        GuestError::Host(error) => host(error),
    }
}

fn kernel(error: &KernelError) -> Judged {
    let code = match error {
        KernelError::Bundle(error) => return catalog::bundle(error),
        KernelError::Shelf(error) => return catalog::shelf(error),
        KernelError::Unknown(_) | KernelError::NotFound { .. } | KernelError::NotOffered { .. } => {
            ErrorCode::NotFound
        }
        KernelError::Taken { .. } => ErrorCode::AlreadyExists,
        KernelError::Archive(_)
        | KernelError::CommandLine(_)
        | KernelError::NoPackage { .. }
        | KernelError::NoDependency { .. }
        | KernelError::Unpack { .. } => ErrorCode::SourceFailed,
        KernelError::NoKernel { .. }
        | KernelError::ManyKernels { .. }
        | KernelError::ForeignModules { .. }
        | KernelError::Extract { .. }
        | KernelError::NotBootable { .. }
        | KernelError::TooLarge { .. }
        | KernelError::Modules { .. } => ErrorCode::InvalidArgument,
        KernelError::Io { .. }
        | KernelError::Manifest { .. }
        | KernelError::ManifestFormat { .. }
        | KernelError::Damaged { .. } => ErrorCode::HostFailed,
        KernelError::GivenUp { .. } => ErrorCode::Cancelled,
    };
    Judged {
        code,
        hint: error.hint().map(ToOwned::to_owned),
    }
}

fn import(error: &ImportError) -> Judged {
    match error {
        ImportError::Open { .. } => judged(
            ErrorCode::InvalidArgument,
            "name a tar file that this user can read",
        ),
        ImportError::Limit { limit, .. } => beyond(pull::limit_key(*limit)),
        ImportError::Header {
            source: HeaderError::ExtensionTooLong { .. },
            ..
        } => beyond("header_size"),
        ImportError::Entry {
            source: EntryError::TooManyPieces { .. },
            ..
        } => beyond("sparse_pieces"),
        ImportError::Truncated { .. }
        | ImportError::Header { .. }
        | ImportError::Entry { .. }
        | ImportError::Place { .. }
        | ImportError::Read(_) => judged(
            ErrorCode::SourceFailed,
            "make the archive again; it must be a tar, plain or packed with gzip, xz or zstd",
        ),
        ImportError::NoSpace { .. } => judged(
            ErrorCode::HostUnfit,
            "free some space, or delete VMs and images",
        ),
        ImportError::Cancelled => plain(ErrorCode::Cancelled),
        ImportError::Record(source)
        | ImportError::Create { source, .. }
        | ImportError::Write { source, .. }
        | ImportError::Publish { source, .. } => io(source),
        ImportError::Exists { .. } | ImportError::Image(_) => plain(ErrorCode::HostFailed),
    }
}

/// For what goes beyond a limit that the configuration sets by this key.
fn beyond(key: &str) -> Judged {
    judged(
        ErrorCode::SourceFailed,
        format!("if you trust the image, raise `{key}` under [limits] in the configuration"),
    )
}

/// What stays behind after a failure, where something does.
fn left(error: &Error) -> Option<String> {
    match error {
        Error::Start { vm, kept: true, .. } => Some(format!(
            "VM {vm}, in state error; delete it with `banger vm delete {vm}`"
        )),
        _ => None,
    }
}

fn tail(error: &Error) -> Option<&LogTail> {
    match error {
        Error::Start { source, .. } => tail(source),
        Error::Host(HostError::VmmExited { tail, .. })
        | Error::Guest(
            GuestError::Silent { tail, .. } | GuestError::Host(HostError::VmmExited { tail, .. }),
        ) => Some(tail),
        _ => None,
    }
}

/// The last lines of a program, wherever in the chain it failed.
fn program_tail(error: &Error) -> Option<&[String]> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(HostError::ProgramFailed { tail, .. }) = error.downcast_ref::<HostError>() {
            return Some(tail);
        }
        // An I/O error hides what it wraps from `source`, but not from `get_ref`.
        next = match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
