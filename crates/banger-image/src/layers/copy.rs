//! Owns the copying of cached layers' data into an image: only what files still have, by several
//! threads, each with one buffer; without a copy where the file system lets files share blocks.
//! Knows no archive.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio_util::sync::CancellationToken;

use super::entry::Placing;
use crate::ext4::{AlignedBuffer, BLOCK_BYTES, DirectFile, Space, write_blocks};
use crate::rootfs::{Image, ImportError, Kind, NodeId, Tree, writing};

/// What one thread copies at a time.
const PIECE_BLOCKS: u64 = 256;
/// More do not make the disk faster.
const MOST_THREADS: usize = 4;
/// Blocks that nobody needs are copied too where leaving them out would cost a further step.
const WORTH_SKIPPING: u64 = 16;

/// A cached layer's data, and the number that its first block has in the new image.
pub(super) struct Stored {
    /// Has the runs of `placing` that are local.
    pub(super) file: DirectFile,
    /// Has all others.
    pub(super) origin: DirectFile,
    pub(super) placing: Placing,
    pub(super) first: u64,
}

/// A run of blocks to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// Which of the layers has it.
    layer: usize,
    /// The number of its first data block in the image.
    first: u64,
    blocks: u64,
}

/// Copies a layer's data from its first block on, before it is known what of it is needed: of the
/// lowest layer that is nearly all. Ends when it is told to, or when nobody holds it any more.
pub(super) struct Ahead {
    stop: CancellationToken,
    worker: Option<JoinHandle<io::Result<u64>>>,
}

impl Ahead {
    pub(super) fn begin(layer: Arc<Stored>, out: DirectFile, cancel: &CancellationToken) -> Self {
        let stop = cancel.child_token();
        let stopped = stop.clone();
        Self {
            stop,
            worker: Some(thread::spawn(move || copy_ahead(&layer, &out, &stopped))),
        }
    }

    /// How many of the layer's first blocks are in the image now; no more will be.
    fn end(mut self) -> io::Result<u64> {
        self.join()
    }

    fn join(&mut self) -> io::Result<u64> {
        self.stop.cancel();
        match self.worker.take().map(JoinHandle::join) {
            Some(Ok(copied)) => copied,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(0),
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Whoever drops it has another failure to tell of.
        let _ = self.join();
    }
}

fn copy_ahead(layer: &Stored, out: &DirectFile, stop: &CancellationToken) -> io::Result<u64> {
    let mut copier = Copier::new(out);
    let end = layer.first + layer.placing.data_blocks;
    for piece in cut(0, (layer.first, end)) {
        if stop.is_cancelled() {
            return Ok(piece.first - layer.first);
        }
        copier.copy(layer, piece)?;
    }
    Ok(layer.placing.data_blocks)
}

/// Copies all data of the tree's files that is in cached layers. Of the first of these `ahead` has
/// copied a part.
pub(super) fn live_data(
    image: &mut Image,
    tree: &Tree,
    stored: &[Arc<Stored>],
    ahead: Option<Ahead>,
    cancel: &CancellationToken,
) -> Result<(), ImportError> {
    if stored.is_empty() {
        return Ok(());
    }
    let copied = ahead.map_or(Ok(0), Ahead::end);
    let copied = copied.map_err(|source| writing(image.dir(), "the disk image", source))?;
    let pieces = pieces(tree, stored, copied);
    let out = image.reopen().map_err(ImportError::Read)?;
    let out = DirectFile::new(out);
    let queue = Mutex::new(pieces.into_iter());
    let threads = thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS));
    let copied: io::Result<()> = thread::scope(|scope| {
        let work = || scope.spawn(|| copy_all(&queue, stored, &out, cancel));
        let workers: Vec<_> = (0..threads).map(|_| work()).collect();
        let results = workers.into_iter().map(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.collect()
    });
    match cancel.is_cancelled() {
        true => Err(ImportError::Cancelled),
        false => copied.map_err(|source| writing(image.dir(), "the disk image", source)),
    }
}

fn copy_all(
    queue: &Mutex<std::vec::IntoIter<Piece>>,
    stored: &[Arc<Stored>],
    out: &DirectFile,
    cancel: &CancellationToken,
) -> io::Result<()> {
    let mut copier = Copier::new(out);
    while !cancel.is_cancelled() {
        let Some(piece) = queue.lock().expect("taking does not panic").next() else {
            break;
        };
        copier.copy(&stored[piece.layer], piece)?;
    }
    Ok(())
}

/// What one thread copies with.
struct Copier<'a> {
    out: &'a DirectFile,
    /// Blocks are shared with the layer's file, until that is refused.
    shares: bool,
    space: Space,
    buffer: AlignedBuffer,
}

impl<'a> Copier<'a> {
    fn new(out: &'a DirectFile) -> Self {
        let bytes = usize::try_from(PIECE_BLOCKS * BLOCK_BYTES).expect("one mebibyte");
        Self {
            out,
            shares: out.may_share(),
            space: Space::default(),
            buffer: AlignedBuffer::new(bytes),
        }
    }

    fn copy(&mut self, layer: &Stored, piece: Piece) -> io::Result<()> {
        let start = piece.first - layer.first;
        let runs = runs(layer, start, piece.blocks, &mut self.space);
        self.shares = self.shares && self.share(&runs, piece.first)?;
        if self.shares {
            return Ok(());
        }
        let len = usize::try_from(piece.blocks * BLOCK_BYTES).expect("no more than the buffer");
        read(&runs, self.buffer.fill(len))?;
        write_blocks(self.out, &mut self.space, piece.first, self.buffer.bytes())
    }

    /// Whether the file system did it. What it refuses to go on with is copied as a whole.
    fn share(&mut self, runs: &[Run<'_>], mut first: u64) -> io::Result<bool> {
        for run in runs {
            let mut at = run.start;
            for place in self.space.locate(first, run.blocks) {
                let [from, to, len] = [at, place.start, place.len].map(|n| n * BLOCK_BYTES);
                if !self.out.take_blocks(run.file, from, to, len)? {
                    return Ok(false);
                }
                at += place.len;
            }
            first += run.blocks;
        }
        Ok(true)
    }
}

/// Blocks of a layer that follow each other in a file.
struct Run<'a> {
    file: &'a DirectFile,
    start: u64,
    blocks: u64,
}

/// Where blocks of a layer are, in their order.
fn runs<'a>(layer: &'a Stored, start: u64, blocks: u64, space: &mut Space) -> Vec<Run<'a>> {
    let mut out = Vec::new();
    for (from, to, is_local) in parts(&layer.placing.local, start, start + blocks) {
        if is_local {
            out.push(Run {
                file: &layer.file,
                start: from,
                blocks: to - from,
            });
            continue;
        }
        let places = space.locate(layer.placing.first + from, to - from);
        out.extend(places.map(|place| Run {
            file: &layer.origin,
            start: place.start,
            blocks: place.len,
        }));
    }
    out
}

fn read(runs: &[Run<'_>], mut out: &mut [u8]) -> io::Result<()> {
    for run in runs {
        let len = usize::try_from(run.blocks * BLOCK_BYTES).expect("no more than the buffer");
        let (now, later) = out.split_at_mut(len);
        run.file.read_blocks(now, run.start * BLOCK_BYTES)?;
        out = later;
    }
    Ok(())
}

/// Cuts a span where local runs begin and end; each part with whether it is local.
fn parts(local: &[(u64, u64)], start: u64, end: u64) -> Vec<(u64, u64, bool)> {
    let mut out = Vec::new();
    let mut at = start;
    let first = local.partition_point(|(_, stop)| *stop <= start);
    for &(from, to) in local[first..].iter().take_while(|(from, _)| *from < end) {
        if at < from {
            out.push((at, from, false));
        }
        out.push((from.max(start), to.min(end), true));
        at = to.min(end);
    }
    if at < end {
        out.push((at, end, false));
    }
    out
}

/// Copies runs of a layer's blocks out of an image whose data has arrived; `first` is the layer's
/// first data block there.
pub(super) fn out_of_image(
    image: &File,
    first: u64,
    runs: &[(u64, u64)],
    out: &File,
) -> io::Result<()> {
    let mut space = Space::default();
    let mut buffer = vec![0; usize::try_from(PIECE_BLOCKS * BLOCK_BYTES).expect("one mebibyte")];
    for &span in runs {
        for piece in cut(0, span) {
            let mut at = piece.first;
            for run in space.locate(first + piece.first, piece.blocks) {
                let len = usize::try_from(run.len * BLOCK_BYTES).expect("no more than the buffer");
                let bytes = &mut buffer[..len];
                read_or_zeros(image, bytes, run.start * BLOCK_BYTES)?;
                out.write_all_at(bytes, at * BLOCK_BYTES)?;
                at += run.len;
            }
        }
    }
    Ok(())
}

/// Blocks of zeros at the end may not be in the file yet.
fn read_or_zeros(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.read_at(bytes, offset)? {
            0 => {
                bytes.fill(0);
                break;
            }
            n => (bytes, offset) = (&mut bytes[n..], offset + n as u64),
        }
    }
    Ok(())
}

/// The runs of a layer's blocks, counted from its first, that no file of a tree has any more.
pub(super) fn dead_runs(live: &[(u64, u64)], first: u64, blocks: u64) -> Vec<(u64, u64)> {
    let end = first + blocks;
    let begin = live.partition_point(|(start, _)| *start < first);
    let mut out = Vec::new();
    let mut at = first;
    for &(from, to) in live[begin..].iter().take_while(|(from, _)| *from < end) {
        if at < from {
            out.push((at - first, from - first));
        }
        at = at.max(to);
    }
    if at < end {
        out.push((at - first, blocks));
    }
    out
}

/// The data blocks of all files of a tree, in ascending order.
pub(super) fn live_runs(tree: &Tree) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let mut seen = vec![false; tree.node_count()];
    let mut stack = vec![NodeId::ROOT];
    while let Some(id) = stack.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        match &tree.node(id).kind {
            Kind::Directory(directory) => stack.extend(directory.children().map(|(_, id)| id)),
            Kind::File(content) => {
                let found = content.runs.iter();
                runs.extend(found.map(|run| (run.first, run.first + u64::from(run.blocks))));
            }
            Kind::Symlink(_) | Kind::Special(_) => {}
        }
    }
    runs.sort_unstable();
    runs
}

/// The blocks of all files that are in cached layers, in few large pieces; without the blocks of
/// the first layer that are `copied`.
fn pieces(tree: &Tree, stored: &[Arc<Stored>], copied: u64) -> Vec<Piece> {
    let runs = live_runs(tree);
    let layers = stored.iter().enumerate();
    layers
        .flat_map(|(index, layer)| {
            let end = layer.first + layer.placing.data_blocks;
            let copied = if index == 0 { copied } else { 0 };
            let spans = spans(&runs, layer.first + copied, end);
            spans.into_iter().flat_map(move |span| cut(index, span))
        })
        .collect()
}

/// The runs between two blocks, those that are close to each other as one.
fn spans(runs: &[(u64, u64)], from: u64, to: u64) -> Vec<(u64, u64)> {
    let begin = runs.partition_point(|(_, end)| *end <= from);
    let mut out: Vec<(u64, u64)> = Vec::new();
    for &(start, end) in runs[begin..].iter().take_while(|(start, _)| *start < to) {
        let start = start.max(from);
        match out.last_mut() {
            Some(last) if start <= last.1 + WORTH_SKIPPING => last.1 = last.1.max(end),
            Some(_) | None => out.push((start, end)),
        }
    }
    out
}

fn cut(layer: usize, (start, end): (u64, u64)) -> impl Iterator<Item = Piece> {
    let starts = (start..end).step_by(PIECE_BLOCKS as usize);
    starts.map(move |first| Piece {
        layer,
        first,
        blocks: PIECE_BLOCKS.min(end - first),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_are_close_are_copied_together() {
        let runs = [
            (0, 4),
            (10, 20),
            (21, 22),
            (100, 110),
            (126, 130),
            (147, 150),
        ];
        assert_eq!(spans(&runs, 10, 140), [(10, 22), (100, 130)]);
        assert_eq!(spans(&runs, 150, 200), []);
        assert_eq!(spans(&runs, 0, 1), [(0, 4)]);
        // A part of a run may have been copied before.
        assert_eq!(spans(&runs, 15, 100), [(15, 22)]);
    }

    #[test]
    fn blocks_are_read_from_where_they_are() {
        let local = [(2, 4), (8, 9)];
        let check = |start, end, expected: &[(u64, u64, bool)]| {
            assert_eq!(parts(&local, start, end), expected);
        };
        check(0, 2, &[(0, 2, false)]);
        check(3, 9, &[(3, 4, true), (4, 8, false), (8, 9, true)]);
        check(
            0,
            12,
            &[
                (0, 2, false),
                (2, 4, true),
                (4, 8, false),
                (8, 9, true),
                (9, 12, false),
            ],
        );
    }

    #[test]
    fn what_no_file_has_is_dead() {
        let live = [(0, 4), (10, 12), (12, 15), (30, 31)];
        assert_eq!(dead_runs(&live, 10, 15), [(5, 15)]);
        assert_eq!(dead_runs(&live, 8, 10), [(0, 2), (7, 10)]);
        assert_eq!(dead_runs(&live, 10, 5), []);
        assert_eq!(dead_runs(&[], 3, 2), [(0, 2)]);
    }

    #[test]
    fn pieces_are_bounded() {
        let found: Vec<_> = cut(1, (5, 600))
            .map(|piece| (piece.first, piece.blocks))
            .collect();
        assert_eq!(found, [(5, 256), (261, 256), (517, 83)]);
    }
}
