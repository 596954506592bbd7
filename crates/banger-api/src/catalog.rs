//! Catalogs on the wire, and what is published into them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;

/// A catalog that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Catalog {
    pub name: String,
    pub url: String,
    /// The public key that it must be signed with.
    pub key: String,
    /// Of the newest state that was seen; an older one is refused.
    pub serial: u64,
    /// RFC 3339, UTC; from then on it is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// How many of each it has for this host's processor.
    pub images: u64,
    pub kernels: u64,
    /// RFC 3339, UTC.
    pub added_at: String,
    /// When it was last read.
    pub seen_at: String,
    /// Why it could not be read just now, where that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ApiError>,
}

/// Body of `POST /v1/catalogs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddCatalog {
    pub name: String,
    /// `https://`, `http://`, or `file:///DIRECTORY`.
    pub url: String,
    /// The public key that it must be signed with.
    pub key: String,
}

/// Body of `POST /v1/catalogs/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateKey {
    /// Absolute path of the new file; the public key goes beside it, with `.pub` at its end.
    pub path: String,
    /// Who signs: stands in the key and beside signatures.
    pub signer: String,
}

/// A key that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GeneratedKey {
    /// The public key.
    pub key: String,
    pub path: String,
}

/// Body of `POST /v1/images/{image}/publish` and `POST /v1/kernels/{kernel}/publish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Absolute path of the directory; made where it is not there.
    pub directory: String,
    /// Absolute path of the file with the secret key.
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How long the catalog holds from now on; for ever when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_seconds: Option<u64>,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Published {
    /// The bundle's name in the directory.
    pub file: String,
    /// `sha256:` and the digest of the bundle.
    pub digest: String,
    pub bytes: u64,
    /// The catalog's new number.
    pub serial: u64,
    /// The public key that readers need.
    pub key: String,
}

/// An image that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AvailableImage {
    pub name: String,
    pub description: String,
    /// The catalog that has it; banger's own list has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// Where it comes from, for people.
    pub source: String,
    /// Bytes to fetch, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of the disk image, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_bytes: Option<u64>,
    /// Already in the local store.
    pub present: bool,
}
