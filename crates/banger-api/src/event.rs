//! Events on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that happened: a line of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Ever greater, never used twice; numbers are missing where a filter was given.
    pub seq: u64,
    /// RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// `vm`, `image`, `kernel`, `pool`, `snapshot` or `daemon`.
    pub subject: String,
    /// Which VM, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the subject was called then.
    pub name: String,
    /// A VM's new state, or `created`, `taken`, `renamed`, `changed`, `deleted`,
    /// `added`, `started`.
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Query of `GET /v1/events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventQuery {
    /// The number of an event: those after it. Or a time (RFC 3339): those since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only those of a VM, which may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// Of those that are recorded, the latest so many at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Go on with what comes; without `since` and `tail` nothing else.
    #[serde(default)]
    pub follow: bool,
}
