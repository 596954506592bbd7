//! Owns what `docker save` writes: a list of images, their configurations, their layers as tars.

use std::io::Read;
use std::sync::Arc;

use serde::Deserialize;

use super::Found;
use super::error::LayoutError;
use super::files::{FileLayer, Files, Section, failed};
use crate::decompress::Packing;
use crate::digest::Sha256;
use crate::layers::{Compression, LayerDescriptor, LayerSource};
use crate::manifest::{ConfigDocument, LARGEST_DOCUMENT, ManifestError, Platform};
use crate::reference::RegistryRef;

const LIST: &str = "manifest.json";
const MOST_IMAGES: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub(super) fn find(
    files: &Files,
    name: Option<&str>,
    wanted: &Platform,
) -> Result<Found, LayoutError> {
    if files.find(LIST).is_none() {
        return Err(LayoutError::Other {
            path: files.path.clone(),
            what: "archive of docker",
            file: LIST,
        });
    }
    let unusable = |source| LayoutError::Manifest {
        path: files.path.clone(),
        source,
    };
    let bytes = files.read(LIST, None, LARGEST_DOCUMENT)?;
    let images: Vec<Image> = serde_json::from_slice(&bytes).map_err(|source| {
        unusable(ManifestError::Json {
            what: "list of images",
            source,
        })
    })?;
    let image = choose(files, &images, name)?;
    let config_digest = digest_in_name(&image.config);
    let config = files.read(&image.config, config_digest, LARGEST_DOCUMENT)?;
    let digest = Sha256::of(&config);
    let config = ConfigDocument::parse(&config).map_err(unusable)?;
    config.hold_to(wanted).map_err(unusable)?;
    if image.layers.len() != config.diff_ids.len() {
        return Err(unusable(ManifestError::LayerCount {
            layers: image.layers.len(),
            diff_ids: config.diff_ids.len(),
        }));
    }
    let layers = image.layers.iter().zip(&config.diff_ids);
    let layers = layers.map(|(name, diff_id)| layer(files, name, *diff_id));
    Ok(Found {
        digest,
        platform: config.platform,
        config: config.config,
        layers: layers.collect::<Result<_, LayoutError>>()?,
    })
}

/// By one of an image's names; without a name there must be one image only.
fn choose<'i>(
    files: &Files,
    images: &'i [Image],
    name: Option<&str>,
) -> Result<&'i Image, LayoutError> {
    let tags = |image: &Image| image.repo_tags.clone().unwrap_or_default();
    let available = || images.iter().take(MOST_IMAGES).flat_map(tags).collect();
    let Some(wanted) = name else {
        return match images {
            [image] => Ok(image),
            _ => Err(LayoutError::Several {
                path: files.path.clone(),
                available: available(),
            }),
        };
    };
    let full = |text: &str| text.parse::<RegistryRef>().ok();
    let same = |tag: &String| tag == wanted || (full(tag).is_some() && full(tag) == full(wanted));
    let found = images.iter().find(|image| tags(image).iter().any(same));
    found.ok_or_else(|| LayoutError::NoName {
        path: files.path.clone(),
        wanted: wanted.to_owned(),
        available: available(),
    })
}

/// Configurations are named by their digest, older ones with a suffix.
fn digest_in_name(name: &str) -> Option<Sha256> {
    let base = name.rsplit('/').next()?;
    base.strip_suffix(".json").unwrap_or(base).parse().ok()
}

/// A layer; its digest is that of its content unless it is compressed.
fn layer(files: &Files, name: &str, diff_id: Sha256) -> Result<Arc<dyn LayerSource>, LayoutError> {
    let section = files.get(name)?;
    let failed = failed("read a layer of", &files.path);
    let compression = compression(&section).map_err(&failed)?;
    let digest = match compression {
        Compression::Plain => diff_id,
        Compression::Gzip | Compression::Zstd => {
            let digest = section.open().and_then(Sha256::of_reader);
            digest.map_err(&failed)?
        }
    };
    let descriptor = LayerDescriptor {
        compression,
        digest,
        size: Some(section.size().map_err(&failed)?),
        diff_id,
    };
    Ok(Arc::new(FileLayer {
        descriptor,
        section,
    }))
}

fn compression(section: &Section) -> std::io::Result<Compression> {
    let mut start = Vec::new();
    section.open()?.take(6).read_to_end(&mut start)?;
    Ok(match Packing::of(&start) {
        Packing::Gzip => Compression::Gzip,
        Packing::Zstd => Compression::Zstd,
        // No builder packs layers with xz; as a tar it fails by name.
        Packing::Plain | Packing::Xz => Compression::Plain,
    })
}
