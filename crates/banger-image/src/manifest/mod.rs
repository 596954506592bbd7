//! Owns the documents that describe images: manifests, indexes, configurations, of OCI and of
//! Docker's second schema. Reads bytes; fetches nothing and checks no digest.

mod config;
mod index;
mod platform;

use serde::Deserialize;

use crate::digest::Sha256;
use crate::layers::{Compression, LayerDescriptor};

pub use config::{ConfigDocument, ImageConfig};
pub use index::Index;
pub use platform::{ParsePlatformError, Platform};

/// No honest manifest or configuration is larger.
pub const LARGEST_DOCUMENT: u64 = 8 << 20;
/// More layers than any builder makes.
const MOST_LAYERS: usize = 1024;
const MOST_MANIFESTS: usize = 4096;

/// What a registry is asked for, in the order of our preference.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Why a document does not describe an image.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the {what} is no JSON document of its kind")]
    Json {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("the manifest is of Docker's first schema, which is not supported")]
    FirstSchema,
    #[error("the document is neither a manifest nor an index, but {kind:?}")]
    Kind { kind: String },
    #[error("the document claims to be a manifest and an index at once")]
    Ambiguous,
    #[error("the reference is no image, but an artifact of the type {kind:?}")]
    Artifact { kind: String },
    #[error("the layer {digest} is of the type {kind:?}, which is not supported")]
    LayerKind { digest: String, kind: String },
    #[error("{what} are beyond the limit of {most}")]
    TooMany { what: &'static str, most: usize },
    #[error("the digest {digest:?} is not sha256")]
    Digest { digest: String },
    #[error("the manifest has {layers} layers, its configuration {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("there is no image for {wanted}; there are images for {}", list(.available))]
    NoPlatform {
        wanted: Platform,
        available: Vec<String>,
    },
    #[error("the image is for {found}, not for {wanted}")]
    OtherPlatform { wanted: Platform, found: Platform },
    #[error("the index leads to further indexes without an end")]
    Nested,
}

fn list(available: &[String]) -> String {
    if available.is_empty() {
        "nothing".to_owned()
    } else {
        available.join(", ")
    }
}

/// A document by its digest and size, as other documents name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub digest: Sha256,
    pub size: u64,
}

/// A layer as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub descriptor: Descriptor,
    pub compression: Compression,
}

/// One image: its configuration and its layers, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Layer>,
}

/// What a reference may lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Manifest(Manifest),
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<index::RawEntry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
}

impl RawDescriptor {
    fn parse(&self) -> Result<Descriptor, ManifestError> {
        Ok(Descriptor {
            digest: digest(&self.digest)?,
            size: self.size,
        })
    }
}

fn digest(text: &str) -> Result<Sha256, ManifestError> {
    let refused = || ManifestError::Digest {
        digest: shown(text),
    };
    let prefixed = text.starts_with("sha256:");
    let parsed = prefixed.then(|| text.parse().ok()).flatten();
    parsed.ok_or_else(refused)
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

impl Document {
    /// Reads a manifest or an index; `content_type` is what its source calls it.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        let raw: RawDocument =
            serde_json::from_slice(bytes).map_err(|source| ManifestError::Json {
                what: "manifest",
                source,
            })?;
        if raw.schema_version == 1 {
            return Err(ManifestError::FirstSchema);
        }
        let content_type = content_type.map(|kind| kind.split(';').next().unwrap_or(kind).trim());
        let kind = raw.media_type.as_deref().or(content_type);
        match (raw.manifests, raw.layers, kind) {
            // A document that reads as both means one thing to us and another to a scanner.
            (Some(_), Some(_), _) => Err(ManifestError::Ambiguous),
            (Some(entries), None, Some(OCI_INDEX | DOCKER_LIST) | None) => {
                Index::new(&entries).map(Self::Index)
            }
            (None, Some(layers), Some(OCI_MANIFEST | DOCKER_MANIFEST) | None) => {
                let config = raw.config.ok_or_else(|| ManifestError::Kind {
                    kind: "a manifest without a configuration".to_owned(),
                })?;
                Manifest::new(&config, &layers).map(Self::Manifest)
            }
            (_, _, kind) => Err(ManifestError::Kind {
                kind: shown(kind.unwrap_or("nothing")),
            }),
        }
    }
}

impl Manifest {
    fn new(config: &RawDescriptor, layers: &[RawDescriptor]) -> Result<Self, ManifestError> {
        match config.media_type.as_str() {
            OCI_CONFIG | DOCKER_CONFIG => {}
            other => {
                return Err(ManifestError::Artifact { kind: shown(other) });
            }
        }
        if layers.len() > MOST_LAYERS {
            return Err(ManifestError::TooMany {
                what: "layers",
                most: MOST_LAYERS,
            });
        }
        Ok(Self {
            config: config.parse()?,
            layers: layers.iter().map(Layer::new).collect::<Result<_, _>>()?,
        })
    }

    /// The layers with what the configuration promises of each.
    pub fn layers_with(&self, diff_ids: &[Sha256]) -> Result<Vec<LayerDescriptor>, ManifestError> {
        if self.layers.len() != diff_ids.len() {
            return Err(ManifestError::LayerCount {
                layers: self.layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let promised = self.layers.iter().zip(diff_ids);
        Ok(promised
            .map(|(layer, diff_id)| LayerDescriptor {
                compression: layer.compression,
                digest: layer.descriptor.digest,
                size: Some(layer.descriptor.size),
                diff_id: *diff_id,
            })
            .collect())
    }
}

impl Layer {
    fn new(raw: &RawDescriptor) -> Result<Self, ManifestError> {
        let compression = compression(&raw.media_type).ok_or_else(|| ManifestError::LayerKind {
            digest: shown(&raw.digest),
            kind: shown(&raw.media_type),
        })?;
        Ok(Self {
            descriptor: raw.parse()?,
            compression,
        })
    }
}

/// What is in a layer of a media type; also of those that were not to be distributed.
fn compression(media_type: &str) -> Option<Compression> {
    let oci = ["nondistributable.", ""].into_iter().find_map(|kind| {
        media_type.strip_prefix(&format!("application/vnd.oci.image.layer.{kind}v1.tar"))
    });
    let docker = ["foreign.", ""].into_iter().find_map(|kind| {
        media_type.strip_prefix(&format!(
            "application/vnd.docker.image.rootfs.{kind}diff.tar"
        ))
    });
    match oci.or(docker)? {
        "" => Some(Compression::Plain),
        "+gzip" | ".gzip" => Some(Compression::Gzip),
        "+zstd" | ".zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(byte: u8) -> String {
        Sha256::from_bytes([byte; 32]).to_string()
    }

    fn manifest(media_type: &str, config: &str, layers: &[&str]) -> String {
        let layers: Vec<_> = layers
            .iter()
            .map(|kind| {
                format!(
                    r#"{{"mediaType":"{kind}","digest":"{}","size":9}}"#,
                    digest_of(7)
                )
            })
            .collect();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"{config}",
               "digest":"{}","size":5}},"layers":[{}]}}"#,
            digest_of(1),
            layers.join(",")
        )
    }

    #[test]
    fn manifests_of_both_schemas_are_read() {
        let check = |kind: &str, config: &str, layer: &str, compression: Compression| {
            let text = manifest(kind, config, &[layer]);
            let Ok(Document::Manifest(read)) = Document::parse(text.as_bytes(), None) else {
                panic!("{text}");
            };
            assert_eq!(read.layers[0].compression, compression, "{layer}");
            assert_eq!(read.config.size, 5);
        };
        let oci = "application/vnd.oci.image.layer";
        let docker = "application/vnd.docker.image.rootfs";
        for (layer, compression) in [
            (format!("{oci}.v1.tar"), Compression::Plain),
            (format!("{oci}.v1.tar+gzip"), Compression::Gzip),
            (format!("{oci}.v1.tar+zstd"), Compression::Zstd),
            (
                format!("{oci}.nondistributable.v1.tar+gzip"),
                Compression::Gzip,
            ),
        ] {
            check(OCI_MANIFEST, OCI_CONFIG, &layer, compression);
        }
        for (layer, compression) in [
            (format!("{docker}.diff.tar.gzip"), Compression::Gzip),
            (format!("{docker}.diff.tar"), Compression::Plain),
            (format!("{docker}.foreign.diff.tar.gzip"), Compression::Gzip),
        ] {
            check(DOCKER_MANIFEST, DOCKER_CONFIG, &layer, compression);
        }
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        let check = |text: &str, why: &str| {
            let error = Document::parse(text.as_bytes(), None)
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{error}");
        };
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        check("[]", "no JSON document");
        check(r#"{"schemaVersion":1,"fsLayers":[]}"#, "first schema");
        check(r#"{"schemaVersion":2}"#, "neither");
        check(
            &manifest(
                OCI_MANIFEST,
                "application/vnd.cncf.helm.config.v1+json",
                &[],
            ),
            "helm",
        );
        check(
            &manifest(OCI_MANIFEST, OCI_CONFIG, &[&format!("{layer}+encrypted")]),
            "encrypted",
        );
        check(&manifest(OCI_INDEX, OCI_CONFIG, &[layer]), "neither");
        let both = manifest(OCI_MANIFEST, OCI_CONFIG, &[layer]);
        check(&both.replacen('{', r#"{"manifests":[],"#, 1), "at once");
        let sha512 = both.replace("sha256:0101", "sha512:0101");
        check(&sha512, "sha512");
    }

    #[test]
    fn layers_need_a_promise_each() {
        let text = manifest(
            OCI_MANIFEST,
            OCI_CONFIG,
            &["application/vnd.oci.image.layer.v1.tar"],
        );
        let Ok(Document::Manifest(read)) = Document::parse(text.as_bytes(), None) else {
            panic!("{text}");
        };
        assert!(read.layers_with(&[]).is_err());
        let promised = Sha256::from_bytes([3; 32]);
        assert_eq!(read.layers_with(&[promised]).unwrap()[0].diff_id, promised);
    }
}
