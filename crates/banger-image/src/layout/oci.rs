//! Owns OCI's image layout: an index by name, documents and layers by digest.

use std::sync::Arc;

use super::Found;
use super::error::LayoutError;
use super::files::{FileLayer, Files};
use crate::digest::Sha256;
use crate::layers::LayerSource;
use crate::manifest::{
    ConfigDocument, Document, Index, LARGEST_DOCUMENT, Manifest, ManifestError, Platform,
};

const INDEX: &str = "index.json";
/// Indexes of indexes of indexes.
const MOST_INDEXES: usize = 4;

pub(super) fn find(
    files: &Files,
    name: Option<&str>,
    wanted: &Platform,
) -> Result<Found, LayoutError> {
    if files.find(INDEX).is_none() {
        return Err(LayoutError::Other {
            path: files.path.clone(),
            what: "image layout of OCI",
            file: INDEX,
        });
    }
    let unusable = |source| LayoutError::Manifest {
        path: files.path.clone(),
        source,
    };
    let bytes = files.read(INDEX, None, LARGEST_DOCUMENT)?;
    let Document::Index(index) = Document::parse(&bytes, None).map_err(unusable)? else {
        return Err(unusable(ManifestError::Kind {
            kind: "a manifest in the place of an index".to_owned(),
        }));
    };
    let (digest, manifest) = manifest(files, &by_name(files, &index, name)?, wanted)?;
    let blob = blob_name(manifest.config.digest);
    let config = files.read(&blob, Some(manifest.config.digest), LARGEST_DOCUMENT)?;
    let config = ConfigDocument::parse(&config).map_err(unusable)?;
    config.hold_to(wanted).map_err(unusable)?;
    let descriptors = manifest.layers_with(&config.diff_ids).map_err(unusable)?;
    let layers = descriptors.into_iter().map(|descriptor| {
        let section = files.get(&blob_name(descriptor.digest))?;
        let layer: Arc<dyn LayerSource> = Arc::new(FileLayer {
            descriptor,
            section,
        });
        Ok(layer)
    });
    Ok(Found {
        digest,
        platform: config.platform,
        config: config.config,
        layers: layers.collect::<Result<_, LayoutError>>()?,
    })
}

/// Without a name there must be no doubt which image is meant.
fn by_name(files: &Files, index: &Index, name: Option<&str>) -> Result<Index, LayoutError> {
    let available = index.names();
    match name {
        None if available.len() > 1 => Err(LayoutError::Several {
            path: files.path.clone(),
            available,
        }),
        None => Ok(index.clone()),
        Some(wanted) => {
            let named = index.named(name);
            if named.is_empty() {
                return Err(LayoutError::NoName {
                    path: files.path.clone(),
                    wanted: wanted.to_owned(),
                    available,
                });
            }
            Ok(named)
        }
    }
}

fn manifest(
    files: &Files,
    index: &Index,
    wanted: &Platform,
) -> Result<(Sha256, Manifest), LayoutError> {
    let unusable = |source| LayoutError::Manifest {
        path: files.path.clone(),
        source,
    };
    let mut index = index.clone();
    for _ in 0..MOST_INDEXES {
        let digest = index.choose(wanted).map_err(unusable)?.digest;
        let bytes = files.read(&blob_name(digest), Some(digest), LARGEST_DOCUMENT)?;
        match Document::parse(&bytes, None).map_err(unusable)? {
            Document::Manifest(manifest) => return Ok((digest, manifest)),
            Document::Index(inner) => index = inner,
        }
    }
    Err(unusable(ManifestError::Nested))
}

fn blob_name(digest: Sha256) -> String {
    format!("blobs/sha256/{}", digest.to_hex())
}
