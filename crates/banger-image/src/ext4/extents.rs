//! Owns the map from a file's blocks to blocks of the file system, as an inode holds it. Knows no
//! file's name and writes nothing: blocks of a large map go to whoever gave room for them.

use mkext4::csum;
use mkext4::spec::{Extent, ExtentHeader, ExtentIdx};

use super::bytes::{BLOCK, put_u32, u16_of};

/// Entries in the inode itself and in one block.
const IN_INODE: usize = 4;
const IN_BLOCK: usize = (BLOCK - ExtentHeader::LEN - 4) / ExtentHeader::ENTRY_LEN;
/// What one entry of the lowest level can map.
const LONGEST: u64 = 32_768;

/// A run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapped {
    /// The first block in the file.
    pub(super) logical: u32,
    /// The first block of the file system.
    pub(super) start: u64,
    pub(super) len: u64,
}

/// The part of a map that an inode holds itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root(pub(super) [u8; 60]);

/// An entry of any level.
#[derive(Clone, Copy)]
enum Entry {
    Leaf(Mapped),
    Index { logical: u32, block: u64 },
}

impl Entry {
    fn logical(&self) -> u32 {
        match self {
            Self::Leaf(run) => run.logical,
            Self::Index { logical, .. } => *logical,
        }
    }

    fn encode(&self, out: &mut [u8]) {
        match *self {
            Self::Leaf(run) => Extent {
                logical: run.logical,
                raw_len: u16::try_from(run.len).expect("runs are cut to what an entry maps"),
                start: run.start,
            }
            .encode(out),
            Self::Index { logical, block } => ExtentIdx {
                logical,
                leaf: block,
            }
            .encode(out),
        }
    }
}

/// Makes the map of runs in ascending order. `place` takes each further block of the map and says
/// where it lies.
pub(super) fn map<E>(
    runs: impl Iterator<Item = Mapped>,
    inode_seed: u32,
    mut place: impl FnMut(&[u8; BLOCK]) -> Result<u64, E>,
) -> Result<Root, E> {
    let mut level: Vec<_> = merged(runs).into_iter().flat_map(cut).collect();
    let mut depth = 0;
    while level.len() > IN_INODE {
        let mut above = Vec::with_capacity(level.len().div_ceil(IN_BLOCK));
        for chunk in level.chunks(IN_BLOCK) {
            let mut block = [0; BLOCK];
            encode(chunk, IN_BLOCK, depth, &mut block);
            let sum = csum::extent_block(inode_seed, &block);
            put_u32(&mut block, BLOCK - 4, sum);
            above.push(Entry::Index {
                logical: chunk[0].logical(),
                block: place(&block)?,
            });
        }
        level = above;
        depth += 1;
    }
    let mut root = [0; 60];
    encode(&level, IN_INODE, depth, &mut root);
    Ok(Root(root))
}

/// Runs that follow each other in the file and on the disk are one.
fn merged(runs: impl Iterator<Item = Mapped>) -> Vec<Mapped> {
    let mut out: Vec<Mapped> = Vec::new();
    for run in runs {
        match out.last_mut() {
            Some(last)
                if last.start + last.len == run.start
                    && u64::from(last.logical) + last.len == u64::from(run.logical) =>
            {
                last.len += run.len;
            }
            Some(_) | None => out.push(run),
        }
    }
    out
}

fn cut(run: Mapped) -> impl Iterator<Item = Entry> {
    (0..run.len).step_by(32_768).map(move |done| {
        Entry::Leaf(Mapped {
            logical: run.logical + u32::try_from(done).expect("a file has 32 bits of blocks"),
            start: run.start + done,
            len: LONGEST.min(run.len - done),
        })
    })
}

fn encode(entries: &[Entry], max: usize, depth: u16, out: &mut [u8]) {
    ExtentHeader {
        entries: u16_of(entries.len()),
        max: u16_of(max),
        depth,
        generation: 0,
    }
    .encode(out);
    let (records, _) = out[ExtentHeader::LEN..].as_chunks_mut::<{ ExtentHeader::ENTRY_LEN }>();
    for (entry, record) in entries.iter().zip(records) {
        entry.encode(record);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn check(runs: &[(u32, u64, u64)], blocks: usize, header: (u16, u16)) {
        let runs = runs.iter().map(|&(logical, start, len)| Mapped {
            logical,
            start,
            len,
        });
        let mut placed = Vec::new();
        let Ok(root) = map(runs, 7, |block| {
            placed.push(*block);
            Ok::<_, Infallible>(1000 + placed.len() as u64)
        });
        let found = ExtentHeader::decode(&root.0).unwrap();
        assert_eq!(placed.len(), blocks);
        assert_eq!((found.entries, found.depth), header);
    }

    #[test]
    fn maps_grow_upwards_when_the_inode_is_full() {
        check(&[], 0, (0, 0));
        check(&[(0, 100, 10), (10, 110, 5)], 0, (1, 0));
        check(&[(0, 100, 70_000)], 0, (3, 0));
        let scattered: Vec<_> = (0..2000).map(|i| (i * 2, u64::from(i) * 3, 1)).collect();
        check(&scattered[..4], 0, (4, 0));
        check(&scattered[..5], 1, (1, 1));
        check(&scattered[..340 * 4], 4, (4, 1));
        check(&scattered[..340 * 4 + 1], 6, (1, 2));
    }
}
