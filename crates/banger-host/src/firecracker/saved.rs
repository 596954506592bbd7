//! A machine's state on its way out of Firecracker and into it again. The VMM writes in its own place,
//! while its machine stands still; from there the state is fetched while it goes on. The
//! VMM may be its guest's by now: what it left is opened with care, and nothing but bytes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use banger_core::{
    host::{LaunchPlan, SnapshotPlaces, VmPlaces},
    host_error::HostError,
};
use rustix::{
    fs::{
        AtFlags, FallocateFlags, Mode, OFlags, ResolveFlags, fallocate, fstatfs, openat2, unlinkat,
    },
    io::Errno,
};
use serde_json::Value;

use super::{
    api::{CreateSnapshot, LoadSnapshot, MemoryBackend, State},
    client::Client,
    jail::{self, Item, Jail, below_root, outside},
};
use crate::{arrivals::connect_when_there, headroom, places::file_error, sparse};

/// What the kernel calls a full disk, in Firecracker's words.
const FULL: &str = "(os error 28)";

/// Makes an empty file that only its owner can use.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    made.map(drop)
}

/// Where a VMM's files in memory are, below its root.
pub(super) const IN_MEMORY: &str = "run/save";
/// A save takes no more of the memory that is left than one part of so many.
const SHARE: u64 = 2;
/// The kernel's own number for files in memory.
const TMPFS: i64 = 0x0102_1994;

/// What a saved machine consists of, its disk left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Devices,
    Memory,
}

const PARTS: [Part; 2] = [Part::Devices, Part::Memory];

/// Where a VMM writes its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Disk,
    /// There for as long as the VMM's namespaces are, and seen only through them.
    Memory,
}

/// A VMM's own place, as seen by those who fetch from there.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    kind: Kind,
    root: PathBuf,
}

impl Shelf {
    pub(super) fn on_disk(places: &VmPlaces) -> Self {
        Self {
            kind: Kind::Disk,
            root: jail::root(places),
        }
    }

    pub(super) fn in_memory(pid: u32) -> Self {
        Self {
            kind: Kind::Memory,
            root: format!("/proc/{pid}/root").into(),
        }
    }

    /// Below the root.
    fn path(&self, part: Part) -> &'static str {
        match (self.kind, part) {
            (Kind::Disk, Part::Devices) => below_root(Item::SavedDevices),
            (Kind::Disk, Part::Memory) => below_root(Item::SavedMemory),
            (Kind::Memory, Part::Devices) => "run/save/devices",
            (Kind::Memory, Part::Memory) => "run/save/memory",
        }
    }

    /// Takes the memory that a save will need, on our own account: the VMM's allowance is for its
    /// guest.
    pub(super) fn make_room(&self, bytes: u64) -> Result<(), HostError> {
        self.clear()?;
        let enough = headroom::memory().is_some_and(|room| room / SHARE >= bytes);
        let made = if enough {
            self.make_files(bytes)
        } else {
            Err(io::ErrorKind::OutOfMemory.into())
        };
        if made.is_err() {
            // What went wrong first matters more.
            let _ = self.clear();
        }
        made.map_err(|source| file_error("make room in", &self.root.join(IN_MEMORY), source))
    }

    fn make_files(&self, bytes: u64) -> io::Result<()> {
        let directory = self.within(IN_MEMORY, OFlags::DIRECTORY)?;
        if fstatfs(&directory)?.f_type != TMPFS {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let owner = directory.metadata()?;
        for part in PARTS {
            let made = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
            let file = self.within(self.path(part), made)?;
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
            if part == Part::Memory {
                fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
            }
        }
        Ok(())
    }

    /// Has the VMM write its machine, which stands still.
    pub(super) async fn save(&self, api: &Path) -> Result<(), HostError> {
        let api = Client::connect(api).await?;
        let inside = |part| Path::new("/").join(self.path(part));
        let order = CreateSnapshot {
            snapshot_path: inside(Part::Devices),
            mem_file_path: inside(Part::Memory),
        };
        let written = api.patient().put("/snapshot/create", &order).await;
        if written.is_err()
            && let Err(error) = self.clear()
        {
            tracing::warn!(%error, "a save that failed takes up room");
        }
        written.map_err(|error| self.disk_is_full(error))
    }

    fn disk_is_full(&self, error: HostError) -> HostError {
        match error {
            HostError::VmmRefused { message, .. } if message.contains(FULL) => file_error(
                "save a machine to",
                &self.root,
                io::ErrorKind::StorageFull.into(),
            ),
            other => other,
        }
    }

    /// Fetches what the VMM has written, but the zeros in memory. Gives back how much that takes.
    pub(super) fn fetch(&self, into: &SnapshotPlaces) -> Result<u64, HostError> {
        let mut taken = 0;
        for (part, to) in [
            (Part::Devices, into.devices()),
            (Part::Memory, into.memory()),
        ] {
            let from = self.open(part)?;
            let copied = create(&to).and_then(|file| {
                sparse::copy_but_zeros(&from, &file)?;
                Ok(file.metadata()?.blocks() * 512)
            });
            taken += copied.map_err(|source| file_error("save a machine to", &to, source))?;
        }
        self.clear()?;
        Ok(taken)
    }

    /// Gives the host back what a save takes on the way.
    pub(super) fn clear(&self) -> Result<(), HostError> {
        for part in PARTS {
            let cleared = match self.kind {
                Kind::Disk => self.open(part)?.set_len(0),
                Kind::Memory => self.unlink(part),
            };
            cleared.map_err(|source| file_error("clear", &self.shown(part), source))?;
        }
        Ok(())
    }

    fn unlink(&self, part: Part) -> io::Result<()> {
        let directory = self.within(IN_MEMORY, OFlags::DIRECTORY)?;
        let name = Path::new(self.path(part)).file_name();
        match unlinkat(
            &directory,
            name.expect("a part has a name"),
            AtFlags::empty(),
        ) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a save has begun that nobody has finished.
    pub(super) fn is_used(&self) -> bool {
        let length = |part| self.open(part).ok()?.metadata().ok().map(|meta| meta.len());
        PARTS
            .into_iter()
            .filter_map(length)
            .any(|length| length > 0)
    }

    /// The VMM owns its place and could put anything there: neither a link nor a device is followed.
    fn open(&self, part: Part) -> Result<File, HostError> {
        let opened = self.within(self.path(part), OFlags::RDWR).and_then(|file| {
            if file.metadata()?.is_file() {
                Ok(file)
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file"))
            }
        });
        opened.map_err(|source| file_error("open", &self.shown(part), source))
    }

    fn within(&self, path: &str, flags: OFlags) -> io::Result<File> {
        let root = File::open(&self.root)?;
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mode = if flags.contains(OFlags::CREATE) {
            Mode::RUSR | Mode::WUSR
        } else {
            Mode::empty()
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(openat2(&root, path, flags, mode, resolve)?.into())
    }

    fn shown(&self, part: Part) -> PathBuf {
        self.root.join(self.path(part))
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Lets a saved machine go on in a VMM that has none yet, as soon as that can be asked.
pub(super) async fn go_on(
    jail: &Jail,
    plan: &LaunchPlan,
    metadata: Option<Value>,
) -> Result<(), HostError> {
    let socket = outside(&plan.places, Item::ApiSocket);
    let mut api = Client::over(connect_when_there(&socket).await)
        .await?
        .patient();
    let order = LoadSnapshot {
        snapshot_path: jail.inside(Item::Devices, plan),
        mem_backend: MemoryBackend::File {
            backend_path: jail.inside(Item::Memory, plan),
        },
        resume_vm: metadata.is_none(),
    };
    api.put("/snapshot/load", &order).await?;
    if let Some(metadata) = metadata {
        api.put("/mmds", &metadata).await?;
        api.change(State::Resumed).await?;
    }
    Ok(())
}
