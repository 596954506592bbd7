//! Making rows again from the files that they told of. Beside each VM's disk, each image and each snapshot lies a
//! card with its row, and a pool has one for itself; whoever lost the store, or put back an old one, has them again from
//! there.
//! Removes nothing, and touches no row that is there.

mod cards;

use std::{
    fs,
    path::{Path, PathBuf},
};

use tracing::{info, warn};

pub(crate) use cards::{
    forget_image, forget_pool, image_card, pool_card, write_image, write_missing, write_pool,
    write_snapshot, write_vm,
};
use cards::{read, snapshot_card, vm_card};

use crate::{
    error::Error,
    holder::Holder,
    name::{ImageName, PoolName, SnapshotName, VmId, VmName},
    record::VmState,
    store::{Card, Store, Table},
};

/// Why a VM or an image cannot be had again, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrecovered {
    pub path: PathBuf,
    pub reason: String,
}

/// What was made again, or could be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    pub vms: Vec<VmName>,
    pub images: Vec<ImageName>,
    pub snapshots: Vec<SnapshotName>,
    pub pools: Vec<PoolName>,
    pub problems: Vec<Unrecovered>,
}

/// Where files are that have cards.
#[derive(Debug, Clone)]
pub struct Remains {
    pub vms: PathBuf,
    pub images: PathBuf,
    pub snapshots: PathBuf,
    pub pools: PathBuf,
}

/// Makes rows for what lies there without one. With `dry_run` it only tells what it would do.
pub fn recover(store: &Store, remains: &Remains, dry_run: bool) -> Result<Recovered, Error> {
    let mut recovered = Recovered::default();
    images(store, &remains.images, dry_run, &mut recovered)?;
    pools(store, &remains.pools, dry_run, &mut recovered)?;
    vms(store, &remains.vms, dry_run, &mut recovered)?;
    snapshots(store, &remains.snapshots, dry_run, &mut recovered)?;
    for problem in &recovered.problems {
        warn!(path = %problem.path.display(), reason = problem.reason, "cannot recover");
    }
    if !dry_run {
        let (vms, images) = (recovered.vms.len(), recovered.images.len());
        let (snapshots, pools) = (recovered.snapshots.len(), recovered.pools.len());
        if vms + images + snapshots + pools > 0 {
            info!(
                vms,
                images, snapshots, pools, "recovered what was in no row"
            );
        }
    }
    Ok(recovered)
}

fn images(
    store: &Store,
    directory: &Path,
    dry_run: bool,
    recovered: &mut Recovered,
) -> Result<(), Error> {
    let rows = store.images()?;
    for id in ids(directory) {
        let path = directory.join(id.to_string());
        if rows.iter().any(|row| row.directory == id.to_string()) {
            continue;
        }
        match image(store, directory, id, dry_run) {
            Ok(name) => recovered.images.push(name),
            Err(reason) => recovered.problems.push(Unrecovered { path, reason }),
        }
    }
    Ok(())
}

fn image(store: &Store, directory: &Path, id: VmId, dry_run: bool) -> Result<ImageName, String> {
    let card = read(&image_card(directory, &id.to_string()))?;
    let name: ImageName = parsed(&card, "name")?;
    let own = directory.join(id.to_string()).join("rootfs.ext4");
    let file = card.text("rootfs").map_or(own, Into::into);
    if !file.is_file() {
        return Err(format!("its file {} is missing", file.display()));
    }
    if store
        .image(&name)
        .map_err(|error| error.to_string())?
        .is_some()
    {
        return Err(format!("there is another image named {name}"));
    }
    if !dry_run {
        // What a card says of places is not believed.
        insert(
            store,
            Table::Images,
            &card.with("directory", &id.to_string()),
        )?;
    }
    Ok(name)
}

fn vms(
    store: &Store,
    directory: &Path,
    dry_run: bool,
    recovered: &mut Recovered,
) -> Result<(), Error> {
    let rows = store.vms()?;
    for id in ids(directory) {
        let path = directory.join(id.to_string());
        // What has no disk was never a whole VM.
        if rows.iter().any(|row| row.id == id) || !path.join("disk.ext4").is_file() {
            continue;
        }
        let taken = |name: &VmName| {
            rows.iter().any(|row| row.name == *name) || recovered.vms.contains(name)
        };
        match vm(store, (&path, id), taken, &recovered.images, dry_run) {
            Ok(name) => recovered.vms.push(name),
            Err(reason) => recovered.problems.push(Unrecovered { path, reason }),
        }
    }
    Ok(())
}

fn vm(
    store: &Store,
    (path, id): (&Path, VmId),
    taken: impl Fn(&VmName) -> bool,
    images: &[ImageName],
    dry_run: bool,
) -> Result<VmName, String> {
    let card = read(&vm_card(path))?;
    let name: VmName = parsed(&card, "name")?;
    if taken(&name) {
        return Err(format!("there is another VM named {name}"));
    }
    let image: ImageName = parsed(&card, "image")?;
    let known = store.image(&image).map_err(|error| error.to_string())?;
    if known.is_none() && !images.contains(&image) {
        return Err(format!("its image {image} is missing"));
    }
    if !dry_run {
        let state = state_of(&card);
        let card = card
            .with("state", state.as_str())
            .with("id", &id.to_string());
        insert(store, Table::Vms, &card)?;
    }
    Ok(name)
}

/// Whether it runs is found out as with any VM that an earlier daemon had. One that waits in a pool
/// stands still, and nobody has asked it to go on.
fn state_of(card: &Card) -> VmState {
    let holder = card.text("holder").and_then(|text| text.parse().ok());
    match holder {
        Some(Holder::Pool { .. }) if card.text("state") == Some(VmState::Paused.as_str()) => {
            VmState::Paused
        }
        Some(Holder::Pool { .. } | Holder::Boots) | None => VmState::Running,
    }
}

/// Pools have nothing but their cards.
fn pools(
    store: &Store,
    directory: &Path,
    dry_run: bool,
    recovered: &mut Recovered,
) -> Result<(), Error> {
    let rows = store.pools()?;
    for name in pools_in(directory) {
        if rows.iter().any(|row| row.name == name) {
            continue;
        }
        let path = pool_card(directory, &name);
        match pool(store, &path, &name, dry_run) {
            Ok(()) => recovered.pools.push(name),
            Err(reason) => recovered.problems.push(Unrecovered { path, reason }),
        }
    }
    Ok(())
}

fn pool(store: &Store, path: &Path, name: &PoolName, dry_run: bool) -> Result<(), String> {
    let card = read(path)?;
    if parsed::<PoolName>(&card, "name")? != *name {
        return Err("its card is another pool's".to_owned());
    }
    if dry_run {
        return Ok(());
    }
    insert(store, Table::Pools, &card)
}

fn snapshots(
    store: &Store,
    directory: &Path,
    dry_run: bool,
    recovered: &mut Recovered,
) -> Result<(), Error> {
    let rows = store.snapshots()?;
    for id in ids(directory) {
        let path = directory.join(id.to_string());
        // One that is half made or half gone has another name.
        if rows.iter().any(|row| row.directory == id.to_string()) || !path.is_dir() {
            continue;
        }
        match snapshot(store, (&path, id), &recovered.images, dry_run) {
            Ok(Some(name)) => recovered.snapshots.push(name),
            Ok(None) => {}
            Err(reason) => recovered.problems.push(Unrecovered { path, reason }),
        }
    }
    Ok(())
}

/// Nothing for a saved boot, which the next boot makes again.
fn snapshot(
    store: &Store,
    (path, id): (&Path, VmId),
    images: &[ImageName],
    dry_run: bool,
) -> Result<Option<SnapshotName>, String> {
    let card = read(&snapshot_card(path))?;
    let name: SnapshotName = parsed(&card, "name")?;
    if name.is_of_a_boot() {
        if !dry_run {
            let removed = fs::remove_dir_all(path);
            removed.map_err(|error| format!("a saved boot cannot be removed: {error}"))?;
        }
        return Ok(None);
    }
    let known = |found: bool, why: &str| if found { Ok(()) } else { Err(why.to_owned()) };
    let taken = store.snapshot(&name).map_err(|error| error.to_string())?;
    known(taken.is_none(), "there is another snapshot of its name")?;
    let image: ImageName = parsed(&card, "image")?;
    let found = store.image(&image).map_err(|error| error.to_string())?;
    let is_here = found.is_some() || images.contains(&image);
    known(is_here, &format!("its image {image} is missing"))?;
    if !dry_run {
        insert(
            store,
            Table::Snapshots,
            &card.with("directory", &id.to_string()),
        )?;
    }
    Ok(Some(name))
}

fn insert(store: &Store, table: Table, card: &Card) -> Result<(), String> {
    let inserted = store.insert_card(table, card);
    inserted.map_err(|error| Error::from(error).chain())
}

fn parsed<T: std::str::FromStr>(card: &Card, column: &str) -> Result<T, String> {
    let text = card.text(column).and_then(|text| text.parse().ok());
    text.ok_or_else(|| format!("its card has no {column}"))
}

/// What lies in a directory under names of our own making; for images a card will do.
fn ids(directory: &Path) -> Vec<VmId> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let id = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_str()?;
        name.strip_suffix(".json").unwrap_or(name).parse().ok()
    };
    let mut ids: Vec<VmId> = entries.filter_map(id).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// The pools of which there are cards.
fn pools_in(directory: &Path) -> Vec<PoolName> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()?.strip_suffix(".json")?.parse().ok()
    };
    let mut names: Vec<PoolName> = entries.filter_map(name).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
