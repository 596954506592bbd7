//! VMs on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a VM is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// Made, never started.
    Created,
    Starting,
    Running,
    /// It stands still, and its memory stays.
    Paused,
    Stopping,
    /// Being deleted; it cannot come back.
    Deleting,
    Stopped,
    /// The last act failed; `last_error` says how.
    Error,
}

impl VmState {
    /// The word that people and `--json` see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Deleting => "deleting",
            Self::Stopped => "stopped",
            Self::Error => "error",
        }
    }
}

/// A VM, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vm {
    /// 32 hexadecimal digits.
    pub id: String,
    pub name: String,
    pub state: VmState,
    pub image: String,
    pub kernel: String,
    /// Why it is this kernel.
    pub kernel_reason: String,
    pub vcpus: u32,
    pub memory_bytes: u64,
    /// Size of the VM's own disk; it costs what is written.
    pub disk_bytes: u64,
    /// `auto`, `agent`, `systemd` or a path.
    pub init: String,
    /// `user` or `none`.
    pub network: String,
    /// `qemu` or `firecracker`; absent before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm: Option<String>,
    /// `kvm` or `tcg`; absent before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// Why this VMM and accelerator were chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm_reason: Option<String>,
    /// What keeps the VMM from the rest of the host, while it runs: `seccomp`, `jailer`,
    /// `namespaces` or `landlock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<String>,
    /// What the guest's kernel was told, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_command_line: Option<String>,
    /// What the machine has now, while it runs and its next start will give it something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Built>,
    /// The VMM's process, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    pub disk_path: String,
    pub console_path: String,
    pub vmm_log_path: String,
    /// The agent's answer at the last connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// Of the last boot, where this daemon has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Goes away with the session that it was made for.
    pub auto_remove: bool,
    #[serde(default)]
    pub upkeep: VmUpkeep,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// RFC 3339, UTC; when it is deleted, whatever it does then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC; when the state last changed.
    pub updated_at: String,
}

/// What lists tell of a VM: `GET /v1/overview`. Small, as there may be thousands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmBrief {
    /// 32 hexadecimal digits.
    pub id: String,
    pub name: String,
    pub state: VmState,
    pub image: String,
    pub vcpus: u32,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// `qemu` or `firecracker`; absent before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm: Option<String>,
    /// `kvm` or `tcg`; absent before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// RFC 3339, UTC.
    pub created_at: String,
}

impl From<&Vm> for VmBrief {
    fn from(vm: &Vm) -> Self {
        Self {
            id: vm.id.clone(),
            name: vm.name.clone(),
            state: vm.state,
            image: vm.image.clone(),
            vcpus: vm.vcpus,
            memory_bytes: vm.memory_bytes,
            disk_bytes: vm.disk_bytes,
            vmm: vm.vmm.clone(),
            accelerator: vm.accelerator.clone(),
            labels: vm.labels.clone(),
            created_at: vm.created_at.clone(),
        }
    }
}

/// What a VMM gave its machine when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Built {
    pub vcpus: u32,
    pub memory_bytes: u64,
    /// `user` or `none`.
    pub network: String,
}

/// What a VM does without being asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmUpkeep {
    /// `no`, `on-failure`, `on-failure:N`, `always` or `unless-stopped`.
    pub restart: String,
    /// Starts with the host.
    pub autostart: bool,
    /// `default`, `never`, or the seconds without use after which it is stopped.
    pub idle_stop: String,
    /// Starts in a row that nobody asked for.
    pub restarts: u32,
    /// RFC 3339, UTC; when the next of them is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_at: Option<String>,
}

impl Default for VmUpkeep {
    fn default() -> Self {
        Self {
            restart: "no".to_owned(),
            autostart: false,
            idle_stop: "default".to_owned(),
            restarts: 0,
            restart_at: None,
        }
    }
}

/// What the guest's agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    pub version: String,
    pub generation: u32,
    pub boot_id: String,
    /// `agent`, `systemd` or the program that is the guest's first process.
    pub init: String,
}

/// When a boot passed its stages, in milliseconds since the start was asked for. What lies between
/// `kernel_entered_ms` and `agent_ready_ms` is the guest's own word, within what the host saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Boot {
    /// RFC 3339, UTC.
    pub requested_at: String,
    /// The VMM's process runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm_started_ms: Option<u64>,
    /// The kernel's clock began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_entered_ms: Option<u64>,
    /// The agent runs, as the first process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_entered_ms: Option<u64>,
    /// The drivers for the root are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules_loaded_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_mounted_ms: Option<u64>,
    /// The agent waits for the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ready_ms: Option<u64>,
    /// The agent has answered the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_ms: Option<u64>,
    /// The first command since runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_started_ms: Option<u64>,
}

/// Body of `POST /v1/vms`. What is absent is decided by the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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
    /// `auto` (default), `agent`, `systemd` or an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// `user` (default) or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// `qemu` or `firecracker`; the host probe decides when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Seconds until it is deleted, whatever it does then; 0 or absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// `no` (default), `on-failure`, `on-failure:N`, `always` or `unless-stopped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
    /// Start it with the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub autostart: bool,
    /// `default`, `never`, or the seconds without use after which it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_stop: Option<String>,
    /// Go on from this snapshot instead of booting. What the VM is made of comes from it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Take a machine of this pool, which is ready. What the VM is made of comes from it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Boot it, although a saved machine of its kind could go on instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cold: bool,
    /// Start it and wait until its agent answers.
    #[serde(default)]
    pub start: bool,
    /// Delete the VM when the first exec stream with `owner` ends, or when no such stream
    /// comes.
    #[serde(default)]
    pub auto_remove: bool,
}

/// Query of `DELETE /v1/vms/{vm}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeleteVm {
    /// Also a running VM: it is killed first.
    #[serde(default)]
    pub force: bool,
}

/// Body of `POST /v1/vms/{vm}/stop`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StopVm {
    /// Seconds that the guest's services get to end; the daemon's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// Body of `POST /v1/vms/{vm}/rename`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameVm {
    pub name: String,
}

/// Body of `PATCH /v1/vms/{vm}`. Processors, memory, disk and network change only while it does not run. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeVm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// At least what the disk has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// `user` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set_labels: BTreeMap<String, String>,
    /// Keys; removed before others are set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_labels: Vec<String>,
    /// Seconds until it is deleted, whatever it does then; 0: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// As in a request for a VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_stop: Option<String>,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// It does not run any more, whatever ended it.
    #[default]
    Stopped,
    /// Its agent has answered.
    Running,
    /// It is no more.
    Deleted,
}

/// Query of `GET /v1/vms/{vm}/wait`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitVm {
    #[serde(default, rename = "for")]
    pub wanted: WaitFor,
}

/// Answer of `GET /v1/vms/{vm}/wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waited {
    /// The VM as it is now; absent when it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Vm>,
}

/// Which log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// The guest's serial console.
    #[default]
    Console,
    /// What the VMM itself printed.
    Vmm,
    /// What the guest's agent did since the boot; it is asked, and forgets the oldest.
    Agent,
}

impl LogKind {
    /// The word in queries.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Vmm => "vmm",
            Self::Agent => "agent",
        }
    }
}

/// Query of `GET /v1/vms/{vm}/logs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogQuery {
    #[serde(default)]
    pub kind: LogKind,
    /// Go on until the VM ends or the client goes away. An agent's log is not followed.
    #[serde(default)]
    pub follow: bool,
    /// Begin with the last so many lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
}
