//! Owns what a layer takes away: markers for one name and for all that lower layers have in a
//! directory. What the same layer brings stays, whichever of the two comes first.

use super::error::EntryError;
use super::node::NodeId;
use super::path::TreePath;
use super::tree::Tree;
use super::way::Way;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a marker takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whiteout {
    /// The name in the directory.
    Name(TreePath, Box<[u8]>),
    /// Everything in the directory.
    Opaque(TreePath),
}

impl Whiteout {
    /// The marker that a path is, if it is one.
    pub fn parse(path: &TreePath) -> Result<Option<Self>, EntryError> {
        let Some((directory, name)) = path.split_last() else {
            return Ok(None);
        };
        if name == OPAQUE {
            return Ok(Some(Self::Opaque(directory)));
        }
        match name.strip_prefix(PREFIX) {
            None => Ok(None),
            Some(b"" | b"." | b"..") => Err(EntryError::Whiteout),
            Some(name) => Ok(Some(Self::Name(directory, name.into()))),
        }
    }
}

impl Tree {
    /// Takes away what the marker says, as far as it is not this layer's own. What is not there
    /// needs no taking away.
    pub fn apply(&mut self, whiteout: &Whiteout) -> Result<(), EntryError> {
        let (Whiteout::Name(path, _) | Whiteout::Opaque(path)) = whiteout;
        let Some(directory) = Way::follow(self, path)?.end() else {
            return Ok(());
        };
        match whiteout {
            Whiteout::Name(_, name) => self.take_away(directory, name),
            Whiteout::Opaque(_) => self.take_away_below(directory),
        }
        Ok(())
    }

    fn take_away(&mut self, parent: NodeId, name: &[u8]) {
        let layer = self.layer;
        let child = self.directory(parent).and_then(|d| d.children.get(name));
        let Some(child) = child.copied() else { return };
        let touched = self.directory(child.id).map_or(0, |d| d.touched);
        if child.touched.max(touched) == layer {
            self.take_away_below(child.id);
        } else {
            self.remove_child(parent, name);
        }
    }

    fn take_away_below(&mut self, top: NodeId) {
        let layer = self.layer;
        let mut stack = vec![top];
        while let Some(at) = stack.pop() {
            let Some(directory) = self.directory(at) else {
                continue;
            };
            let is_own = |touched, id| {
                touched == layer || self.directory(id).is_some_and(|d| d.touched == layer)
            };
            let (own, others): (Vec<_>, Vec<_>) = directory
                .children
                .iter()
                .partition(|(_, child)| is_own(child.touched, child.id));
            stack.extend(own.iter().map(|(_, child)| child.id));
            let others: Vec<_> = others.into_iter().map(|(name, _)| name.clone()).collect();
            for name in others {
                self.remove_child(at, &name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::{Content, NewKind};
    use super::super::tree::Last;
    use super::*;
    use crate::ext4::Attrs;

    /// A layer, as a list of paths: `+dir/`, `+file`, and markers as they are.
    fn layer(tree: &mut Tree, entries: &[&str]) {
        tree.begin_layer();
        for entry in entries {
            let path = TreePath::parse(entry.as_bytes(), 4096).expect("a path");
            let kind = match entry.ends_with('/') {
                true => NewKind::Directory,
                false => NewKind::File(Content::default()),
            };
            match Whiteout::parse(&path).expect("fine") {
                Some(whiteout) => tree.apply(&whiteout).expect("applied"),
                None => tree
                    .insert(&path, Attrs::IMPLIED_DIRECTORY, Box::default(), kind)
                    .expect("inserted"),
            }
        }
    }

    fn check(layers: &[&[&str]], expected: &[&str], gone: &[&str]) {
        let mut tree = Tree::default();
        for entries in layers {
            layer(&mut tree, entries);
        }
        for path in expected {
            assert!(tree.lookup(path, Last::Keep).is_some(), "{path} is gone");
        }
        for path in gone {
            assert!(tree.lookup(path, Last::Keep).is_none(), "{path} is there");
        }
    }

    #[test]
    fn markers_take_lower_layers_away_in_any_order() {
        let lower: &[&str] = &["d/", "d/old", "d/sub/", "d/sub/old", "e"];
        check(&[lower, &["d/.wh.old"]], &["d/sub/old", "e"], &["d/old"]);
        check(&[lower, &[".wh.d"]], &["e"], &["d"]);
        let gone: &[&str] = &["d/old", "d/sub"];
        check(&[lower, &["d/.wh..wh..opq", "d/new"]], &["d/new"], gone);
        check(&[lower, &["d/new", "d/.wh..wh..opq"]], &["d/new"], gone);
        check(&[lower, &["d/new", ".wh.d"]], &["d/new"], gone);
        check(
            &[lower, &["d/sub/new", ".wh.d"]],
            &["d/sub/new"],
            &["d/old", "d/sub/old"],
        );
        check(&[lower, &["e", ".wh.e"]], &["e"], &[]);
        check(&[lower, &[".wh..wh..opq", "x"]], &["x"], &["d", "e"]);
        check(&[lower, &[".wh.e"], &["e"], &[".wh.x"]], &["e"], &[]);
    }

    #[test]
    fn markers_of_what_is_not_there_do_nothing() {
        check(
            &[&["a"], &["no/where/.wh.x", ".wh.none", "a/.wh.x"]],
            &["a"],
            &["no"],
        );
    }

    #[test]
    fn markers_that_name_no_child_are_refused() {
        for raw in ["d/.wh.", ".wh..", "d/.wh..."] {
            let path = TreePath::parse(raw.as_bytes(), 4096).expect("a path");
            assert_eq!(Whiteout::parse(&path), Err(EntryError::Whiteout), "{raw}");
        }
    }
}
