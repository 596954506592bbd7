//! Owns the books of a finished image: what is free, in bitmaps, descriptors and the superblock.
//! Knows no directory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use mkext4::csum;
use mkext4::spec::{GroupDesc, Superblock, bg_flags};

use super::groups::SUPERBLOCK_OFFSET;
use super::surgery::Theatre;
use super::{BLOCK_BYTES, Ext4Error};

const BLOCK: usize = BLOCK_BYTES as usize;
const BLOCKS_PER_GROUP: u64 = 32_768;

/// The counts and bitmaps that change when something is freed.
pub(super) struct Tally<'a> {
    theatre: &'a Theatre<'a>,
    superblock: Superblock,
    freed_blocks: u64,
    freed_inodes: u32,
}

impl<'a> Tally<'a> {
    pub(super) fn load(theatre: &'a Theatre<'a>) -> Result<Self, Ext4Error> {
        let superblock = theatre.fs.superblock().clone();
        Ok(Self {
            theatre,
            superblock,
            freed_blocks: 0,
            freed_inodes: 0,
        })
    }

    /// Descriptors are read from the file each time: freeing twice in a group must add up.
    fn desc(&self, group: u64) -> Result<GroupDesc, Ext4Error> {
        let mut raw = [0; 32];
        self.theatre
            .image
            .read_exact_at(&mut raw, desc_offset(group))
            .map_err(Ext4Error::Write)?;
        GroupDesc::decode(&raw).map_err(Ext4Error::from_writing)
    }

    fn put_desc(&self, group: u64, mut desc: GroupDesc) -> Result<(), Ext4Error> {
        let mut raw = [0; 32];
        desc.encode32(&mut raw);
        let number = u32::try_from(group).expect("groups are counted in 32 bits");
        desc.checksum = csum::group_desc(self.theatre.fs.fs_seed(), number, &raw);
        desc.encode32(&mut raw);
        self.theatre.put(desc_offset(group), &raw)
    }

    pub(super) fn free_inode(&mut self, inode: u32) -> Result<(), Ext4Error> {
        let per_group = self.superblock.inodes_per_group;
        let (group, index) = (u64::from((inode - 1) / per_group), (inode - 1) % per_group);
        let mut desc = self.desc(group)?;
        let mut bitmap = self.theatre.block(desc.inode_bitmap)?;
        clear_bit(&mut bitmap, index as usize);
        let sum = csum::inode_bitmap(self.theatre.fs.fs_seed(), &bitmap, per_group);
        self.theatre.put(desc.inode_bitmap * BLOCK_BYTES, &bitmap)?;
        desc.inode_bitmap_csum = u32::from(sum);
        desc.free_inodes_count += 1;
        desc.used_dirs_count -= 1;
        desc.flags &= !bg_flags::INODE_UNINIT;
        self.freed_inodes += 1;
        self.put_desc(group, desc)
    }

    pub(super) fn free_block(&mut self, block: u64) -> Result<(), Ext4Error> {
        let (group, index) = (block / BLOCKS_PER_GROUP, block % BLOCKS_PER_GROUP);
        let mut desc = self.desc(group)?;
        let mut bitmap = self.theatre.block(desc.block_bitmap)?;
        clear_bit(
            &mut bitmap,
            usize::try_from(index).expect("a group's blocks fit usize"),
        );
        let sum = csum::block_bitmap(self.theatre.fs.fs_seed(), &bitmap);
        self.theatre.put(desc.block_bitmap * BLOCK_BYTES, &bitmap)?;
        // The blocks of the directory itself hold nothing any more.
        self.theatre.put(block * BLOCK_BYTES, &[0; BLOCK])?;
        desc.block_bitmap_csum = u32::from(sum);
        desc.free_blocks_count += 1;
        self.freed_blocks += 1;
        self.put_desc(group, desc)
    }

    pub(super) fn store(mut self) -> Result<(), Ext4Error> {
        self.superblock.free_blocks_count += self.freed_blocks;
        self.superblock.free_inodes_count += self.freed_inodes;
        put_superblock(self.theatre.image, &mut self.superblock, SUPERBLOCK_OFFSET)
            .map_err(Ext4Error::Write)
    }
}

fn desc_offset(group: u64) -> u64 {
    BLOCK_BYTES + group * 32
}

fn clear_bit(bitmap: &mut [u8], index: usize) {
    bitmap[index / 8] &= !(1 << (index % 8));
}

/// Writes a superblock with its checksum.
pub(super) fn put_superblock(
    image: &File,
    superblock: &mut Superblock,
    offset: u64,
) -> io::Result<()> {
    let mut raw = [0; Superblock::LEN];
    superblock.encode(&mut raw);
    superblock.checksum = csum::superblock(&raw);
    superblock.encode(&mut raw);
    image.write_all_at(&raw, offset)
}
