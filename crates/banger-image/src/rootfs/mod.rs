//! Owns the way from any tar of a root file system to a read-only ext4 image: reader, tree,
//! writer. Needs no root and writes nothing but the image and a spool without a name. Knows no
//! registry and no catalog.

mod archive;
mod error;
mod facts;
mod header;
mod limits;
mod load;
mod measure;
mod node;
mod path;
mod pax;
mod scrub;
mod source;
mod sparse;
mod store;
mod tree;
mod write;

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use crate::digest::{Hasher, Sha256};
use crate::ext4::{Ext4Error, FsUuid, Label, is_no_space};
use crate::progress::SharedProgress;
use archive::Archive;
use load::Loaded;
use source::{Opened, Watch};
use store::Collector;

pub use error::{EntryError, EntryName, HeaderError, ImportError};
pub use facts::{Facts, Init, Machine, OsRelease};
pub use limits::Limits;
pub use load::Skipped;
pub use node::{Content, Directory, Extent, Kind, NewKind, Node, NodeId};
pub use path::TreePath;
pub use source::Source;
pub use tree::{Last, Tree};

/// Counts up whenever the same archive would give other bytes, so that identities differ too.
const IMAGE_VERSION: u8 = 1;

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
    };
    let dir = match dest.parent() {
        Some(dir) if dir != Path::new("") => dir,
        Some(_) | None => Path::new("."),
    };
    if dest.symlink_metadata().is_ok() {
        return Err(ImportError::Exists {
            dest: dest.to_owned(),
        });
    }
    let Opened { input, origin } = source.open(watch.clone(), options.limits.archive_bytes)?;
    let (mut collector, origin) = match origin {
        Some(origin) => {
            let file = origin.file.try_clone().map_err(ImportError::Read)?;
            (Collector::Origin(file), Some(origin))
        }
        None => (Collector::spool(dir)?, None),
    };
    let mut archive = Archive::new(input, &options.limits);
    let mut loaded = load::load(&mut archive, &options.limits, &mut collector)?;
    let tar_digest = archive.input.finish()?;
    let store = collector.finish()?;
    let scrubbed = match options.scrub {
        Scrub::No => 0,
        Scrub::BuilderTraces => scrub::scrub(&mut loaded.tree),
    };
    let uuid = identity(tar_digest, options);
    let facts = facts::gather(&loaded.tree, &store).map_err(ImportError::Read)?;
    let plan = write::plan(&loaded.tree, &options.label, uuid)?;
    let (needed, image_bytes, inodes) = (plan.needed, plan.image_len(), plan.inodes);
    let image = temporary(dir)?;
    plan.write(&store, image.as_file(), &watch, loaded.content_bytes)
        .map_err(|error| writing_failed(error, dir, needed, &watch))?;
    if let Some(origin) = &origin {
        origin.check_unchanged(&origin.file)?;
    }
    publish(image, dir, dest, needed)?;
    let Loaded {
        entries,
        content_bytes,
        skipped,
        ..
    } = loaded;
    Ok(ImportReport {
        entries,
        inodes,
        content_bytes,
        image_bytes,
        tar_digest,
        uuid,
        scrubbed,
        skipped,
        facts,
    })
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

fn temporary(dir: &Path) -> Result<NamedTempFile, ImportError> {
    tempfile::Builder::new()
        .prefix(".import-")
        .suffix(".tmp")
        .tempfile_in(dir)
        .map_err(|source| ImportError::Create {
            dir: dir.to_owned(),
            source,
        })
}

fn writing_failed(error: Ext4Error, dir: &Path, needed: u64, watch: &Watch) -> ImportError {
    if watch.cancel.is_cancelled() {
        return ImportError::Cancelled;
    }
    match error {
        Ext4Error::Write(source) if is_no_space(&source) => {
            error::writing(dir, "the disk image", needed, source)
        }
        other => ImportError::Image(other),
    }
}

/// Makes the image durable, then visible, then its name durable.
fn publish(image: NamedTempFile, dir: &Path, dest: &Path, needed: u64) -> Result<(), ImportError> {
    let failed = |source: io::Error| ImportError::Publish {
        dest: dest.to_owned(),
        source,
    };
    image
        .as_file()
        .set_permissions(Permissions::from_mode(0o444))
        .map_err(failed)?;
    image
        .as_file()
        .sync_all()
        .map_err(|source| error::writing(dir, "the disk image", needed, source))?;
    image
        .persist_noclobber(dest)
        .map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => ImportError::Exists {
                dest: dest.to_owned(),
            },
            _ => failed(error.error),
        })?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed)
}
