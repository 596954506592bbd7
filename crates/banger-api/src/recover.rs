//! Having again what lies on the disk and the store has lost, on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `POST /v1/recover` takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What it answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recovered {
    pub vms: Vec<String>,
    pub images: Vec<String>,
    #[serde(default)]
    pub snapshots: Vec<String>,
    #[serde(default)]
    pub pools: Vec<String>,
    /// What is there and could not be had again. Nothing of it was touched.
    pub problems: Vec<Unrecovered>,
}

/// Files that belong to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unrecovered {
    pub path: String,
    pub reason: String,
}
