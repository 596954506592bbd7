//! Doors that only daemons have that were built for development.

/// Says that a story cannot be told, as the daemon has no such door; fails it where all doors are asked for
/// (`BANGER_TEST_REQUIRE_DOORS`).
#[expect(clippy::print_stderr, reason = "who skips a story says so")]
#[track_caller]
pub fn no_door(what: &str) {
    let required = std::env::var_os("BANGER_TEST_REQUIRE_DOORS").is_some();
    assert!(
        !required,
        "a daemon that was built for development does not {what}"
    );
    eprintln!("SKIPPED: daemons that were built for a release do not {what}");
}
