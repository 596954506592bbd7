//! Owns what a root file system consists of: inodes, their data's places, directories. Knows no
//! paths and no rules.

use std::collections::BTreeMap;

use crate::ext4::{Attrs, Run, Special, Xattr};

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

/// A file's data; what no run covers is a hole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    pub len: u64,
    /// In ascending order, apart from each other; only the last may reach beyond `len`.
    pub runs: Box<[Run]>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory(Directory),
    File(Content),
    Symlink(Box<[u8]>),
    Special(Special),
}

/// Which layer touched a name last.
pub(super) type Layer = u32;

/// A directory's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    pub(super) parent: NodeId,
    pub(super) children: BTreeMap<Box<[u8]>, Child>,
    /// The last layer that had an entry for this directory or for anything below it.
    pub(super) touched: Layer,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) id: NodeId,
    pub(super) touched: Layer,
}

impl Directory {
    pub(super) fn new(parent: NodeId, touched: Layer) -> Self {
        Self {
            parent,
            children: BTreeMap::new(),
            touched,
        }
    }

    /// The children in the order of their names' bytes.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = (&[u8], NodeId)> {
        self.children
            .iter()
            .map(|(name, child)| (&**name, child.id))
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
