//! A file of guest memory while it is written: pages in, stretches out, holes where all is zero.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use super::stream::PAGE;

/// Pages that follow each other are written together, up to so many.
const STRETCH: usize = 256;

/// The file, and the stretch that waits to be written.
#[derive(Debug)]
pub(crate) struct Pages {
    file: File,
    length: u64,
    stretch: Vec<u8>,
    begin: u64,
    filled: usize,
    /// A bit for each page that was ever something; the others are holes.
    written: Vec<u64>,
}

impl Pages {
    /// Begins a file for a guest with so much memory.
    pub(crate) fn create(path: &Path, length: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        Self::over(options.open(path)?, length)
    }

    /// As [`Self::create`], in a file that is there and has nothing in it.
    pub(crate) fn over(file: File, length: u64) -> io::Result<Self> {
        file.set_len(length)?;
        Ok(Self {
            file,
            length,
            stretch: vec![0; STRETCH * PAGE],
            begin: 0,
            filled: 0,
            written: vec![0; bit_of(length).0 + 1],
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Room for the page at `place`; it counts once [`Self::filled`] is called.
    pub(super) fn room(&mut self, place: u64) -> io::Result<&mut [u8]> {
        let end = place.checked_add(PAGE as u64);
        if end.is_none_or(|end| end > self.length) {
            let text = format!("a page at {place:#x} lies outside of the guest's memory");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let follows = place == self.begin + self.filled as u64;
        if !follows || self.filled == self.stretch.len() {
            self.write()?;
            self.begin = place;
        }
        Ok(&mut self.stretch[self.filled..self.filled + PAGE])
    }

    /// The page that there was room for is in it.
    pub(super) fn filled(&mut self) {
        let (word, bit) = bit_of(self.begin + self.filled as u64);
        self.written[word] |= bit;
        self.filled += PAGE;
    }

    /// The page at `place` is zero, which it is anyway unless it was something else before.
    pub(super) fn zero(&mut self, place: u64) -> io::Result<()> {
        let (word, bit) = bit_of(place);
        if self.written.get(word).is_some_and(|word| word & bit != 0) {
            self.room(place)?.fill(0);
            self.filled();
        }
        Ok(())
    }

    /// Writes what waits.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.write()
    }

    /// How many bytes of the host's the file takes.
    pub(crate) fn taken(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    fn write(&mut self) -> io::Result<()> {
        let stretch = &self.stretch[..self.filled];
        self.file.write_all_at(stretch, self.begin)?;
        self.begin += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}

/// Where the page at `place` has its bit.
fn bit_of(place: u64) -> (usize, u64) {
    let page = place / PAGE as u64;
    let word = usize::try_from(page / 64).unwrap_or(usize::MAX);
    (word, 1 << (page % 64))
}
