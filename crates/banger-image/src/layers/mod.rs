//! Owns the way from an image's layers to one ext4 image. Knows where no layer comes from: a
//! [`LayerSource`] gives its bytes as they arrive. Knows no registry, no manifest and no catalog.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::digest::Sha256;
use crate::ext4::FsUuid;
use crate::progress::SharedProgress;
use crate::rootfs::{self, Facts, ImportError, ImportOptions, Limits, Skipped, Source};

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
#[non_exhaustive]
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
    #[error("an image of {0} layers cannot be made yet")]
    Many(usize),
}

/// Makes the image `dest`, which must not exist, of layers from the lowest up. Blocks; the same
/// layers give the same bytes. `cache` holds unpacked layers by diff_id and anything temporary.
pub fn build(
    layers: &[Arc<dyn LayerSource>],
    cache: &Path,
    dest: &Path,
    options: &BuildOptions,
    progress: &SharedProgress,
) -> Result<Built, LayersError> {
    let _ = cache;
    let [layer] = layers else {
        return Err(LayersError::Many(layers.len()));
    };
    let LayerDescriptor {
        digest, diff_id, ..
    } = *layer.descriptor();
    let bytes = layer
        .open()
        .map_err(|source| LayersError::Open { digest, source })?;
    let import = ImportOptions {
        limits: options.limits.clone(),
        cancel: options.cancel.clone(),
        ..ImportOptions::default()
    };
    let report = rootfs::import(Source::Stream(bytes), dest, &import, progress)
        .map_err(|source| LayersError::Layer { digest, source })?;
    if report.tar_digest != diff_id {
        return Err(LayersError::DiffId {
            digest,
            expected: diff_id,
            found: report.tar_digest,
        });
    }
    Ok(Built {
        entries: report.entries,
        inodes: report.inodes,
        content_bytes: report.content_bytes,
        image_bytes: report.image_bytes,
        uuid: report.uuid,
        skipped: report.skipped,
        facts: report.facts,
        reused: Vec::new(),
    })
}
