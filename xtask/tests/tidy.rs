//! Holds this repository to its own rules whenever the tests run, and the rules to what they promise.

use std::fs;
use std::path::Path;

use xtask::tidy;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies below the root")
}

fn broken_rules(root: &Path) -> Vec<String> {
    let report = tidy::check_repository(root).expect("every rule can be checked");
    report.violations.iter().map(ToString::to_string).collect()
}

#[test]
fn the_repository_is_tidy() {
    let broken = broken_rules(repository());
    assert!(broken.is_empty(), "broken rules:\n{}", broken.join("\n"));
}

#[test]
fn the_rules_see_the_files_of_this_repository() {
    let report = tidy::check_repository(repository()).unwrap();
    assert!(
        report.files > 20,
        "only {} files were looked at",
        report.files
    );
}

#[test]
fn each_rule_is_applied_to_a_repository_that_breaks_them_all() {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("Cargo.toml", MANIFEST),
        (
            "crates/banger-image/Cargo.toml",
            &member(
                "banger-image",
                "[dev-dependencies]\nbanger-core.workspace = true\n",
            ),
        ),
        (
            "crates/banger-image/src/lib.rs",
            "fn a() {\n    todo!()\n}\n",
        ),
        ("crates/banger-core/Cargo.toml", &member("banger-core", "")),
        (
            "crates/banger-core/src/lib.rs",
            "//! B.\n#![forbid(unsafe_code)]\n",
        ),
        ("docs/a.md", "[gone](gone.md)\n"),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    assert_eq!(
        broken_rules(root.path()),
        [
            "crates/banger-image/Cargo.toml: the edge banger-image -> banger-core is not allowed",
            "Cargo.toml: serde needs a comment directly above it that says why",
            "crates/banger-image/src/lib.rs:1: must open with `//!`: \
             what the file owns and what it refuses to know",
            "crates/banger-image/src/lib.rs:2: `todo!` must never land",
            "crates/banger-image/src/lib.rs: must carry `#![forbid(unsafe_code)]`",
            "docs/a.md:1: the link to gone.md leads nowhere",
        ]
    );
}

const MANIFEST: &str = "[workspace]
resolver = \"3\"
members = [\"crates/*\"]

[workspace.dependencies]
banger-core = { path = \"crates/banger-core\" }
serde = \"1\"
";

fn member(name: &str, dependencies: &str) -> String {
    format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n\n{dependencies}")
}
