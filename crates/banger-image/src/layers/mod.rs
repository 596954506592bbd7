//! Owns the way from an image's layers to one ext4 image. Knows where no layer comes from: a
//! [`LayerSource`] gives its bytes as they arrive. Knows no registry, no manifest and no catalog.

mod build;
mod cache;
mod copy;
mod entry;
mod stock;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use build::Build;
pub use cache::{CacheError, LayerCache};

use crate::digest::{Hasher, Sha256};
use crate::ext4::FsUuid;
use crate::progress::SharedProgress;
use crate::rootfs::{self, Facts, ImportError, Limits, Skipped};

/// How a layer's bytes are packed, as its media type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// What a manifest and a configuration promise of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerDescriptor {
    pub compression: Compression,
    /// Of the packed bytes.
    pub digest: Sha256,
    /// Packed bytes; `None` where the source does not say.
    pub size: Option<u64>,
    /// Of the unpacked tar.
    pub diff_id: Sha256,
}

/// One layer, wherever it is.
pub trait LayerSource: Send + Sync {
    fn descriptor(&self) -> &LayerDescriptor;

    /// Begins to fetch the packed bytes, where they are not here yet, and gives them from the
    /// first on; returns at once. Reads block until bytes are there. The read that would say
    /// "end" fails instead when the bytes were not those of `descriptor().digest`: whoever reads
    /// must read to the end. May be called for several layers at once, and again after a failure.
    /// A layer that is never opened is never fetched.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;
}

impl fmt::Debug for dyn LayerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LayerSource")
            .field(self.descriptor())
            .finish()
    }
}

/// How layers are to be made an image.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    pub limits: Limits,
    /// Stops the build, which then leaves nothing behind.
    pub cancel: CancellationToken,
}

/// What became of the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Entries that were taken.
    pub entries: u64,
    /// Inodes in the image.
    pub inodes: u64,
    /// Bytes of all files, without holes.
    pub content_bytes: u64,
    /// The image's length; most of what is beyond the content are holes.
    pub image_bytes: u64,
    /// The file system's identity: a function of the layers.
    pub uuid: FsUuid,
    /// What is not in the image, and how often.
    pub skipped: BTreeMap<Skipped, u64>,
    pub facts: Facts,
    /// Layers, by diff_id, that came out of the cache.
    pub reused: Vec<Sha256>,
}

/// Layers did not become an image; nothing is left behind but whole layers in the cache.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// `digest` names the layer as the manifest does.
    #[error("cannot take the layer {digest}")]
    Layer {
        digest: Sha256,
        #[source]
        source: ImportError,
    },
    #[error("the layer {digest} unpacks to {found} where its configuration promises {expected}")]
    DiffId {
        digest: Sha256,
        expected: Sha256,
        found: Sha256,
    },
    #[error("cannot open the layer {digest}")]
    Open {
        digest: Sha256,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the layer cache")]
    Cache(#[source] CacheError),
    #[error("cannot read or write the layer cache")]
    Keep(#[source] io::Error),
    #[error("cannot make the image of the layers")]
    Image(#[source] ImportError),
}

/// Makes the image `dest`, which must not exist, of layers from the lowest up. Blocks; the same
/// layers give the same bytes. `cache` holds unpacked layers by diff_id and whatever is temporary.
pub fn build(
    layers: &[Arc<dyn LayerSource>],
    cache: &LayerCache,
    dest: &Path,
    options: &BuildOptions,
    progress: &SharedProgress,
) -> Result<Built, LayersError> {
    cache.prepare().map_err(LayersError::Cache)?;
    let _pinned = cache.pin(layers.iter().map(|layer| layer.descriptor().diff_id));
    let mut build = Build::begin(cache, dest, layers.len(), options, progress)?;
    for layer in layers {
        if let Err(error) = build.add(&**layer) {
            build.salvage();
            return Err(error);
        }
    }
    build.complete(identity(layers))
}

/// Whatever changes the image's bytes changes its identity.
fn identity(layers: &[Arc<dyn LayerSource>]) -> FsUuid {
    let mut hasher = Hasher::default();
    hasher.update(&[rootfs::IMAGE_VERSION]);
    for layer in layers {
        hasher.update(layer.descriptor().diff_id.as_bytes());
    }
    FsUuid::from_digest(hasher.finish().as_bytes())
}
