//! Owns where file data waits between the archive and the image: one unnamed file, or the
//! archive itself where that is plain and can be read anywhere. Knows no tree.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{ImportError, writing};
use super::node::{Content, Extent};
use crate::ext4::{BLOCK_BYTES, Segment};

const BUFFER: usize = 1 << 20;

/// Collects data while an archive passes by.
#[derive(Debug)]
pub(super) enum Collector {
    /// Data is copied to a file without a name beside the destination.
    Spool {
        file: BufWriter<File>,
        len: u64,
        dir: PathBuf,
    },
    /// Data stays where it is.
    Origin(File),
}

impl Collector {
    pub(super) fn spool(dir: &Path) -> Result<Self, ImportError> {
        let file = tempfile::tempfile_in(dir).map_err(|source| ImportError::Create {
            dir: dir.to_owned(),
            source,
        })?;
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Self::Spool {
            file,
            len: 0,
            dir: dir.to_owned(),
        })
    }

    /// Where the data that comes next will be found, which lies at `offset` in the archive.
    pub(super) fn place(&self, offset: u64) -> u64 {
        match self {
            Self::Spool { len, .. } => *len,
            Self::Origin(_) => offset,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        match self {
            Self::Spool { file, len, dir } => {
                *len += bytes.len() as u64;
                file.write_all(bytes)
                    .map_err(|source| writing(dir, "the unpacked data", *len, source))
            }
            Self::Origin(_) => Ok(()),
        }
    }

    pub(super) fn finish(self) -> Result<Store, ImportError> {
        match self {
            Self::Spool { file, len, dir } => {
                let file = file
                    .into_inner()
                    .map_err(|error| writing(&dir, "the unpacked data", len, error.into_error()))?;
                Ok(Store(file))
            }
            Self::Origin(file) => Ok(Store(file)),
        }
    }
}

/// Data of files, read by place.
#[derive(Debug)]
pub(super) struct Store(File);

impl Store {
    /// The first bytes of a file, at most `most`.
    pub(super) fn head(&self, content: &Content, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let len = content.len.min(most);
        ContentReader {
            store: self,
            content,
            ranges: vec![(0, len)],
        }
        .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A reader of all data segments of a file, one after the other.
    pub(super) fn reader<'a>(&'a self, content: &'a Content) -> ContentReader<'a> {
        let mut ranges = Vec::new();
        let mut at = 0;
        for segment in segments(content) {
            match segment {
                Segment::Data(len) => {
                    ranges.push((at, at + len));
                    at += len;
                }
                Segment::Hole(len) => at += len,
            }
        }
        ranges.reverse();
        ContentReader {
            store: self,
            content,
            ranges,
        }
    }
}

/// A file's bytes as runs of whole blocks: a block that holds any data is data.
pub(super) fn segments(content: &Content) -> Vec<Segment> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for extent in &content.extents {
        let start = extent.logical / BLOCK_BYTES * BLOCK_BYTES;
        let end = (extent.logical + extent.len)
            .next_multiple_of(BLOCK_BYTES)
            .min(content.len);
        match ranges.last_mut() {
            Some(last) if start <= last.1 => last.1 = end,
            Some(_) | None => ranges.push((start, end)),
        }
    }
    let mut out = Vec::with_capacity(ranges.len());
    let mut at = 0;
    for (start, end) in ranges {
        if start > at {
            out.push(Segment::Hole(start - at));
        }
        out.push(Segment::Data(end - start));
        at = end;
    }
    if content.len > at {
        out.push(Segment::Hole(content.len - at));
    }
    out
}

/// Reads ranges of a file; parts of them that no extent covers are zeros.
#[derive(Debug)]
pub(super) struct ContentReader<'a> {
    store: &'a Store,
    content: &'a Content,
    /// What is still to be read, the next range last.
    ranges: Vec<(u64, u64)>,
}

impl ContentReader<'_> {
    /// The extent at a place, or how far it is to the next.
    fn at(&self, place: u64) -> Result<&Extent, u64> {
        let extents = &self.content.extents;
        let next = extents.partition_point(|extent| extent.logical + extent.len <= place);
        match extents.get(next) {
            Some(extent) if extent.logical <= place => Ok(extent),
            Some(extent) => Err(extent.logical - place),
            None => Err(u64::MAX),
        }
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.ranges.pop_if(|(at, end)| at == end).is_some() {}
        let Some(&(at, end)) = self.ranges.last() else {
            return Ok(0);
        };
        let most = (end - at).min(buf.len() as u64);
        let n = match self.at(at) {
            Ok(extent) => {
                let skipped = at - extent.logical;
                let n = most.min(extent.len - skipped);
                let buf = &mut buf[..usize::try_from(n).expect("no more than the buffer")];
                self.store.0.read_exact_at(buf, extent.stored + skipped)?;
                n
            }
            Err(gap) => {
                let n = most.min(gap);
                buf[..usize::try_from(n).expect("no more than the buffer")].fill(0);
                n
            }
        };
        if let Some(range) = self.ranges.last_mut() {
            range.0 += n;
        }
        Ok(usize::try_from(n).expect("no more than the buffer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(len: u64, extents: &[(u64, u64)]) -> Content {
        let mut stored = 0;
        let extents = extents
            .iter()
            .map(|&(logical, len)| {
                stored += len;
                Extent {
                    logical,
                    stored: stored - len,
                    len,
                }
            })
            .collect();
        Content { len, extents }
    }

    #[test]
    fn blocks_with_data_are_data_and_the_rest_holes() {
        use Segment::{Data, Hole};
        let check = |len, extents: &[(u64, u64)], expected: &[Segment]| {
            assert_eq!(segments(&content(len, extents)), expected);
        };
        check(0, &[], &[]);
        check(10, &[(0, 10)], &[Data(10)]);
        check(10, &[], &[Hole(10)]);
        check(10, &[(3, 2)], &[Data(10)]);
        check(
            20_000,
            &[(5000, 10)],
            &[Hole(4096), Data(4096), Hole(11_808)],
        );
        check(
            20_000,
            &[(4096, 10), (8000, 300)],
            &[Hole(4096), Data(8192), Hole(7712)],
        );
        check(10_000, &[(9000, 1000)], &[Hole(8192), Data(1808)]);
    }

    #[test]
    fn readers_fill_gaps_inside_of_blocks() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"abcdef").expect("written");
        let store = Store(file);
        let content = content(9000, &[(1, 2), (4097, 3), (8999, 1)]);
        let mut out = Vec::new();
        store.reader(&content).read_to_end(&mut out).expect("read");
        let mut expected = vec![0; 9000];
        expected[1..3].copy_from_slice(b"ab");
        expected[4097..4100].copy_from_slice(b"cde");
        expected[8999] = b'f';
        assert_eq!(out, expected);
        assert_eq!(store.head(&content, 4).expect("read"), b"\0ab\0");
    }
}
