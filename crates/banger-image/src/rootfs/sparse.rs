//! Owns the maps of sparse files, in GNU's old form and the three of pax. Knows no stream.

use super::error::EntryError;
use super::pax::PaxSparse;

/// Where the stored bytes of a file belong; the rest are holes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SparseMap {
    /// The file's apparent length.
    pub(super) len: u64,
    /// Offsets and lengths, ascending, apart, none empty.
    pub(super) pieces: Vec<(u64, u64)>,
}

impl SparseMap {
    /// A file without holes.
    pub(super) fn whole(len: u64) -> Self {
        let pieces = if len == 0 { Vec::new() } else { vec![(0, len)] };
        Self { len, pieces }
    }

    /// Checks a map against the bytes that the archive stores for it. An empty piece is how
    /// archives mark the end.
    pub(super) fn new(len: u64, raw: &[(u64, u64)], stored: u64) -> Result<Self, EntryError> {
        let mut pieces = Vec::with_capacity(raw.len());
        let (mut end, mut sum) = (0_u64, 0_u64);
        for &(offset, piece) in raw {
            let piece_end = offset.checked_add(piece).ok_or(EntryError::SparseMap)?;
            if offset < end || piece_end > len {
                return Err(EntryError::SparseMap);
            }
            end = piece_end;
            // Pieces are apart and inside of the length, so that the sum cannot overflow.
            sum += piece;
            if piece > 0 {
                pieces.push((offset, piece));
            }
        }
        if sum != stored {
            return Err(EntryError::SparseMap);
        }
        Ok(Self { len, pieces })
    }
}

/// Which of pax's sparse formats an entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaxFormat {
    NotSparse,
    /// The map is in the extended header.
    InHeader,
    /// The map precedes the data.
    InData,
}

pub(super) fn pax_format(hints: &PaxSparse) -> Result<PaxFormat, EntryError> {
    match (hints.major, hints.minor, &hints.map) {
        (None, None, None) => Ok(PaxFormat::NotSparse),
        (None | Some(0), _, Some(_)) => Ok(PaxFormat::InHeader),
        (Some(1), None | Some(0), None) => Ok(PaxFormat::InData),
        (None | Some(_), _, _) => Err(EntryError::SparseFormat),
    }
}

/// The pairs of a map in an extended header.
pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, EntryError> {
    if !numbers.len().is_multiple_of(2) {
        return Err(EntryError::SparseMap);
    }
    Ok(numbers
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect())
}

/// Reads a map that precedes the data, from blocks as they are asked for: lines of decimal
/// numbers, the first of which says how many pairs follow.
#[derive(Debug, Default)]
pub(super) struct DataMap {
    expected: Option<usize>,
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl DataMap {
    /// Takes one block; whether more are needed.
    pub(super) fn take(&mut self, block: &[u8], most: usize) -> Result<bool, EntryError> {
        for byte in block {
            if self.is_complete() {
                break;
            }
            match byte {
                b'0'..=b'9' if self.digits.len() < 20 => self.digits.push(*byte),
                b'\n' => self.end_line(most)?,
                _ => return Err(EntryError::SparseMap),
            }
        }
        Ok(!self.is_complete())
    }

    pub(super) fn pairs(&self) -> Result<Vec<(u64, u64)>, EntryError> {
        pairs(&self.numbers)
    }

    fn is_complete(&self) -> bool {
        self.expected
            .is_some_and(|expected| self.numbers.len() == expected)
    }

    fn end_line(&mut self, most: usize) -> Result<(), EntryError> {
        let number = std::str::from_utf8(&self.digits)
            .ok()
            .and_then(|text| text.parse().ok());
        let number: u64 = number.ok_or(EntryError::SparseMap)?;
        self.digits.clear();
        if self.expected.is_some() {
            self.numbers.push(number);
            return Ok(());
        }
        let count = usize::try_from(number).ok().filter(|count| *count <= most);
        let count = count.ok_or(EntryError::TooManyPieces { most })?;
        self.expected = Some(count.checked_mul(2).ok_or(EntryError::SparseMap)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_must_fit_their_data() {
        let check = |len, raw: &[(u64, u64)], stored| SparseMap::new(len, raw, stored).is_ok();
        assert!(check(100, &[(0, 10), (50, 10), (100, 0)], 20));
        assert!(check(100, &[], 0));
        assert!(!check(100, &[(0, 10)], 11));
        assert!(!check(100, &[(50, 10), (0, 10)], 20));
        assert!(!check(100, &[(0, 10), (5, 10)], 20));
        assert!(!check(100, &[(95, 10)], 10));
        assert!(!check(100, &[(u64::MAX, 2)], 2));
    }

    #[test]
    fn maps_before_the_data_may_span_blocks() {
        let mut map = DataMap::default();
        assert_eq!(map.take(b"2\n0\n51", 10), Ok(true));
        assert_eq!(map.take(b"2\n4096\n1\n\0\0\0", 10), Ok(false));
        assert_eq!(map.pairs(), Ok(vec![(0, 512), (4096, 1)]));
        let check = |raw: &[u8]| DataMap::default().take(raw, 10).is_err();
        assert!(check(b"11\n") && check(b"x\n") && check(b"\n") && check(b"111111111111111111111"));
    }
}
