//! Which build this is: the same three facts in every binary of a release.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Version, commit and build time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildInfo {
    /// Semantic version.
    pub version: String,
    /// Abbreviated git commit, or `unknown`.
    pub commit: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub built_at: u64,
}

impl BuildInfo {
    /// The build that this code belongs to.
    #[must_use]
    pub fn current() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: env!("BANGER_COMMIT").into(),
            built_at: env!("BANGER_BUILT_AT").parse().unwrap_or_default(),
        }
    }

    /// The build time in RFC 3339.
    #[must_use]
    pub fn built_at_text(&self) -> String {
        crate::progress::rfc3339(self.built_at)
    }
}

impl std::fmt::Display for BuildInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ({}, built {})",
            self.version,
            self.commit,
            self.built_at_text()
        )
    }
}
