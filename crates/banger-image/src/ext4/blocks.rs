//! Owns the stream of data blocks into an image that is being made: whoever has bytes appends
//! them, a thread of its own writes them to their places. Knows no inode.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::BLOCK_BYTES;
use super::aligned::{AlignedBuffer, DirectFile};
use super::bytes::BLOCK;
use super::space::Space;

const BUFFER: usize = 1 << 20;
/// Enough that the disk and whoever appends rarely wait for each other.
const BUFFERS: usize = 4;

/// As many zeros in a row are not worth writing.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Data blocks under way to an image.
#[derive(Debug)]
pub(crate) struct BlockStream {
    /// The number of the first data block in `buffer`.
    first: u64,
    buffer: AlignedBuffer,
    spare: Vec<AlignedBuffer>,
    full: Option<SyncSender<Job>>,
    empty: Receiver<AlignedBuffer>,
    writer: Option<JoinHandle<io::Result<()>>>,
}

struct Job {
    first: u64,
    buffer: AlignedBuffer,
}

impl BlockStream {
    /// Starts at data block `first` of an image.
    pub(crate) fn new(image: DirectFile, first: u64) -> Self {
        let (full, jobs) = sync_channel(BUFFERS);
        let (give_back, empty) = sync_channel(BUFFERS);
        let writer = thread::spawn(move || write_all(&image, &jobs, &give_back));
        Self {
            first,
            buffer: AlignedBuffer::new(BUFFER),
            spare: (1..BUFFERS).map(|_| AlignedBuffer::new(BUFFER)).collect(),
            full: Some(full),
            empty,
            writer: Some(writer),
        }
    }

    /// The number of the data block that comes next; whole blocks must have been appended.
    pub(crate) fn position(&self) -> u64 {
        debug_assert!(self.buffer.len().is_multiple_of(BLOCK));
        self.first + self.buffer.len() as u64 / BLOCK_BYTES
    }

    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.buffer.take(bytes);
            bytes = &bytes[taken..];
            if self.buffer.room() == 0 {
                self.flush()?;
            }
        }
        Ok(())
    }

    pub(crate) fn append_zeros(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let most = self.buffer.room();
            let n = usize::try_from(count).map_or(most, |count| count.min(most));
            self.buffer.zeros(n);
            count -= n as u64;
            if self.buffer.room() == 0 {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Fills the last block up with zeros.
    pub(crate) fn pad(&mut self) -> io::Result<()> {
        let over = self.buffer.len() % BLOCK;
        match over {
            0 => Ok(()),
            over => self.append_zeros((BLOCK - over) as u64),
        }
    }

    /// Leaves blocks out: somebody else writes them, or nobody.
    pub(crate) fn skip(&mut self, blocks: u64) -> io::Result<()> {
        if blocks > 0 {
            self.flush()?;
            self.first += blocks;
        }
        Ok(())
    }

    /// Waits until all that was appended is written.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.flush()?;
        // One buffer is here; when all others are back as well, nothing is under way.
        while self.spare.len() + 1 < BUFFERS {
            let back = self.empty.recv().map_err(|_| self.failure())?;
            self.spare.push(back);
        }
        Ok(())
    }

    /// Writes what is left and ends the thread.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.end()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.len() == 0 {
            return Ok(());
        }
        let blocks = self.buffer.len() as u64 / BLOCK_BYTES;
        let next = match self.spare.pop() {
            Some(spare) => spare,
            None => self.empty.recv().map_err(|_| self.failure())?,
        };
        let job = Job {
            first: self.first,
            buffer: std::mem::replace(&mut self.buffer, next),
        };
        self.first += blocks;
        let sent = self
            .full
            .as_ref()
            .is_some_and(|full| full.send(job).is_ok());
        if sent { Ok(()) } else { Err(self.failure()) }
    }

    /// Why the thread is gone.
    fn failure(&mut self) -> io::Error {
        self.end()
            .err()
            .unwrap_or_else(|| io::Error::other("the image's writer has ended"))
    }

    fn end(&mut self) -> io::Result<()> {
        self.full = None;
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

fn write_all(
    image: &DirectFile,
    jobs: &Receiver<Job>,
    give_back: &SyncSender<AlignedBuffer>,
) -> io::Result<()> {
    let mut space = Space::default();
    while let Ok(mut job) = jobs.recv() {
        write_blocks(image, &mut space, job.first, job.buffer.bytes())?;
        job.buffer.clear();
        // Nobody waits for buffers any more when the stream has gone.
        let _ = give_back.send(job.buffer);
    }
    Ok(())
}

/// Writes data blocks to their places in an image.
pub(crate) fn write_blocks(
    image: &DirectFile,
    space: &mut Space,
    first: u64,
    bytes: &[u8],
) -> io::Result<()> {
    let mut rest = bytes;
    for run in space.locate(first, (bytes.len() / BLOCK) as u64) {
        let len = usize::try_from(run.len * BLOCK_BYTES).expect("no more than the buffer");
        let (run_bytes, behind) = rest.split_at(len);
        write_data(image, run_bytes, run.start * BLOCK_BYTES)?;
        rest = behind;
    }
    Ok(())
}

/// Writes all but long stretches of zeros: those are holes of the file already, and cost neither
/// time nor room.
fn write_data(file: &DirectFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let is_zero = |piece: &[u8]| piece == &ZEROS[..piece.len()];
    let mut from = 0;
    for (index, piece) in bytes.chunks(ZEROS.len()).enumerate() {
        let at = index * ZEROS.len();
        if is_zero(piece) {
            if from < at {
                file.write_blocks(&bytes[from..at], offset + from as u64)?;
            }
            from = at + piece.len();
        }
    }
    match from < bytes.len() {
        true => file.write_blocks(&bytes[from..], offset + from as u64),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn read(file: &File, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    #[test]
    fn blocks_arrive_in_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name| {
            let path = dir.path().join(name);
            let file = File::create_new(&path).unwrap();
            (DirectFile::new(file), File::open(&path).unwrap())
        };
        let (image, image_read) = open("image");
        // The last two blocks of group 0 and what follows in group 1.
        let first = 32_768 - 516 - 2;
        let mut stream = BlockStream::new(image, first);
        stream.append(&[1; 3 * BLOCK - 5]).unwrap();
        stream.pad().unwrap();
        assert_eq!(stream.position(), first + 3);
        stream.settle().unwrap();
        assert_eq!(
            read(&image_read, 32_766 * BLOCK_BYTES, 2 * BLOCK),
            [1; 2 * BLOCK]
        );
        let behind = (32_768 + 516) * BLOCK_BYTES;
        let expected = [&[1; BLOCK - 5][..], &[0; 5]].concat();
        assert_eq!(read(&image_read, behind, BLOCK), expected);
        stream.skip(1).unwrap();
        stream.append(&vec![2; 3 << 20]).unwrap();
        stream.finish().unwrap();
        assert_eq!(
            read(&image_read, behind + 2 * BLOCK_BYTES, 3 << 20),
            vec![2; 3 << 20]
        );
    }

    #[test]
    fn long_stretches_of_zeros_stay_holes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let mut stream = BlockStream::new(DirectFile::new(File::create_new(&path).unwrap()), 0);
        let bytes = [
            vec![0; 3 << 20],
            vec![7; BLOCK],
            vec![0; 8 << 20],
            vec![8; BLOCK],
        ]
        .concat();
        stream.append(&bytes).unwrap();
        stream.finish().unwrap();
        let file = File::open(&path).unwrap();
        assert!(read(&file, 516 * BLOCK_BYTES, bytes.len()) == bytes);
        let on_disk = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512;
        assert!(on_disk < 1 << 20, "{on_disk} bytes");
    }

    #[test]
    fn a_failed_write_is_told_to_whoever_appends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, b"").unwrap();
        let mut stream = BlockStream::new(DirectFile::new(File::open(&path).unwrap()), 0);
        let mut append = || (0..64).try_for_each(|_| stream.append(&[1; 1 << 18]));
        assert!(append().is_err());
    }
}
