//! Owns what can go wrong while an ext4 file system is made. Knows no entry's full path: the
//! caller who walks the tree adds it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::xattr::XattrError;

/// The writer could not take or place something.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Ext4Error {
    #[error("{label:?} is no file system label of at most 16 bytes")]
    Label { label: String },
    #[error("a directory of {names} names is beyond what an index reaches")]
    TooManyNames { names: usize },
    #[error("a file has {links} names, the most is 65000")]
    TooManyLinks { links: u32 },
    #[error("the extended attributes cannot be stored")]
    Xattr(#[source] XattrError),
    #[error("an empty file system cannot be laid out in {size} bytes")]
    Layout {
        size: u64,
        #[source]
        source: mkext4::Error,
    },
    #[error("the file system cannot be written")]
    Write(#[source] io::Error),
    #[error("the file system cannot be completed")]
    Complete(#[source] mkext4::Error),
}

impl Ext4Error {
    /// Sorts the crate's failures into those of the host and those of the image.
    pub(super) fn from_writing(error: mkext4::Error) -> Self {
        match error {
            mkext4::Error::Io(source) => Self::Write(source),
            other => Self::Complete(other),
        }
    }
}

/// A disk could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DiskError {
    #[error("a disk of {size} bytes is outside of {min} to {max} bytes", min = super::MIN_DISK_BYTES, max = super::MAX_DISK_BYTES)]
    Size { size: u64 },
    #[error("cannot create the disk {path:?}")]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the file system of the disk {path:?}")]
    Format {
        path: PathBuf,
        #[source]
        source: Ext4Error,
    },
}
