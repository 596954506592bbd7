//! Owns ext4: what an inode is made of, a trait over the writer that we use, the writer itself,
//! and the making of empty disks. Knows no tar, no image format and no path of the host but the
//! file that it is told to fill.

mod disk;
mod error;
mod groups;
mod mkfs;
mod surgery;
mod tally;
mod xattr;

use std::fs::File;
use std::io::{self, Read};

pub use disk::{MAX_DISK_BYTES, MIN_DISK_BYTES, create_empty};
pub use error::{DiskError, Ext4Error};
pub use mkfs::{MkExt4, MkExt4Layout, MkExt4Node, Options};
pub use xattr::{Xattr, XattrError, check_fits as check_xattrs_fit};

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

/// An inode as the writer takes it.
#[derive(Debug, Clone, Copy)]
pub struct Inode<'a> {
    pub attrs: Attrs,
    /// At most one of each name.
    pub xattrs: &'a [Xattr],
}

/// A run of a file's bytes; every run but the last is a multiple of the block's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Bytes that are supplied when the image is written.
    Data(u64),
    /// Bytes that read as zeros and take no room.
    Hole(u64),
}

/// What is neither file, directory nor link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// Declares a tree and then lays it out; nothing is written before the layout is complete.
///
/// Names are bytes. The order of declaration is the order of inodes and data on the disk, so a
/// caller who declares in a fixed order gets fixed bytes.
pub trait Builder: Sized {
    type Node: Copy;
    type Layout: Layout<Node = Self::Node>;

    /// The root directory, which exists from the start.
    fn root(&self) -> Self::Node;
    fn set_root(&mut self, inode: Inode<'_>) -> Result<(), Ext4Error>;
    fn directory(
        &mut self,
        parent: Self::Node,
        name: &[u8],
        inode: Inode<'_>,
    ) -> Result<Self::Node, Ext4Error>;
    fn file(
        &mut self,
        parent: Self::Node,
        name: &[u8],
        inode: Inode<'_>,
        segments: &[Segment],
    ) -> Result<Self::Node, Ext4Error>;
    fn symlink(
        &mut self,
        parent: Self::Node,
        name: &[u8],
        inode: Inode<'_>,
        target: &[u8],
    ) -> Result<Self::Node, Ext4Error>;
    fn special(
        &mut self,
        parent: Self::Node,
        name: &[u8],
        inode: Inode<'_>,
        kind: Special,
    ) -> Result<Self::Node, Ext4Error>;
    /// Gives what is no directory another name.
    fn link(&mut self, parent: Self::Node, name: &[u8], node: Self::Node) -> Result<(), Ext4Error>;
    /// Fixes where every byte goes.
    fn seal(self) -> Result<Self::Layout, Ext4Error>;
}

/// A tree whose every byte has its place.
pub trait Layout {
    type Node: Copy;

    /// The image's length in bytes.
    fn image_len(&self) -> u64;

    /// Writes the image into `out`, an empty file, with the data of `files` in the order of
    /// their declaration; each reader yields the bytes of its data segments and no more.
    fn write<R: Read>(
        self,
        out: &File,
        files: impl Iterator<Item = (Self::Node, R)>,
    ) -> Result<(), Ext4Error>;
}

/// Whether the host ran out of room, by its own limit or the user's quota.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
