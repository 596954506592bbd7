//! Owns the few changes to a finished image that its writer has no words for: names and link
//! targets that are not UTF-8, and an image without a `/lost+found` that its tree lacks.
//! Knows ext4's structures as `mkext4` lays them out here (32-byte descriptors, no `meta_bg`).

use std::fs::File;
use std::os::unix::fs::FileExt;

use mkext4::csum;
use mkext4::reader::Fs;
use mkext4::spec::{DirentIter, dirent, iflags};

use super::mkfs::Renames;
use super::tally::Tally;
use super::{BLOCK_BYTES, Ext4Error};

const BLOCK: usize = BLOCK_BYTES as usize;
const ROOT_INODE: u32 = 2;
const LOST_FOUND_INODE: u32 = 11;
const LOST_FOUND: &[u8] = b"lost+found";
/// Targets up to this length live in the inode itself.
const FAST_SYMLINK_MAX: usize = 59;
/// Where an inode keeps its link count, flags, block map and the halves of its checksum.
const I_LINKS: usize = 0x1a;
const I_FLAGS: usize = 0x20;
const I_BLOCK: usize = 0x28;
const I_CHECKSUM_LO: usize = 0x7c;
const I_CHECKSUM_HI: usize = 0x82;

/// What is to be changed once the image is written.
#[derive(Debug, Default)]
pub(super) struct Amendments {
    renames: Renames,
    targets: Vec<(u32, Box<[u8]>)>,
}

impl Amendments {
    pub(super) fn rename(&mut self, directory: u32, stand_in: &str, name: &[u8]) {
        self.renames
            .entry(directory)
            .or_default()
            .insert(stand_in.to_owned(), name.into());
    }

    pub(super) fn retarget(&mut self, symlink: u32, target: &[u8]) {
        self.targets.push((symlink, target.into()));
    }
}

/// Removes the writer's `/lost+found`, then puts real names and targets in place.
pub(super) fn amend(image: &File, amendments: &Amendments) -> Result<(), Ext4Error> {
    let theatre = Theatre {
        fs: Fs::open(image).map_err(Ext4Error::from_writing)?,
        image,
    };
    theatre.remove_lost_found()?;
    for (directory, names) in &amendments.renames {
        theatre.rename(*directory, names)?;
    }
    for (symlink, target) in &amendments.targets {
        theatre.retarget(*symlink, target)?;
    }
    Ok(())
}

pub(super) struct Theatre<'a> {
    pub(super) fs: Fs<&'a File>,
    pub(super) image: &'a File,
}

impl Theatre<'_> {
    /// The blocks of a file in their logical order.
    fn blocks(&self, inode: u32) -> Result<Vec<u64>, Ext4Error> {
        let read = || {
            let decoded = self.fs.inode(inode)?;
            self.fs.extents(inode, &decoded)
        };
        let extents = read().map_err(Ext4Error::from_writing)?;
        Ok(extents
            .iter()
            .flat_map(|e| e.physical..e.physical + u64::from(e.len))
            .collect())
    }

    pub(super) fn block(&self, number: u64) -> Result<Vec<u8>, Ext4Error> {
        self.fs.read_block(number).map_err(Ext4Error::from_writing)
    }

    pub(super) fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Ext4Error> {
        self.image
            .write_all_at(bytes, offset)
            .map_err(Ext4Error::Write)
    }

    fn put_directory_block(
        &self,
        inode: u32,
        number: u64,
        block: &mut [u8],
    ) -> Result<(), Ext4Error> {
        let seed = csum::inode_seed(self.fs.fs_seed(), inode, 0);
        let sum = csum::dirent_block(seed, block);
        block[BLOCK - 4..].copy_from_slice(&sum.to_le_bytes());
        self.put(number * BLOCK_BYTES, block)
    }

    fn inode_offset(&self, inode: u32) -> Result<u64, Ext4Error> {
        let per_group = self.fs.superblock().inodes_per_group;
        let (group, index) = ((inode - 1) / per_group, (inode - 1) % per_group);
        let desc = self
            .fs
            .group_desc(u64::from(group))
            .map_err(Ext4Error::from_writing)?;
        Ok(desc.inode_table * BLOCK_BYTES + u64::from(index) * 256)
    }

    fn change_inode(&self, inode: u32, change: impl FnOnce(&mut [u8])) -> Result<(), Ext4Error> {
        let mut raw = self.fs.inode_raw(inode).map_err(Ext4Error::from_writing)?;
        change(&mut raw);
        let sum = csum::inode(self.fs.fs_seed(), inode, 0, &raw).to_le_bytes();
        raw[I_CHECKSUM_LO..I_CHECKSUM_LO + 2].copy_from_slice(&sum[..2]);
        raw[I_CHECKSUM_HI..I_CHECKSUM_HI + 2].copy_from_slice(&sum[2..]);
        self.put(self.inode_offset(inode)?, &raw)
    }

    /// A real name hashes otherwise than its stand-in, so an indexed directory becomes a plain
    /// one: its leaves are plain blocks already, only the index has to go.
    fn rename(
        &self,
        directory: u32,
        names: &std::collections::BTreeMap<String, Box<[u8]>>,
    ) -> Result<(), Ext4Error> {
        let decoded = self.fs.inode(directory).map_err(Ext4Error::from_writing)?;
        let indexed = decoded.flags & iflags::INDEX != 0;
        for (logical, number) in self.blocks(directory)?.into_iter().enumerate() {
            let mut block = self.block(number)?;
            if indexed && logical == 0 {
                flatten_index_root(&mut block);
            } else if indexed && is_index_node(&block) {
                clear_index_node(&mut block);
            }
            for entry in entries(&block)? {
                let name = &block[entry.offset + 8..entry.offset + 8 + entry.name_len];
                let real = std::str::from_utf8(name)
                    .ok()
                    .and_then(|name| names.get(name));
                if let Some(real) = real {
                    put_name(&mut block, &entry, real);
                }
            }
            self.put_directory_block(directory, number, &mut block)?;
        }
        if indexed {
            self.change_inode(directory, |raw| {
                let flags = (decoded.flags & !iflags::INDEX).to_le_bytes();
                raw[I_FLAGS..I_FLAGS + 4].copy_from_slice(&flags);
            })?;
        }
        Ok(())
    }

    fn retarget(&self, symlink: u32, target: &[u8]) -> Result<(), Ext4Error> {
        if target.len() <= FAST_SYMLINK_MAX {
            return self.change_inode(symlink, |raw| {
                raw[I_BLOCK..I_BLOCK + target.len()].copy_from_slice(target);
            });
        }
        let blocks = self.blocks(symlink)?;
        let number = blocks.first().ok_or(Ext4Error::Missing {
            what: "a symlink's block",
        })?;
        self.put(number * BLOCK_BYTES, target)
    }

    /// Takes `/lost+found` out of the root directory and frees its inode and blocks. The copies
    /// of the superblock keep their counts: nobody but a repair reads those, and it recounts.
    fn remove_lost_found(&self) -> Result<(), Ext4Error> {
        let blocks = self.blocks(LOST_FOUND_INODE)?;
        self.unlink_lost_found()?;
        self.change_inode(ROOT_INODE, |raw| {
            let links = u16::from_le_bytes([raw[I_LINKS], raw[I_LINKS + 1]]);
            // One link stands for "too many to count", which one less does not change.
            let links = if links > 2 { links - 1 } else { links };
            raw[I_LINKS..I_LINKS + 2].copy_from_slice(&links.to_le_bytes());
        })?;
        self.put(self.inode_offset(LOST_FOUND_INODE)?, &[0; 256])?;
        let mut tally = Tally::load(self)?;
        tally.free_inode(LOST_FOUND_INODE)?;
        for block in blocks {
            tally.free_block(block)?;
        }
        tally.store()
    }

    fn unlink_lost_found(&self) -> Result<(), Ext4Error> {
        for number in self.blocks(ROOT_INODE)? {
            let mut block = self.block(number)?;
            if !is_index_node(&block) && unlink(&mut block, LOST_FOUND)? {
                return self.put_directory_block(ROOT_INODE, number, &mut block);
            }
        }
        Err(Ext4Error::Missing {
            what: "/lost+found",
        })
    }
}

/// Where an entry's record lies in its block.
struct Record {
    offset: usize,
    rec_len: usize,
    name_len: usize,
}

fn entries(block: &[u8]) -> Result<Vec<Record>, Ext4Error> {
    DirentIter::new(block)
        .map(|entry| {
            let entry = entry.map_err(Ext4Error::from_writing)?;
            Ok(Record {
                offset: entry.offset,
                rec_len: usize::from(entry.rec_len),
                name_len: entry.name.len(),
            })
        })
        .collect()
}

/// Stand-ins have the room of their names, so a record never grows.
fn put_name(block: &mut [u8], entry: &Record, name: &[u8]) {
    let room = dirent::rec_len_for(entry.name_len) - 8;
    block[entry.offset + 6] = u8::try_from(name.len()).expect("a name has at most 255 bytes");
    let field = &mut block[entry.offset + 8..entry.offset + 8 + room];
    field.fill(0);
    field[..name.len()].copy_from_slice(name);
}

/// Removes a name from a block: the record before it swallows its record.
fn unlink(block: &mut [u8], name: &[u8]) -> Result<bool, Ext4Error> {
    let records = entries(block)?;
    let found = records
        .iter()
        .position(|r| &block[r.offset + 8..r.offset + 8 + r.name_len] == name);
    let Some(found) = found else { return Ok(false) };
    let record = &records[found];
    match found.checked_sub(1).map(|before| &records[before]) {
        Some(before) => {
            let merged = u16::try_from(before.rec_len + record.rec_len).expect("a block's length");
            block[before.offset + 4..before.offset + 6].copy_from_slice(&merged.to_le_bytes());
        }
        None => block[record.offset..record.offset + 4].fill(0),
    }
    Ok(true)
}

/// An inner node of an index: one unused record over the whole block.
fn is_index_node(block: &[u8]) -> bool {
    block[..4] == [0; 4] && usize::from(u16::from_le_bytes([block[4], block[5]])) == BLOCK
}

fn clear_index_node(block: &mut [u8]) {
    block.fill(0);
    put_rec_len(block, 0, BLOCK - 12);
    put_tail(block);
}

/// Keeps `.` and `..`, and lets the latter span what the index held.
fn flatten_index_root(block: &mut [u8]) {
    block[24..].fill(0);
    put_rec_len(block, 12, BLOCK - 12 - 12);
    put_tail(block);
}

fn put_rec_len(block: &mut [u8], record: usize, len: usize) {
    let len = u16::try_from(len).expect("a block's length");
    block[record + 4..record + 6].copy_from_slice(&len.to_le_bytes());
}

/// The record that hides a directory block's checksum.
fn put_tail(block: &mut [u8]) {
    put_rec_len(block, BLOCK - 12, 12);
    block[BLOCK - 12 + 7] = 0xde;
}
