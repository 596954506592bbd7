//! Owns the size of an image: how many inodes and groups a tree needs, with room to spare that
//! costs nothing. Pure; an estimate from above, never the layout itself.

use super::node::{Directory, Kind};
use super::store::segments;
use super::tree::Tree;
use crate::ext4::{BLOCK_BYTES, GROUP_BYTES, Segment, Xattr};

const BLOCKS_PER_GROUP: u64 = GROUP_BYTES / BLOCK_BYTES;
/// Extents in one block of an extent tree, and in the inode itself.
const EXTENTS_PER_BLOCK: u64 = 340;
const EXTENTS_IN_INODE: u64 = 4;
/// Room for entries in a directory's block, and the longest entry.
const DIRECTORY_ROOM: u64 = 4084;
const LONGEST_ENTRY: u64 = 264;
/// Symbolic links up to this length live in their inode.
const FAST_SYMLINK: usize = 59;
/// More inodes in a group would not leave its table in one piece.
const MOST_INODES_PER_GROUP: u64 = 16_384;
const LEAST_INODES_PER_GROUP: u64 = 8192;
/// Inodes of the file system's own, and some to spare.
const OWN_INODES: u64 = 64;
/// Enough for a copy that is written to; nobody writes to the image itself.
pub(super) const JOURNAL_BLOCKS: u32 = 4096;
/// The root's copies, descriptors, what the writer makes and gives back, rounding.
const SLACK_BLOCKS: u64 = 128;

/// What a tree needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    blocks: u64,
    inodes: u64,
}

/// A size to make an image with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) groups: u64,
    pub(super) inodes: u32,
}

impl Size {
    pub(super) fn bytes(self) -> u64 {
        self.groups * GROUP_BYTES
    }
}

impl Needs {
    /// Counts every node that has a name, each once.
    pub(super) fn of(tree: &Tree, reachable: impl Iterator<Item = super::node::NodeId>) -> Self {
        let mut needs = Self {
            blocks: u64::from(JOURNAL_BLOCKS) + SLACK_BLOCKS,
            inodes: OWN_INODES,
        };
        for id in reachable {
            let node = tree.node(id);
            needs.inodes += 1;
            needs.blocks += xattr_blocks(&node.xattrs);
            needs.blocks += match &node.kind {
                Kind::Directory(directory) => with_extents(directory_blocks(directory), 1),
                Kind::File(content) => file_blocks(&segments(content)),
                Kind::Symlink(target) => u64::from(target.len() > FAST_SYMLINK),
                Kind::Special(_) => 0,
            };
        }
        needs
    }

    /// The bytes that the image holds, whatever its length.
    pub(super) fn bytes(self) -> u64 {
        self.blocks * BLOCK_BYTES
    }

    /// The least number of whole groups: the writer has no good end for some that are cut short.
    pub(super) fn size(self) -> Size {
        let least = self.inodes.div_ceil(MOST_INODES_PER_GROUP).max(1);
        let groups = (least..)
            .find(|groups| self.fits(*groups))
            .expect("groups have room");
        self.size_of(groups)
    }

    /// A size of more groups, should the estimate have failed.
    pub(super) fn size_of(self, groups: u64) -> Size {
        let inodes = groups * self.inodes_per_group(groups);
        Size {
            groups,
            inodes: u32::try_from(inodes).expect("entries are bounded far below"),
        }
    }

    fn inodes_per_group(self, groups: u64) -> u64 {
        self.inodes
            .div_ceil(groups)
            .next_multiple_of(16)
            .max(LEAST_INODES_PER_GROUP)
    }

    fn fits(self, groups: u64) -> bool {
        let descriptors = 1 + (groups * 32).div_ceil(BLOCK_BYTES);
        let tables = 2 + self.inodes_per_group(groups) / 16;
        // Copies of the descriptors are in few groups; as if they were in all, up to a bound.
        let copies = descriptors * groups.min(24);
        self.blocks + groups * tables + copies <= groups * BLOCKS_PER_GROUP
    }
}

fn file_blocks(segments: &[Segment]) -> u64 {
    let data = segments.iter().filter_map(|segment| match segment {
        Segment::Data(len) => Some(len.div_ceil(BLOCK_BYTES)),
        Segment::Hole(_) => None,
    });
    let (blocks, runs) = data.fold((0, 0), |(blocks, runs), run| (blocks + run, runs + 1));
    with_extents(blocks, runs)
}

/// Blocks with those of the extent tree: each run is cut by the tables of groups at worst.
fn with_extents(blocks: u64, runs: u64) -> u64 {
    let extents = runs + 2 * (blocks / BLOCKS_PER_GROUP) + 2;
    match extents > EXTENTS_IN_INODE {
        true => blocks + extents.div_ceil(EXTENTS_PER_BLOCK) + 2,
        false => blocks,
    }
}

/// A directory's blocks where each leaf wastes as much as it can.
fn directory_blocks(directory: &Directory) -> u64 {
    let entry = |name: &[u8]| (8 + name.len() as u64).next_multiple_of(4);
    let bytes: u64 = 64
        + directory
            .children()
            .map(|(name, _)| entry(name))
            .sum::<u64>();
    if bytes <= DIRECTORY_ROOM - LONGEST_ENTRY {
        return 1;
    }
    let leaves = bytes.div_ceil(DIRECTORY_ROOM - LONGEST_ENTRY) + 1;
    leaves + 1 + leaves.div_ceil(500)
}

/// One block at most, for what does not fit the inode.
fn xattr_blocks(xattrs: &[Xattr]) -> u64 {
    u64::from(!xattrs.is_empty())
}
