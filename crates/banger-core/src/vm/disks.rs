//! A VM's own directory and disk. Knows paths and ext4, not states.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use banger_image::ext4::{self, FsUuid};

use crate::{
    error::Error,
    host::VmPlaces,
    journal::{Act, Journal},
    spec::DiskSize,
};

/// A disk that is not whole yet.
pub(crate) const PARTIAL: &str = "disk.ext4.partial";

/// What [`make_disk`] makes.
pub(crate) fn acts(places: &VmPlaces) -> [Act; 2] {
    [
        Act::Directory(places.state.clone()),
        Act::Disk(places.disk()),
    ]
}

/// Makes the VM's directory and its empty disk, which gets its name when it is whole.
pub(crate) fn make_disk(
    places: &VmPlaces,
    size: DiskSize,
    journal: &dyn Journal,
) -> Result<(), Error> {
    let [directory, disk] = acts(places);
    journal.act(&directory, || private_directory(&places.state))?;
    journal.act(&disk, || make_file_system(places, size))
}

fn make_file_system(places: &VmPlaces, size: DiskSize) -> Result<(), Error> {
    let label = "banger".parse().expect("a short ASCII word is a label");
    let uuid = FsUuid::from_bytes(places.id.bytes());
    ext4::create_empty(&partial(places), size.bytes(), &label, uuid)?;
    put_in_place(places)?;
    keep(places)
}

/// Has a new disk and its name outlive the host's power: whoever asked for it is told next that it is there.
fn keep(places: &VmPlaces) -> Result<(), Error> {
    for path in [places.disk(), places.state.clone()] {
        let kept = fs::File::open(&path).and_then(|file| file.sync_all());
        kept.map_err(|source| Error::File {
            operation: "flush",
            path,
            source,
        })?;
    }
    Ok(())
}

/// Where a disk is made.
pub(super) fn partial(places: &VmPlaces) -> PathBuf {
    places.state.join(PARTIAL)
}

/// Removes what is left of a disk that did not become whole.
pub(super) fn remove_partial(places: &VmPlaces) {
    let path = partial(places);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove half a disk");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Gives a disk that is whole its name; the one that was there is gone.
pub(super) fn put_in_place(places: &VmPlaces) -> Result<(), Error> {
    let disk = places.disk();
    fs::rename(partial(places), &disk).map_err(|source| Error::File {
        operation: "make",
        path: disk,
        source,
    })
}

/// Brings the disk to the size that its row says: the guest grows the file system into it.
pub(super) fn grow(places: &VmPlaces, size: DiskSize) -> Result<(), Error> {
    let path = places.disk();
    let failed = |operation| {
        let path = path.clone();
        move |source| Error::File {
            operation,
            path,
            source,
        }
    };
    let disk = fs::OpenOptions::new().write(true).open(&path);
    let disk = disk.map_err(failed("open"))?;
    if disk.metadata().map_err(failed("read"))?.len() < size.bytes() {
        disk.set_len(size.bytes()).map_err(failed("grow"))?;
    }
    Ok(())
}

/// Removes everything of a VM. What is gone already is no error. It stays in the journal until the
/// VM itself is forgotten.
pub(crate) fn remove(places: &VmPlaces, journal: &dyn Journal) -> Result<(), Error> {
    for act in acts(places) {
        journal.undoing(&act)?;
    }
    for directory in [&places.runtime, &places.state] {
        match fs::remove_dir_all(directory) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::File {
                    operation: "remove",
                    path: directory.clone(),
                    source,
                });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

pub(super) fn private_directory(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| Error::File {
        operation: "make",
        path: path.to_owned(),
        source,
    })
}
