//! Owns a root file system in memory: paths, inodes, where their data lies in a store. Applies
//! entries as an extraction inside of a chroot would. Knows no archive format and no ext4 layout,
//! and holds no file's data.

use std::collections::BTreeMap;

use super::error::{EntryError, EntryName};
use super::node::{Content, Directory, Kind, NewKind, Node, NodeId};
use super::path::TreePath;
use crate::ext4::{Attrs, SYMLINK_MAX, Xattr};

/// As many links as the kernel follows in one path.
const MAX_LINKS: u32 = 40;

/// A whole root file system.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Nodes that were replaced stay here without a name; nothing reaches them any more.
    nodes: Vec<Node>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Directory {
            parent: NodeId::ROOT,
            children: BTreeMap::new(),
        };
        let attrs = Attrs::IMPLIED_DIRECTORY;
        Self {
            nodes: vec![Node {
                attrs,
                xattrs: Box::default(),
                kind: Kind::Directory(root),
            }],
        }
    }
}

impl Tree {
    /// The node itself.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// One more than the largest number of a node.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The directory that a node is, if it is one.
    pub fn directory(&self, id: NodeId) -> Option<&Directory> {
        match &self.node(id).kind {
            Kind::Directory(directory) => Some(directory),
            Kind::File(_) | Kind::Symlink(_) | Kind::Special(_) => None,
        }
    }

    /// Puts an entry at a path. Links in the path before the last name are followed within the
    /// tree; directories that are missing are made; what is at the path is replaced, but a
    /// directory that becomes a directory keeps its children.
    pub fn insert(
        &mut self,
        path: &TreePath,
        mut attrs: Attrs,
        xattrs: Box<[Xattr]>,
        kind: NewKind,
    ) -> Result<(), EntryError> {
        if let NewKind::Symlink(target) = &kind {
            // Linux knows no other mode of a link, whatever an archive says.
            attrs.mode = 0o777;
            if target.is_empty() || target.len() > SYMLINK_MAX {
                return Err(EntryError::SymlinkTarget { len: target.len() });
            }
            if target.contains(&0) {
                return Err(EntryError::ZeroByte);
            }
        }
        let Some((parents, name)) = path.split_last() else {
            return self.describe_root(attrs, xattrs, &kind);
        };
        let parent = self.enter(&parents)?;
        let old = self
            .child(parent, name)
            .filter(|old| self.directory(*old).is_some());
        let kind = match (kind, old) {
            (NewKind::Directory, Some(old)) => {
                let node = &mut self.nodes[old.index()];
                (node.attrs, node.xattrs) = (attrs, xattrs);
                return Ok(());
            }
            (NewKind::Directory, None) => Kind::Directory(Directory {
                parent,
                children: BTreeMap::new(),
            }),
            (NewKind::File(content), _) => Kind::File(content),
            (NewKind::Symlink(target), _) => Kind::Symlink(target),
            (NewKind::Special(special), _) => Kind::Special(special),
        };
        let id = self.add(Node {
            attrs,
            xattrs,
            kind,
        });
        self.name(parent, name, id);
        Ok(())
    }

    /// Gives the node at `target` the name `path` as well. The target's last name is not
    /// followed: a hard link to a symbolic link is one.
    pub fn link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), EntryError> {
        let shown = || EntryName::new(target.as_bytes());
        let missing = || EntryError::NoLinkTarget { target: shown() };
        let node = self.find(target, Last::Keep)?.ok_or_else(missing)?;
        if self.directory(node).is_some() {
            return Err(EntryError::LinkToDirectory { target: shown() });
        }
        let (parents, name) = path.split_last().ok_or(EntryError::RootIsNoDirectory)?;
        let parent = self.enter(&parents)?;
        self.name(parent, name, node);
        Ok(())
    }

    /// The node at a path, as a process in the root would see it; nothing where a name is
    /// missing on the way or the way is no way.
    pub fn lookup(&self, path: &str, last: Last) -> Option<NodeId> {
        let path = TreePath::parse(path.as_bytes(), usize::MAX).ok()?;
        self.find(&path, last).ok().flatten()
    }

    /// Takes the name at a path away; whether there was one.
    pub fn remove(&mut self, path: &str) -> bool {
        let Some(path) = TreePath::parse(path.as_bytes(), usize::MAX).ok() else {
            return false;
        };
        let Some((parents, name)) = path.split_last() else {
            return false;
        };
        match self.find(&parents, Last::Follow) {
            Ok(Some(parent)) => self.remove_child(parent, name),
            Ok(None) | Err(_) => false,
        }
    }

    /// Takes a name out of a directory; whether there was one.
    pub fn remove_child(&mut self, parent: NodeId, name: &[u8]) -> bool {
        match &mut self.nodes[parent.index()].kind {
            Kind::Directory(directory) => directory.children.remove(name).is_some(),
            Kind::File(_) | Kind::Symlink(_) | Kind::Special(_) => false,
        }
    }

    /// Makes a name in a directory an empty file of its own, with the attributes that it had.
    pub fn empty_child(&mut self, parent: NodeId, name: &[u8]) {
        let Some(old) = self.child(parent, name) else {
            return;
        };
        let attrs = match &self.node(old).kind {
            Kind::File(_) => self.node(old).attrs,
            Kind::Directory(_) | Kind::Symlink(_) | Kind::Special(_) => Attrs {
                mode: 0o644,
                ..Attrs::IMPLIED_DIRECTORY
            },
        };
        let kind = Kind::File(Content::default());
        let id = self.add(Node {
            attrs,
            xattrs: Box::default(),
            kind,
        });
        self.name(parent, name, id);
    }

    /// The child of a directory.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        self.directory(parent)?.children.get(name).copied()
    }

    /// A directory's path from the root, for messages.
    pub fn path_of(&self, mut directory: NodeId) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        while directory != NodeId::ROOT {
            let Some(parent) = self.directory(directory).map(|d| d.parent) else {
                break;
            };
            let name = self.directory(parent).and_then(|d| {
                d.children()
                    .find_map(|(name, id)| (id == directory).then_some(name))
            });
            names.push(name.unwrap_or_default());
            directory = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    fn describe_root(
        &mut self,
        attrs: Attrs,
        xattrs: Box<[Xattr]>,
        kind: &NewKind,
    ) -> Result<(), EntryError> {
        match kind {
            NewKind::Directory => {
                let root = &mut self.nodes[NodeId::ROOT.index()];
                (root.attrs, root.xattrs) = (attrs, xattrs);
                Ok(())
            }
            NewKind::File(_) | NewKind::Symlink(_) | NewKind::Special(_) => {
                Err(EntryError::RootIsNoDirectory)
            }
        }
    }

    /// The directory at a path, made where names are missing.
    fn enter(&mut self, path: &TreePath) -> Result<NodeId, EntryError> {
        let mut links = 0;
        let mut at = NodeId::ROOT;
        for name in path.names() {
            at = match self.child(at, name) {
                Some(_) => self.step(at, name, &mut links)?,
                None => self.add_implied(at, name),
            };
            if self.directory(at).is_none() {
                return Err(EntryError::NotADirectory {
                    at: EntryName::new(name),
                });
            }
        }
        Ok(at)
    }

    fn add_implied(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        let kind = Kind::Directory(Directory {
            parent,
            children: BTreeMap::new(),
        });
        let attrs = Attrs::IMPLIED_DIRECTORY;
        let id = self.add(Node {
            attrs,
            xattrs: Box::default(),
            kind,
        });
        self.name(parent, name, id);
        id
    }

    fn find(&self, path: &TreePath, last: Last) -> Result<Option<NodeId>, EntryError> {
        let Some((parents, name)) = path.split_last() else {
            return Ok(Some(NodeId::ROOT));
        };
        let mut links = 0;
        let mut at = NodeId::ROOT;
        for name in parents.names() {
            if self.child(at, name).is_none() {
                return Ok(None);
            }
            at = self.step(at, name, &mut links)?;
        }
        match (self.child(at, name), last) {
            (None, Last::Follow | Last::Keep) => Ok(None),
            (Some(found), Last::Keep) => Ok(Some(found)),
            (Some(_), Last::Follow) => self.step(at, name, &mut links).map(Some),
        }
    }

    /// From a directory through one name, and through the links that it may be. `..` in a link
    /// stops at the root, where an absolute one begins: nothing leaves the tree.
    fn step(&self, from: NodeId, name: &[u8], links: &mut u32) -> Result<NodeId, EntryError> {
        let dangling = || EntryError::Dangling {
            link: EntryName::new(name),
        };
        let found = self.child(from, name).ok_or_else(dangling)?;
        let Kind::Symlink(target) = &self.node(found).kind else {
            return Ok(found);
        };
        *links += 1;
        if *links > MAX_LINKS {
            return Err(EntryError::TooManyLinks { most: MAX_LINKS });
        }
        let mut at = if target.starts_with(b"/") {
            NodeId::ROOT
        } else {
            from
        };
        for part in target.split(|byte| *byte == b'/') {
            at = match part {
                b"" | b"." => at,
                b".." => self.directory(at).ok_or_else(dangling)?.parent,
                part if self.child(at, part).is_none() => return Err(dangling()),
                part => self.step(at, part, links)?,
            };
        }
        Ok(at)
    }

    fn add(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("entries are bounded far below"));
        self.nodes.push(node);
        id
    }

    fn name(&mut self, parent: NodeId, name: &[u8], id: NodeId) {
        match &mut self.nodes[parent.index()].kind {
            Kind::Directory(directory) => directory.children.insert(name.into(), id),
            Kind::File(_) | Kind::Symlink(_) | Kind::Special(_) => {
                unreachable!("only directories are entered")
            }
        };
    }
}

/// What becomes of a link that is the last name of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    Follow,
    Keep,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(raw: &str) -> TreePath {
        TreePath::parse(raw.as_bytes(), 4096).expect("a path")
    }

    fn put(tree: &mut Tree, raw: &str, kind: NewKind) -> Result<(), EntryError> {
        tree.insert(&path(raw), Attrs::IMPLIED_DIRECTORY, Box::default(), kind)
    }

    fn file() -> NewKind {
        NewKind::File(Content::default())
    }

    fn link(target: &str) -> NewKind {
        NewKind::Symlink(target.as_bytes().into())
    }

    #[test]
    fn entries_go_through_links_as_in_a_chroot() {
        let check = |target: &str| {
            let mut tree = Tree::default();
            put(&mut tree, "usr/lib", NewKind::Directory).expect("a directory");
            put(&mut tree, "a/b/lib", link(target)).expect("a link");
            put(&mut tree, "a/b/lib/x", file()).expect("a file");
            assert!(tree.lookup("usr/lib/x", Last::Keep).is_some(), "{target}");
        };
        check("/usr/lib");
        check("../../usr/lib");
        check("../../../../../usr/lib/.");
        check("../../../a/b/../../usr//lib");
    }

    #[test]
    fn ways_that_are_none_are_refused() {
        let mut tree = Tree::default();
        put(&mut tree, "loop", link("loop")).expect("a link");
        put(&mut tree, "gone", link("nowhere")).expect("a link");
        put(&mut tree, "file", file()).expect("a file");
        let mut check = |raw: &str| put(&mut tree, raw, file()).expect_err("refused");
        assert_eq!(
            check("loop/x"),
            EntryError::TooManyLinks { most: MAX_LINKS }
        );
        assert!(matches!(check("gone/x"), EntryError::Dangling { .. }));
        assert!(matches!(check("file/x"), EntryError::NotADirectory { .. }));
        assert_eq!(check("."), EntryError::RootIsNoDirectory);
    }

    #[test]
    fn the_last_entry_of_a_path_wins_and_directories_keep_children() {
        let mut tree = Tree::default();
        put(&mut tree, "d/x", file()).expect("a file");
        put(&mut tree, "d", NewKind::Directory).expect("a directory");
        assert!(tree.lookup("d/x", Last::Keep).is_some());
        put(&mut tree, "d", link("e")).expect("a link");
        assert!(tree.lookup("d/x", Last::Keep).is_none());
        put(&mut tree, "d", NewKind::Directory).expect("a directory in a link's place");
        assert!(tree.lookup("d", Last::Follow).is_some());
        assert!(tree.lookup("d/x", Last::Keep).is_none());
    }

    #[test]
    fn hard_links_share_a_node_even_of_links() {
        let mut tree = Tree::default();
        put(&mut tree, "a", link("nowhere")).expect("a link");
        tree.link(&path("d/b"), &path("a")).expect("linked");
        tree.link(&path("a"), &path("a")).expect("to itself");
        assert_eq!(tree.lookup("a", Last::Keep), tree.lookup("d/b", Last::Keep));
        let check = |tree: &mut Tree, target: &str| {
            tree.link(&path("c"), &path(target)).expect_err("refused")
        };
        assert!(matches!(
            check(&mut tree, "none"),
            EntryError::NoLinkTarget { .. }
        ));
        assert!(matches!(
            check(&mut tree, "d"),
            EntryError::LinkToDirectory { .. }
        ));
    }
}
