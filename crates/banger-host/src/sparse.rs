//! Copies files with their holes: sharing their blocks where the file system can, within the kernel
//! where it cannot. Knows lengths, not contents.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
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

/// What is left out of a copy if all of it is zero.
const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Copies an open file with holes wherever it has nothing but zeros, to one that is empty.
pub(crate) fn copy_but_zeros(source: &File, target: &File) -> io::Result<()> {
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut buffer = vec![0; 1 << 20];
    let mut begin = 0;
    while let Some((data, hole)) = next_data(source, begin)? {
        let mut at = data;
        // What grows meanwhile is not waited for.
        let end = hole.min(length);
        while at < end {
            let piece =
                usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let piece = &mut buffer[..piece];
            source.read_exact_at(piece, at)?;
            for stretch in stretches(piece) {
                target.write_all_at(&piece[stretch.clone()], at + stretch.start as u64)?;
            }
            at += piece.len() as u64;
        }
        if hole >= length {
            break;
        }
        begin = hole;
    }
    Ok(())
}

/// Where a piece has pages that are not all zero.
fn stretches(piece: &[u8]) -> Vec<Range<usize>> {
    let mut stretches: Vec<Range<usize>> = Vec::new();
    for (number, page) in piece.chunks(PAGE).enumerate() {
        if page == &ZEROS[..page.len()] {
            continue;
        }
        let begin = number * PAGE;
        let end = begin + page.len();
        match stretches.last_mut() {
            Some(last) if last.end == begin => last.end = end,
            Some(_) | None => stretches.push(begin..end),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_copy_but_zeros_has_holes_where_its_source_has_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut bytes = vec![0; (5 << 20) + 100];
        bytes[PAGE * 3 - 1] = 1;
        bytes[1 << 20..(1 << 20) + PAGE * 2].fill(2);
        *bytes.last_mut().unwrap() = 3;
        std::fs::write(&from, &bytes).unwrap();
        let target = File::create(&to).unwrap();
        copy_but_zeros(&File::open(&from).unwrap(), &target).unwrap();
        assert!(std::fs::read(&to).unwrap() == bytes);
        let taken = target.metadata().unwrap().blocks() * 512;
        assert!(taken <= 16 * PAGE as u64, "{taken}");
    }

    #[test]
    fn pages_that_follow_each_other_are_one_stretch() {
        let check = |filled: &[usize], wanted: &[(usize, usize)]| {
            let mut piece = vec![0; PAGE * 4 + 1];
            for &at in filled {
                piece[at] = 1;
            }
            let found = stretches(&piece);
            let found: Vec<_> = found.iter().map(|one| (one.start, one.end)).collect();
            assert_eq!(found, wanted);
        };
        check(&[], &[]);
        check(&[0, PAGE], &[(0, PAGE * 2)]);
        check(&[PAGE - 1, PAGE * 2], &[(0, PAGE), (PAGE * 2, PAGE * 3)]);
        check(&[PAGE * 3, PAGE * 4], &[(PAGE * 3, PAGE * 4 + 1)]);
    }
}
