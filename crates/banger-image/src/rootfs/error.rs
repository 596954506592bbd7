//! Owns what can go wrong on the way from a tar to an image, and how names from outside are
//! shown. Knows no exit codes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::limits::Limit;
use crate::ext4::{Ext4Error, XattrError, is_no_space};

/// The longest name that a message shows.
const SHOWN: usize = 200;

/// A name as an archive spelled it: any bytes, shown escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName(Vec<u8>);

impl EntryName {
    /// Keeps what a message shows.
    pub fn new(raw: &[u8]) -> Self {
        Self(raw[..raw.len().min(SHOWN + 1)].to_vec())
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}", self.0[..self.0.len().min(SHOWN)].escape_ascii())?;
        f.write_str(if self.0.len() > SHOWN { "...\"" } else { "\"" })
    }
}

/// An import failed; nothing of it is left behind.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error("cannot open the archive {path:?}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("the archive ends in the middle, at byte {offset}")]
    Truncated { offset: u64 },
    #[error("the archive is damaged at byte {offset}")]
    Header {
        offset: u64,
        #[source]
        source: HeaderError,
    },
    #[error("the entry {entry} cannot be taken")]
    Entry {
        entry: EntryName,
        #[source]
        source: EntryError,
    },
    #[error("the archive goes beyond the limit of {most} {limit}")]
    Limit { limit: Limit, most: u64 },
    #[error("cannot keep the archive's headers")]
    Record(#[source] io::Error),
    #[error("{dest:?} exists already")]
    Exists { dest: PathBuf },
    #[error("cannot create a file in {dir:?}")]
    Create {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no space left in {dir:?} for {what}")]
    NoSpace {
        dir: PathBuf,
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {what} in {dir:?}")]
    Write {
        dir: PathBuf,
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the entry {entry} cannot be put into the image")]
    Place {
        entry: EntryName,
        #[source]
        source: Ext4Error,
    },
    #[error("cannot make the image")]
    Image(#[source] Ext4Error),
    #[error("cannot publish {dest:?}")]
    Publish {
        dest: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the import was cancelled")]
    Cancelled,
}

/// A header that is no header.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    #[error("the header's checksum does not match, so this may be no tar archive")]
    Checksum,
    #[error("the header's {field} is no number")]
    Number { field: &'static str },
    #[error("an extended header is malformed")]
    Extension,
    #[error("an extended header of {len} bytes is beyond the limit of {most}")]
    ExtensionTooLong { len: u64, most: u64 },
    #[error("extended headers describe no entry")]
    Dangling,
    #[error("a lone block of zeros stands between entries")]
    LoneZeroBlock,
}

/// An entry that no root file system can have.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryError {
    #[error("the path has a component \"..\"")]
    ParentComponent,
    #[error("the path has {len} bytes, the most is {most}")]
    PathTooLong { len: usize, most: usize },
    #[error("a component of the path has {len} bytes, the most is 255")]
    NameTooLong { len: usize },
    #[error("the path contains a zero byte")]
    ZeroByte,
    #[error("only a directory can be the root")]
    RootIsNoDirectory,
    #[error("the path leads through {at}, which is no directory")]
    NotADirectory { at: EntryName },
    #[error("it is a whiteout that names nothing in its directory")]
    Whiteout,
    #[error("the layers together have more entries than can be counted")]
    TooManyNodes,
    #[error("the path leads through more than {most} symbolic links")]
    TooManyLinks { most: u32 },
    #[error("it is a hard link to {target}, which does not exist")]
    NoLinkTarget { target: EntryName },
    #[error("it is a hard link to the directory {target}")]
    LinkToDirectory { target: EntryName },
    #[error("the symbolic link's target has {len} bytes, 1 to 4095 are possible")]
    SymlinkTarget { len: usize },
    #[error("its {field} does not fit an ext4 inode")]
    OutOfRange { field: &'static str },
    #[error("its map of holes is malformed")]
    SparseMap,
    #[error("it has more than {most} pieces of data between holes")]
    TooManyPieces { most: usize },
    #[error("the sparse format is one that is not known")]
    SparseFormat,
    #[error("its type is {flag:?}, a part of an archive of several volumes")]
    MultiVolume { flag: char },
    #[error("its extended attributes are not storable")]
    Xattr(#[source] XattrError),
}

/// Writes beside the destination, told apart by whether room ran out.
pub(crate) fn writing(dir: &Path, what: &'static str, source: io::Error) -> ImportError {
    let dir = dir.to_owned();
    match is_no_space(&source) {
        true => ImportError::NoSpace { dir, what, source },
        false => ImportError::Write { dir, what, source },
    }
}
