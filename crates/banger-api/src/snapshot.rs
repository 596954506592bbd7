//! Snapshots and forks on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::vm::Vm;

/// A machine that was saved, as `list` and `show` give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    pub name: String,
    /// The VM that it was made of, which may be gone or have another name now.
    pub vm: String,
    /// That VM's id.
    pub vm_id: String,
    pub image: String,
    /// The digest of the image's content.
    pub image_digest: String,
    pub kernel: String,
    pub vcpus: u32,
    /// What the guest has.
    pub guest_memory_bytes: u64,
    /// What the guest has.
    pub guest_disk_bytes: u64,
    pub init: String,
    pub network: String,
    pub vmm: String,
    /// The VMM's release, which it needs to go on.
    pub vmm_version: String,
    pub accelerator: String,
    /// The guest's processor, which it needs to go on.
    pub processor: String,
    pub agent_generation: u32,
    pub agent_version: String,
    /// What memory and devices take on the host.
    pub memory_bytes: u64,
    /// What the disk takes on the host, where it shares no blocks.
    pub disk_bytes: u64,
    /// How long the VM stood still for it.
    pub paused_ms: u64,
    /// The directory with its files.
    pub path: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// Body of `POST /v1/vms/{vm}/snapshots`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    pub name: String,
    /// The VM goes on afterwards; otherwise it ends, with its state in the snapshot.
    #[serde(default)]
    pub keep_running: bool,
}

/// Body of `POST /v1/vms/{vm}/restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreVm {
    pub snapshot: String,
}

/// Body of `POST /v1/vms/{vm}/fork`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkVm {
    /// How many; one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// The forks are called by it and a number; by the VM's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_prefix: Option<String>,
}

/// The copies of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forked {
    pub vms: Vec<Vm>,
    /// How long the VM stood still for it.
    pub paused_ms: u64,
}
