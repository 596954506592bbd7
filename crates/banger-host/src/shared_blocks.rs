//! Which blocks of a file other files have, too, on file systems where that can be.

use std::{fs::File, ops::Range, os::fd::AsFd, path::Path};

use rustix::fs::fstatfs;

use crate::sys;

/// Magic numbers of file systems that share blocks (statfs(2)): XFS, Btrfs, bcachefs.
const SHARING: [u64; 3] = [0x5846_5342, 0x9123_683e, 0xca45_1a4e];

/// None where that cannot be told.
pub(crate) fn of(path: &Path) -> Vec<Range<u64>> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    let kind = fstatfs(&file).map(|system| u64::try_from(system.f_type).unwrap_or_default());
    if !kind.is_ok_and(|kind| SHARING.contains(&kind)) {
        return Vec::new();
    }
    match sys::shared_blocks(file.as_fd()) {
        Ok(ranges) => ranges,
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "cannot tell which blocks are shared");
            Vec::new()
        }
    }
}
