//! Copies files with their holes: sharing their blocks where the file system can, within the kernel
//! where it cannot. Knows lengths, not contents.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use banger_core::host_error::HostError;
use rustix::{
    fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek},
    io::Errno,
};

use crate::places::file_error;

/// What one call copies at most, so that a copy that nobody wants any more ends soon.
const PIECE: u64 = 64 << 20;

/// Copies `from` to `to`, which is begun anew. Gives back how many bytes the copy takes.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<u64, HostError> {
    let source = File::open(from).map_err(|source| file_error("read", from, source))?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let target = options.open(to);
    let target = target.map_err(|source| file_error("create", to, source))?;
    let copied = match ioctl_ficlone(&target, &source) {
        Ok(()) => Ok(()),
        // What cannot be shared can be copied, whatever the reason was.
        Err(_) => copy_data(&source, &target),
    };
    let taken = copied.and_then(|()| target.metadata());
    let taken = taken.map_err(|source| file_error("copy to", to, source))?;
    Ok(taken.blocks() * 512)
}

fn copy_data(source: &File, target: &File) -> io::Result<()> {
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut begin = 0;
    while let Some((data, hole)) = next_data(source, begin)? {
        copy_range(source, target, data, hole)?;
        begin = hole;
    }
    Ok(())
}

/// The next stretch of data: where it begins and where it ends.
fn next_data(source: &File, begin: u64) -> io::Result<Option<(u64, u64)>> {
    let data = match seek(source, SeekFrom::Data(begin)) {
        Ok(data) => data,
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let hole = seek(source, SeekFrom::Hole(data))?;
    Ok(Some((data, hole)))
}

fn copy_range(source: &File, target: &File, begin: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (begin, begin);
    while read < end {
        let piece = usize::try_from((end - read).min(PIECE)).unwrap_or(usize::MAX);
        let copied = copy_file_range(source, Some(&mut read), target, Some(&mut written), piece);
        match copied {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return copy_by_hand(source, target, read, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Between file systems that the kernel does not copy between.
fn copy_by_hand(source: &File, target: &File, begin: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 1 << 20];
    let mut at = begin;
    while at < end {
        let piece = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        source.read_exact_at(&mut buffer[..piece], at)?;
        target.write_all_at(&buffer[..piece], at)?;
        at += piece as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn sparse(path: &Path) -> File {
        let file = File::create(path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(&[7; 8192], 32 << 20).unwrap();
        file
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        sparse(&from);
        std::fs::write(&to, "of an earlier try").unwrap();
        let taken = copy(&from, &to).unwrap();
        assert!(taken < 1 << 20, "{taken}");
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
    }

    #[test]
    fn what_the_kernel_does_not_copy_is_copied_by_hand() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let source = sparse(&from);
        let target = File::create(&to).unwrap();
        let source = {
            drop(source);
            File::open(&from).unwrap()
        };
        copy_by_hand(&source, &target, 0, 64 << 20).unwrap();
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
    }
}
