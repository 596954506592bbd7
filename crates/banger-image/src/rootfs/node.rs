//! Owns what a root file system consists of: inodes, their data's places, directories. Knows no
//! paths and no rules.

use std::collections::BTreeMap;

use crate::ext4::{Attrs, Special, Xattr};

/// Names a node of one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    pub const ROOT: Self = Self(0);

    /// A dense number, for tables beside the tree.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A piece of a file's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it is in the file.
    pub logical: u64,
    /// Where it is in the store.
    pub stored: u64,
    pub len: u64,
}

/// A file's data; what no extent covers is a hole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    pub len: u64,
    /// In ascending order, apart from each other, inside of `len`.
    pub extents: Box<[Extent]>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory(Directory),
    File(Content),
    Symlink(Box<[u8]>),
    Special(Special),
}

/// A directory's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    pub(super) parent: NodeId,
    pub(super) children: BTreeMap<Box<[u8]>, NodeId>,
}

impl Directory {
    /// The children in the order of their names' bytes.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = (&[u8], NodeId)> {
        self.children.iter().map(|(name, id)| (&**name, *id))
    }
}

/// An inode. Several names of one node are hard links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub attrs: Attrs,
    pub xattrs: Box<[Xattr]>,
    pub kind: Kind,
}

/// What an entry brings, before it has a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewKind {
    Directory,
    File(Content),
    Symlink(Box<[u8]>),
    Special(Special),
}
