//! Owns the inode tables of an image: what an inode's record looks like, and where it goes. Knows
//! no directory and no data.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use mkext4::csum;
use mkext4::spec::{self, file_type};

use super::bytes::put_u16;
use super::groups::bitmaps;
use super::space::INODES_PER_GROUP;
use super::{Attrs, BLOCK_BYTES, Ino, LINK_MAX};

const RECORD: usize = 256;
/// Records are gathered up to this much before they are written.
const GATHERED: usize = 256 << 10;
/// Where a record keeps the lower half of its checksum.
const CHECKSUM: usize = 0x7c;

/// What an inode's record says.
#[derive(Debug, Clone)]
pub(super) struct Record {
    attrs: Attrs,
    links: u32,
    /// As directories spell it.
    pub(super) kind: u8,
    pub(super) size: u64,
    /// Blocks of data, map and attributes.
    pub(super) blocks: u64,
    pub(super) flags: u32,
    pub(super) block: [u8; 60],
    pub(super) xattr_block: u64,
    pub(super) xattrs: Vec<u8>,
}

impl Record {
    pub(super) fn new(attrs: Attrs, links: u32) -> Self {
        Self {
            attrs,
            links,
            kind: 0,
            size: 0,
            blocks: 0,
            flags: 0,
            block: [0; 60],
            xattr_block: 0,
            xattrs: Vec::new(),
        }
    }

    /// One link stands for more than can be counted, which only directories may have.
    fn links_field(&self) -> u16 {
        match self.links <= LINK_MAX {
            true => u16::try_from(self.links).expect("65000 fits"),
            false => 1,
        }
    }

    fn encode(&self, ino: Ino, fs_seed: u32) -> [u8; RECORD] {
        let (secs, nanos) = (self.attrs.mtime.secs(), self.attrs.mtime.nanos());
        let (time, extra) = spec::Inode::encode_timestamp(secs, nanos);
        let mut inode = spec::Inode {
            mode: type_bits(self.kind) | self.attrs.mode,
            uid: self.attrs.uid,
            gid: self.attrs.gid,
            size: self.size,
            atime: time,
            ctime: time,
            mtime: time,
            crtime: time,
            atime_extra: extra,
            ctime_extra: extra,
            mtime_extra: extra,
            crtime_extra: extra,
            links_count: self.links_field(),
            // In sectors of 512 bytes.
            blocks: self.blocks * 8,
            flags: self.flags,
            block: self.block,
            file_acl: self.xattr_block,
            extra_isize: 32,
            ibody: self.xattrs.clone(),
            ..spec::Inode::default()
        };
        let mut raw = [0; RECORD];
        inode.encode(&mut raw);
        inode.checksum = csum::inode(fs_seed, ino.0, 0, &raw);
        inode.encode(&mut raw);
        raw
    }
}

fn type_bits(kind: u8) -> u16 {
    let bits = match kind {
        file_type::DIR => 0o4,
        file_type::SYMLINK => 0o12,
        file_type::CHR => 0o2,
        file_type::BLK => 0o6,
        file_type::FIFO => 0o1,
        _ => 0o10,
    };
    bits << 12
}

/// The tables of all groups, filled in ascending order.
pub(super) struct InodeTable<'a> {
    file: &'a File,
    fs_seed: u32,
    /// How many records were written.
    written: u32,
    pending: Vec<u8>,
    /// Directories in each group.
    directories: Vec<u32>,
}

impl<'a> InodeTable<'a> {
    /// Begins with the inodes that every file system has, which are empty until they are put.
    pub(super) fn new(file: &'a File, fs_seed: u32) -> Self {
        let mut pending = Vec::with_capacity(GATHERED);
        for ino in 1..Ino::FIRST_FREE.0 {
            let mut raw = [0; RECORD];
            let sum = csum::inode(fs_seed, ino, 0, &raw);
            put_u16(&mut raw, CHECKSUM, (sum & 0xffff) as u16);
            pending.extend_from_slice(&raw);
        }
        Self {
            file,
            fs_seed,
            written: 0,
            pending,
            directories: Vec::new(),
        }
    }

    /// Puts an inode: one of those that every file system has, or the next.
    pub(super) fn put(&mut self, ino: Ino, record: &Record) -> io::Result<()> {
        let raw = record.encode(ino, self.fs_seed);
        let index = ino.0 - 1 - self.written;
        let at = index as usize * RECORD;
        if at < self.pending.len() {
            self.pending[at..at + RECORD].copy_from_slice(&raw);
        } else {
            debug_assert_eq!(at, self.pending.len(), "inodes are put in ascending order");
            self.pending.extend_from_slice(&raw);
        }
        if record.kind == file_type::DIR {
            let group = ((ino.0 - 1) / INODES_PER_GROUP) as usize;
            if self.directories.len() <= group {
                self.directories.resize(group + 1, 0);
            }
            self.directories[group] += 1;
        }
        if self.pending.len() >= GATHERED {
            self.write_pending()?;
        }
        Ok(())
    }

    /// How many inodes there are, and how many directories in each group.
    pub(super) fn finish(&mut self) -> io::Result<(u32, Vec<u32>)> {
        self.write_pending()?;
        Ok((self.written, std::mem::take(&mut self.directories)))
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let mut rest = &self.pending[..];
        while !rest.is_empty() {
            let (group, index) = (
                self.written / INODES_PER_GROUP,
                self.written % INODES_PER_GROUP,
            );
            let room = (INODES_PER_GROUP - index) as usize * RECORD;
            let (records, behind) = rest.split_at(room.min(rest.len()));
            let table = (bitmaps(group) + 2) * BLOCK_BYTES;
            let at = table + u64::from(index) * RECORD as u64;
            self.file.write_all_at(records, at)?;
            self.written += u32::try_from(records.len() / RECORD).expect("a group's inodes");
            rest = behind;
        }
        self.pending.clear();
        Ok(())
    }
}
