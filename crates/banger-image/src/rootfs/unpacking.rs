//! Owns the threads between packed bytes and whoever reads them unpacked: one fetches, one
//! unpacks, one hashes, while the caller reads. Memory is a fixed number of buffers. Knows no tar.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::decompress::{self, Packing};
use crate::digest::{Hasher, Sha256};

const BUFFER: usize = 256 << 10;
/// Buffers between two threads.
const AHEAD: usize = 4;

/// Bytes on their way; an empty piece is the end.
type Piece = Arc<Vec<u8>>;

/// How packed bytes are to be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpack {
    /// As the bytes themselves say.
    Detect,
    As(Packing),
}

/// What a thread makes, piece by piece, read as one stream.
#[derive(Debug)]
pub(super) struct Pieces {
    ready: Receiver<io::Result<Piece>>,
    current: Piece,
    at: usize,
    is_over: bool,
    /// Where buffers go to be filled again.
    pool: SyncSender<Vec<u8>>,
}

impl Pieces {
    fn new(ready: Receiver<io::Result<Piece>>, pool: SyncSender<Vec<u8>>) -> Self {
        Self {
            ready,
            current: Arc::default(),
            at: 0,
            is_over: false,
            pool,
        }
    }

    fn advance(&mut self) -> io::Result<()> {
        let next = match self.ready.recv() {
            Ok(next) => next?,
            Err(_) => {
                return Err(io::Error::other(
                    "the thread that makes the bytes has ended",
                ));
            }
        };
        self.is_over = next.is_empty();
        self.at = 0;
        recycle(std::mem::replace(&mut self.current, next), &self.pool);
        Ok(())
    }
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let n = ready.len().min(buf.len());
        buf[..n].copy_from_slice(&ready[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() && !self.is_over {
            self.advance()?;
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

/// Unpacked bytes as they become ready.
#[derive(Debug)]
pub(super) struct Unpacking {
    pub(super) bytes: Pieces,
    hasher: JoinHandle<Sha256>,
    packed: Arc<AtomicU64>,
}

impl Unpacking {
    /// Starts the threads; they end when the bytes do, or when nobody reads any more.
    pub(super) fn start(source: Box<dyn Read + Send>, how: Unpack) -> Self {
        let packed = Arc::new(AtomicU64::new(0));
        let fetched = fetch(source, Arc::clone(&packed));
        let (pool, empty) = sync_channel(2 * AHEAD + 4);
        let (to_reader, ready) = sync_channel(AHEAD);
        let (to_hasher, to_be_hashed) = sync_channel(AHEAD);
        thread::spawn(move || unpack(fetched, how, &empty, &to_reader, &to_hasher));
        let give_back = pool.clone();
        let hasher = thread::spawn(move || hash(&to_be_hashed, &give_back));
        Self {
            bytes: Pieces::new(ready, pool),
            hasher,
            packed,
        }
    }

    /// How many packed bytes were fetched.
    pub(super) fn packed(&self) -> u64 {
        self.packed.load(Ordering::Relaxed)
    }

    /// The digest of all unpacked bytes; the end must have been read.
    pub(super) fn digest(self) -> Sha256 {
        debug_assert!(self.bytes.is_over);
        match self.hasher.join() {
            Ok(digest) => digest,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// The last who held a piece gives its memory back.
fn recycle(piece: Piece, pool: &SyncSender<Vec<u8>>) {
    if let Some(buffer) = Arc::into_inner(piece) {
        // A full pool, or one that nobody takes from any more, needs no more buffers.
        let _ = pool.try_send(buffer);
    }
}

/// Reads packed bytes on a thread of their own.
fn fetch(mut source: Box<dyn Read + Send>, count: Arc<AtomicU64>) -> Pieces {
    let (pieces, ready) = sync_channel(AHEAD);
    let (pool, empty) = sync_channel::<Vec<u8>>(AHEAD + 2);
    thread::spawn(move || {
        loop {
            let mut buffer = empty.try_recv().unwrap_or_default();
            let piece = fill(&mut source, &mut buffer).map(|()| Arc::new(buffer));
            let goes_on = piece.as_ref().is_ok_and(|piece| !piece.is_empty());
            if let Ok(piece) = &piece {
                count.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            if pieces.send(piece).is_err() || !goes_on {
                return;
            }
        }
    });
    Pieces::new(ready, pool)
}

fn unpack(
    fetched: Pieces,
    how: Unpack,
    empty: &Receiver<Vec<u8>>,
    to_reader: &SyncSender<io::Result<Piece>>,
    to_hasher: &SyncSender<Piece>,
) {
    let opened = match how {
        Unpack::Detect => decompress::reader(fetched),
        Unpack::As(packing) => decompress::unpack(packing, fetched),
    };
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(error) => {
            let _ = to_reader.send(Err(error));
            return;
        }
    };
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        let piece = match fill(&mut reader, &mut buffer) {
            Ok(()) => Arc::new(buffer),
            Err(error) => {
                let _ = to_reader.send(Err(error));
                return;
            }
        };
        let is_end = piece.is_empty();
        // Whoever reads may have gone, which ends the work.
        if to_hasher.send(Arc::clone(&piece)).is_err() || to_reader.send(Ok(piece)).is_err() {
            return;
        }
        if is_end {
            return;
        }
    }
}

fn hash(pieces: &Receiver<Piece>, pool: &SyncSender<Vec<u8>>) -> Sha256 {
    let mut hasher = Hasher::default();
    while let Ok(piece) = pieces.recv() {
        hasher.update(&piece);
        recycle(piece, pool);
    }
    hasher.finish()
}

/// Fills a buffer as far as the reader goes; an empty one is the end.
fn fill(reader: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(BUFFER, 0);
    let mut len = 0;
    while len < BUFFER {
        match reader.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(len);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn bytes_and_digest_are_those_of_the_unpacked() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        for how in [Unpack::Detect, Unpack::As(Packing::Gzip)] {
            let source = io::Cursor::new(packed(&bytes));
            let mut unpacking = Unpacking::start(Box::new(source), how);
            let mut found = Vec::new();
            unpacking.bytes.read_to_end(&mut found).unwrap();
            assert!(found == bytes);
            assert_eq!(unpacking.packed(), packed(&bytes).len() as u64);
            assert_eq!(unpacking.digest(), Sha256::of(&bytes));
        }
    }

    #[test]
    fn failures_of_either_thread_arrive() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let check = |source: Box<dyn Read + Send>| {
            let mut unpacking = Unpacking::start(source, Unpack::As(Packing::Gzip));
            io::copy(&mut unpacking.bytes, &mut io::sink()).expect_err("fails")
        };
        assert_eq!(check(Box::new(Broken)).to_string(), "broken");
        let cut = packed(&[7; 100_000]);
        check(Box::new(io::Cursor::new(cut[..cut.len() - 9].to_vec())));
    }
}
