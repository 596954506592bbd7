//! Owns which blocks of a file system are in use. Pure; knows no file.

use mkext4::spec::BLOCKS_PER_GROUP;

use super::bytes::BLOCK;
use super::space::Physical;

/// A bitmap for every group that anything was booked in.
#[derive(Debug, Default)]
pub(super) struct Usage {
    groups: Vec<Box<[u8; BLOCK]>>,
}

impl Usage {
    pub(super) fn book(&mut self, start: u64, len: u64) {
        for block in start..start + len {
            let (group, byte, bit) = place(block);
            self.group_mut(group)[byte] |= bit;
        }
    }

    /// The bitmap of a group.
    pub(super) fn group_mut(&mut self, group: usize) -> &mut [u8; BLOCK] {
        while self.groups.len() <= group {
            self.groups.push(Box::new([0; BLOCK]));
        }
        &mut self.groups[group]
    }

    /// The parts of a run that nobody booked.
    pub(super) fn gaps(&self, run: Physical) -> impl Iterator<Item = Physical> {
        let end = run.start + run.len;
        let mut at = run.start;
        std::iter::from_fn(move || {
            let start = (at..end).find(|block| !self.is_booked(*block))?;
            let stop = (start..end).find(|block| self.is_booked(*block));
            at = stop.unwrap_or(end);
            Some(Physical {
                start,
                len: at - start,
            })
        })
    }

    fn is_booked(&self, block: u64) -> bool {
        let (group, byte, bit) = place(block);
        self.groups
            .get(group)
            .is_some_and(|bitmap| bitmap[byte] & bit != 0)
    }
}

fn place(block: u64) -> (usize, usize, u8) {
    let per_group = u64::from(BLOCKS_PER_GROUP);
    let index = usize::try_from(block % per_group).expect("a group has 32768 blocks");
    let group = usize::try_from(block / per_group).expect("groups are counted in 32 bits");
    (group, index / 8, 1 << (index % 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_was_not_booked() {
        let mut usage = Usage::default();
        usage.book(10, 5);
        usage.book(32_768, 1);
        let check = |start, len, expected: &[(u64, u64)]| {
            let gaps = usage.gaps(Physical { start, len });
            let gaps: Vec<_> = gaps.map(|gap| (gap.start, gap.len)).collect();
            assert_eq!(gaps, expected);
        };
        check(10, 5, &[]);
        check(8, 10, &[(8, 2), (15, 3)]);
        check(32_760, 20, &[(32_760, 8), (32_769, 11)]);
        check(100_000, 2, &[(100_000, 2)]);
    }
}
