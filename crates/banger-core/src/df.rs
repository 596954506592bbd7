//! What takes room on the host's disk. Counts the blocks that files really take, each once; a file that
//! several have is shared, and so are blocks that several files have. Reads directories; changes nothing.

mod blocks;

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use blocks::Blocks;

use crate::{
    engine::{Directories, Engine},
    error::Error,
    host::Space,
    snapshot::SnapshotRecord,
    store::{ImageRow, ImageStage},
    vm::View,
};

/// What kind of thing takes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Image,
    Vm,
    Snapshot,
    Kernel,
    Cache,
    /// The store, logs, and what no row names.
    Other,
}

impl Kind {
    /// The word in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Vm => "vm",
            Self::Snapshot => "snapshot",
            Self::Kernel => "kernel",
            Self::Cache => "cache",
            Self::Other => "other",
        }
    }
}

/// What one thing takes, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub kind: Kind,
    pub name: String,
    /// What would come back with it.
    pub unique: u64,
    /// What others have, too.
    pub shared: u64,
    /// How many VMs need it.
    pub vms: usize,
}

/// All that banger takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub path: PathBuf,
    pub space: Space,
    pub things: Vec<Taken>,
    /// Of all things, each file once.
    pub total: u64,
}

/// A thing, and where its files are.
#[derive(Debug)]
struct Place {
    kind: Kind,
    name: String,
    vms: usize,
    path: PathBuf,
}

impl Engine {
    /// What takes room on the disk. Reads directories, so it is called where blocking is allowed.
    pub fn disk_usage(&self) -> Result<Usage, Error> {
        let directories = self.directories();
        let space = self.host().space(&directories.state)?;
        let places = self.places()?;
        let shared = |path: &Path| self.host().shared_blocks(path);
        let (things, total) = measure(places, &shared)?;
        Ok(Usage {
            path: directories.state.clone(),
            space,
            things,
            total,
        })
    }

    fn places(&self) -> Result<Vec<Place>, Error> {
        let Directories { state, cache, .. } = self.directories();
        let views = self.views();
        let mut places = Vec::new();
        let images = self.images();
        for row in images.list()? {
            places.push(image(&row, images.directory(), &views));
        }
        places.extend(views.iter().map(|view| Place {
            kind: Kind::Vm,
            name: of_vm(view),
            vms: 1,
            path: view.places.state.clone(),
        }));
        for kernel in self.kernels().list()? {
            let uses = |view: &&View| view.record.spec.kernel == kernel.name;
            places.push(Place {
                kind: Kind::Kernel,
                name: kernel.name.to_string(),
                vms: views.iter().filter(uses).count(),
                path: state.join("kernels").join(kernel.name.as_str()),
            });
        }
        for snapshot in self.snapshots().all()? {
            places.push(Place {
                kind: Kind::Snapshot,
                name: title(&snapshot),
                vms: 0,
                path: self.snapshots().files(&snapshot).directory,
            });
        }
        let whole = |kind, name: &str, path: PathBuf| Place {
            kind,
            name: name.to_owned(),
            vms: 0,
            path,
        };
        let pulls = state.join("image-cache");
        places.push(whole(Kind::Cache, "layers and blobs", pulls));
        places.push(whole(Kind::Cache, "boot files", cache.clone()));
        // Last: what is counted as something else already is not counted again.
        places.push(whole(Kind::Other, "store, logs, work", state.clone()));
        Ok(places)
    }
}

fn image(row: &ImageRow, directory: &Path, views: &[View]) -> Place {
    let uses = |view: &&View| view.record.spec.image == row.name;
    let half = match row.stage {
        ImageStage::Ready => "",
        ImageStage::Building => " (being made)",
    };
    Place {
        kind: Kind::Image,
        name: format!("{}{half}", row.name),
        vms: views.iter().filter(uses).count(),
        path: directory.join(&row.directory),
    }
}

/// What a VM is called, with what it is for where that is not its owner's business.
fn of_vm(view: &View) -> String {
    let name = &view.record.name;
    match &view.record.holder {
        None => name.to_string(),
        Some(holder) => format!("{name} ({})", holder.purpose()),
    }
}

/// What a snapshot is called; those that banger made by itself have no name that says anything.
fn title(snapshot: &SnapshotRecord) -> String {
    if snapshot.name.is_of_a_boot() {
        format!("{} (a saved boot)", snapshot.machine.image)
    } else {
        snapshot.name.to_string()
    }
}

/// What a file is, whatever it is called: device and inode.
type Inode = (u64, u64);

/// What a file takes.
#[derive(Debug, Clone)]
struct File {
    /// Without the blocks that other files have, too.
    own: u64,
    shared: Vec<Range<u64>>,
}

/// Tells where on its device the blocks of a file are that others have.
type Shared<'a> = &'a dyn Fn(&Path) -> Vec<Range<u64>>;

/// A file belongs to those in whose directories it is. A directory in another's belongs to the one that
/// comes first.
fn measure(places: Vec<Place>, shared: Shared<'_>) -> Result<(Vec<Taken>, u64), Error> {
    let mut holders: BTreeMap<Inode, u32> = BTreeMap::new();
    let mut blocks = Blocks::default();
    let mut of_place = Vec::new();
    let paths: Vec<PathBuf> = places.iter().map(|place| place.path.clone()).collect();
    for (number, path) in paths.iter().enumerate() {
        let mut found = BTreeMap::new();
        walk(path, &paths[..number], shared, &mut found)?;
        for (inode, file) in &found {
            *holders.entry(*inode).or_default() += 1;
            blocks.add(number, inode.0, &file.shared);
        }
        of_place.push(found);
    }
    let (of_several, mut total) = blocks.count(places.len());
    let mut counted = Vec::new();
    let things = places.into_iter().zip(of_place).zip(of_several);
    let things = things.map(|((place, found), several)| {
        let (mut unique, mut common) = (several.unique, several.shared);
        for (inode, file) in found {
            if holders[&inode] > 1 {
                common += file.own;
            } else {
                unique += file.own;
            }
            counted.push((inode, file.own));
        }
        Taken {
            kind: place.kind,
            name: place.name,
            unique,
            shared: common,
            vms: place.vms,
        }
    });
    let things = things.collect();
    let each: BTreeMap<Inode, u64> = counted.into_iter().collect();
    total += each.values().sum::<u64>();
    Ok((things, total))
}

/// What each file takes.
type Found = BTreeMap<Inode, File>;

/// All that is below a path, but not what is below one of `others`. What goes meanwhile takes nothing.
fn walk(
    path: &Path,
    others: &[PathBuf],
    shared: Shared<'_>,
    found: &mut Found,
) -> Result<(), Error> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta.map_err(|source| unreadable(path, source))?,
    };
    let shared_blocks = match meta.is_file() && meta.blocks() > 0 {
        true => shared(path),
        false => Vec::new(),
    };
    let of_others: u64 = shared_blocks
        .iter()
        .map(|range| range.end - range.start)
        .sum();
    let file = File {
        // The kernel counts blocks of 512 bytes, whatever the file system's are (stat(2)).
        own: (meta.blocks() * 512).saturating_sub(of_others),
        shared: shared_blocks,
    };
    found.insert((meta.dev(), meta.ino()), file);
    if !meta.is_dir() {
        return Ok(());
    }
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| unreadable(path, source))?,
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if !others.contains(&path) {
            walk(&path, others, shared, found)?;
        }
    }
    Ok(())
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::File {
        operation: "measure",
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(kind: Kind, path: PathBuf) -> Place {
        Place {
            kind,
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            vms: 0,
            path,
        }
    }

    #[test]
    fn a_file_is_counted_once_and_told_of_as_shared_by_all_who_have_it() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for directory in ["a", "b", "b/deep"] {
            fs::create_dir(path(directory)).unwrap();
        }
        fs::write(path("a/own"), vec![1; 40_000]).unwrap();
        fs::write(path("a/common"), vec![2; 80_000]).unwrap();
        fs::hard_link(path("a/common"), path("b/deep/common")).unwrap();
        fs::write(path("rest"), vec![3; 20_000]).unwrap();
        let sparse = fs::File::create(path("b/sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let places = vec![
            place(Kind::Image, path("a")),
            place(Kind::Vm, path("b")),
            place(Kind::Kernel, path("gone")),
            place(Kind::Other, root.path().to_owned()),
        ];
        let (things, total) = measure(places, &|_| Vec::new()).unwrap();
        let [a, b, gone, rest] = things.as_slice() else {
            panic!("{things:?}");
        };
        let blocks = |name: &str| fs::metadata(path(name)).unwrap().blocks() * 512;
        assert_eq!(a.shared, blocks("a/common"));
        assert_eq!(a.unique, blocks("a") + blocks("a/own"));
        assert_eq!(b.shared, blocks("a/common"));
        assert!(b.unique < 1 << 20, "holes take nothing: {b:?}");
        assert_eq!((gone.unique, gone.shared), (0, 0));
        assert_eq!(rest.unique, blocks("rest") + blocks("."));
        let unique: u64 = things.iter().map(|thing| thing.unique).sum();
        assert_eq!(total, unique + blocks("a/common"));
    }
}
