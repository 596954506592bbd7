//! Owns a root file system in memory: paths, inodes, where their data lies. Applies entries layer
//! by layer, as an extraction inside of a chroot would. Knows no archive format and no ext4
//! layout, and holds no file's data.

use super::error::{EntryError, EntryName};
use super::node::{Child, Content, Directory, Kind, Layer, NewKind, Node, NodeId};
use super::path::TreePath;
use super::way::Way;
use crate::ext4::{Attrs, FIXED_TIME, SYMLINK_MAX, Timestamp, Xattr, inherit_xattrs};

/// On a directory: what is made in it belongs to its group.
const SET_GROUP: u16 = 0o2000;

/// A whole root file system.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Nodes that were replaced stay here without a name; nothing reaches them any more.
    pub(super) nodes: Vec<Node>,
    pub(super) layer: Layer,
}

impl Default for Tree {
    /// A root that no layer describes is as old as time, and nobody's but root's.
    fn default() -> Self {
        let attrs = Attrs {
            mtime: Timestamp::new(0, 0).unwrap_or(FIXED_TIME),
            ..Attrs::IMPLIED_DIRECTORY
        };
        Self {
            nodes: vec![Node {
                attrs,
                xattrs: Box::default(),
                kind: Kind::Directory(Directory::new(NodeId::ROOT, 0)),
            }],
            layer: 0,
        }
    }
}

impl Tree {
    /// What comes from here on is another layer's.
    pub fn begin_layer(&mut self) {
        self.layer += 1;
    }

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
            check_target(target)?;
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
                self.touch(old);
                return Ok(());
            }
            (NewKind::Directory, None) => Kind::Directory(Directory::new(parent, self.layer)),
            (NewKind::File(content), _) => Kind::File(content),
            (NewKind::Symlink(target), _) => Kind::Symlink(target),
            (NewKind::Special(special), _) => Kind::Special(special),
        };
        let id = self.add(Node {
            attrs,
            xattrs,
            kind,
        })?;
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
        self.directory_mut(parent)
            .is_some_and(|directory| directory.children.remove(name).is_some())
    }

    /// Makes a name in a directory an empty file of its own, with the attributes that it had.
    pub fn empty_child(&mut self, parent: NodeId, name: &[u8]) -> Result<(), EntryError> {
        let Some(old) = self.child(parent, name) else {
            return Ok(());
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
        })?;
        self.name(parent, name, id);
        Ok(())
    }

    /// The child of a directory.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let child = self.directory(parent)?.children.get(name)?;
        Some(child.id)
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

    pub(super) fn directory_mut(&mut self, id: NodeId) -> Option<&mut Directory> {
        match &mut self.nodes[id.index()].kind {
            Kind::Directory(directory) => Some(directory),
            Kind::File(_) | Kind::Symlink(_) | Kind::Special(_) => None,
        }
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
        let mut at = NodeId::ROOT;
        for step in Way::follow(self, path)?.steps() {
            at = match step.found {
                Some(found) => found,
                None => self.add_implied(at, &step.name)?,
            };
            if self.directory(at).is_none() {
                return Err(EntryError::NotADirectory {
                    at: EntryName::new(&step.name),
                });
            }
        }
        Ok(at)
    }

    /// A directory that no entry describes is what `mkdir` makes of it: it takes over the group of
    /// a directory that says so, and its default list of access rights.
    fn add_implied(&mut self, parent: NodeId, name: &[u8]) -> Result<NodeId, EntryError> {
        let Node {
            attrs: above,
            xattrs,
            ..
        } = self.node(parent);
        let mut attrs = Attrs::IMPLIED_DIRECTORY;
        let (mode, xattrs) = inherit_xattrs(xattrs, attrs.mode);
        attrs.mode = mode;
        if above.mode & SET_GROUP != 0 {
            attrs.mode |= SET_GROUP;
            attrs.gid = above.gid;
        }
        let id = self.add(Node {
            attrs,
            xattrs: xattrs.into(),
            kind: Kind::Directory(Directory::new(parent, self.layer)),
        })?;
        self.name(parent, name, id);
        Ok(id)
    }

    pub(super) fn find(&self, path: &TreePath, last: Last) -> Result<Option<NodeId>, EntryError> {
        match (path.split_last(), last) {
            (None, Last::Follow | Last::Keep) => Ok(Some(NodeId::ROOT)),
            (Some(_), Last::Follow) => Ok(Way::follow(self, path)?.end()),
            (Some((parents, name)), Last::Keep) => {
                let parent = Way::follow(self, &parents)?.end();
                Ok(parent.and_then(|parent| self.child(parent, name)))
            }
        }
    }

    fn add(&mut self, node: Node) -> Result<NodeId, EntryError> {
        let id = u32::try_from(self.nodes.len()).map_err(|_| EntryError::TooManyNodes)?;
        self.nodes.push(node);
        Ok(NodeId(id))
    }

    fn name(&mut self, parent: NodeId, name: &[u8], id: NodeId) {
        let touched = self.layer;
        self.directory_mut(parent)
            .expect("only directories are entered")
            .children
            .insert(name.into(), Child { id, touched });
        self.touch(parent);
    }

    /// This layer has something at or below a directory.
    fn touch(&mut self, mut directory: NodeId) {
        let layer = self.layer;
        while let Some(here) = self.directory_mut(directory) {
            if here.touched == layer && directory != NodeId::ROOT {
                break;
            }
            here.touched = layer;
            if directory == NodeId::ROOT {
                break;
            }
            directory = here.parent;
        }
    }
}

fn check_target(target: &[u8]) -> Result<(), EntryError> {
    if target.is_empty() || target.len() > SYMLINK_MAX {
        return Err(EntryError::SymlinkTarget { len: target.len() });
    }
    if target.contains(&0) {
        return Err(EntryError::ZeroByte);
    }
    Ok(())
}

/// What becomes of a link that is the last name of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    Follow,
    Keep,
}

#[cfg(test)]
mod tests {
    use super::super::way::MAX_LINKS;
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
    fn links_to_nowhere_lead_where_they_say() {
        let mut tree = Tree::default();
        put(&mut tree, "run", link("/var/../tmp/./run")).expect("a link");
        put(&mut tree, "run/x/y", file()).expect("a file");
        assert!(tree.lookup("tmp/run/x/y", Last::Keep).is_some());
        assert!(tree.lookup("run/x", Last::Follow).is_some());
        assert!(tree.lookup("var", Last::Keep).is_none());
    }

    #[test]
    fn ways_that_are_none_are_refused() {
        let mut tree = Tree::default();
        put(&mut tree, "loop", link("loop")).expect("a link");
        put(&mut tree, "file", file()).expect("a file");
        let mut check = |raw: &str| put(&mut tree, raw, file()).expect_err("refused");
        assert_eq!(
            check("loop/x"),
            EntryError::TooManyLinks { most: MAX_LINKS }
        );
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
