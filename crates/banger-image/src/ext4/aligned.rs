//! Owns memory that the kernel can write from without a copy, and files that are written so where
//! their file system allows it. Knows no image.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{OFlags, copy_file_range, fcntl_getfl, fcntl_setfl, fstatfs};
use rustix::io::Errno;

use super::BLOCK_BYTES;

const ALIGNMENT: usize = BLOCK_BYTES as usize;

/// File systems whose files can have the same blocks, by the numbers that statfs(2) gives them:
/// Btrfs, XFS and bcachefs.
const SHARING: [u64; 3] = [0x9123_683e, 0x5846_5342, 0xca45_1a4e];

/// A buffer whose bytes start at a block's boundary.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    raw: Vec<u8>,
    start: usize,
    len: usize,
    capacity: usize,
}

impl AlignedBuffer {
    /// `capacity` is a multiple of the block's size.
    pub(crate) fn new(capacity: usize) -> Self {
        let raw = vec![0; capacity + ALIGNMENT];
        // The memory of a vector that never grows stays where it is.
        let start = raw.as_ptr().align_offset(ALIGNMENT);
        Self {
            raw,
            start,
            len: 0,
            capacity,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity - self.len
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.raw[self.start..self.start + self.len]
    }

    /// Takes as much as there is room for; how much that is.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        let at = self.start + self.len;
        self.raw[at..at + n].copy_from_slice(&bytes[..n]);
        self.len += n;
        n
    }

    /// Appends zeros, no more than there is room for.
    pub(crate) fn zeros(&mut self, count: usize) {
        let at = self.start + self.len;
        self.raw[at..at + count].fill(0);
        self.len += count;
    }

    /// Room for `len` bytes, to be filled by whoever asked.
    pub(crate) fn fill(&mut self, len: usize) -> &mut [u8] {
        self.len = len;
        &mut self.raw[self.start..self.start + len]
    }
}

/// A file that is written past the page cache: large data goes to the disk once, while the next
/// is still being unpacked, and takes no memory from others.
#[derive(Debug)]
pub(crate) struct DirectFile(File);

impl DirectFile {
    /// Takes a file with a description of its own. Where the file system has no direct way, writes
    /// go through the page cache.
    pub(crate) fn new(file: File) -> Self {
        if let Ok(flags) = fcntl_getfl(&file) {
            // A refusal leaves the flags as they were.
            let _ = fcntl_setfl(&file, flags | OFlags::DIRECT);
        }
        Self(file)
    }

    /// Reads whole blocks into an aligned buffer; what is behind the file's end are zeros.
    pub(crate) fn read_blocks(&self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.read_at(bytes, offset) {
                Ok(0) => {
                    bytes.fill(0);
                    break;
                }
                Ok(n) => (bytes, offset) = (&mut bytes[n..], offset + n as u64),
                Err(error) if is_refused(&error) => self.go_through_the_cache()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes whole blocks from an aligned buffer.
    pub(crate) fn write_blocks(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.0.write_all_at(bytes, offset) {
            Err(error) if is_refused(&error) => {
                self.go_through_the_cache()?;
                self.0.write_all_at(bytes, offset)
            }
            done => done,
        }
    }

    /// Whether its file system may give it blocks of other files without a copy.
    pub(crate) fn may_share(&self) -> bool {
        fstatfs(&self.0).is_ok_and(|found| SHARING.contains(&(found.f_type as u64)))
    }

    /// Takes whole blocks of another file, shared with it where the file system can; those behind its
    /// end are left as they are. Whether the two files could do this at all.
    pub(crate) fn take_blocks(
        &self,
        from: &Self,
        mut at: u64,
        mut offset: u64,
        mut len: u64,
    ) -> io::Result<bool> {
        while len > 0 {
            let piece = usize::try_from(len).unwrap_or(usize::MAX);
            match copy_file_range(&from.0, Some(&mut at), &self.0, Some(&mut offset), piece) {
                Ok(0) => break,
                // Both offsets have moved on.
                Ok(n) => len -= n as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn go_through_the_cache(&self) -> io::Result<()> {
        let flags = fcntl_getfl(&self.0)?;
        Ok(fcntl_setfl(&self.0, flags - OFlags::DIRECT)?)
    }
}

/// The flag was taken, but the direct way is closed to this length or device.
fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = BLOCK_BYTES as usize;

    #[test]
    fn blocks_of_another_file_are_taken_up_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let blocks: Vec<u8> = (1..=3).flat_map(|n| [n; BLOCK]).collect();
        std::fs::write(path("from"), blocks).unwrap();
        std::fs::write(path("to"), [9; 4 * BLOCK]).unwrap();
        let check = |at: u64, offset: u64, count: u64, expected: [u8; 4]| {
            let from = DirectFile::new(File::open(path("from")).unwrap());
            let to = File::options().write(true).open(path("to")).unwrap();
            let [at, offset, len] = [at, offset, count].map(|n| n * BLOCK_BYTES);
            let to = DirectFile::new(to);
            assert!(to.take_blocks(&from, at, offset, len).unwrap());
            let found = std::fs::read(path("to")).unwrap();
            let expected: Vec<u8> = expected.iter().flat_map(|n| [*n; BLOCK]).collect();
            assert!(found == expected, "{at} to {offset}, {count} blocks");
        };
        check(1, 0, 1, [2, 9, 9, 9]);
        check(0, 2, 2, [2, 9, 1, 2]);
        check(2, 0, 2, [3, 9, 1, 2]);
        check(3, 1, 2, [3, 9, 1, 2]);
    }
}
