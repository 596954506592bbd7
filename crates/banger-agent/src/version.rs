//! Owns what the agent says of its own build.

const VERSION: &str = env!("BANGER_VERSION");
const COMMIT: &str = env!("BANGER_COMMIT");
const BUILD_TIME: &str = env!("BANGER_BUILD_TIME");

/// One line with everything: `VERSION (COMMIT, BUILD_TIME)`.
pub(crate) fn line() -> String {
    format!("{VERSION} ({COMMIT}, {BUILD_TIME})")
}
