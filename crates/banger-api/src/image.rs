//! Images on the wire.

use std::collections::BTreeMap;

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
    /// Whether the file is our own; one of the host's was registered.
    #[serde(default = "yes")]
    pub managed: bool,
    /// What it was pulled by, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What it is for, as in `linux/amd64`, where its source says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The kernel that VMs of it boot unless they ask for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// How it wants to be run.
    #[serde(default)]
    pub config: ImageConfig,
}

fn yes() -> bool {
    true
}

/// What an image says of how it is to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// `80/tcp` and the like.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Body of `POST /v1/images/import`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportImage {
    pub name: String,
    /// Absolute path of a tar, plain or compressed with gzip, xz or zstd.
    pub path: String,
}

/// Body of `POST /v1/images/pull`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullImage {
    /// A name of a catalog, `CATALOG/NAME`, or an image reference: of a registry, `docker://`, `oci:DIR[:TAG]`,
    /// `oci-archive:FILE`, `docker-archive:FILE`, `tar:FILE`. Paths are absolute.
    pub reference: String,
    /// The name in the local store; made from the reference when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As in `linux/arm64`; this host's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The registry may be plain HTTP or have any certificate.
    #[serde(default)]
    pub insecure: bool,
}

/// What a pull gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PulledImage {
    #[serde(flatten)]
    pub image: Image,
    pub pull: PullSummary,
}

/// What a pull did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullSummary {
    /// Nothing was done: the image was here.
    pub was_here: bool,
    pub layers: u64,
    /// Layers that were unpacked before.
    pub reused_layers: u64,
    /// Packed bytes of all layers.
    pub layer_bytes: u64,
    /// Of these, what came over the network.
    pub fetched_bytes: u64,
}

/// Body of `POST /v1/images/register`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterImage {
    pub name: String,
    /// Absolute path of a file with an ext4 file system.
    pub rootfs: String,
    /// A kernel of the local store or the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

/// Body of `POST /v1/registries/login`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// As in `quay.io` or `127.0.0.1:5000`; Docker Hub is `docker.io`.
    pub registry: String,
    pub username: String,
    pub password: String,
    #[serde(default)]
    pub insecure: bool,
}

/// Secrets are never shown.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("registry", &self.registry)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Body of `POST /v1/registries/logout`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Logout {
    pub registry: String,
}

/// What a login or a logout did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginState {
    /// The registry's full name.
    pub registry: String,
    /// Whether credentials for it were kept, or had been.
    pub known: bool,
}
