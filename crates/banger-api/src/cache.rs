//! What earlier pulls left for later ones, on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The cache of images, the thing that was not used for longest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageCache {
    pub items: Vec<CacheItem>,
    /// What all of them take on the disk, beyond images that are there anyway.
    pub bytes: u64,
    /// The most that they may take, as the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
}

/// A thing in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheItem {
    pub kind: CacheKind,
    /// Of what a layer unpacks to, or of a blob as it was sent.
    pub digest: String,
    /// What it takes on the disk, beyond images that are there anyway.
    pub bytes: u64,
    /// RFC 3339, UTC.
    pub last_used: String,
    /// Running work needs it.
    pub in_use: bool,
}

/// What a thing in the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheKind {
    /// An unpacked layer.
    Layer,
    /// A layer as its registry sent it, for a pull that did not come to its end.
    Blob,
}

/// Body of `POST /v1/image-cache/prune`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneCache {
    /// How many bytes may stay, those that were used last; everything goes when absent.
    #[serde(default)]
    pub keep: u64,
    /// Only say what would go.
    #[serde(default)]
    pub dry_run: bool,
}

/// What went, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedCache {
    pub items: Vec<CacheItem>,
    /// Bytes that were freed.
    pub freed: u64,
    /// Bytes that are left.
    pub left: u64,
    pub dry_run: bool,
}
