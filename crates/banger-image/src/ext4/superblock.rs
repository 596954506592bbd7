//! Owns the last step of an image: bitmaps, descriptors and superblocks. Knows what is in use,
//! not by whom.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use mkext4::csum;
use mkext4::dirhash::seed_from_uuid;
use mkext4::spec::{
    BLOCKS_PER_GROUP, GroupDesc, Superblock, bg_flags, compat, incompat, ro_compat,
};

use super::bytes::BLOCK;
use super::disk::{write_descs, write_superblocks};
use super::groups::{Groups, META_BG};
use super::image::Identification;
use super::space::INODES_PER_GROUP;
use super::usage::Usage;
use super::{BLOCK_BYTES, FIXED_TIME, GROUP_BYTES};

/// Everything that the inodes' tables told.
pub(super) struct Counts {
    pub(super) inodes: u32,
    /// Directories in each group.
    pub(super) directories: Vec<u32>,
    pub(super) journal_blocks: u32,
    /// The journal's map, which the superblock repeats.
    pub(super) journal_map: [u8; 60],
}

/// Writes all that is not in a file; the file system's length in bytes.
pub(super) fn write(
    file: &File,
    groups: u32,
    usage: &mut Usage,
    counts: &Counts,
    who: &Identification,
) -> io::Result<u64> {
    let len = u64::from(groups) * GROUP_BYTES;
    file.set_len(len)?;
    let blocks = u64::from(groups) * u64::from(BLOCKS_PER_GROUP);
    let groups = Groups {
        count: groups,
        blocks,
        inodes_per_group: INODES_PER_GROUP,
    };
    let seed = csum::fs_seed(who.uuid.as_bytes());
    let descs = (0..groups.count)
        .map(|group| describe(file, &groups, group, usage, counts, seed))
        .collect::<io::Result<Vec<_>>>()?;
    write_descs(file, &groups, &descs, seed)?;
    let mut superblock = superblock(&groups, &descs, counts, who);
    write_superblocks(file, &groups, &mut superblock)?;
    Ok(len)
}

/// Writes a group's bitmaps and describes it.
fn describe(
    file: &File,
    groups: &Groups,
    group: u32,
    usage: &mut Usage,
    counts: &Counts,
    seed: u32,
) -> io::Result<GroupDesc> {
    usage.book(groups.start(group), groups.tables(group));
    let place = groups.bitmaps(group);
    let bitmap = usage.group_mut(group as usize);
    file.write_all_at(&bitmap[..], place * BLOCK_BYTES)?;
    let used: u32 = bitmap.iter().map(|byte| byte.count_ones()).sum();
    let first = group * INODES_PER_GROUP;
    let inodes = counts.inodes.saturating_sub(first).min(INODES_PER_GROUP);
    let (mut flags, mut inode_sum) = (bg_flags::INODE_ZEROED, 0);
    if inodes == 0 {
        flags |= bg_flags::INODE_UNINIT;
    } else {
        let inode_bitmap = inode_bitmap(inodes);
        file.write_all_at(&inode_bitmap, (place + 1) * BLOCK_BYTES)?;
        inode_sum = u32::from(csum::inode_bitmap(seed, &inode_bitmap, INODES_PER_GROUP));
    }
    Ok(GroupDesc {
        block_bitmap: place,
        inode_bitmap: place + 1,
        inode_table: place + 2,
        free_blocks_count: BLOCKS_PER_GROUP - used,
        free_inodes_count: INODES_PER_GROUP - inodes,
        used_dirs_count: counts.directories.get(group as usize).copied().unwrap_or(0),
        flags,
        block_bitmap_csum: u32::from(csum::block_bitmap(seed, &bitmap[..])),
        inode_bitmap_csum: inode_sum,
        itable_unused: INODES_PER_GROUP - inodes,
        ..GroupDesc::default()
    })
}

/// The first inodes are in use; bits that stand for no inode are set.
fn inode_bitmap(used: u32) -> [u8; BLOCK] {
    let mut bitmap = [0; BLOCK];
    let bits = BLOCK * 8;
    for bit in (0..used as usize).chain(INODES_PER_GROUP as usize..bits) {
        bitmap[bit / 8] |= 1 << (bit % 8);
    }
    bitmap
}

fn superblock(
    groups: &Groups,
    descs: &[GroupDesc],
    counts: &Counts,
    who: &Identification,
) -> Superblock {
    let free = |count: fn(&GroupDesc) -> u32| descs.iter().map(|desc| u64::from(count(desc))).sum();
    let free_blocks: u64 = free(|desc| desc.free_blocks_count);
    let free_inodes: u64 = free(|desc| desc.free_inodes_count);
    let tables: u64 = (0..groups.count).map(|group| groups.tables(group)).sum();
    let overhead = tables + u64::from(counts.journal_blocks);
    let time = u32::try_from(FIXED_TIME.secs()).expect("the year 2000");
    let mut volume_name = [0; 16];
    let label = who.label.as_str().as_bytes();
    volume_name[..label.len()].copy_from_slice(label);
    let uses_meta_bg = groups.uses_meta_bg();
    Superblock {
        inodes_count: groups.count * INODES_PER_GROUP,
        blocks_count: groups.blocks,
        r_blocks_count: 0,
        free_blocks_count: free_blocks,
        free_inodes_count: u32::try_from(free_inodes).expect("inodes are counted in 32 bits"),
        first_data_block: 0,
        log_block_size: 2,
        log_cluster_size: 2,
        blocks_per_group: BLOCKS_PER_GROUP,
        clusters_per_group: BLOCKS_PER_GROUP,
        inodes_per_group: INODES_PER_GROUP,
        mtime: 0,
        wtime: time,
        mnt_count: 0,
        max_mnt_count: 0xffff,
        state: 1,
        errors: 1,
        minor_rev_level: 0,
        lastcheck: time,
        checkinterval: 0,
        creator_os: 0,
        rev_level: 1,
        def_resuid: 0,
        def_resgid: 0,
        first_ino: 11,
        inode_size: 256,
        block_group_nr: 0,
        feature_compat: compat::WRITER,
        feature_incompat: incompat::WRITER | if uses_meta_bg { META_BG } else { 0 },
        feature_ro_compat: ro_compat::WRITER,
        uuid: *who.uuid.as_bytes(),
        volume_name,
        last_mounted: [0; 64],
        reserved_gdt_blocks: 0,
        journal_uuid: [0; 16],
        journal_inum: 8,
        journal_dev: 0,
        last_orphan: 0,
        hash_seed: seed_from_uuid(who.uuid.as_bytes()),
        // Half MD4, of names as signed characters.
        def_hash_version: 1,
        flags: 1,
        jnl_backup_type: 1,
        desc_size: 0,
        // User attributes and access control lists.
        default_mount_opts: 0x0c,
        first_meta_bg: u32::from(uses_meta_bg),
        mkfs_time: time,
        jnl_blocks: journal_copy(counts),
        min_extra_isize: 32,
        want_extra_isize: 32,
        log_groups_per_flex: 0,
        checksum_type: 1,
        kbytes_written: 0,
        overhead_clusters: u32::try_from(overhead).unwrap_or(0),
        lpf_ino: 0,
        checksum_seed: 0,
        checksum: 0,
    }
}

/// The journal's map and length, should its inode be lost.
fn journal_copy(counts: &Counts) -> [u32; 17] {
    let mut copy = [0; 17];
    let (words, _) = counts.journal_map.as_chunks::<4>();
    for (word, out) in words.iter().zip(&mut copy) {
        *out = u32::from_le_bytes(*word);
    }
    copy[16] = counts.journal_blocks * BLOCK as u32;
    copy
}
