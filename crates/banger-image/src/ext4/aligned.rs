//! Owns memory that the kernel can write from without a copy, and files that are written so where
//! their file system allows it. Knows no image.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::BLOCK_BYTES;

const ALIGNMENT: usize = BLOCK_BYTES as usize;

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

    fn go_through_the_cache(&self) -> io::Result<()> {
        let flags = fcntl_getfl(&self.0)?;
        Ok(fcntl_setfl(&self.0, flags - OFlags::DIRECT)?)
    }
}

/// The flag was taken, but the direct way is closed to this length or device.
fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}
