//! Holds this repository to its own rules whenever the tests run.

use std::path::Path;

use xtask::tidy;

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let report = tidy::check_repository(root).unwrap();
    let broken: Vec<_> = report.violations.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "broken rules:\n{}", broken.join("\n"));
}

#[test]
fn the_rules_see_the_files_of_this_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let report = tidy::check_repository(root).unwrap();
    assert!(
        report.files > 20,
        "only {} files were looked at",
        report.files
    );
}
