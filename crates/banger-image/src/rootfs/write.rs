//! Owns the step from a tree and its data to an image. Knows ext4 by its trait only, and no
//! archive.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};

use super::error::{EntryName, ImportError};
use super::measure::{JOURNAL_BLOCKS, Needs, Size};
use super::node::{Content, Kind, NodeId};
use super::source::Watch;
use super::store::{ContentReader, Store, segments};
use super::tree::Tree;
use crate::ext4::{Builder, Ext4Error, FsUuid, Inode, Label, Layout, MkExt4, Options};
use crate::progress::Step;

/// How often the image may turn out larger than estimated.
const MORE_GROUPS: u64 = 8;
const TICK: u64 = 4 << 20;

/// A tree that has its place, ready to be written.
pub(super) struct Plan<'t> {
    layout: <MkExt4 as Builder>::Layout,
    files: Vec<(<MkExt4 as Builder>::Node, &'t Content)>,
    pub(super) needed: u64,
    pub(super) inodes: u64,
}

/// Lays a tree out. The estimate is from above, so that the first size fits; should it not, a
/// group is added, which an image of holes does not cost.
pub(super) fn plan<'t>(
    tree: &'t Tree,
    label: &Label,
    uuid: FsUuid,
) -> Result<Plan<'t>, ImportError> {
    let nodes = reachable(tree);
    let needs = Needs::of(tree, nodes.iter().copied());
    let first = needs.size();
    let mut groups = first.groups;
    loop {
        let size = needs.size_of(groups);
        let (builder, files) = declare(tree, size, label, uuid)?;
        match builder.seal() {
            Ok(layout) => {
                let inodes = nodes.len() as u64;
                return Ok(Plan {
                    layout,
                    files,
                    needed: needs.bytes(),
                    inodes,
                });
            }
            Err(Ext4Error::Layout { .. }) if groups < first.groups + MORE_GROUPS => groups += 1,
            Err(source) => return Err(ImportError::Image(source)),
        }
    }
}

impl Plan<'_> {
    pub(super) fn image_len(&self) -> u64 {
        self.layout.image_len()
    }

    /// Writes the image; `total` bytes of content are announced to who watches.
    pub(super) fn write(
        self,
        store: &Store,
        out: &File,
        watch: &Watch,
        total: u64,
    ) -> Result<(), Ext4Error> {
        let meter = Meter {
            watch,
            total,
            done: Cell::new(0),
            next: Cell::new(0),
        };
        let files = self
            .files
            .iter()
            .filter(|(_, content)| !content.extents.is_empty());
        let files = files.map(|(node, content)| {
            (
                *node,
                Metered {
                    inner: store.reader(content),
                    meter: &meter,
                },
            )
        });
        self.layout.write(out, files)
    }
}

/// Every node that has a name, once.
fn reachable(tree: &Tree) -> Vec<NodeId> {
    let mut seen = vec![false; tree.node_count()];
    let mut found = Vec::new();
    let mut stack = vec![NodeId::ROOT];
    while let Some(id) = stack.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        found.push(id);
        if let Some(directory) = tree.directory(id) {
            stack.extend(directory.children().map(|(_, child)| child));
        }
    }
    found
}

type Files<'t, N> = Vec<(N, &'t Content)>;

fn declare<'t>(
    tree: &'t Tree,
    size: Size,
    label: &Label,
    uuid: FsUuid,
) -> Result<(MkExt4, Files<'t, <MkExt4 as Builder>::Node>), ImportError> {
    let mut builder = MkExt4::new(&Options {
        size_bytes: size.bytes(),
        uuid,
        label: Some(label.clone()),
        inodes: size.inodes,
        journal_blocks: Some(JOURNAL_BLOCKS),
    })
    .map_err(ImportError::Image)?;
    let files = declare_all(tree, &mut builder)?;
    Ok((builder, files))
}

/// Declares directory after directory, each with all its children in the order of their names:
/// what is listed together lies together, and the order of the archive leaves no trace.
fn declare_all<'t, B: Builder>(
    tree: &'t Tree,
    builder: &mut B,
) -> Result<Files<'t, B::Node>, ImportError> {
    let root = tree.node(NodeId::ROOT);
    builder
        .set_root(Inode {
            attrs: root.attrs,
            xattrs: &root.xattrs,
        })
        .map_err(|source| ImportError::Place {
            entry: EntryName::new(b"/"),
            source,
        })?;
    let mut declared: Vec<Option<B::Node>> = vec![None; tree.node_count()];
    let mut files = Vec::new();
    let mut stack = vec![(NodeId::ROOT, builder.root())];
    while let Some((id, parent)) = stack.pop() {
        let Some(directory) = tree.directory(id) else {
            continue;
        };
        let first = stack.len();
        for (name, child) in directory.children() {
            let refused = |source| {
                let path = [&tree.path_of(id)[..], name].join(&b'/');
                ImportError::Place {
                    entry: EntryName::new(&path),
                    source,
                }
            };
            if let Some(node) = declared[child.index()] {
                builder.link(parent, name, node).map_err(refused)?;
                continue;
            }
            let node = declare_one(tree, child, builder, parent, name).map_err(refused)?;
            declared[child.index()] = Some(node);
            match &tree.node(child).kind {
                Kind::Directory(_) => stack.push((child, node)),
                Kind::File(content) => files.push((node, content)),
                Kind::Symlink(_) | Kind::Special(_) => {}
            }
        }
        // The stack gives back in reverse what was pushed in order.
        stack[first..].reverse();
    }
    Ok(files)
}

fn declare_one<B: Builder>(
    tree: &Tree,
    id: NodeId,
    builder: &mut B,
    parent: B::Node,
    name: &[u8],
) -> Result<B::Node, Ext4Error> {
    let node = tree.node(id);
    let inode = Inode {
        attrs: node.attrs,
        xattrs: &node.xattrs,
    };
    match &node.kind {
        Kind::Directory(_) => builder.directory(parent, name, inode),
        Kind::File(content) => builder.file(parent, name, inode, &segments(content)),
        Kind::Symlink(target) => builder.symlink(parent, name, inode, target),
        Kind::Special(special) => builder.special(parent, name, inode, *special),
    }
}

/// Tells how much of the content has been written.
struct Meter<'a> {
    watch: &'a Watch,
    total: u64,
    done: Cell<u64>,
    next: Cell<u64>,
}

impl Meter<'_> {
    fn add(&self, bytes: u64) -> io::Result<()> {
        let done = self.done.get() + bytes;
        self.done.set(done);
        if done < self.next.get() {
            return Ok(());
        }
        self.next.set(done + TICK);
        let step = Step {
            stage: "write",
            detail: "disk image".to_owned(),
            done: done.min(self.total),
            total: Some(self.total),
        };
        self.watch
            .tick(step)
            .map_err(|_| io::Error::from(io::ErrorKind::Interrupted))
    }
}

struct Metered<'a> {
    inner: ContentReader<'a>,
    meter: &'a Meter<'a>,
}

impl Read for Metered<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.meter.add(n as u64)?;
        Ok(n)
    }
}
