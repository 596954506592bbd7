//! Images on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An image of the local store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    pub name: String,
    /// The read-only ext4 file that VMs boot from.
    pub rootfs_path: String,
    /// Size of that file in bytes.
    pub size_bytes: u64,
    /// Bytes of file content in it.
    pub content_bytes: u64,
    pub entries: u64,
    /// `sha256:` and the digest of the imported stream or the build's result.
    pub digest: String,
    /// Where it came from: a tar file, standard input, Debian's archive.
    pub source: String,
    /// `PRETTY_NAME` of its os-release, control characters escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    pub has_systemd: bool,
    pub has_shell: bool,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// VMs made from it.
    pub vms: Vec<String>,
}

/// Body of `POST /v1/images/import`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportImage {
    pub name: String,
    /// Absolute path of a tar, plain or compressed with gzip, xz or zstd.
    pub path: String,
}

/// Body of `POST /v1/images/pull`: a name of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullImage {
    pub reference: String,
    /// The name in the local store; the catalog's name when absent.
    #[serde(default)]
    pub name: Option<String>,
}
