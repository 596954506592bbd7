//! Trees to make images of: a Debian, and trees that grow in bytes or in entries.

use std::path::{Path, PathBuf};

use super::super::BenchError;
use super::registry::shell;

/// A Debian with the packages of its standard installation, about 12,000 entries.
pub(super) fn debian(directory: &Path) -> Result<PathBuf, BenchError> {
    let tar = directory.join("debian.tar");
    shell(&format!(
        "mmdebstrap --quiet --variant=important --include=git,curl,vim bookworm {}",
        tar.display()
    ))?;
    Ok(tar)
}

/// One file of 3 GiB, which packs well and has no holes.
pub(super) fn of_one_file(directory: &Path) -> Result<PathBuf, BenchError> {
    let tar = directory.join("large.tar");
    shell(&format!(
        "d={0}.d; mkdir $d; {{ yes banger || true; }} | head -c 3G >$d/file; \
         tar --owner=0 --group=0 -C $d -cf {0} .; rm -r $d",
        tar.display(),
    ))?;
    Ok(tar)
}

/// So many times 24 MiB in files of 1 MiB, half of it noise: programs are packed to about that.
pub(super) fn of_bytes(directory: &Path, times: u32) -> Result<PathBuf, BenchError> {
    let tar = directory.join(format!("bytes-{times}.tar"));
    shell(&format!(
        "d={0}.d; mkdir $d; for i in $(seq {1}); do \
         {{ head -c 512K /dev/urandom; head -c 512K /dev/zero; }} >$d/$i; done; \
         tar --owner=0 --group=0 -C $d -cf {0} .; rm -r $d",
        tar.display(),
        24 * times
    ))?;
    Ok(tar)
}

/// So many times 3,000 small files in directories of 100.
pub(super) fn of_entries(directory: &Path, times: u32) -> Result<PathBuf, BenchError> {
    let tar = directory.join(format!("entries-{times}.tar"));
    shell(&format!(
        "d={0}.d; for i in $(seq {1}); do mkdir -p $d/$i; for j in $(seq 100); do \
         echo $i $j >$d/$i/$j; done; done; tar --owner=0 --group=0 -C $d -cf {0} .; rm -r $d",
        tar.display(),
        30 * times
    ))?;
    Ok(tar)
}
