//! Firecracker's configuration and its API of version 1.12, as far as we use them. Types only;
//! knows no file and no socket.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A whole machine: what `--config-file` reads. A release ignores what it does not know, so
/// nothing newer than the oldest release belongs in here without a question for the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Configuration {
    pub(crate) machine_config: MachineConfiguration,
    pub(crate) boot_source: BootSource,
    pub(crate) drives: [Drive; 2],
    pub(crate) network_interfaces: Vec<NetworkInterface>,
    pub(crate) vsock: Vsock,
    pub(crate) entropy: Entropy,
    pub(crate) balloon: Balloon,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mmds_config: Option<MmdsConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Metrics {
    pub(crate) metrics_path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MachineConfiguration {
    pub(crate) vcpu_count: u32,
    pub(crate) mem_size_mib: u64,
    pub(crate) smt: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_template: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BootSource {
    pub(crate) kernel_image_path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) initrd_path: Option<PathBuf>,
    pub(crate) boot_args: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Drive {
    pub(crate) drive_id: &'static str,
    pub(crate) path_on_host: PathBuf,
    pub(crate) is_root_device: bool,
    pub(crate) is_read_only: bool,
    pub(crate) cache_type: CacheType,
    pub(crate) io_engine: Engine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limiter: Option<RateLimiter>,
}

/// What a guest's wish to have its writes on the disk is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum CacheType {
    Unsafe,
    Writeback,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Engine {
    Sync,
    Async,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct RateLimiter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bandwidth: Option<TokenBucket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ops: Option<TokenBucket>,
}

/// `size` bytes or operations each `refill_time` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct TokenBucket {
    pub(crate) size: u64,
    pub(crate) refill_time: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NetworkInterface {
    pub(crate) iface_id: &'static str,
    pub(crate) guest_mac: String,
    pub(crate) host_dev_name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rx_rate_limiter: Option<RateLimiter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tx_rate_limiter: Option<RateLimiter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Vsock {
    pub(crate) guest_cid: u32,
    pub(crate) uds_path: PathBuf,
}

/// A source of randomness without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Entropy {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Balloon {
    pub(crate) amount_mib: u64,
    pub(crate) deflate_on_oom: bool,
    pub(crate) stats_polling_interval_s: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MmdsConfig {
    pub(crate) version: MmdsVersion,
    pub(crate) network_interfaces: Vec<&'static str>,
}

/// The one whose requests need a token: a proxy in the guest cannot be tricked into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum MmdsVersion {
    V2,
}

/// Body of `PATCH /vm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state")]
pub(crate) enum State {
    Paused,
    Resumed,
}

/// Body of `PUT /snapshot/create`: all of the guest's memory, and everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CreateSnapshot {
    pub(crate) snapshot_path: PathBuf,
    pub(crate) mem_file_path: PathBuf,
}

/// Body of `PUT /snapshot/load`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LoadSnapshot {
    pub(crate) snapshot_path: PathBuf,
    pub(crate) mem_backend: MemoryBackend,
    pub(crate) resume_vm: bool,
}

/// A file that the VMM maps for itself: it is read as it is needed, and never written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "backend_type")]
pub(crate) enum MemoryBackend {
    File { backend_path: PathBuf },
}

/// Answer of `GET /`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct InstanceInfo {
    pub(crate) id: String,
    pub(crate) state: InstanceState,
    pub(crate) vmm_version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum InstanceState {
    #[serde(rename = "Not started")]
    NotStarted,
    Running,
    Paused,
}

/// The body of a refusal.
#[derive(Debug, Deserialize)]
pub(crate) struct Fault {
    pub(crate) fault_message: String,
}
