//! The daemon about itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::build::BuildInfo;

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
    /// VMs that run now.
    pub running_vms: u64,
    /// The daemon's program file was replaced on disk while it runs.
    pub replaced: bool,
}
