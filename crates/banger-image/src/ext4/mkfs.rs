//! Owns the writer of images: our trait over the `mkext4` crate, with what that crate leaves
//! out. Knows trees as they are declared; knows nothing of where they come from.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use mkext4::{FsBuilder, InodeCount, InodeHandle, Meta, RegionSink, SpecialKind};

use super::surgery::{self, Amendments};
use super::{
    Attrs, Builder, Ext4Error, FIXED_TIME, FsUuid, Inode, Label, Layout, Segment, Special,
};

/// The first inode that `mkext4` gives to what is declared; each further one is the next.
const FIRST_INODE: u32 = 12;
const ROOT_INODE: u32 = 2;
/// Stand-ins that are tried for one name. Only names of the same directory collide with them,
/// so that this many failures in a row mean another reason.
const STAND_IN_TRIES: u32 = 4096;

/// How a file system is to be made.
#[derive(Debug, Clone)]
pub struct Options {
    /// A multiple of the block's size; whole groups are safe at every size.
    pub size_bytes: u64,
    pub uuid: FsUuid,
    pub label: Option<Label>,
    /// At least this many inodes.
    pub inodes: u32,
    /// The journal's length; by size where it is not given.
    pub journal_blocks: Option<u32>,
}

impl Options {
    pub(super) fn builder(&self) -> Result<FsBuilder, mkext4::Error> {
        let mut options =
            mkext4::Options::new(self.size_bytes, *self.uuid.as_bytes(), FIXED_TIME.secs());
        options.label = self.label.as_ref().map(|label| label.as_str().to_owned());
        options.inodes = InodeCount::Exact(self.inodes);
        options.journal_blocks = self.journal_blocks;
        options.reserved_percent = 0;
        FsBuilder::new(options)
    }
}

/// A node of the tree, with the inode number that it will get.
#[derive(Debug, Clone, Copy)]
pub struct MkExt4Node {
    handle: InodeHandle,
    inode: u32,
}

/// A tree under declaration.
///
/// `mkext4` takes names as text and always makes `/lost+found`. So names that are not UTF-8,
/// and a `lost+found` of the tree's own, are declared under stand-ins of the same room, and the
/// finished image is amended: see [`surgery`].
#[derive(Debug)]
pub struct MkExt4 {
    builder: FsBuilder,
    size: u64,
    next_inode: u32,
    stand_ins: HashSet<(u32, String)>,
    amendments: Amendments,
}

impl MkExt4 {
    /// Starts with an empty root directory.
    pub fn new(options: &Options) -> Result<Self, Ext4Error> {
        let builder = options.builder().map_err(Ext4Error::Declare)?;
        Ok(Self {
            builder,
            size: options.size_bytes,
            next_inode: FIRST_INODE,
            stand_ins: HashSet::new(),
            amendments: Amendments::default(),
        })
    }

    fn name_as_it_is<'n>(&self, parent: MkExt4Node, name: &'n [u8]) -> Option<&'n str> {
        let text = std::str::from_utf8(name).ok()?;
        let reserved = parent.inode == ROOT_INODE && text == "lost+found";
        let taken =
            !self.stand_ins.is_empty() && self.stand_ins.contains(&(parent.inode, text.to_owned()));
        (!reserved && !taken).then_some(text)
    }

    /// Declares under the name itself, or under a stand-in that the amendments replace.
    fn declare<T>(
        &mut self,
        parent: MkExt4Node,
        name: &[u8],
        add: impl Fn(&mut FsBuilder, InodeHandle, &str) -> mkext4::Result<T>,
    ) -> Result<T, Ext4Error> {
        if let Some(text) = self.name_as_it_is(parent, name) {
            return add(&mut self.builder, parent.handle, text).map_err(Ext4Error::Declare);
        }
        let width = name.len().next_multiple_of(4).min(super::NAME_MAX);
        let mut tries = 0;
        loop {
            let stand_in = format!("{tries:0width$}");
            match add(&mut self.builder, parent.handle, &stand_in) {
                Ok(made) => {
                    self.amendments.rename(parent.inode, &stand_in, name);
                    self.stand_ins.insert((parent.inode, stand_in));
                    return Ok(made);
                }
                Err(_) if tries < STAND_IN_TRIES => tries += 1,
                Err(source) => return Err(Ext4Error::Declare(source)),
            }
        }
    }

    /// Counts the inode of what was just declared and gives it its attributes.
    fn adopt(&mut self, handle: InodeHandle, inode: Inode<'_>) -> Result<MkExt4Node, Ext4Error> {
        let node = MkExt4Node {
            handle,
            inode: self.next_inode,
        };
        self.next_inode += 1;
        self.set_xattrs(handle, inode)?;
        Ok(node)
    }

    fn set_xattrs(&mut self, handle: InodeHandle, inode: Inode<'_>) -> Result<(), Ext4Error> {
        super::check_xattrs_fit(inode.xattrs).map_err(Ext4Error::Xattr)?;
        for xattr in inode.xattrs {
            self.builder
                .set_xattr(handle, xattr.name(), xattr.value())
                .map_err(Ext4Error::Declare)?;
        }
        Ok(())
    }
}

fn meta(attrs: Attrs) -> Meta {
    Meta::new(
        attrs.mode,
        attrs.uid,
        attrs.gid,
        (attrs.mtime.secs(), attrs.mtime.nanos()),
    )
}

impl Builder for MkExt4 {
    type Node = MkExt4Node;
    type Layout = MkExt4Layout;

    fn root(&self) -> MkExt4Node {
        MkExt4Node {
            handle: mkext4::ROOT,
            inode: ROOT_INODE,
        }
    }

    fn set_root(&mut self, inode: Inode<'_>) -> Result<(), Ext4Error> {
        self.builder
            .set_meta(mkext4::ROOT, meta(inode.attrs))
            .map_err(Ext4Error::Declare)?;
        self.set_xattrs(mkext4::ROOT, inode)
    }

    fn directory(
        &mut self,
        parent: MkExt4Node,
        name: &[u8],
        inode: Inode<'_>,
    ) -> Result<MkExt4Node, Ext4Error> {
        let handle = self.declare(parent, name, |b, dir, text| {
            b.mkdir(dir, text, meta(inode.attrs))
        })?;
        self.adopt(handle, inode)
    }

    fn file(
        &mut self,
        parent: MkExt4Node,
        name: &[u8],
        inode: Inode<'_>,
        segments: &[Segment],
    ) -> Result<MkExt4Node, Ext4Error> {
        let meta = meta(inode.attrs);
        let handle = match segments {
            [] => self.declare(parent, name, |b, dir, text| b.file(dir, text, meta, 0)),
            [Segment::Data(len)] => {
                self.declare(parent, name, |b, dir, text| b.file(dir, text, meta, *len))
            }
            [Segment::Hole(_)] | [_, _, ..] => {
                let map: Vec<_> = segments.iter().map(sparse).collect();
                self.declare(parent, name, |b, dir, text| {
                    b.file_sparse(dir, text, meta, &map)
                })
            }
        }?;
        self.adopt(handle, inode)
    }

    fn symlink(
        &mut self,
        parent: MkExt4Node,
        name: &[u8],
        inode: Inode<'_>,
        target: &[u8],
    ) -> Result<MkExt4Node, Ext4Error> {
        let text = std::str::from_utf8(target);
        let stand_in = "x".repeat(target.len());
        let shown = text.unwrap_or(&stand_in);
        let handle = self.declare(parent, name, |b, dir, name| {
            b.symlink(dir, name, shown, meta(inode.attrs))
        })?;
        let node = self.adopt(handle, inode)?;
        if text.is_err() {
            self.amendments.retarget(node.inode, target);
        }
        Ok(node)
    }

    fn special(
        &mut self,
        parent: MkExt4Node,
        name: &[u8],
        inode: Inode<'_>,
        kind: Special,
    ) -> Result<MkExt4Node, Ext4Error> {
        let kind = match kind {
            Special::Char { major, minor } => SpecialKind::Char { major, minor },
            Special::Block { major, minor } => SpecialKind::Block { major, minor },
            Special::Fifo => SpecialKind::Fifo,
        };
        let handle = self.declare(parent, name, |b, dir, text| {
            b.mknod(dir, text, meta(inode.attrs), kind)
        })?;
        self.adopt(handle, inode)
    }

    fn link(&mut self, parent: MkExt4Node, name: &[u8], node: MkExt4Node) -> Result<(), Ext4Error> {
        self.declare(parent, name, |b, dir, text| {
            b.hardlink(dir, text, node.handle)
        })
    }

    fn seal(self) -> Result<MkExt4Layout, Ext4Error> {
        let size = self.size;
        let layout = self
            .builder
            .seal()
            .map_err(|source| Ext4Error::Layout { size, source })?;
        Ok(MkExt4Layout {
            layout,
            amendments: self.amendments,
        })
    }
}

fn sparse(segment: &Segment) -> mkext4::SparseSeg {
    match segment {
        Segment::Data(len) => mkext4::SparseSeg::Data(*len),
        Segment::Hole(len) => mkext4::SparseSeg::Hole(*len),
    }
}

/// A tree whose every byte has its place.
#[derive(Debug)]
pub struct MkExt4Layout {
    layout: mkext4::Layout,
    amendments: Amendments,
}

impl Layout for MkExt4Layout {
    type Node = MkExt4Node;

    fn image_len(&self) -> u64 {
        self.layout.image_len()
    }

    fn write<R: Read>(
        self,
        out: &File,
        files: impl Iterator<Item = (MkExt4Node, R)>,
    ) -> Result<(), Ext4Error> {
        out.set_len(self.layout.image_len())
            .map_err(Ext4Error::Write)?;
        let mut writer = self
            .layout
            .writer(SparseFile(out))
            .map_err(Ext4Error::from_writing)?;
        for (node, mut data) in files {
            writer
                .fill(node.handle, &mut data)
                .map_err(Ext4Error::from_writing)?;
        }
        writer.finish().map_err(Ext4Error::from_writing)?;
        surgery::amend(out, &self.amendments)
    }
}

/// A file of the full length whose zeros are never written.
pub(super) struct SparseFile<'a>(pub(super) &'a File);

impl RegionSink for SparseFile<'_> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn zeros(&mut self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

/// The stand-ins of each directory and what they stand for.
pub(super) type Renames = BTreeMap<u32, BTreeMap<String, Box<[u8]>>>;
