//! A VM's own directory and disk. Knows paths and ext4, not states.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::Path};

use banger_image::ext4::{self, FsUuid};

use crate::{error::Error, host::VmPlaces, spec::DiskSize};

/// A disk that is not whole yet.
const PARTIAL: &str = "disk.ext4.partial";

/// Makes the VM's directory and its empty disk, which gets its name when it is whole.
pub(crate) fn make_disk(places: &VmPlaces, size: DiskSize) -> Result<(), Error> {
    private_directory(&places.state)?;
    let label = "banger".parse().expect("a short ASCII word is a label");
    let uuid = FsUuid::from_bytes(places.id.bytes());
    let (partial, disk) = (places.state.join(PARTIAL), places.disk());
    ext4::create_empty(&partial, size.bytes(), &label, uuid)?;
    fs::rename(&partial, &disk).map_err(|source| Error::File {
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

/// Removes everything of a VM. What is gone already is no error.
pub(crate) fn remove(places: &VmPlaces) -> Result<(), Error> {
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

fn private_directory(path: &Path) -> Result<(), Error> {
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
