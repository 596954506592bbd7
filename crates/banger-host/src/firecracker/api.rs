//! Firecracker's API of version 1.12, as far as we use it: one value per call. Types and paths
//! only; knows no socket.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One call that changes something.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Logger(Logger),
    Metrics(Metrics),
    Machine(MachineConfiguration),
    BootSource(BootSource),
    Drive(Drive),
    Network(NetworkInterface),
    Vsock(Vsock),
    Entropy(Entropy),
    Balloon(Balloon),
    MmdsConfig(MmdsConfig),
    Mmds(serde_json::Value),
    Action(Action),
    State(State),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Put,
    Patch,
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}

impl Call {
    pub(crate) fn method(&self) -> Method {
        match self {
            Self::State(_) => Method::Patch,
            Self::Logger(_)
            | Self::Metrics(_)
            | Self::Machine(_)
            | Self::BootSource(_)
            | Self::Drive(_)
            | Self::Network(_)
            | Self::Vsock(_)
            | Self::Entropy(_)
            | Self::Balloon(_)
            | Self::MmdsConfig(_)
            | Self::Mmds(_)
            | Self::Action(_) => Method::Put,
        }
    }

    pub(crate) fn path(&self) -> String {
        match self {
            Self::Logger(_) => "/logger".into(),
            Self::Metrics(_) => "/metrics".into(),
            Self::Machine(_) => "/machine-config".into(),
            Self::BootSource(_) => "/boot-source".into(),
            Self::Drive(drive) => format!("/drives/{}", drive.drive_id),
            Self::Network(interface) => format!("/network-interfaces/{}", interface.iface_id),
            Self::Vsock(_) => "/vsock".into(),
            Self::Entropy(_) => "/entropy".into(),
            Self::Balloon(_) => "/balloon".into(),
            Self::MmdsConfig(_) => "/mmds/config".into(),
            Self::Mmds(_) => "/mmds".into(),
            Self::Action(_) => "/actions".into(),
            Self::State(_) => "/vm".into(),
        }
    }

    pub(crate) fn body(&self) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::Logger(body) => serde_json::to_vec(body),
            Self::Metrics(body) => serde_json::to_vec(body),
            Self::Machine(body) => serde_json::to_vec(body),
            Self::BootSource(body) => serde_json::to_vec(body),
            Self::Drive(body) => serde_json::to_vec(body),
            Self::Network(body) => serde_json::to_vec(body),
            Self::Vsock(body) => serde_json::to_vec(body),
            Self::Entropy(body) => serde_json::to_vec(body),
            Self::Balloon(body) => serde_json::to_vec(body),
            Self::MmdsConfig(body) => serde_json::to_vec(body),
            Self::Mmds(body) => serde_json::to_vec(body),
            Self::Action(body) => serde_json::to_vec(body),
            Self::State(body) => serde_json::to_vec(body),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Logger {
    pub(crate) log_path: PathBuf,
    pub(crate) level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum LogLevel {
    Warning,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "action_type")]
pub(crate) enum Action {
    InstanceStart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state")]
pub(crate) enum State {
    Paused,
    Resumed,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_the_words_of_the_specification() {
        let check = |call: &Call, method: &str, path: &str, body: &str| {
            assert_eq!(
                (call.method().as_str(), call.path().as_str()),
                (method, path)
            );
            assert_eq!(String::from_utf8(call.body().unwrap()).unwrap(), body);
        };
        check(
            &Call::Action(Action::InstanceStart),
            "PUT",
            "/actions",
            r#"{"action_type":"InstanceStart"}"#,
        );
        check(
            &Call::State(State::Paused),
            "PATCH",
            "/vm",
            r#"{"state":"Paused"}"#,
        );
        check(&Call::Entropy(Entropy {}), "PUT", "/entropy", "{}");
        let drive = Drive {
            drive_id: "base",
            path_on_host: "/base".into(),
            is_root_device: false,
            is_read_only: true,
            cache_type: CacheType::Unsafe,
            io_engine: Engine::Sync,
            rate_limiter: None,
        };
        check(
            &Call::Drive(drive),
            "PUT",
            "/drives/base",
            r#"{"drive_id":"base","path_on_host":"/base","is_root_device":false,"is_read_only":true,"cache_type":"Unsafe","io_engine":"Sync"}"#,
        );
    }
}
