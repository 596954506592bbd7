//! The targets of `fuzz/` that read images, run on their seeds and on mutations of these.
#![allow(clippy::print_stderr, reason = "a long run says what it does")]

#[path = "../../../fuzz/mutations.rs"]
mod mutations;
#[path = "../../../fuzz/targets.rs"]
mod targets;

use mutations::check;

#[test]
fn tars_are_taken_or_refused() {
    check("tar", targets::tar);
}

#[test]
fn whiteouts_leave_a_tree() {
    check("whiteout", targets::whiteout);
}

#[test]
fn manifests_are_taken_or_refused() {
    check("manifest", targets::manifest);
}

#[test]
fn indexes_are_taken_or_refused() {
    check("index", targets::index);
}

#[test]
fn catalogs_are_taken_or_refused() {
    check("catalog", targets::catalog);
}

#[test]
fn bundles_are_taken_or_refused() {
    check("bundle", targets::bundle);
}

#[test]
fn layouts_are_taken_or_refused() {
    check("layout", targets::layout);
}
