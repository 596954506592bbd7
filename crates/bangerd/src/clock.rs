//! The time of day, which anybody may set. Builds for development have a door here, for those who want to
//! know what a daemon makes of a clock that jumps: what is released believes its host.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use banger_core::record::Seconds;

/// Names a file with the seconds by which the clock is wrong.
const VARIABLE: &str = "BANGER_TEST_CLOCK";

/// Seconds since the epoch.
pub(crate) fn now() -> Seconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.map_or(0, |since| since.as_secs());
    now.saturating_add_signed(error())
}

/// Read each time, as the clock may jump at any.
fn error() -> i64 {
    if !cfg!(debug_assertions) {
        return 0;
    }
    let text = std::env::var_os(VARIABLE).and_then(|path| fs::read_to_string(path).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
