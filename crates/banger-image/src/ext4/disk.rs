//! Owns empty disks: a sparse file with a file system of the full size that costs only what is
//! written to it. Knows no VM, and does not decide how large a disk is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use mkext4::spec::{GroupDesc, Superblock, bg_flags};
use mkext4::{FsBuilder, InodeCount, RegionSink, csum};

use super::groups::{GROUPS_PER_DESC_BLOCK, Groups, META_BG, SUPERBLOCK_OFFSET, has_superblock};
use super::{BLOCK_BYTES, DiskError, Ext4Error, FIXED_TIME, FsUuid, GROUP_BYTES, Label};

/// The smallest disk with room for a journal.
pub const MIN_DISK_BYTES: u64 = 16 << 20;
/// The largest disk. Without 64-bit block numbers the format reaches just below 16 TiB, as does a
/// file on the host.
pub const MAX_DISK_BYTES: u64 = 15 << 40;

/// The part that the writer makes; all groups beyond it are of one simple shape, and are only
/// described. Two groups hold the longest journal that a disk gets.
const CORE_BYTES: u64 = 2 * GROUP_BYTES;
const INODES_PER_GROUP: u32 = 8192;

/// Creates `path`, which must not exist, as a sparse file of `size_bytes` with an empty ext4 file
/// system that fills it.
///
/// The file system has its full size from the start: a disk that grows in the guest would have
/// its inode tables written by the guest's kernel, which costs boot time and room on the host.
/// It is not synced: an empty disk that a crash of the host swallows holds nothing of anybody's.
pub fn create_empty(
    path: &Path,
    size_bytes: u64,
    label: &Label,
    uuid: FsUuid,
) -> Result<(), DiskError> {
    if !(MIN_DISK_BYTES..=MAX_DISK_BYTES).contains(&size_bytes) {
        return Err(DiskError::Size { size: size_bytes });
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| DiskError::Create {
            path: path.to_owned(),
            source,
        })?;
    format(&file, size_bytes, label, uuid).map_err(|source| {
        // Nobody has heard of the file yet, and the first failure is the one to report.
        let _ = std::fs::remove_file(path);
        DiskError::Format {
            path: path.to_owned(),
            source,
        }
    })
}

fn format(file: &File, size: u64, label: &Label, uuid: FsUuid) -> Result<(), Ext4Error> {
    file.set_len(size).map_err(Ext4Error::Write)?;
    let core = core_bytes(size);
    // A disk below one group gets the usual inode for every 16 KiB.
    let inodes = core.div_ceil(GROUP_BYTES) * u64::from(INODES_PER_GROUP).min(core / 16_384);
    let mut options = mkext4::Options::new(core, *uuid.as_bytes(), FIXED_TIME.secs());
    options.label = Some(label.as_str().to_owned());
    options.inodes = InodeCount::Exact(u32::try_from(inodes).expect("a core has two groups"));
    options.journal_blocks = Some(journal_blocks(size));
    options.reserved_percent = 0;
    let layout = FsBuilder::new(options)
        .and_then(FsBuilder::seal)
        .map_err(|source| Ext4Error::Layout { size: core, source })?;
    let writer = layout
        .writer(SparseFile(file))
        .map_err(Ext4Error::from_writing)?;
    writer.finish().map_err(Ext4Error::from_writing)?;
    if core.is_multiple_of(GROUP_BYTES) && size > core {
        extend(file, size / BLOCK_BYTES)?;
    }
    Ok(())
}

/// Whole groups wherever there is one: the writer has no good end for some that are cut short.
fn core_bytes(size: u64) -> u64 {
    match size {
        CORE_BYTES.. => CORE_BYTES,
        GROUP_BYTES..CORE_BYTES => GROUP_BYTES,
        0..GROUP_BYTES => size / BLOCK_BYTES * BLOCK_BYTES,
    }
}

/// As `mke2fs` does it up to 64 MiB. More is only taken from the host: over time every block of
/// a journal gets written.
fn journal_blocks(size: u64) -> u32 {
    match size / BLOCK_BYTES {
        0..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        _ => 16_384,
    }
}

/// Describes the groups after the core and writes the superblocks and descriptors anew.
fn extend(file: &File, blocks: u64) -> Result<(), Ext4Error> {
    let (mut superblock, core) = read_core(file)?;
    let groups = Groups::new(blocks, superblock.inodes_per_group);
    let seed = csum::fs_seed(&superblock.uuid);
    let mut descs = core;
    for group in u32::try_from(descs.len()).expect("a core has two groups")..groups.count {
        let desc = groups.untouched(group);
        superblock.free_blocks_count += u64::from(desc.free_blocks_count);
        superblock.overhead_clusters +=
            u32::try_from(groups.tables(group)).expect("a group has 32768 blocks");
        descs.push(desc);
    }
    if let Some(last) = descs
        .last_mut()
        .filter(|last| last.flags & bg_flags::BLOCK_UNINIT != 0)
    {
        write_last_bitmap(file, &groups, last, seed)?;
    }
    superblock.blocks_count = groups.blocks;
    superblock.inodes_count = groups.count * groups.inodes_per_group;
    superblock.free_inodes_count = descs.iter().map(|desc| desc.free_inodes_count).sum();
    if groups.uses_meta_bg() {
        superblock.feature_incompat |= META_BG;
        superblock.first_meta_bg = 1;
    }
    write_descs(file, &groups, &descs, seed).map_err(Ext4Error::Write)?;
    write_superblocks(file, &groups, &mut superblock).map_err(Ext4Error::Write)
}

fn read_core(file: &File) -> Result<(Superblock, Vec<GroupDesc>), Ext4Error> {
    let mut raw = vec![0; 2 * usize::try_from(BLOCK_BYTES).expect("a block fits usize")];
    file.read_exact_at(&mut raw, 0).map_err(Ext4Error::Write)?;
    let superblock = Superblock::decode(&raw[1024..2048]).map_err(Ext4Error::Complete)?;
    let count = usize::try_from(superblock.group_count()).expect("a core has two groups");
    let descs = raw[4096..]
        .chunks_exact(32)
        .take(count)
        .map(GroupDesc::decode)
        .collect::<Result<_, _>>()
        .map_err(Ext4Error::Complete)?;
    Ok((superblock, descs))
}

/// The last group may be short, which its bitmap has to say: the kernel and `e2fsck` both want
/// it to exist there.
fn write_last_bitmap(
    file: &File,
    groups: &Groups,
    desc: &mut GroupDesc,
    seed: u32,
) -> Result<(), Ext4Error> {
    let group = groups.count - 1;
    let index = |blocks: u64| usize::try_from(blocks).expect("a group has 32768 blocks");
    let (tables, len) = (index(groups.tables(group)), index(groups.len(group)));
    let mut bitmap = [0_u8; 4096];
    for bit in (0..tables).chain(len..bitmap.len() * 8) {
        bitmap[bit / 8] |= 1 << (bit % 8);
    }
    desc.flags &= !bg_flags::BLOCK_UNINIT;
    desc.block_bitmap_csum = u32::from(csum::block_bitmap(seed, &bitmap));
    file.write_all_at(&bitmap, desc.block_bitmap * BLOCK_BYTES)
        .map_err(Ext4Error::Write)
}

pub(super) fn write_descs(
    file: &File,
    groups: &Groups,
    descs: &[GroupDesc],
    seed: u32,
) -> io::Result<()> {
    let mut group = 0;
    for (index, chunk) in (0..).zip(descs.chunks(GROUPS_PER_DESC_BLOCK as usize)) {
        let mut block = [0; 4096];
        for (desc, raw) in chunk.iter().zip(block.chunks_exact_mut(32)) {
            let mut desc = desc.clone();
            desc.encode32(raw);
            desc.checksum = csum::group_desc(seed, group, raw);
            desc.encode32(raw);
            group += 1;
        }
        for home in groups.homes_of_desc_block(index) {
            let at = groups.start(home) + u64::from(has_superblock(home));
            file.write_all_at(&block, at * BLOCK_BYTES)?;
        }
    }
    Ok(())
}

pub(super) fn write_superblocks(
    file: &File,
    groups: &Groups,
    superblock: &mut Superblock,
) -> io::Result<()> {
    for group in (0..groups.count).filter(|group| has_superblock(*group)) {
        let offset = match group {
            0 => SUPERBLOCK_OFFSET,
            _ => groups.start(group) * BLOCK_BYTES,
        };
        // The field has 16 bits and is informational; ext4 itself lets it wrap.
        superblock.block_group_nr = (group & 0xffff) as u16;
        put_superblock(file, superblock, offset)?;
    }
    Ok(())
}

/// Writes a superblock with its checksum.
fn put_superblock(file: &File, superblock: &mut Superblock, offset: u64) -> io::Result<()> {
    let mut raw = [0; Superblock::LEN];
    superblock.encode(&mut raw);
    superblock.checksum = csum::superblock(&raw);
    superblock.encode(&mut raw);
    file.write_all_at(&raw, offset)
}

/// A file of the full length whose zeros are never written.
struct SparseFile<'a>(&'a File);

impl RegionSink for SparseFile<'_> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn zeros(&mut self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}
