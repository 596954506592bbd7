//! Owns the step from an archive's members to a tree and a store of data. Knows no ext4 image.

use std::collections::BTreeMap;

use super::archive::{Archive, Body, Member};
use super::error::{EntryError, EntryName, ImportError};
use super::limits::Limits;
use super::node::{Content, Extent, NewKind};
use super::path::TreePath;
use super::sparse::SparseMap;
use super::store::Collector;
use super::tree::Tree;

/// Why something of an archive is not in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// The label of a volume, which is no file.
    VolumeLabel,
    /// An entry of a type that tar does not define; sockets have none.
    UnknownType,
    /// An access control list as text with names of users.
    AclText,
}

/// What was read of an archive.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) tree: Tree,
    pub(super) entries: u64,
    pub(super) content_bytes: u64,
    pub(super) skipped: BTreeMap<Skipped, u64>,
}

/// Reads all members into a tree and their data into the collector.
pub(super) fn load(
    archive: &mut Archive<'_>,
    limits: &Limits,
    collector: &mut Collector,
) -> Result<Loaded, ImportError> {
    let mut loaded = Loaded::default();
    while let Some(member) = archive.next()? {
        let entry = EntryName::new(&member.path);
        if member.has_acl_text {
            *loaded.skipped.entry(Skipped::AclText).or_default() += 1;
        }
        let Some(change) = loaded
            .plan(member, limits, collector.place(archive.input.position()))
            .map_err(|error| error.naming(&entry))?
        else {
            continue;
        };
        loaded
            .apply(change)
            .map_err(|source| ImportError::Entry { entry, source })?;
        archive.pass_data(|piece| collector.take(piece))?;
        loaded.entries += 1;
    }
    Ok(loaded)
}

enum Change {
    Insert(TreePath, Member, NewKind),
    Link(TreePath, TreePath),
}

/// A refusal that still lacks the entry's name.
enum Refusal {
    Entry(EntryError),
    Import(ImportError),
}

impl Refusal {
    fn naming(self, entry: &EntryName) -> ImportError {
        match self {
            Self::Entry(source) => ImportError::Entry {
                entry: entry.clone(),
                source,
            },
            Self::Import(error) => error,
        }
    }
}

impl From<EntryError> for Refusal {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

impl Loaded {
    /// What a member changes, where its data lies at `place` of the store; nothing if skipped.
    fn plan(
        &mut self,
        mut member: Member,
        limits: &Limits,
        place: u64,
    ) -> Result<Option<Change>, Refusal> {
        let kind = match std::mem::replace(&mut member.body, Body::Directory) {
            Body::Label => return Ok(self.skip(Skipped::VolumeLabel)),
            Body::Unknown => return Ok(self.skip(Skipped::UnknownType)),
            Body::HardLink(target) => {
                let path = TreePath::parse(&member.path, limits.path_bytes)?;
                let target = TreePath::parse(&target, limits.path_bytes)?;
                return Ok(Some(Change::Link(path, target)));
            }
            Body::Directory => NewKind::Directory,
            Body::Symlink(target) => NewKind::Symlink(target.into()),
            Body::Special(special) => NewKind::Special(special),
            Body::File(map) => NewKind::File(self.content(&map, limits, place)?),
        };
        let path = TreePath::parse(&member.path, limits.path_bytes)?;
        Ok(Some(Change::Insert(path, member, kind)))
    }

    fn skip(&mut self, why: Skipped) -> Option<Change> {
        *self.skipped.entry(why).or_default() += 1;
        None
    }

    fn content(
        &mut self,
        map: &SparseMap,
        limits: &Limits,
        place: u64,
    ) -> Result<Content, Refusal> {
        let limit = |limit, most| Refusal::Import(ImportError::Limit { limit, most });
        if map.len > limits.file_bytes {
            return Err(limit("bytes in one file", limits.file_bytes));
        }
        let mut stored = place;
        let extents = map.pieces.iter().map(|&(logical, len)| {
            stored += len;
            Extent {
                logical,
                stored: stored - len,
                len,
            }
        });
        let content = Content {
            len: map.len,
            extents: extents.collect(),
        };
        self.content_bytes += stored - place;
        if self.content_bytes > limits.content_bytes {
            return Err(limit("bytes of content", limits.content_bytes));
        }
        Ok(content)
    }

    fn apply(&mut self, change: Change) -> Result<(), EntryError> {
        match change {
            Change::Insert(path, member, kind) => {
                self.tree
                    .insert(&path, member.attrs, member.xattrs.into(), kind)
            }
            Change::Link(path, target) => self.tree.link(&path, &target),
        }
    }
}
