//! Owns how a path is followed through a tree: links are resolved as in a chroot, and names that
//! are missing stay on the way, since links may lead to what no layer has made yet. Changes
//! nothing.

use super::error::EntryError;
use super::node::{Kind, NodeId};
use super::path::TreePath;
use super::tree::Tree;

/// As many links as are followed in one path.
pub(super) const MAX_LINKS: u32 = 255;
/// As many names as are walked in one path, so that links in links cannot stall.
const MAX_STEPS: u32 = 8192;

/// The way from the root to where a path leads, free of links.
#[derive(Debug, Default)]
pub(super) struct Way {
    steps: Vec<Step>,
}

/// One name on the way, and what it stands for, if it is there.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: Box<[u8]>,
    pub(super) found: Option<NodeId>,
}

impl Way {
    /// Follows a path to its end, through a link at its last name too.
    pub(super) fn follow(tree: &Tree, path: &TreePath) -> Result<Self, EntryError> {
        let mut way = Self::default();
        // What is still to be walked, the next part last; a link's target goes on top.
        let mut ahead = vec![Ahead::new(path.as_bytes())];
        let (mut links, mut steps) = (0, 0);
        while let Some(top) = ahead.last_mut() {
            let Some(name) = top.next_name() else {
                ahead.pop();
                continue;
            };
            steps += 1;
            if steps > MAX_STEPS {
                return Err(EntryError::TooManyLinks { most: MAX_LINKS });
            }
            if let Some(target) = way.step(tree, name) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(EntryError::TooManyLinks { most: MAX_LINKS });
                }
                if target.starts_with(b"/") {
                    way.steps.clear();
                }
                ahead.push(Ahead::new(target));
            }
        }
        Ok(way)
    }

    /// The names from the root on.
    pub(super) fn steps(self) -> impl Iterator<Item = Step> {
        self.steps.into_iter()
    }

    /// The node at the end, if everything on the way is there.
    pub(super) fn end(&self) -> Option<NodeId> {
        match self.steps.last() {
            Some(last) => last.found,
            None => Some(NodeId::ROOT),
        }
    }

    /// Goes one name further, or gives the target of the link that is there.
    fn step<'t>(&mut self, tree: &'t Tree, name: &[u8]) -> Option<&'t [u8]> {
        match name {
            b"" | b"." => return None,
            // Above the root is the root.
            b".." => {
                self.steps.pop();
                return None;
            }
            _ => {}
        }
        let found = self.end().and_then(|at| tree.child(at, name));
        if let Some(Kind::Symlink(target)) = found.map(|found| &tree.node(found).kind) {
            return Some(target);
        }
        let name = name.into();
        self.steps.push(Step { name, found });
        None
    }
}

/// A path of which a part has been walked.
struct Ahead<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Ahead<'a> {
    fn new(path: &'a [u8]) -> Self {
        Self { rest: Some(path) }
    }

    fn next_name(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        match rest.iter().position(|byte| *byte == b'/') {
            Some(slash) => {
                self.rest = Some(&rest[slash + 1..]);
                Some(&rest[..slash])
            }
            None => {
                self.rest = None;
                Some(rest)
            }
        }
    }
}
