//! Owns the way from tars of a root file system to a read-only ext4 image: reader, tree, writer.
//! Data goes to its place in the image while it is read. Needs no root and writes nothing but the
//! image. Knows no registry and no catalog.

mod archive;
mod error;
mod facts;
mod header;
mod image;
mod limits;
mod load;
mod node;
mod path;
mod pax;
mod place;
mod scrub;
mod source;
mod sparse;
mod tree;
mod unpacking;
mod way;
mod whiteout;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::digest::{Hasher, Sha256};
use crate::ext4::{BlockStream, DirectFile, FIRST_DATA_BLOCK, FsUuid, Identification, Label};
use crate::progress::{SharedProgress, Silent};

pub(crate) use archive::Archive;
pub(crate) use error::writing;
pub(crate) use facts::gather;
pub(crate) use image::Image;
pub(crate) use load::{Loaded, Loading, Markers};
pub(crate) use source::{Input, Watch};
pub(crate) use unpacking::Unpack;

pub use error::{EntryError, EntryName, HeaderError, ImportError};
pub use facts::{Facts, Init, Machine, OsRelease};
pub use limits::{Limit, Limits};
pub use load::Skipped;
pub use node::{Content, Directory, Kind, NewKind, Node, NodeId};
pub use path::TreePath;
pub use source::Source;
pub use tree::{Last, Tree};
pub use whiteout::Whiteout;

/// Counts up whenever the same archive would give other bytes, so that identities differ too.
pub(crate) const IMAGE_VERSION: u8 = 2;

/// Whether the traces of the machine that built the tree are taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scrub {
    /// The image is exactly the archive.
    #[default]
    No,
    /// Without the builder's host name, resolver, identities, keys, caches and logs.
    BuilderTraces,
}

/// How an archive is to be imported.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    pub limits: Limits,
    pub scrub: Scrub,
    pub label: Label,
    /// Stops the import, which then leaves nothing behind.
    pub cancel: CancellationToken,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            scrub: Scrub::No,
            label: "banger-root".parse().expect("eleven bytes"),
            cancel: CancellationToken::new(),
        }
    }
}

/// What became of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReport {
    /// Entries that were taken.
    pub entries: u64,
    /// Inodes in the image.
    pub inodes: u64,
    /// Bytes of all files of the archive, without holes.
    pub content_bytes: u64,
    /// The image's length; most of what is beyond the content are holes.
    pub image_bytes: u64,
    /// Of the unpacked archive.
    pub tar_digest: Sha256,
    /// The file system's identity: a function of the archive and the options.
    pub uuid: FsUuid,
    /// Names that were dropped or emptied on request.
    pub scrubbed: u64,
    /// What is not in the image, and how often.
    pub skipped: BTreeMap<Skipped, u64>,
    pub facts: Facts,
}

/// Makes the image `dest`, which must not exist, of a tar. Blocks; the same archive and options
/// give the same bytes.
pub fn import(
    source: Source,
    dest: &Path,
    options: &ImportOptions,
    progress: &SharedProgress,
) -> Result<ImportReport, ImportError> {
    let watch = Watch {
        progress: progress.clone(),
        cancel: options.cancel.clone(),
        detail: "root file system".to_owned(),
    };
    let mut image = Image::create(dest)?;
    let (packed, packed_total) = source.open()?;
    let limits = &options.limits;
    let input = Input::archive(packed, packed_total, Unpack::Detect, watch.clone(), limits);
    let mut archive = Archive::new(input, limits, 0);
    let mut loaded = Loaded::default();
    let dir = image.dir().to_owned();
    let loading = Loading {
        limits,
        markers: Markers::Keep,
        dir: &dir,
    };
    loaded.load(&mut archive, &loading, &mut image.blocks)?;
    let tar_digest = archive
        .into_input()
        .finish()?
        .expect("an archive was read, no headers");
    let scrubbed = match options.scrub {
        Scrub::No => 0,
        Scrub::BuilderTraces => scrub::scrub(&mut loaded.tree).map_err(scrub_failed)?,
    };
    let who = Identification {
        uuid: identity(tar_digest, options),
        label: options.label.clone(),
    };
    let uuid = who.uuid;
    watch.tick("write", 0, None)?;
    let facts = gather(&loaded.tree, &image.settle()?).map_err(ImportError::Read)?;
    let written = image.complete(&loaded.tree, who)?;
    Ok(ImportReport {
        entries: loaded.entries,
        inodes: written.inodes,
        content_bytes: loaded.content_bytes,
        image_bytes: written.image_bytes,
        tar_digest,
        uuid,
        scrubbed,
        skipped: loaded.skipped,
        facts,
    })
}

/// Reads layers, the lowest first, into the tree that their image would have. Blocks; writes
/// nothing anywhere.
pub fn survey(
    layers: impl IntoIterator<Item = Source>,
    limits: &Limits,
    cancel: &CancellationToken,
) -> Result<Tree, ImportError> {
    let nowhere = Path::new("/dev/null");
    let file = File::options().write(true).open(nowhere);
    let file = file.map_err(|source| writing(nowhere, "nothing", source))?;
    let mut blocks = BlockStream::new(DirectFile::new(file), FIRST_DATA_BLOCK);
    let mut loaded = Loaded::default();
    let watch = Watch {
        progress: Arc::new(Silent),
        cancel: cancel.clone(),
        detail: String::new(),
    };
    for source in layers {
        let (packed, total) = source.open()?;
        let input = Input::archive(packed, total, Unpack::Detect, watch.clone(), limits);
        let mut archive = Archive::new(input, limits, loaded.headers);
        let loading = Loading {
            limits,
            markers: Markers::Apply,
            dir: nowhere,
        };
        loaded.load(&mut archive, &loading, &mut blocks)?;
        archive.into_input().finish()?;
    }
    Ok(loaded.tree)
}

fn scrub_failed(source: EntryError) -> ImportError {
    ImportError::Entry {
        entry: EntryName::new(b"/"),
        source,
    }
}

/// Whatever changes the image's bytes changes its identity.
fn identity(tar: Sha256, options: &ImportOptions) -> FsUuid {
    let mut hasher = Hasher::default();
    hasher.update(tar.as_bytes());
    hasher.update(&[
        IMAGE_VERSION,
        u8::from(options.scrub == Scrub::BuilderTraces),
    ]);
    hasher.update(options.label.as_str().as_bytes());
    FsUuid::from_digest(hasher.finish().as_bytes())
}
