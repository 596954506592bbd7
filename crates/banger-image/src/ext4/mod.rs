//! Owns ext4: what an inode is made of, the writer of images, and the making of empty disks.
//! An image's data goes to its place while it arrives, and everything else around it afterwards.
//! Knows no tar, no image format and no path of the host but the file that it is told to fill.

mod acl;
mod aligned;
mod blocks;
mod bytes;
mod directory;
mod disk;
mod error;
mod extents;
mod groups;
mod image;
mod space;
mod superblock;
mod table;
mod usage;
mod xattr;
mod xattr_room;

use std::io;

use mkext4::spec::file_type;

pub(crate) use aligned::{AlignedBuffer, DirectFile};
pub(crate) use blocks::{BlockStream, write_blocks};
pub use disk::{MAX_DISK_BYTES, MIN_DISK_BYTES, create_empty};
pub use error::{DiskError, Ext4Error};
pub(crate) use image::{FIRST_DATA_BLOCK, Finishing, Identification};
pub(crate) use space::Space;
pub use xattr::{Xattr, XattrError};
pub(crate) use xattr::{inherit as inherit_xattrs, settle as settle_xattrs};

/// The size of a block, the only one that we write.
pub const BLOCK_BYTES: u64 = 4096;
/// What one block group spans; sizes are whole groups.
pub const GROUP_BYTES: u64 = 32_768 * BLOCK_BYTES;
/// The longest name that a directory entry holds.
pub const NAME_MAX: usize = 255;
/// The longest target of a symbolic link.
pub const SYMLINK_MAX: usize = 4095;
/// The most names that one file can have.
pub const LINK_MAX: u32 = 65_000;
/// The moment that stands wherever an image has no time of its own: 2000-01-01. Fixed, so that
/// the same input gives the same bytes.
pub const FIXED_TIME: Timestamp = Timestamp {
    secs: 946_684_800,
    nanos: 0,
};

/// A file system's identity, never drawn by chance here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsUuid([u8; 16]);

impl FsUuid {
    /// Takes the bytes as they are.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Derives an identity from a digest: a version 8 UUID of its first bytes.
    pub fn from_digest(digest: &[u8; 32]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// The sixteen bytes in the order of the superblock.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A name for people in the superblock, at most 16 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(String);

impl std::str::FromStr for Label {
    type Err = Ext4Error;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        if raw.len() > 16 || raw.contains('\0') {
            return Err(Ext4Error::Label {
                label: raw.to_owned(),
            });
        }
        Ok(Self(raw.to_owned()))
    }
}

impl Label {
    /// The label's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A moment that an ext4 inode can hold, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    secs: i64,
    nanos: u32,
}

impl Timestamp {
    /// Accepts 1901 to 2446, which is what the inode's 34 bits of seconds reach.
    pub fn new(secs: i64, nanos: u32) -> Option<Self> {
        let reach = -(1_i64 << 31)..(1_i64 << 34) - (1_i64 << 31);
        (reach.contains(&secs) && nanos < 1_000_000_000).then_some(Self { secs, nanos })
    }

    /// Seconds since 1970, negative before.
    pub fn secs(&self) -> i64 {
        self.secs
    }

    /// Nanoseconds within the second.
    pub fn nanos(&self) -> u32 {
        self.nanos
    }
}

/// What every inode has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attrs {
    /// Permission bits with setuid, setgid and sticky; never the file's type.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
}

impl Attrs {
    /// A directory that nothing described: 0755, root's, with the fixed time.
    pub const IMPLIED_DIRECTORY: Self = Self {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: FIXED_TIME,
    };
}

/// The number of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ino(pub(crate) u32);

impl Ino {
    pub(crate) const ROOT: Self = Self(2);
    /// The first that is not the file system's own; each further one is the next.
    pub(crate) const FIRST_FREE: Self = Self(11);
}

/// An inode as the writer takes it.
#[derive(Debug)]
pub(crate) struct Inode<'a> {
    pub(crate) attrs: Attrs,
    /// At most one of each name.
    pub(crate) xattrs: &'a [Xattr],
    /// How many names it has, `.` and `..` included.
    pub(crate) links: u32,
    pub(crate) kind: Kind<'a>,
}

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Kind<'a> {
    Directory {
        parent: Ino,
        names: &'a [Name<'a>],
    },
    /// Blocks that no run covers read as zeros and take no room.
    File {
        len: u64,
        runs: &'a [Run],
    },
    Symlink(&'a [u8]),
    Special(Special),
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) ino: Ino,
    pub(crate) kind: FileKind,
}

/// What a directory says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Regular,
    Directory,
    Symlink,
    Special(Special),
}

impl FileKind {
    fn in_directory(self) -> u8 {
        match self {
            Self::Regular => file_type::REG,
            Self::Directory => file_type::DIR,
            Self::Symlink => file_type::SYMLINK,
            Self::Special(Special::Char { .. }) => file_type::CHR,
            Self::Special(Special::Block { .. }) => file_type::BLK,
            Self::Special(Special::Fifo) => file_type::FIFO,
        }
    }
}

/// A run of a file's blocks and the data blocks that hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first block in the file.
    pub logical: u32,
    /// The number of the first data block.
    pub first: u64,
    pub blocks: u32,
}

/// What is neither file, directory nor link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// Whether the host ran out of room, by its own limit or the user's quota.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
