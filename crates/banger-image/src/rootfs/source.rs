//! Owns the archive as a stream of bytes: where it comes from, how it is packed, how far it has
//! been read, its digest. Knows no tar.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use super::error::ImportError;
use crate::decompress::{Packing, unpack};
use crate::digest::{Hashing, Sha256};
use crate::progress::{SharedProgress, Step};

const BUFFER: usize = 1 << 20;
/// How much passes between two signs of life.
const TICK: u64 = 4 << 20;

/// Where an archive comes from; plain or packed with gzip, xz or zstd, told by its first bytes.
pub enum Source {
    /// A file of the host. Where it is plain, data is taken from it in place.
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

/// What an opened source gives.
pub(super) struct Opened {
    pub(super) input: Input,
    /// The archive itself, where data can stay in it.
    pub(super) origin: Option<Origin>,
}

/// A plain file that serves as the store of its own data.
pub(super) struct Origin {
    pub(super) file: File,
    path: PathBuf,
    before: Metadata,
}

impl Origin {
    /// Data is read a second time, after the digest: both must have seen the same file.
    pub(super) fn check_unchanged(&self, file: &File) -> Result<(), ImportError> {
        let now = file.metadata().map_err(ImportError::Read)?;
        let seen = |m: &Metadata| (m.len(), m.mtime(), m.mtime_nsec());
        if seen(&now) == seen(&self.before) {
            return Ok(());
        }
        Err(ImportError::Changed {
            path: self.path.clone(),
        })
    }
}

impl Source {
    pub(super) fn open(self, watch: Watch, limit: u64) -> Result<Opened, ImportError> {
        match self {
            Self::File(path) => open_file(&path, watch, limit),
            Self::Stream(reader) => {
                let (input, _) = Input::new(reader, None, watch, limit)?;
                Ok(Opened {
                    input,
                    origin: None,
                })
            }
        }
    }
}

fn open_file(path: &Path, watch: Watch, limit: u64) -> Result<Opened, ImportError> {
    let failed = |source| ImportError::Open {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let before = file.metadata().map_err(failed)?;
    let total = before.is_file().then_some(before.len());
    let second = file.try_clone().map_err(failed)?;
    let (input, packing) = Input::new(Box::new(file), total, watch, limit)?;
    let in_place = before.is_file() && packing == Packing::Plain;
    let origin = in_place.then(|| Origin {
        file: second,
        path: path.to_owned(),
        before,
    });
    Ok(Opened { input, origin })
}

/// Who watches the import and may stop it.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) progress: SharedProgress,
    pub(super) cancel: CancellationToken,
}

impl Watch {
    pub(super) fn tick(&self, step: Step) -> Result<(), ImportError> {
        self.progress.report(step);
        if self.cancel.is_cancelled() {
            Err(ImportError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// The unpacked bytes of an archive, counted, hashed and bounded.
pub(super) struct Input {
    reader: BufReader<Hashing<Box<dyn Read>>>,
    position: u64,
    limit: u64,
    /// Bytes of the packed archive that were read.
    packed: Arc<AtomicU64>,
    packed_total: Option<u64>,
    next_tick: u64,
    watch: Watch,
}

impl Input {
    fn new(
        raw: Box<dyn Read>,
        packed_total: Option<u64>,
        watch: Watch,
        limit: u64,
    ) -> Result<(Self, Packing), ImportError> {
        let packed = Arc::new(AtomicU64::new(0));
        let mut raw = Metered {
            inner: raw,
            count: Arc::clone(&packed),
        };
        let mut start = [0; 6];
        let len = read_start(&mut raw, &mut start).map_err(ImportError::Read)?;
        let packing = Packing::of(&start[..len]);
        let whole = Cursor::new(start).take(len as u64).chain(raw);
        // A plain archive is buffered once, below.
        let unpacked: Box<dyn Read> = match packing {
            Packing::Plain => Box::new(whole),
            Packing::Gzip | Packing::Xz | Packing::Zstd => {
                unpack(packing, BufReader::with_capacity(BUFFER, whole))
                    .map_err(ImportError::Read)?
            }
        };
        let reader = BufReader::with_capacity(BUFFER, Hashing::new(unpacked));
        let input = Self {
            reader,
            position: 0,
            limit,
            packed,
            packed_total,
            next_tick: 0,
            watch,
        };
        Ok((input, packing))
    }

    /// How many bytes have been taken.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Gives the next `len` bytes to `sink`, in pieces.
    pub(super) fn pass(
        &mut self,
        mut len: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        while len > 0 {
            let ready = self.fill()?;
            if ready == 0 {
                return Err(ImportError::Truncated {
                    offset: self.position,
                });
            }
            let n = len.min(ready as u64);
            let piece = usize::try_from(n).expect("no more than the buffer");
            sink(&self.reader.buffer()[..piece])?;
            self.consume(piece)?;
            len -= n;
        }
        Ok(())
    }

    /// Fills a buffer; `None` where the archive ends before its first byte.
    pub(super) fn block<const N: usize>(&mut self) -> Result<Option<[u8; N]>, ImportError> {
        if self.fill()? == 0 {
            return Ok(None);
        }
        let mut block = [0; N];
        let mut filled = 0;
        self.pass(N as u64, |piece| {
            block[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
            Ok(())
        })?;
        Ok(Some(block))
    }

    /// Reads what follows the archive's end, so that packed bytes are checked to their last, and
    /// gives the digest of all.
    pub(super) fn finish(mut self) -> Result<Sha256, ImportError> {
        loop {
            match self.fill()? {
                0 => break,
                ready => self.consume(ready)?,
            }
        }
        Ok(self.reader.into_inner().finish().1)
    }

    /// How many bytes are ready; none only at the end.
    fn fill(&mut self) -> Result<usize, ImportError> {
        loop {
            match self.reader.fill_buf() {
                Ok(bytes) => return Ok(bytes.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(ImportError::Truncated {
                        offset: self.position,
                    });
                }
                Err(error) => return Err(ImportError::Read(error)),
            }
        }
    }

    fn consume(&mut self, bytes: usize) -> Result<(), ImportError> {
        self.reader.consume(bytes);
        self.position += bytes as u64;
        if self.position > self.limit {
            return Err(ImportError::Limit {
                limit: "bytes of archive",
                most: self.limit,
            });
        }
        if self.position < self.next_tick {
            return Ok(());
        }
        self.next_tick = self.position + TICK;
        self.watch.tick(Step {
            stage: "unpack",
            detail: "root file system".to_owned(),
            done: self.packed.load(Ordering::Relaxed),
            total: self.packed_total,
        })
    }
}

fn read_start(reader: &mut impl Read, start: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < start.len() {
        match reader.read(&mut start[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

struct Metered {
    inner: Box<dyn Read>,
    count: Arc<AtomicU64>,
}

impl Read for Metered {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
