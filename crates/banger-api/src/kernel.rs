//! Kernels on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A kernel of the local store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kernel {
    pub name: String,
    /// The kernel's own release, as `uname -r` prints it.
    pub version: String,
    pub arch: String,
    pub source: KernelSource,
    /// `sha256:` and the digest of the ELF vmlinux.
    pub vmlinux_digest: String,
    pub vmlinux_path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules_path: Option<String>,
    /// What this kernel must be told; empty for most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    pub size_bytes: u64,
    /// RFC 3339, UTC.
    pub imported_at: String,
}

/// Where a kernel came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KernelSource {
    Debian {
        package: String,
        package_version: String,
        url: String,
        digest: String,
    },
    /// A file of a catalog.
    Bundle {
        /// The catalog's place.
        catalog: String,
        file: String,
        digest: String,
    },
    Directory {
        path: String,
    },
}

/// An entry of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AvailableKernel {
    pub name: String,
    /// The catalog that was added and has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    pub arch: String,
    pub description: String,
    pub source: String,
    /// Already in the local store.
    pub present: bool,
}

/// Body of `POST /v1/kernels/pull`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullKernel {
    /// `NAME`, or `CATALOG/NAME`.
    pub name: String,
    /// Replace a kernel of this name.
    #[serde(default)]
    pub force: bool,
}

/// Body of `POST /v1/kernels/import`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportKernel {
    pub name: String,
    /// Absolute path of a directory with `vmlinux` (or a bzImage) and, optionally, modules.
    pub directory: String,
    /// Words for its command line, which override ours where they contradict them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    #[serde(default)]
    pub force: bool,
}
