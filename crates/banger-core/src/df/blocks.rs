//! Blocks that several files have, counted once. Pure: ranges of devices in, bytes out.

use std::{collections::BTreeMap, ops::Range};

/// What of the blocks of several files is whose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OfSeveral {
    /// Only files of this one have it.
    pub(super) unique: u64,
    pub(super) shared: u64,
}

/// Where a thing's blocks begin, or end.
type Edge = (u64, bool, usize);

/// The blocks that are in more than one file, by device.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    edges: BTreeMap<u64, Vec<Edge>>,
}

impl Blocks {
    /// A thing has these blocks of a device.
    pub(super) fn add(&mut self, thing: usize, device: u64, ranges: &[Range<u64>]) {
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            let edges = self.edges.entry(device).or_default();
            edges.push((range.start, true, thing));
            edges.push((range.end, false, thing));
        }
    }

    /// What each of so many things has of them, and what all of them take.
    pub(super) fn count(self, things: usize) -> (Vec<OfSeveral>, u64) {
        let mut counted = vec![OfSeveral::default(); things];
        let mut total = 0;
        for mut edges in self.edges.into_values() {
            edges.sort_unstable();
            total += sweep(&edges, &mut counted);
        }
        (counted, total)
    }
}

/// From one edge to the next the same things have the same blocks.
fn sweep(edges: &[Edge], counted: &mut [OfSeveral]) -> u64 {
    let mut having: BTreeMap<usize, u32> = BTreeMap::new();
    let (mut at, mut total) = (0, 0);
    for &(edge, begins, thing) in edges {
        let bytes = edge - at;
        at = edge;
        if bytes > 0 && !having.is_empty() {
            total += bytes;
            let alone = having.len() == 1;
            for &thing in having.keys() {
                match alone {
                    true => counted[thing].unique += bytes,
                    false => counted[thing].shared += bytes,
                }
            }
        }
        let count = having.entry(thing).or_default();
        if begins {
            *count += 1;
        } else {
            *count = count.saturating_sub(1);
        }
        if *count == 0 {
            having.remove(&thing);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_once_and_belong_to_whom_has_them() {
        let check = |having: &[(usize, u64, Range<u64>)], wanted: &[(u64, u64)], all: u64| {
            let mut blocks = Blocks::default();
            for (thing, device, range) in having {
                blocks.add(*thing, *device, std::slice::from_ref(range));
            }
            let (counted, total) = blocks.count(wanted.len());
            let counted: Vec<_> = counted.iter().map(|one| (one.unique, one.shared)).collect();
            assert_eq!((&counted[..], total), (wanted, all), "{having:?}");
        };
        check(&[], &[(0, 0)], 0);
        // Two files of one thing.
        check(&[(0, 1, 0..8), (0, 1, 0..8)], &[(8, 0)], 8);
        // Two things, as far as they overlap.
        check(&[(0, 1, 0..8), (1, 1, 4..12)], &[(4, 4), (4, 4)], 12);
        // One after the other, and on two devices.
        check(&[(0, 1, 0..8), (1, 1, 8..12)], &[(8, 0), (4, 0)], 12);
        check(&[(0, 1, 0..8), (1, 2, 0..8)], &[(8, 0), (8, 0)], 16);
        // A file that is nobody's has the rest.
        check(&[(1, 1, 3..5)], &[(0, 0), (2, 0)], 2);
    }
}
