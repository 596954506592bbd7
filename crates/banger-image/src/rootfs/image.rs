//! Owns the step from a tree whose data is in place to an image that others can see. Knows ext4's
//! inodes, and no archive.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{EntryName, ImportError, writing};
use super::node::{Content, Kind, NodeId};
use super::tree::Tree;
use crate::ext4::{
    self, BLOCK_BYTES, BlockStream, DirectFile, Ext4Error, FIRST_DATA_BLOCK, FileKind, Finishing,
    Identification, Ino, Inode, LINK_MAX, Name, Space, is_no_space,
};
use crate::unpublished::Unpublished;

/// An image that data is streaming into.
pub(crate) struct Image {
    file: Unpublished,
    dest: PathBuf,
    dir: PathBuf,
    pub(crate) blocks: BlockStream,
}

/// What became of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) inodes: u64,
    pub(crate) image_bytes: u64,
}

impl Image {
    /// Begins the image `dest`, which must not exist.
    pub(crate) fn create(dest: &Path) -> Result<Self, ImportError> {
        if dest.symlink_metadata().is_ok() {
            return Err(ImportError::Exists {
                dest: dest.to_owned(),
            });
        }
        let dir = match dest.parent() {
            Some(dir) if dir != Path::new("") => dir,
            Some(_) | None => Path::new("."),
        };
        let failed = |source| ImportError::Create {
            dir: dir.to_owned(),
            source,
        };
        let file = Unpublished::create(dir).map_err(failed)?;
        let data = DirectFile::new(file.reopen().map_err(failed)?);
        Ok(Self {
            file,
            dest: dest.to_owned(),
            dir: dir.to_owned(),
            blocks: BlockStream::new(data, FIRST_DATA_BLOCK),
        })
    }

    /// The directory that the image will be in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the image will be called.
    pub(crate) fn dest(&self) -> &Path {
        &self.dest
    }

    /// The image as far as it is there.
    pub(crate) fn file(&self) -> &File {
        self.file.file()
    }

    /// The same file once more, for whoever knows the places of data.
    pub(crate) fn reopen(&self) -> io::Result<File> {
        self.file.reopen()
    }

    /// Waits for all data, which can be read from then on.
    pub(crate) fn settle(&mut self) -> Result<Data<'_>, ImportError> {
        let dir = &self.dir;
        self.blocks
            .settle()
            .map_err(|source| writing(dir, "the disk image", source))?;
        Ok(Data {
            file: self.file.file(),
        })
    }

    /// Writes everything around the data and publishes the image.
    pub(crate) fn complete(
        mut self,
        tree: &Tree,
        who: Identification,
    ) -> Result<Written, ImportError> {
        let failed = |error| image_error(&self.dir, error);
        let order = Order::of(tree);
        let mut finishing =
            Finishing::begin(self.file.file(), &mut self.blocks, who).map_err(failed)?;
        for (index, id) in order.nodes.iter().enumerate() {
            order
                .put(tree, index, *id, &mut finishing)
                .map_err(|source| match source {
                    Ext4Error::Write(_) => failed(source),
                    source => ImportError::Place {
                        entry: EntryName::new(&order.path(tree, index)),
                        source,
                    },
                })?;
        }
        let image_bytes = finishing.complete().map_err(failed)?;
        self.blocks
            .finish()
            .map_err(|source| writing(&self.dir, "the disk image", source))?;
        publish(self.file, &self.dir, self.dest)?;
        Ok(Written {
            inodes: order.nodes.len() as u64,
            image_bytes,
        })
    }
}

fn image_error(dir: &Path, error: Ext4Error) -> ImportError {
    match error {
        Ext4Error::Write(source) => writing(dir, "the disk image", source),
        other => ImportError::Image(other),
    }
}

fn publish(file: Unpublished, dir: &Path, dest: PathBuf) -> Result<(), ImportError> {
    match file.publish(&dest, 0o444) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(ImportError::Exists { dest })
        }
        Err(error) if is_no_space(&error) => Err(writing(dir, "the disk image", error)),
        Err(source) => Err(ImportError::Publish { dest, source }),
    }
}

/// Data that has arrived in an image.
pub(crate) struct Data<'a> {
    file: &'a File,
}

impl Data<'_> {
    /// The first bytes of a file, at most `most`.
    pub(super) fn head(&self, content: &Content, most: u64) -> io::Result<Vec<u8>> {
        let len = usize::try_from(content.len.min(most)).expect("a head is small");
        let mut head = vec![0; len.next_multiple_of(BLOCK_BYTES as usize)];
        let (blocks, _) = head.as_chunks_mut::<{ BLOCK_BYTES as usize }>();
        let mut space = Space::default();
        for (logical, block) in (0..).zip(blocks) {
            let Some(run) = content
                .runs
                .iter()
                .find(|run| run.logical <= logical && logical - run.logical < run.blocks)
            else {
                continue;
            };
            let number = run.first + u64::from(logical - run.logical);
            let place = space.locate(number, 1).next().expect("one block");
            self.read(block, place.start * BLOCK_BYTES)?;
        }
        head.truncate(len);
        Ok(head)
    }

    /// Blocks of zeros at the end may not be in the file yet.
    fn read(&self, mut block: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !block.is_empty() {
            match self.file.read_at(block, offset)? {
                0 => break,
                n => (block, offset) = (&mut block[n..], offset + n as u64),
            }
        }
        Ok(())
    }
}

/// The nodes of a tree in the order of their inodes: directory after directory, each with all its
/// children in the order of their names. What is listed together lies together, and the order of
/// the archive leaves no trace in the numbers.
struct Order {
    nodes: Vec<NodeId>,
    /// By the node's own number: its inode, and how many names it has.
    numbers: Vec<Option<Ino>>,
    links: Vec<u32>,
}

impl Order {
    fn of(tree: &Tree) -> Self {
        let mut this = Self {
            nodes: vec![NodeId::ROOT],
            numbers: vec![None; tree.node_count()],
            links: vec![0; tree.node_count()],
        };
        this.numbers[NodeId::ROOT.index()] = Some(Ino::ROOT);
        let mut stack = vec![NodeId::ROOT];
        while let Some(id) = stack.pop() {
            let Some(directory) = tree.directory(id) else {
                continue;
            };
            let first = stack.len();
            for (_, child) in directory.children() {
                this.links[child.index()] += 1;
                if this.numbers[child.index()].is_none() {
                    this.number(child);
                }
                if tree.directory(child).is_some() {
                    // Its `..` is a name of this directory, and its `.` one of its own.
                    this.links[id.index()] += 1;
                    this.links[child.index()] += 1;
                    stack.push(child);
                }
            }
            // The stack gives back in reverse what was pushed in order.
            stack[first..].reverse();
        }
        // The root has no name, but `.` and `..` are both its own.
        this.links[NodeId::ROOT.index()] += 2;
        this
    }

    fn number(&mut self, id: NodeId) {
        let index = u32::try_from(self.nodes.len() - 1).expect("entries are bounded far below");
        self.numbers[id.index()] = Some(Ino(Ino::FIRST_FREE.0 + index));
        self.nodes.push(id);
    }

    fn ino(&self, id: NodeId) -> Ino {
        self.numbers[id.index()].expect("every node with a name has a number")
    }

    fn put(
        &self,
        tree: &Tree,
        index: usize,
        id: NodeId,
        finishing: &mut Finishing<'_>,
    ) -> Result<(), Ext4Error> {
        let node = tree.node(id);
        let links = self.links[id.index()];
        let names: Vec<_>;
        let kind = match &node.kind {
            Kind::Directory(directory) => {
                names = directory
                    .children()
                    .map(|(name, child)| Name {
                        name,
                        ino: self.ino(child),
                        kind: file_kind(&tree.node(child).kind),
                    })
                    .collect();
                ext4::Kind::Directory {
                    parent: self.ino(directory.parent),
                    names: &names,
                }
            }
            Kind::File(content) => ext4::Kind::File {
                len: content.len,
                runs: &content.runs,
            },
            Kind::Symlink(target) => ext4::Kind::Symlink(target),
            Kind::Special(special) => ext4::Kind::Special(*special),
        };
        if links > LINK_MAX && tree.directory(id).is_none() {
            return Err(Ext4Error::TooManyLinks { links });
        }
        let inode = Inode {
            attrs: node.attrs,
            xattrs: &node.xattrs,
            links,
            kind,
        };
        debug_assert_eq!(self.nodes[index], id);
        finishing.put(self.ino(id), &inode)
    }

    /// A path of a node, for messages.
    fn path(&self, tree: &Tree, index: usize) -> Vec<u8> {
        let wanted = self.nodes[index];
        let parents = self.nodes.iter().filter_map(|id| {
            let directory = tree.directory(*id)?;
            let mut children = directory.children();
            let (name, _) = children.find(|(_, child)| *child == wanted)?;
            Some([&tree.path_of(*id)[..], name].join(&b'/'))
        });
        parents.into_iter().next().unwrap_or_else(|| b"/".to_vec())
    }
}

fn file_kind(kind: &Kind) -> FileKind {
    match kind {
        Kind::Directory(_) => FileKind::Directory,
        Kind::File(_) => FileKind::Regular,
        Kind::Symlink(_) => FileKind::Symlink,
        Kind::Special(special) => FileKind::Special(*special),
    }
}
