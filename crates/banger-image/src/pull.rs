//! Owns the way from an image reference to layers that are ready to be built: the document that
//! is meant, its configuration, and a source for each layer. Makes no image and knows no store
//! of images.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::blobs::{BlobLayer, BlobStore, Wanted};
use crate::digest::Sha256;
use crate::layers::LayerSource;
use crate::layout::{self, Kind, LayoutError};
use crate::manifest::{ConfigDocument, Document, ImageConfig, Manifest, ManifestError, Platform};
use crate::reference::{LayoutRef, RegistryRef};
use crate::registry::{self, Registries, RegistryError, Session};

/// Layers of one image that are fetched at once: enough to fill a line, few enough to get the
/// first one early.
const AT_ONCE: usize = 3;
/// Indexes of indexes of indexes.
const MOST_INDEXES: usize = 4;

/// Why an image could not be found where its reference leads.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// What a reference leads to.
#[derive(Debug)]
pub struct Resolved {
    /// Of the image's manifest.
    pub digest: Sha256,
    pub platform: Platform,
    pub config: ImageConfig,
    /// The lowest first.
    pub layers: Vec<Arc<dyn LayerSource>>,
    /// The same layers, where they come from a registry.
    pub blobs: Vec<Arc<BlobLayer>>,
}

/// Finds an image in a registry; fetches its documents, but no layer.
pub async fn of_registry(
    registries: &Registries,
    store: &Arc<BlobStore>,
    reference: &RegistryRef,
    wanted: &Platform,
    insecure: bool,
) -> Result<Resolved, RegistryError> {
    let session = Arc::new(registries.session(reference, insecure).await?);
    let unusable = |source| RegistryError::Manifest {
        reference: reference.to_string(),
        source,
    };
    let first = session.manifest().await?;
    let (digest, manifest) = manifest(&session, first, reference, wanted).await?;
    let config = session.small_blob(manifest.config.digest).await?;
    let config = ConfigDocument::parse(&config.bytes).map_err(unusable)?;
    config.hold_to(wanted).map_err(unusable)?;
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let descriptors = manifest.layers_with(&config.diff_ids).map_err(unusable)?;
    let blobs = descriptors.into_iter().zip(&manifest.layers);
    let blobs: Vec<_> = blobs
        .map(|(descriptor, layer)| {
            let wanted = Wanted {
                session: Arc::clone(&session),
                digest: descriptor.digest,
                size: layer.descriptor.size,
                gate: Arc::clone(&gate),
            };
            Arc::new(BlobLayer::new(descriptor, Arc::clone(store), wanted))
        })
        .collect();
    let layers = blobs.iter().map(|blob| {
        let layer: Arc<dyn LayerSource> = blob.clone();
        layer
    });
    Ok(Resolved {
        digest,
        platform: config.platform.unwrap_or_else(|| wanted.clone()),
        config: config.config,
        layers: layers.collect(),
        blobs,
    })
}

/// Follows indexes to the manifest of the wanted platform.
async fn manifest(
    session: &Session,
    first: registry::Document,
    reference: &RegistryRef,
    wanted: &Platform,
) -> Result<(Sha256, Manifest), RegistryError> {
    let unusable = |source| RegistryError::Manifest {
        reference: reference.to_string(),
        source,
    };
    let mut document = first;
    for _ in 0..MOST_INDEXES {
        let kind = document.content_type.as_deref();
        match Document::parse(&document.bytes, kind).map_err(unusable)? {
            Document::Manifest(manifest) => return Ok((document.digest, manifest)),
            Document::Index(index) => {
                let chosen = index.choose(wanted).map_err(unusable)?.digest;
                document = session.manifest_of(chosen).await?;
            }
        }
    }
    Err(unusable(ManifestError::Nested))
}

/// Finds an image on this host.
pub async fn of_layout(
    kind: Kind,
    at: LayoutRef,
    wanted: Platform,
    scratch: PathBuf,
) -> Result<Resolved, LayoutError> {
    let found = crate::blocking::run(move || {
        let found = layout::find(kind, &at, &wanted, &scratch)?;
        Ok::<_, LayoutError>((found, wanted))
    });
    let (found, wanted) = found.await?;
    Ok(Resolved {
        digest: found.digest,
        platform: found.platform.unwrap_or(wanted),
        config: found.config,
        layers: found.layers,
        blobs: Vec::new(),
    })
}
