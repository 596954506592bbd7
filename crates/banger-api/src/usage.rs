//! What VMs use and what listens in them, on the wire.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::vm::VmState;

/// Answer of `GET /v1/vms/{vm}/stats`. Figures that only grow are since the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VmStats {
    pub id: String,
    pub name: String,
    pub state: VmState,
    pub vcpus: u32,
    /// RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// Milliseconds on a clock that never jumps; the difference of two answers is the time between.
    pub clock_ms: u64,
    /// What the VM's own files take on the host's disk.
    pub disk_used_bytes: u64,
    /// The most that its disk can take.
    pub disk_bytes: u64,
    /// Of the VMM, by the host's word; absent while none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostStats>,
    /// From inside, by the guest's own word; absent while it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestStats>,
}

/// What a VMM uses of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostStats {
    /// Of processors.
    pub cpu_ms: u64,
    pub memory_bytes: u64,
    /// Where a control group limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    pub threads: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
}

/// How a guest says that it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GuestStats {
    pub uptime_ms: u64,
    /// Over 1, 5 and 15 minutes.
    pub load: [f32; 3],
    pub memory_total_bytes: u64,
    pub memory_available_bytes: u64,
    /// `starting`, `running`, `stopping` or `unknown`.
    pub init_state: String,
}

/// Answer of `GET /v1/vms/{vm}/ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmPorts {
    pub id: String,
    pub name: String,
    pub listeners: Vec<Listener>,
    /// There are more than these.
    #[serde(default)]
    pub more: bool,
}

/// A socket of the guest that waits for others, by its own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: String,
    #[schema(value_type = String)]
    pub address: IpAddr,
    pub port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}
