//! The files that cards are in. Written beside their place and moved there, so that a card is
//! whole; not waited for, since the store is the truth as long as it can be read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::{
    error::Error,
    host::VmPlaces,
    name::{ImageName, PoolName, SnapshotName},
    store::{Card, Store},
};

/// The card of the VM in a directory.
pub(super) fn vm_card(directory: &Path) -> PathBuf {
    directory.join("vm.json")
}

/// The card of the snapshot in a directory.
pub(super) fn snapshot_card(directory: &Path) -> PathBuf {
    directory.join("snapshot.json")
}

/// The card of an image. It lies beside the image's directory: an image that is a file of the host
/// has none.
pub(crate) fn image_card(images: &Path, directory: &str) -> PathBuf {
    images.join(format!("{directory}.json"))
}

/// The card of a pool, which has nothing else on the disk.
pub(crate) fn pool_card(pools: &Path, name: &PoolName) -> PathBuf {
    pools.join(format!("{name}.json"))
}

/// Writes the card of a VM as its row is now.
pub(crate) fn write_vm(store: &Store, places: &VmPlaces) -> Result<(), Error> {
    match store.card_of_vm(places.id)? {
        Some(card) => write(&vm_card(&places.state), &card),
        // It is being deleted.
        None => Ok(()),
    }
}

/// As [`write_vm`], for a VM that has a directory and no card.
pub(crate) fn write_missing(store: &Store, places: &VmPlaces) {
    if !places.state.is_dir() || vm_card(&places.state).exists() {
        return;
    }
    if let Err(error) = write_vm(store, places) {
        warn!(vm = %places.id, error = error.chain(), "cannot write a VM's card");
    }
}

/// Writes the card of an image as its row is now.
pub(crate) fn write_image(
    store: &Store,
    images: &Path,
    name: &ImageName,
    directory: &str,
) -> Result<(), Error> {
    match store.card_of_image(name)? {
        Some(card) => write(&image_card(images, directory), &card),
        None => Ok(()),
    }
}

/// Writes the card of a snapshot into the directory of its files.
pub(crate) fn write_snapshot(
    store: &Store,
    name: &SnapshotName,
    directory: &Path,
) -> Result<(), Error> {
    match store.card_of_snapshot(name)? {
        Some(card) => write(&snapshot_card(directory), &card),
        None => Ok(()),
    }
}

/// Writes the card of a pool as its row is now.
pub(crate) fn write_pool(store: &Store, pools: &Path, name: &PoolName) -> Result<(), Error> {
    let Some(card) = store.card_of_pool(name)? else {
        return Ok(());
    };
    fs::create_dir_all(pools).map_err(|source| Error::File {
        operation: "make",
        path: pools.to_owned(),
        source,
    })?;
    write(&pool_card(pools, name), &card)
}

/// Removes the card of an image that is no more.
pub(crate) fn forget_image(images: &Path, directory: &str) -> Result<(), Error> {
    forget(image_card(images, directory))
}

/// Removes the card of a pool that is about to go.
pub(crate) fn forget_pool(pools: &Path, name: &PoolName) -> Result<(), Error> {
    forget(pool_card(pools, name))
}

fn forget(path: PathBuf) -> Result<(), Error> {
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File {
            operation: "remove",
            path,
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write(path: &Path, card: &Card) -> Result<(), Error> {
    let partial = path.with_extension("json.partial");
    let written = fs::write(&partial, card.to_json()).and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| Error::File {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

/// A card, or why there is none, in words for people.
pub(super) fn read(path: &Path) -> Result<Card, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("there is no card beside it".to_owned());
        }
        Err(error) => return Err(format!("its card cannot be read: {error}")),
    };
    Card::parse(&text).ok_or_else(|| "its card is no JSON object".to_owned())
}
