//! Operations on the wire: work that takes a while, and what became of it.

use http::HeaderName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::progress::Step;

/// The header of a long answer that has its operation's number.
pub const OPERATION: HeaderName = HeaderName::from_static("banger-operation");
/// What a client prefers (RFC 7240) that wants long work to begin, and not to wait for its end.
pub const RESPOND_ASYNC: &str = "respond-async";

/// An operation as `list` and `show` give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    pub id: u64,
    /// `create-vm`, `pull-image` and so on.
    pub kind: String,
    /// What it is for, as it was called when it began.
    pub target: String,
    /// The stage that it is in, or was in last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Its last step, while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// RFC 3339, UTC.
    pub began_at: String,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// `done`, `failed`, `cancelled` or `cut-off`; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
