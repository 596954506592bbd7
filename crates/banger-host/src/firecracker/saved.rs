//! A machine's state on its way out of Firecracker and into it again. The VMM writes in its own place,
//! while its machine stands still; from there the state is fetched while it goes on. The
//! VMM may be its guest's by now: what it left is opened with care, and nothing but bytes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use banger_core::{
    host::{LaunchPlan, SnapshotPlaces, VmPlaces},
    host_error::HostError,
};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde_json::Value;

use super::{
    api::{CreateSnapshot, LoadSnapshot, MemoryBackend, State},
    client::Client,
    jail::{self, Item, Jail, below_root, outside},
};
use crate::{arrivals::connect_when_there, places::file_error, sparse};

/// What the kernel calls a full disk, in Firecracker's words.
const FULL: &str = "(os error 28)";

/// Makes an empty file that only its owner can use.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    made.map(drop)
}

/// Has the VMM write its machine, which stands still, into its own place.
pub(super) async fn save(places: &VmPlaces) -> Result<(), HostError> {
    let api = Client::connect(&outside(places, Item::ApiSocket)).await?;
    let order = CreateSnapshot {
        snapshot_path: jail::inside(Item::SavedDevices).into(),
        mem_file_path: jail::inside(Item::SavedMemory).into(),
    };
    let written = api.patient().put("/snapshot/create", &order).await;
    if written.is_err() {
        clear(places)?;
    }
    written.map_err(|error| disk_is_full(places, error))
}

fn disk_is_full(places: &VmPlaces, error: HostError) -> HostError {
    match error {
        HostError::VmmRefused { message, .. } if message.contains(FULL) => {
            let source = io::ErrorKind::StorageFull.into();
            file_error("save a machine to", &places.state, source)
        }
        other => other,
    }
}

/// Fetches what the VMM has written, but the zeros in memory. Gives back how much that takes.
pub(super) fn fetch(places: &VmPlaces, into: &SnapshotPlaces) -> Result<u64, HostError> {
    let files = [
        (Item::SavedDevices, into.devices()),
        (Item::SavedMemory, into.memory()),
    ];
    let mut taken = 0;
    for (item, to) in files {
        let from = open(places, item)?;
        let copied = create(&to).and_then(|file| {
            sparse::copy_but_zeros(&from, &file)?;
            Ok(file.metadata()?.blocks() * 512)
        });
        taken += copied.map_err(|source| file_error("save a machine to", &to, source))?;
    }
    clear(places)?;
    Ok(taken)
}

/// Gives the host back what a save takes on the way.
pub(super) fn clear(places: &VmPlaces) -> Result<(), HostError> {
    for item in [Item::SavedDevices, Item::SavedMemory] {
        let emptied = open(places, item)?.set_len(0);
        emptied.map_err(|source| file_error("empty", &outside(places, item), source))?;
    }
    Ok(())
}

/// Whether a save has begun that nobody has finished.
pub(super) fn is_underway(places: &VmPlaces) -> bool {
    let length = |item| open(places, item).and_then(|file| length(&file, places, item));
    [Item::SavedDevices, Item::SavedMemory]
        .into_iter()
        .any(|item| length(item).is_ok_and(|length| length > 0))
}

fn length(file: &File, places: &VmPlaces, item: Item) -> Result<u64, HostError> {
    let meta = file.metadata();
    let meta = meta.map_err(|source| file_error("measure", &outside(places, item), source))?;
    Ok(meta.len())
}

/// The VMM owns its place and could put anything there: neither a link nor a device is followed.
fn open(places: &VmPlaces, item: Item) -> Result<File, HostError> {
    let opened = File::open(jail::root(places)).and_then(|root| {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = openat2(&root, below_root(item), flags, Mode::empty(), resolve)?;
        let file = File::from(file);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file"))
        }
    });
    opened.map_err(|source| file_error("open", &outside(places, item), source))
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
