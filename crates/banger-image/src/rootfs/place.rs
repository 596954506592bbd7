//! Owns how a file's pieces become whole blocks: which runs of data blocks it gets, and the bytes
//! that fill them while the pieces pass by. Knows no archive.

use std::io;

use super::sparse::SparseMap;
use crate::ext4::{BLOCK_BYTES, BlockStream, Run};

/// The runs of a file whose first data block is `first`: a block that holds any data is data, and
/// blocks follow each other in the order of the file.
pub(super) fn runs(map: &SparseMap, first: u64) -> Vec<Run> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for &(offset, len) in &map.pieces {
        let start = offset / BLOCK_BYTES;
        let end = (offset + len).div_ceil(BLOCK_BYTES);
        match spans.last_mut() {
            Some(last) if start <= last.1 => last.1 = end,
            Some(_) | None => spans.push((start, end)),
        }
    }
    let mut next = first;
    let block = |number| u32::try_from(number).expect("a file's length is bounded at the edge");
    spans
        .into_iter()
        .map(|(start, end)| {
            let first = next;
            next += end - start;
            Run {
                logical: block(start),
                first,
                blocks: block(end - start),
            }
        })
        .collect()
}

/// How many data blocks runs have.
pub(super) fn blocks(runs: &[Run]) -> u64 {
    runs.iter().map(|run| u64::from(run.blocks)).sum()
}

/// Fills a file's runs with the bytes of its pieces and zeros around them.
pub(super) struct Filler<'m> {
    pieces: std::slice::Iter<'m, (u64, u64)>,
    /// Bytes that the current piece still needs.
    left: u64,
    /// Where the last piece ended.
    end: Option<u64>,
}

impl<'m> Filler<'m> {
    pub(super) fn new(map: &'m SparseMap) -> Self {
        Self {
            pieces: map.pieces.iter(),
            left: 0,
            end: None,
        }
    }

    /// Takes bytes of the file as they are stored: piece after piece, without gaps.
    pub(super) fn take(&mut self, mut bytes: &[u8], out: &mut BlockStream) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.begin_piece(out)?;
            }
            let n = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (now, later) = bytes.split_at(n);
            out.append(now)?;
            self.left -= n as u64;
            bytes = later;
        }
        Ok(())
    }

    fn begin_piece(&mut self, out: &mut BlockStream) -> io::Result<()> {
        let (offset, len) = self
            .pieces
            .next()
            .expect("maps are checked against their data");
        let block_start = offset / BLOCK_BYTES * BLOCK_BYTES;
        match self.end {
            Some(end) if block_start <= end.next_multiple_of(BLOCK_BYTES) => {
                out.append_zeros(offset - end)?;
            }
            Some(_) | None => {
                out.pad()?;
                out.append_zeros(offset - block_start)?;
            }
        }
        self.left = *len;
        self.end = Some(offset + len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(len: u64, pieces: &[(u64, u64)]) -> SparseMap {
        SparseMap {
            len,
            pieces: pieces.to_vec(),
        }
    }

    #[test]
    fn blocks_with_data_are_data_and_the_rest_holes() {
        let check = |pieces: &[(u64, u64)], expected: &[(u32, u64, u32)]| {
            let found: Vec<_> = runs(&map(20_000, pieces), 100)
                .iter()
                .map(|run| (run.logical, run.first, run.blocks))
                .collect();
            assert_eq!(found, expected);
        };
        check(&[], &[]);
        check(&[(0, 10)], &[(0, 100, 1)]);
        check(&[(5000, 10)], &[(1, 100, 1)]);
        check(&[(4096, 10), (8000, 300)], &[(1, 100, 2)]);
        check(
            &[(1, 2), (4097, 3), (19_999, 1)],
            &[(0, 100, 2), (4, 102, 1)],
        );
    }

    #[test]
    fn gaps_inside_of_blocks_are_zeros() {
        let map = map(20_000, &[(1, 2), (4097, 3), (12_290, 1)]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let file = crate::ext4::DirectFile::new(std::fs::File::create_new(&path).unwrap());
        let mut stream = BlockStream::new(file, 0);
        let mut filler = Filler::new(&map);
        filler.take(b"abcd", &mut stream).unwrap();
        filler.take(b"ef", &mut stream).unwrap();
        stream.pad().unwrap();
        assert_eq!(stream.position(), blocks(&runs(&map, 0)));
        stream.finish().unwrap();
        let mut expected = vec![0; 3 * 4096];
        expected[1..3].copy_from_slice(b"ab");
        expected[4097..4100].copy_from_slice(b"cde");
        expected[8194] = b'f';
        let written = std::fs::read(&path).unwrap();
        assert!(written[516 * 4096..] == expected);
    }
}
