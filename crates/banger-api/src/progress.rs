//! Long requests answer with a stream of lines (NDJSON): steps, then one result or error.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;

/// The media type of such an answer.
pub const NDJSON: &str = "application/x-ndjson";

/// One line of a long answer. `Done` or `Failed` is the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Line<T> {
    Step(Step),
    Done(T),
    Failed(ApiError),
}

/// A sign of life of long work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// A short word that stays the same while the stage lasts.
    pub stage: String,
    /// What the stage works on.
    pub detail: String,
    /// Bytes done.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub done: u64,
    /// Bytes in all, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Seconds since the epoch as RFC 3339 in UTC.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let bounded = seconds.min(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(bounded)).to_string()
}

/// Milliseconds since the epoch as RFC 3339 in UTC.
#[must_use]
pub fn rfc3339_millis(millis: u64) -> String {
    let bounded = millis.min(253_402_300_799_000);
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(bounded)).to_string()
}
