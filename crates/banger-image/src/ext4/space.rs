//! Owns the numbering of the blocks that can hold data: those of all groups behind the groups' own
//! tables, counted through. Since tables have a fixed length, data finds its place before anybody
//! knows how much of it there will be. Pure; knows no file.

use mkext4::spec::BLOCKS_PER_GROUP;

use super::groups::tables;

/// Inodes in every group of an image: the usual one for every 16 KiB.
pub(super) const INODES_PER_GROUP: u32 = 8192;

/// Blocks of the file system that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Physical {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// The map from numbers of data blocks to blocks of the file system.
#[derive(Debug, Clone, Default)]
pub(crate) struct Space {
    /// The number of each group's first data block, as far as anybody asked.
    firsts: Vec<u64>,
}

impl Space {
    /// Where data blocks lie; they are cut where a group's tables stand between them.
    pub(crate) fn locate(&mut self, first: u64, count: u64) -> impl Iterator<Item = Physical> {
        self.reach(first + count);
        let firsts = &self.firsts;
        let mut group = firsts.partition_point(|start| *start <= first) - 1;
        let (mut at, end) = (first, first + count);
        std::iter::from_fn(move || {
            if at == end {
                return None;
            }
            let len = end.min(firsts[group + 1]) - at;
            let start = block_of(group, at - firsts[group]);
            at += len;
            group += 1;
            Some(Physical { start, len })
        })
    }

    /// How many groups hold the data blocks below `end`.
    pub(super) fn groups(&mut self, end: u64) -> u32 {
        self.reach(end);
        let groups = self.firsts.partition_point(|start| *start < end).max(1);
        u32::try_from(groups).expect("sizes are bounded far below")
    }

    /// Makes sure that the group behind data block `end` is known.
    fn reach(&mut self, end: u64) {
        if self.firsts.is_empty() {
            self.firsts.push(0);
        }
        while self.firsts.last().is_some_and(|last| *last <= end) {
            let group = self.firsts.len() - 1;
            let room = u64::from(BLOCKS_PER_GROUP) - tables_of(group);
            self.firsts.push(self.firsts[group] + room);
        }
    }
}

fn tables_of(group: usize) -> u64 {
    let group = u32::try_from(group).expect("sizes are bounded far below");
    tables(group, INODES_PER_GROUP)
}

fn block_of(group: usize, index: u64) -> u64 {
    group as u64 * u64::from(BLOCKS_PER_GROUP) + tables_of(group) + index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(first: u64, count: u64, expected: &[(u64, u64)]) {
        let found: Vec<_> = Space::default()
            .locate(first, count)
            .map(|run| (run.start, run.len))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn data_goes_around_the_tables_of_groups() {
        // Groups 0 and 1 have a superblock and descriptors before bitmaps and inode table.
        let (with_copy, without) = (516, 514);
        let room = 32_768 - with_copy;
        check(0, 1, &[(with_copy, 1)]);
        check(room - 1, 2, &[(32_767, 1), (32_768 + with_copy, 1)]);
        check(2 * room, 5, &[(65_536 + without, 5)]);
        check(7, 0, &[]);
        check(
            0,
            2 * room + 1,
            &[
                (with_copy, room),
                (32_768 + with_copy, room),
                (65_536 + without, 1),
            ],
        );
    }

    #[test]
    fn groups_are_counted_by_what_they_hold() {
        let room = 32_768 - 516;
        let mut space = Space::default();
        assert_eq!(
            [0, 1, room, room + 1, 2 * room + 1].map(|end| space.groups(end)),
            [1, 1, 1, 2, 3]
        );
    }
}
