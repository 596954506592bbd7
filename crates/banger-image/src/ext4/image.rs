//! Owns the making of an image around data that is in it already: inodes, directories, bitmaps,
//! descriptors, the journal. Knows no tree: whoever has one gives inode after inode.

use std::fs::File;
use std::os::unix::fs::FileExt;

use mkext4::csum;
use mkext4::dirhash::{HashSeed, seed_from_uuid};
use mkext4::spec::{JournalSuperblock, file_type, iflags};

use super::blocks::BlockStream;
use super::bytes::{BLOCK, put_u32};
use super::directory::{self, Identity};
use super::extents::{self, Mapped, Root};
use super::space::{INODES_PER_GROUP, Physical, Space};
use super::superblock::{self, Counts};
use super::table::{InodeTable, Record};
use super::usage::Usage;
use super::xattr::shares;
use super::{
    Attrs, BLOCK_BYTES, Ext4Error, FIXED_TIME, FsUuid, Ino, Inode, Kind, Label, Name, Run, Special,
    xattr_room,
};

/// Enough for a copy that is written to; nobody writes to the image itself.
const JOURNAL_BLOCKS: u32 = 4096;
const JOURNAL_INO: Ino = Ino(8);
/// The number of the first data block that is not the journal's.
pub(crate) const FIRST_DATA_BLOCK: u64 = JOURNAL_BLOCKS as u64;

/// Who a file system is.
#[derive(Debug, Clone)]
pub(crate) struct Identification {
    pub(crate) uuid: FsUuid,
    pub(crate) label: Label,
}

/// A file system whose data is in place and whose inodes are being put.
pub(crate) struct Finishing<'a> {
    file: &'a File,
    blocks: &'a mut BlockStream,
    space: Space,
    table: InodeTable<'a>,
    usage: Usage,
    who: Identification,
    fs_seed: u32,
    hash_seed: HashSeed,
    /// Data blocks up to here may be in no file that is left.
    data_end: u64,
    journal_map: [u8; 60],
}

impl<'a> Finishing<'a> {
    /// Begins with the journal; every other inode is put by the caller, in ascending order.
    pub(crate) fn begin(
        file: &'a File,
        blocks: &'a mut BlockStream,
        who: Identification,
    ) -> Result<Self, Ext4Error> {
        let data_end = blocks.position();
        let fs_seed = csum::fs_seed(who.uuid.as_bytes());
        let mut this = Self {
            file,
            blocks,
            space: Space::default(),
            table: InodeTable::new(file, fs_seed),
            usage: Usage::default(),
            fs_seed,
            hash_seed: seed_from_uuid(who.uuid.as_bytes()),
            who,
            data_end,
            journal_map: [0; 60],
        };
        this.put_journal()?;
        Ok(this)
    }

    /// Writes an inode and the blocks that belong to it.
    pub(crate) fn put(&mut self, ino: Ino, inode: &Inode<'_>) -> Result<(), Ext4Error> {
        let shares = shares(inode.xattrs).map_err(Ext4Error::Xattr)?;
        let mut record = Record::new(inode.attrs, inode.links);
        record.xattrs = xattr_room::in_inode(&shares.inode);
        if !shares.block.is_empty() {
            let number = self.next_block();
            let block = xattr_room::in_block(&shares.block, self.fs_seed, number);
            record.xattr_block = self.add_block(&block)?;
            record.blocks += 1;
        }
        match &inode.kind {
            Kind::Directory { parent, names } => {
                self.directory(ino, *parent, names, &mut record)?;
            }
            Kind::File { len, runs } => {
                record.kind = file_type::REG;
                record.size = *len;
                self.map(ino, runs, &mut record)?;
            }
            Kind::Symlink(target) => self.symlink(ino, target, &mut record)?,
            Kind::Special(special) => describe_special(*special, &mut record),
        }
        self.table.put(ino, &record).map_err(Ext4Error::Write)
    }

    /// Completes the file system; its length in bytes.
    pub(crate) fn complete(mut self) -> Result<u64, Ext4Error> {
        let (inodes, directories) = self.table.finish().map_err(Ext4Error::Write)?;
        let end = self.blocks.position();
        self.blocks.settle().map_err(Ext4Error::Write)?;
        let groups = self
            .space
            .groups(end)
            .max(inodes.div_ceil(INODES_PER_GROUP));
        self.punch_dead()?;
        let counts = Counts {
            inodes,
            directories,
            journal_blocks: JOURNAL_BLOCKS,
            journal_map: self.journal_map,
        };
        superblock::write(self.file, groups, &mut self.usage, &counts, &self.who)
            .map_err(Ext4Error::Write)
    }

    /// Data that no file has any more must not stay behind: equal trees give equal bytes.
    fn punch_dead(&mut self) -> Result<(), Ext4Error> {
        let count = self.data_end - FIRST_DATA_BLOCK;
        for run in self.space.locate(FIRST_DATA_BLOCK, count) {
            for dead in self.usage.gaps(run) {
                zero(self.file, dead).map_err(Ext4Error::Write)?;
            }
        }
        Ok(())
    }

    fn put_journal(&mut self) -> Result<(), Ext4Error> {
        let attrs = Attrs {
            mode: 0o600,
            mtime: FIXED_TIME,
            ..Attrs::IMPLIED_DIRECTORY
        };
        let mut record = Record::new(attrs, 1);
        record.kind = file_type::REG;
        record.size = u64::from(JOURNAL_BLOCKS) * BLOCK_BYTES;
        let run = Run {
            logical: 0,
            first: 0,
            blocks: JOURNAL_BLOCKS,
        };
        self.map(JOURNAL_INO, &[run], &mut record)?;
        self.journal_map = record.block;
        self.table
            .put(JOURNAL_INO, &record)
            .map_err(Ext4Error::Write)?;
        let mut block = [0; BLOCK];
        journal_superblock(&self.who).encode(&mut block);
        let place = self.space.locate(0, 1).next().expect("one block");
        self.file
            .write_all_at(&block, place.start * BLOCK_BYTES)
            .map_err(Ext4Error::Write)
    }

    fn directory(
        &mut self,
        ino: Ino,
        parent: Ino,
        names: &[Name<'_>],
        record: &mut Record,
    ) -> Result<(), Ext4Error> {
        let who = Identity {
            inode: ino.0,
            parent: parent.0,
            seed: csum::inode_seed(self.fs_seed, ino.0, 0),
        };
        let entries: Vec<_> = names
            .iter()
            .map(|name| directory::Entry {
                name: name.name,
                inode: name.ino.0,
                kind: name.kind.in_directory(),
            })
            .collect();
        let made = directory::blocks(who, &entries, &self.hash_seed)
            .map_err(|_| Ext4Error::TooManyNames { names: names.len() })?;
        let first = self.blocks.position();
        for block in &made.blocks {
            self.blocks.append(block).map_err(Ext4Error::Write)?;
        }
        let count = u32::try_from(made.blocks.len()).expect("the index bounds it");
        record.kind = file_type::DIR;
        record.size = u64::from(count) * BLOCK_BYTES;
        if made.indexed {
            record.flags |= iflags::INDEX;
        }
        let run = Run {
            logical: 0,
            first,
            blocks: count,
        };
        self.map(ino, &[run], record)
    }

    fn symlink(&mut self, ino: Ino, target: &[u8], record: &mut Record) -> Result<(), Ext4Error> {
        record.kind = file_type::SYMLINK;
        record.size = target.len() as u64;
        if target.len() < record.block.len() {
            record.block[..target.len()].copy_from_slice(target);
            return Ok(());
        }
        let first = self.blocks.position();
        self.blocks
            .append(target)
            .and_then(|()| self.blocks.pad())
            .map_err(Ext4Error::Write)?;
        let run = Run {
            logical: 0,
            first,
            blocks: 1,
        };
        self.map(ino, &[run], record)
    }

    /// Maps runs of data blocks into an inode, and books them as used.
    fn map(&mut self, ino: Ino, runs: &[Run], record: &mut Record) -> Result<(), Ext4Error> {
        let mut mapped = Vec::with_capacity(runs.len());
        for run in runs {
            let mut logical = run.logical;
            for Physical { start, len } in self.space.locate(run.first, u64::from(run.blocks)) {
                self.usage.book(start, len);
                mapped.push(Mapped {
                    logical,
                    start,
                    len,
                });
                record.blocks += len;
                logical += u32::try_from(len).expect("a group has 32768 blocks");
            }
        }
        let seed = csum::inode_seed(self.fs_seed, ino.0, 0);
        let mut of_map = 0;
        let Root(root) = extents::map(mapped.into_iter(), seed, |block| {
            of_map += 1;
            self.add_block(block)
        })?;
        record.blocks += of_map;
        record.flags |= iflags::EXTENTS;
        record.block = root;
        Ok(())
    }

    /// Where the block will lie that is added next.
    fn next_block(&mut self) -> u64 {
        let next = self.space.locate(self.blocks.position(), 1).next();
        next.expect("one block").start
    }

    fn add_block(&mut self, block: &[u8; BLOCK]) -> Result<u64, Ext4Error> {
        let number = self.next_block();
        self.blocks.append(block).map_err(Ext4Error::Write)?;
        self.usage.book(number, 1);
        Ok(number)
    }
}

/// Makes blocks holes, or zeros where there are no holes.
fn zero(file: &File, run: Physical) -> std::io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let (offset, len) = (run.start * BLOCK_BYTES, run.len * BLOCK_BYTES);
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if fallocate(file, flags, offset, len).is_ok() {
        return Ok(());
    }
    (run.start..run.start + run.len)
        .try_for_each(|block| file.write_all_at(&[0; BLOCK], block * BLOCK_BYTES))
}

fn describe_special(special: Special, record: &mut Record) {
    match special {
        Special::Char { major, minor } => {
            record.kind = file_type::CHR;
            put_device(&mut record.block, major, minor);
        }
        Special::Block { major, minor } => {
            record.kind = file_type::BLK;
            put_device(&mut record.block, major, minor);
        }
        Special::Fifo => record.kind = file_type::FIFO,
    }
}

/// Small numbers are kept in the old form, others in the new one beside it.
fn put_device(block: &mut [u8; 60], major: u32, minor: u32) {
    if major < 256 && minor < 256 {
        put_u32(block, 0, major << 8 | minor);
    } else {
        put_u32(block, 4, minor & 0xff | major << 8 | (minor & !0xff) << 12);
    }
}

fn journal_superblock(who: &Identification) -> JournalSuperblock {
    JournalSuperblock {
        blocktype: 4,
        blocksize: BLOCK as u32,
        maxlen: JOURNAL_BLOCKS,
        first: 1,
        sequence: 1,
        start: 0,
        errno: 0,
        feature_compat: 0,
        feature_incompat: 0,
        feature_ro_compat: 0,
        uuid: *who.uuid.as_bytes(),
        nr_users: 1,
        dynsuper: 0,
        max_transaction: 0,
        max_trans_data: 0,
        checksum_type: 0,
        num_fc_blocks: 0,
        head: 0,
        checksum: 0,
    }
}
