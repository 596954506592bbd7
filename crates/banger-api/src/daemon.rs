//! The daemon about itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{build::BuildInfo, journal::Found, vm::VmState};

/// What `GET /v1/daemon` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DaemonStatus {
    pub pid: u32,
    pub build: BuildInfo,
    /// Seconds since the daemon started.
    pub uptime_seconds: u64,
    pub socket: String,
    pub log_path: String,
    pub state_dir: String,
    /// VMs that run now, and are somebody's.
    pub running_vms: u64,
    /// What banger has made by itself, for whoever comes next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden_vms: Vec<HiddenVm>,
    /// The daemon's program file was replaced on disk while it runs.
    pub replaced: bool,
    /// What it found when it began; nothing where it is older than this.
    #[serde(default)]
    pub found: Found,
    /// The damaged store that it has put aside; what it told of is had again from the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_store: Option<String>,
    /// Whose service it is, where a service manager keeps it: `user` or `system`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A machine that is nobody's yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HiddenVm {
    pub name: String,
    pub state: VmState,
    /// In words for people, as in `waits in pool web`.
    pub purpose: String,
}

/// What `POST /v1/daemon/reload` answers: the keys that have another value than before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// They hold now.
    pub taken_up: Vec<String>,
    /// They hold from the daemon's next start on.
    pub after_restart: Vec<String>,
}
