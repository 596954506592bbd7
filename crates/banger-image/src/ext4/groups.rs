//! Owns the arithmetic of block groups beyond those that the writer makes: which hold copies of
//! the superblock and of descriptors, and what is free in them. Pure; knows no file.

use mkext4::spec::{BLOCKS_PER_GROUP, GroupDesc, bg_flags};

/// Where the primary superblock lies.
pub(super) const SUPERBLOCK_OFFSET: u64 = 1024;
/// Descriptors of 32 bytes in one block; beyond that many groups each further block of
/// descriptors lies in the groups that it describes (`meta_bg`).
pub(super) const GROUPS_PER_DESC_BLOCK: u32 = 128;
/// `meta_bg` among the incompatible features.
pub(super) const META_BG: u32 = 0x10;
/// A last group with less free room than this is not worth having.
const LEAST_FREE: u64 = 64;

/// A file system's division into groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) count: u32,
    /// All blocks; a last group too small for its own tables is left out.
    pub(super) blocks: u64,
    pub(super) inodes_per_group: u32,
}

impl Groups {
    pub(super) fn new(blocks: u64, inodes_per_group: u32) -> Self {
        let per_group = u64::from(BLOCKS_PER_GROUP);
        let count = |blocks: u64| {
            u32::try_from(blocks.div_ceil(per_group)).expect("sizes are bounded at the edge")
        };
        let all = Self {
            count: count(blocks),
            blocks,
            inodes_per_group,
        };
        let last = all.count - 1;
        let rest = all.len(last);
        if rest < all.tables(last) + LEAST_FREE {
            let blocks = blocks - rest;
            return Self {
                count: count(blocks),
                blocks,
                inodes_per_group,
            };
        }
        all
    }

    pub(super) fn start(&self, group: u32) -> u64 {
        start(group)
    }

    pub(super) fn len(&self, group: u32) -> u64 {
        (self.blocks - self.start(group)).min(u64::from(BLOCKS_PER_GROUP))
    }

    pub(super) fn uses_meta_bg(&self) -> bool {
        self.count > GROUPS_PER_DESC_BLOCK
    }

    /// The blocks at the start of a group that can hold no file.
    pub(super) fn tables(&self, group: u32) -> u64 {
        tables(group, self.inodes_per_group)
    }

    /// Where a group's block bitmap lies; its inode bitmap and inode table follow.
    pub(super) fn bitmaps(&self, group: u32) -> u64 {
        bitmaps(group)
    }

    /// An untouched group with its tables in itself. The kernel makes up both bitmaps when it
    /// first needs them, and takes the inode table for zeros, which the holes of the file are.
    pub(super) fn untouched(&self, group: u32) -> GroupDesc {
        let bitmaps = self.bitmaps(group);
        let free = self.len(group) - self.tables(group);
        GroupDesc {
            block_bitmap: bitmaps,
            inode_bitmap: bitmaps + 1,
            inode_table: bitmaps + 2,
            free_blocks_count: u32::try_from(free).expect("a group has 32768 blocks"),
            free_inodes_count: self.inodes_per_group,
            flags: bg_flags::INODE_UNINIT | bg_flags::BLOCK_UNINIT | bg_flags::INODE_ZEROED,
            itable_unused: self.inodes_per_group,
            ..GroupDesc::default()
        }
    }

    /// The groups that hold a copy of block `index` of the descriptors.
    pub(super) fn homes_of_desc_block(&self, index: u32) -> Vec<u32> {
        let first = index * GROUPS_PER_DESC_BLOCK;
        if index == 0 {
            let end = self.count.min(GROUPS_PER_DESC_BLOCK);
            return (0..end).filter(|group| has_superblock(*group)).collect();
        }
        [first, first + 1, first + GROUPS_PER_DESC_BLOCK - 1]
            .into_iter()
            .filter(|group| *group < self.count)
            .collect()
    }
}

/// The blocks at the start of a group that can hold no file, where inodes take 256 bytes each.
pub(super) fn tables(group: u32, inodes_per_group: u32) -> u64 {
    let inode_table = u64::from(inodes_per_group / 16);
    u64::from(has_superblock(group)) + desc_blocks(group) + 2 + inode_table
}

fn start(group: u32) -> u64 {
    u64::from(group) * u64::from(BLOCKS_PER_GROUP)
}

/// Where a group's block bitmap lies; its inode bitmap and inode table follow.
pub(super) fn bitmaps(group: u32) -> u64 {
    start(group) + u64::from(has_superblock(group)) + desc_blocks(group)
}

/// The blocks of descriptors that a group holds: copies of the first block beside each copy of
/// the superblock, and further ones in the first, second and last group of their own.
fn desc_blocks(group: u32) -> u64 {
    if group < GROUPS_PER_DESC_BLOCK {
        return u64::from(has_superblock(group));
    }
    let place = group % GROUPS_PER_DESC_BLOCK;
    u64::from(matches!(place, 0 | 1) || place == GROUPS_PER_DESC_BLOCK - 1)
}

/// `sparse_super`: copies live in groups 0, 1 and the powers of 3, 5 and 7.
pub(super) fn has_superblock(group: u32) -> bool {
    let power_of = |base: u32| {
        let mut rest = group;
        while rest > 1 && rest.is_multiple_of(base) {
            rest /= base;
        }
        rest == 1
    };
    group <= 1 || [3, 5, 7].into_iter().any(power_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_the_superblock_are_where_sparse_super_puts_them() {
        let found: Vec<_> = (0..350).filter(|group| has_superblock(*group)).collect();
        assert_eq!(found, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343]);
    }

    #[test]
    fn a_last_group_without_room_is_left_out() {
        let check =
            |blocks: u64, expected: u64| assert_eq!(Groups::new(blocks, 8192).blocks, expected);
        check(65_536, 65_536);
        check(65_536 + 100, 65_536);
        check(65_536 + 2000, 65_536 + 2000);
    }

    #[test]
    fn descriptors_beyond_the_first_block_live_in_their_own_groups() {
        let groups = Groups::new(300 * 32_768, 8192);
        assert!(groups.uses_meta_bg());
        assert_eq!(groups.homes_of_desc_block(1), [128, 129, 255]);
        assert_eq!(groups.homes_of_desc_block(2), [256, 257]);
        assert_eq!(groups.untouched(130).block_bitmap, 130 * 32_768);
        assert_eq!(groups.untouched(129).block_bitmap, 129 * 32_768 + 1);
        assert_eq!(groups.untouched(243).block_bitmap, 243 * 32_768 + 1);
    }
}
