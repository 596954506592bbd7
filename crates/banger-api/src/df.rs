//! What takes room on the host's disk, on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET /v1/df`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskUsage {
    /// Banger's state directory.
    pub path: String,
    /// Of the file system that it is on.
    pub size_bytes: u64,
    pub free_bytes: u64,
    /// Of the free bytes, what nothing is made of.
    pub reserve_bytes: u64,
    /// Of all that follows, each file once.
    pub total_bytes: u64,
    pub things: Vec<Taken>,
}

/// What one thing takes: blocks on the disk, not lengths of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Taken {
    /// `image`, `vm`, `snapshot`, `kernel`, `cache` or `other`.
    pub kind: String,
    pub name: String,
    /// What would come back with it.
    pub unique_bytes: u64,
    /// What others have, too.
    pub shared_bytes: u64,
    /// How many VMs need it.
    pub vms: usize,
}
