//! Owns the step from an archive's members to a tree, and of their data to its place. Knows no
//! inode of an image.

use std::collections::BTreeMap;
use std::path::Path;

use super::archive::{Archive, Body, Member};
use super::error::{EntryError, EntryName, ImportError, writing};
use super::limits::{Limit, Limits};
use super::node::{Content, NewKind};
use super::path::TreePath;
use super::place::{self, Filler};
use super::sparse::SparseMap;
use super::tree::Tree;
use super::whiteout::Whiteout;
use crate::ext4::{BLOCK_BYTES, BlockStream, Run};

/// Blocks of a file are counted in 32 bits.
const LONGEST_FILE: u64 = (1 << 32) * BLOCK_BYTES - BLOCK_BYTES;

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

/// What was read of archives.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) tree: Tree,
    /// Entries that were taken.
    pub(crate) entries: u64,
    /// Entries of any kind.
    pub(crate) headers: u64,
    pub(crate) content_bytes: u64,
    pub(crate) skipped: BTreeMap<Skipped, u64>,
}

/// Whether names that begin with `.wh.` take others away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Markers {
    /// They are names like any other.
    Keep,
    Apply,
}

/// What members are loaded with.
pub(crate) struct Loading<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) markers: Markers,
    /// Where the image is, for messages.
    pub(crate) dir: &'a Path,
}

enum Change {
    Insert(TreePath, Member, NewKind),
    Link(TreePath, TreePath),
    TakeAway(Whiteout),
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
    /// Reads all members of one archive on top of what is there, their data into `blocks`. Data
    /// that does not pass by keeps its place free.
    pub(crate) fn load(
        &mut self,
        archive: &mut Archive<'_>,
        loading: &Loading<'_>,
        blocks: &mut BlockStream,
    ) -> Result<(), ImportError> {
        self.tree.begin_layer();
        let failed = |source| writing(loading.dir, "the disk image", source);
        while let Some(member) = archive.next()? {
            let entry = EntryName::new(&member.path);
            if member.has_acl_text {
                *self.skipped.entry(Skipped::AclText).or_default() += 1;
            }
            let (map, runs) = self
                .measure(&member, loading.limits, blocks.position())
                .map_err(|error| error.naming(&entry))?;
            let change = self
                .plan(member, loading, &map, &runs)
                .map_err(|error| error.naming(&entry))?;
            let Some(change) = change else { continue };
            self.apply(change)
                .map_err(|source| ImportError::Entry { entry, source })?;
            self.entries += 1;
            if archive.has_data() {
                let mut filler = Filler::new(&map);
                archive.pass_data(|piece| filler.take(piece, blocks).map_err(failed))?;
                blocks.pad().map_err(failed)?;
            } else {
                blocks.skip(place::blocks(&runs)).map_err(failed)?;
            }
        }
        self.headers = archive.entries();
        Ok(())
    }

    /// Where a member's data goes, from data block `first` on.
    fn measure(
        &mut self,
        member: &Member,
        limits: &Limits,
        first: u64,
    ) -> Result<(SparseMap, Vec<Run>), Refusal> {
        let Body::File(map) = &member.body else {
            return Ok(Default::default());
        };
        let limit = |limit, most| Refusal::Import(ImportError::Limit { limit, most });
        let most = limits.file_bytes.min(LONGEST_FILE);
        if map.len > most {
            return Err(limit(Limit::FileBytes, most));
        }
        let stored: u64 = map.pieces.iter().map(|(_, len)| len).sum();
        self.content_bytes += stored;
        if self.content_bytes > limits.content_bytes {
            return Err(limit(Limit::ContentBytes, limits.content_bytes));
        }
        Ok((map.clone(), place::runs(map, first)))
    }

    /// What a member changes; nothing if it is skipped.
    fn plan(
        &mut self,
        mut member: Member,
        loading: &Loading<'_>,
        map: &SparseMap,
        runs: &[Run],
    ) -> Result<Option<Change>, Refusal> {
        let most = loading.limits.path_bytes;
        let parse = |raw: &[u8]| TreePath::parse(raw, most);
        if loading.markers == Markers::Apply
            && let Some(whiteout) = Whiteout::parse(&parse(&member.path)?)?
        {
            return Ok(Some(Change::TakeAway(whiteout)));
        }
        let kind = match std::mem::replace(&mut member.body, Body::Directory) {
            Body::Label => return Ok(self.skip(Skipped::VolumeLabel)),
            Body::Unknown => return Ok(self.skip(Skipped::UnknownType)),
            Body::HardLink(target) => {
                return Ok(Some(Change::Link(parse(&member.path)?, parse(&target)?)));
            }
            Body::Directory => NewKind::Directory,
            Body::Symlink(target) => NewKind::Symlink(target.into()),
            Body::Special(special) => NewKind::Special(special),
            Body::File(_) => NewKind::File(Content {
                len: map.len,
                runs: runs.into(),
            }),
        };
        Ok(Some(Change::Insert(parse(&member.path)?, member, kind)))
    }

    fn skip(&mut self, why: Skipped) -> Option<Change> {
        *self.skipped.entry(why).or_default() += 1;
        None
    }

    fn apply(&mut self, change: Change) -> Result<(), EntryError> {
        match change {
            Change::Insert(path, member, kind) => {
                self.tree
                    .insert(&path, member.attrs, member.xattrs.into(), kind)
            }
            Change::Link(path, target) => self.tree.link(&path, &target),
            Change::TakeAway(whiteout) => self.tree.apply(&whiteout),
        }
    }
}
