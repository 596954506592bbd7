//! Tells whether a program's file is still the one that was looked at before.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What tells one file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    path: PathBuf,
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            inode: meta.ino(),
            changed: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}
