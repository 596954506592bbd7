//! Owns the assembly of the machine's root: a read-only base, an overlay over the machine's own disk, or the base
//! alone, written to. Knows where devices are only through `device`.

use std::ffi::CStr;
use std::fs::{self, DirBuilder, File, FileTimes};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use banger_guest_proto::boot::{BootConfig, DeviceRef, fatal};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount};

use super::device::{self, BlockDevice};
use super::{Fatal, OrFatal};
use crate::{console, sys};

/// Where the root is assembled before it becomes the root.
pub(super) const NEW_ROOT: &str = "/newroot";
const BASE: &str = "/base";
const DISK: &str = "/disk";
const UPPER: &str = "/disk/upper";
const WORK: &str = "/disk/work";
const PLAIN: &str = "/disk/plain";

/// What makes the overlay as good as one file system, for a base that never changes and a disk that only ever has
/// this base below it:
///
/// * `redirect_dir=on`: a directory of the image can be renamed; without it rename fails with EXDEV.
/// * `index=on`: hard links of the image stay links of each other when one of them is written to.
/// * `metacopy=off`: a file on the disk is a whole file, readable without the base.
/// * `xino=auto`: one device number and lasting inode numbers, as tar, rsync and find expect.
const OVERLAY: &CStr = c"lowerdir=/base,upperdir=/disk/upper,workdir=/disk/work,redirect_dir=on,index=on,metacopy=off,xino=auto";

/// Directories that their owners keep overlays of their own in, which no overlay can hold.
const PLAIN_DIRS: [&str; 2] = ["var/lib/docker", "var/lib/containerd"];

/// Something that could not be put in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootError {
    #[error("cannot create the directory {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount {} as {fs}", device.display())]
    Device {
        device: PathBuf,
        fs: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount the overlay")]
    Overlay(#[source] io::Error),
    #[error("cannot bind {} to the disk", path.display())]
    Bind {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot open {path}")]
    Open {
        path: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot grow the file system of {}", device.display())]
    Grow {
        device: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Assembles the root at [`NEW_ROOT`] and returns the file system that the machine writes to.
pub(super) fn assemble(config: &BootConfig) -> Result<OwnedFd, Fatal> {
    let base = device::find(&config.root).or_fatal(fatal::ROOT_NOT_FOUND)?;
    let fs = config.root_fs.as_str();
    let Some(disk) = &config.disk else {
        mount_device(&base, NEW_ROOT, fs, MountFlags::empty()).or_fatal(fatal::ROOT_NOT_MOUNTED)?;
        return writable(&base, NEW_ROOT).or_fatal(fatal::ROOT_NOT_MOUNTED);
    };
    mount_device(&base, BASE, fs, MountFlags::RDONLY).or_fatal(fatal::ROOT_NOT_MOUNTED)?;
    let root = mount_disk(disk)?;
    overlay().or_fatal(fatal::OVERLAY)?;
    plain_dirs();
    Ok(root)
}

fn mount_disk(disk: &DeviceRef) -> Result<OwnedFd, Fatal> {
    let disk = device::find(disk).or_fatal(fatal::DISK_NOT_FOUND)?;
    mount_device(&disk, DISK, "ext4", MountFlags::empty()).or_fatal(fatal::DISK_NOT_MOUNTED)?;
    writable(&disk, DISK).or_fatal(fatal::DISK_NOT_MOUNTED)
}

fn mount_device(
    device: &BlockDevice,
    target: &'static str,
    fs: &str,
    flags: MountFlags,
) -> Result<(), RootError> {
    directory(Path::new(target), 0o755)?;
    // A base is complete as it is: a journal that wants to be replayed is not part of it.
    let frozen = fs == "ext4" && flags.contains(MountFlags::RDONLY);
    let options = if frozen { c"noload" } else { c"" };
    mount(device.path(), target, fs, flags, options).map_err(|error| RootError::Device {
        device: device.path(),
        fs: fs.into(),
        source: error.into(),
    })
}

/// The file system that the machine writes to, and its device.
static WRITTEN: OnceLock<(BlockDevice, OwnedFd)> = OnceLock::new();
/// How long the kernel may take to see that a device has grown, and how often it is asked.
const SEEN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// Grows the file system that the machine writes to, once its device has so many bytes. Blocks.
pub(crate) fn grow_written(bytes: u64) -> io::Result<()> {
    let (device, root) = WRITTEN
        .get()
        .ok_or_else(|| io::Error::other("this machine has no disk of its own"))?;
    let deadline = Instant::now() + SEEN;
    while device.size()? < bytes {
        if Instant::now() > deadline {
            return Err(io::Error::other(
                "the kernel does not see that the disk has grown",
            ));
        }
        thread::sleep(LOOK);
    }
    grow(device, root).map_err(io::Error::other)
}

/// Opens a file system's root for the machine's end, and grows it when its device has grown.
fn writable(device: &BlockDevice, target: &'static str) -> Result<OwnedFd, RootError> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(target, flags, Mode::empty()).map_err(|error| RootError::Open {
        path: target,
        source: error.into(),
    })?;
    if let Err(error) = grow(device, &root) {
        console::warn("disk", &error);
    }
    if let Ok(again) = root.try_clone() {
        // There is one in each life of a machine.
        let _ = WRITTEN.set((device.clone(), again));
    }
    Ok(root)
}

/// A file system that fills its device is not asked to grow: the kernel would empty its journal for nothing.
fn grow(device: &BlockDevice, root: &OwnedFd) -> Result<(), RootError> {
    let grow = || -> io::Result<()> {
        let Geometry { block_size, blocks } = geometry(&device.path())?;
        let room = device.size()? / block_size;
        if room > blocks {
            sys::ext4_resize(root, room)?;
        }
        Ok(())
    };
    grow().map_err(|source| RootError::Grow {
        device: device.path(),
        source,
    })
}

/// How large a file system says that it is.
#[derive(Debug, PartialEq, Eq)]
struct Geometry {
    block_size: u64,
    blocks: u64,
}

/// Reads an ext4 superblock, as the kernel's documentation has it (Documentation/filesystems/ext4, "Super Block").
fn geometry(device: &Path) -> io::Result<Geometry> {
    const SUPERBLOCK: u64 = 1024;
    let file = File::open(device)?;
    let field = |offset: u64| -> io::Result<u64> {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, SUPERBLOCK + offset)?;
        Ok(u32::from_le_bytes(bytes).into())
    };
    let (blocks_lo, log_block_size) = (field(0x4)?, field(0x18)?);
    let has_64bit = field(0x60)? & 0x80 != 0;
    let blocks_hi = if has_64bit { field(0x150)? } else { 0 };
    // The kernel has mounted it, so this is at most 64 KiB.
    let block_size = 1024 << log_block_size.min(6);
    Ok(Geometry {
        block_size,
        blocks: blocks_hi << 32 | blocks_lo,
    })
}

fn overlay() -> Result<(), RootError> {
    upper()?;
    for path in [WORK, NEW_ROOT] {
        directory(Path::new(path), 0o755)?;
    }
    mount("overlay", NEW_ROOT, "overlay", MountFlags::empty(), OVERLAY)
        .map_err(|error| RootError::Overlay(error.into()))
}

/// The root directory of the overlay looks like the upper one, so a new one takes after the base's.
fn upper() -> Result<(), RootError> {
    let (upper, base) = (Path::new(UPPER), Path::new(BASE));
    if upper.is_dir() {
        return Ok(());
    }
    directory(upper, 0o755)?;
    let copy = || {
        let base = fs::metadata(base)?;
        chown(upper, Some(base.uid()), Some(base.gid()))?;
        fs::set_permissions(upper, base.permissions())?;
        let times = FileTimes::new()
            .set_accessed(base.accessed()?)
            .set_modified(base.modified()?);
        File::open(upper)?.set_times(times)
    };
    copy().map_err(|source| RootError::Directory {
        path: upper.into(),
        source,
    })
}

/// Binds directories of the disk's plain file system. They are there before their programs are, so that a program which is
/// installed later finds them; an image that is no distribution, and has no /var/lib, is left alone.
fn plain_dirs() {
    for dir in PLAIN_DIRS {
        let target = Path::new(NEW_ROOT).join(dir);
        let parent = target.parent().expect("the directories have parents");
        let is_dir =
            |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        let parents_are_plain = is_dir(parent) && parent.parent().is_some_and(is_dir);
        let link = fs::symlink_metadata(&target).is_ok_and(|metadata| !metadata.is_dir());
        if parents_are_plain
            && !link
            && let Err(error) = bind_plain(dir, &target)
        {
            console::warn("plain directory", &error);
        }
    }
}

fn bind_plain(dir: &str, target: &Path) -> Result<(), RootError> {
    let source = Path::new(PLAIN).join(dir);
    for path in [source.as_path(), target] {
        directory(path, 0o711)?;
    }
    rustix::mount::mount_bind(&source, target).map_err(|error| RootError::Bind {
        path: target.into(),
        source: error.into(),
    })
}

/// Creates a directory where there is none.
fn directory(path: &Path, mode: u32) -> Result<(), RootError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| RootError::Directory {
            path: path.into(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with these little-endian words in its superblock.
    fn check(words: &[(u64, u32)], expected: &Geometry) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4096).unwrap();
        for (offset, word) in words {
            let at = 1024 + offset;
            file.as_file()
                .write_all_at(&word.to_le_bytes(), at)
                .unwrap();
        }
        assert_eq!(&geometry(file.path()).unwrap(), expected);
    }

    #[test]
    fn the_superblock_tells_the_size() {
        let expected = |block_size, blocks| Geometry { block_size, blocks };
        check(&[(0x4, 7), (0x18, 0)], &expected(1024, 7));
        check(&[(0x4, 7), (0x18, 2), (0x150, 9)], &expected(4096, 7));
        let large = [(0x4, 7), (0x18, 2), (0x60, 0x80), (0x150, 1)];
        check(&large, &expected(4096, (1 << 32) + 7));
    }
}
