//! Pools of machines that are ready, on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::vm::VmState;

/// A pool, as `list` and `show` give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    pub name: String,
    /// How many machines are to be ready.
    pub size: u32,
    /// How many are.
    pub ready: u32,
    pub image: String,
    pub kernel: String,
    pub vcpus: u32,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub init: String,
    pub network: String,
    /// The VMM that was asked for; the host probe decides when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm: Option<String>,
    /// Why the last try to make a machine failed, until one works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// All that it has, ready or in the making.
    pub machines: Vec<PoolMachine>,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// A machine of a pool, which is nobody's yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolMachine {
    pub id: String,
    pub name: String,
    /// One that is ready is paused: it uses its memory and no processor.
    pub state: VmState,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// Body of `PATCH /v1/pools/{pool}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePool {
    /// How many machines are to be ready; with none the pool rests.
    pub size: u32,
}

/// Body of `POST /v1/pools`. What is absent is decided by the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePool {
    pub name: String,
    /// How many machines are to be ready; one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// As in a request for a VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm: Option<String>,
    /// Answer when all machines are ready, or when one cannot be made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
}
