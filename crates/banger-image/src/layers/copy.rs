//! Owns the copying of cached layers' data into an image: only what files still have, by several
//! threads, each with one buffer. Knows no archive.

use std::io;
use std::sync::Mutex;
use std::thread;

use tokio_util::sync::CancellationToken;

use crate::ext4::{AlignedBuffer, BLOCK_BYTES, DirectFile, Space, write_blocks};
use crate::rootfs::{Image, ImportError, Kind, NodeId, Tree, writing};

/// What one thread copies at a time.
const PIECE_BLOCKS: u64 = 256;
/// More do not make the disk faster.
const MOST_THREADS: usize = 4;
/// Blocks that nobody needs are copied too where leaving them out would cost a further step.
const WORTH_SKIPPING: u64 = 16;

/// A cached layer's data, and the number that its first block has in the image.
pub(super) struct Stored {
    pub(super) file: DirectFile,
    pub(super) first: u64,
    pub(super) blocks: u64,
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

/// Copies all data of the tree's files that is in cached layers.
pub(super) fn live_data(
    image: &mut Image,
    tree: &Tree,
    stored: &[Stored],
    cancel: &CancellationToken,
) -> Result<(), ImportError> {
    if stored.is_empty() {
        return Ok(());
    }
    let pieces = pieces(tree, stored);
    let out = image.data_file().map_err(ImportError::Read)?;
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
    stored: &[Stored],
    out: &DirectFile,
    cancel: &CancellationToken,
) -> io::Result<()> {
    let mut space = Space::default();
    let bytes = usize::try_from(PIECE_BLOCKS * BLOCK_BYTES).expect("one mebibyte");
    let mut buffer = AlignedBuffer::new(bytes);
    while !cancel.is_cancelled() {
        let Some(piece) = queue.lock().expect("taking does not panic").next() else {
            break;
        };
        let layer = &stored[piece.layer];
        let len = usize::try_from(piece.blocks * BLOCK_BYTES).expect("no more than the buffer");
        let offset = (piece.first - layer.first) * BLOCK_BYTES;
        layer.file.read_blocks(buffer.fill(len), offset)?;
        write_blocks(out, &mut space, piece.first, buffer.bytes())?;
    }
    Ok(())
}

/// The blocks of all files that are in cached layers, in few large pieces.
fn pieces(tree: &Tree, stored: &[Stored]) -> Vec<Piece> {
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
    let layers = stored.iter().enumerate();
    layers
        .flat_map(|(index, layer)| {
            let spans = spans(&runs, layer.first, layer.first + layer.blocks);
            spans.into_iter().flat_map(move |span| cut(index, span))
        })
        .collect()
}

/// The runs between two blocks, those that are close to each other as one.
fn spans(runs: &[(u64, u64)], from: u64, to: u64) -> Vec<(u64, u64)> {
    let begin = runs.partition_point(|(start, _)| *start < from);
    let mut out: Vec<(u64, u64)> = Vec::new();
    for &(start, end) in runs[begin..].iter().take_while(|(start, _)| *start < to) {
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
    }

    #[test]
    fn pieces_are_bounded() {
        let found: Vec<_> = cut(1, (5, 600))
            .map(|piece| (piece.first, piece.blocks))
            .collect();
        assert_eq!(found, [(5, 256), (261, 256), (517, 83)]);
    }
}
