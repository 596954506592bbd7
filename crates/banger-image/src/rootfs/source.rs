//! Owns the archive as a stream of bytes: where it comes from, how far it has been read, the
//! bounds on it, a copy of its headers for who wants to read them again. Knows no tar.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::error::ImportError;
use super::limits::{Limit, Limits};
use super::unpacking::{Unpack, Unpacking};
use crate::digest::Sha256;
use crate::progress::{SharedProgress, Step};

/// How much passes between two signs of life.
const TICK: u64 = 4 << 20;

/// Where an archive comes from; plain or packed with gzip, xz or zstd, told by its first bytes.
pub enum Source {
    /// A file of the host.
    File(PathBuf),
    /// Bytes that come by once, such as standard input.
    Stream(Box<dyn Read + Send>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Stream(_) => f.debug_tuple("Stream").finish_non_exhaustive(),
        }
    }
}

impl Source {
    /// Opens it; its packed bytes and how many they are, where that is known.
    pub(super) fn open(self) -> Result<(Box<dyn Read + Send>, Option<u64>), ImportError> {
        match self {
            Self::Stream(reader) => Ok((reader, None)),
            Self::File(path) => {
                let open = || {
                    let file = File::open(&path)?;
                    let meta = file.metadata()?;
                    Ok((file, meta.is_file().then_some(meta.len())))
                };
                let (file, len) = open().map_err(|source| ImportError::Open { path, source })?;
                Ok((Box::new(file), len))
            }
        }
    }
}

/// Who watches the work and may stop it.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) progress: SharedProgress,
    pub(crate) cancel: CancellationToken,
    /// What is worked on, for people.
    pub(crate) detail: String,
}

impl Watch {
    pub(crate) fn tick(
        &self,
        stage: &'static str,
        done: u64,
        total: Option<u64>,
    ) -> Result<(), ImportError> {
        self.progress.report(Step {
            stage,
            detail: self.detail.clone(),
            done,
            total,
        });
        match self.cancel.is_cancelled() {
            true => Err(ImportError::Cancelled),
            false => Ok(()),
        }
    }
}

/// Where the bytes of an archive are read from.
enum Origin {
    /// The archive itself.
    Archive {
        unpacking: Unpacking,
        packed_total: Option<u64>,
    },
    /// The headers of one that was read before.
    Headers(BufReader<Box<dyn Read>>),
}

impl Origin {
    fn bytes(&mut self) -> &mut dyn BufRead {
        match self {
            Self::Archive { unpacking, .. } => &mut unpacking.bytes,
            Self::Headers(reader) => reader,
        }
    }
}

/// The unpacked bytes of an archive, counted and bounded.
pub(crate) struct Input {
    origin: Origin,
    position: u64,
    limits: Limits,
    next_tick: u64,
    watch: Watch,
    /// Gets a copy of everything but the data of files.
    recorder: Option<Box<dyn io::Write>>,
}

/// Which part of an archive passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Headers,
    Data,
}

impl Input {
    /// Reads an archive.
    pub(crate) fn archive(
        packed: Box<dyn Read + Send>,
        packed_total: Option<u64>,
        how: Unpack,
        watch: Watch,
        limits: &Limits,
    ) -> Self {
        let unpacking = Unpacking::start(packed, how);
        let origin = Origin::Archive {
            unpacking,
            packed_total,
        };
        Self::new(origin, watch, limits)
    }

    /// Reads headers that were recorded; the data of files is not among them.
    pub(crate) fn headers(recorded: Box<dyn Read>, watch: Watch, limits: &Limits) -> Self {
        Self::new(Origin::Headers(BufReader::new(recorded)), watch, limits)
    }

    fn new(origin: Origin, watch: Watch, limits: &Limits) -> Self {
        Self {
            origin,
            position: 0,
            limits: limits.clone(),
            next_tick: 0,
            watch,
            recorder: None,
        }
    }

    /// Records headers from here on.
    pub(crate) fn record(&mut self, recorder: Box<dyn io::Write>) {
        self.recorder = Some(recorder);
    }

    /// Whether the data of files passes by, or only what describes them.
    pub(super) fn has_data(&self) -> bool {
        match self.origin {
            Origin::Archive { .. } => true,
            Origin::Headers(_) => false,
        }
    }

    /// How many bytes have been taken.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Gives the next `len` bytes to `sink`, in pieces.
    pub(super) fn pass(
        &mut self,
        part: Part,
        mut len: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        while len > 0 {
            let offset = self.position;
            let ready = fill(self.origin.bytes(), offset)?;
            if ready.is_empty() {
                return Err(ImportError::Truncated { offset });
            }
            let n = usize::try_from(len).map_or(ready.len(), |len| len.min(ready.len()));
            sink(&ready[..n])?;
            if let (Some(recorder), Part::Headers) = (&mut self.recorder, part) {
                recorder
                    .write_all(&ready[..n])
                    .map_err(ImportError::Record)?;
            }
            self.consume(n)?;
            len -= n as u64;
        }
        Ok(())
    }

    /// Fills a buffer from headers; `None` where the archive ends before its first byte.
    pub(super) fn block<const N: usize>(&mut self) -> Result<Option<[u8; N]>, ImportError> {
        if self.is_at_end()? {
            return Ok(None);
        }
        let mut block = [0; N];
        let mut filled = 0;
        self.pass(Part::Headers, N as u64, |piece| {
            block[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
            Ok(())
        })?;
        Ok(Some(block))
    }

    /// Reads what follows the archive's end, so that packed bytes are checked to their last, and
    /// gives the digest of all; nothing where there were only headers.
    pub(crate) fn finish(mut self) -> Result<Option<Sha256>, ImportError> {
        while !self.is_at_end()? {
            let ready = fill(self.origin.bytes(), self.position)?.len();
            self.consume(ready)?;
        }
        Ok(match self.origin {
            Origin::Archive { unpacking, .. } => Some(unpacking.digest()),
            Origin::Headers(_) => None,
        })
    }

    fn is_at_end(&mut self) -> Result<bool, ImportError> {
        Ok(fill(self.origin.bytes(), self.position)?.is_empty())
    }

    fn consume(&mut self, bytes: usize) -> Result<(), ImportError> {
        self.origin.bytes().consume(bytes);
        self.position += bytes as u64;
        if self.position > self.limits.archive_bytes {
            return Err(ImportError::Limit {
                limit: Limit::ArchiveBytes,
                most: self.limits.archive_bytes,
            });
        }
        if self.position < self.next_tick {
            return Ok(());
        }
        self.next_tick = self.position + TICK;
        match &self.origin {
            Origin::Headers(_) => self.watch.tick("unpack", self.position, None),
            Origin::Archive {
                unpacking,
                packed_total,
            } => {
                let packed = unpacking.packed();
                self.limits.check_ratio(packed, self.position)?;
                self.watch.tick("unpack", packed, *packed_total)
            }
        }
    }
}

/// What is ready; nothing only at the end.
fn fill(reader: &mut dyn BufRead, offset: u64) -> Result<&[u8], ImportError> {
    match reader.fill_buf() {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(ImportError::Truncated { offset })
        }
        Err(error) => Err(ImportError::Read(error)),
    }
}
