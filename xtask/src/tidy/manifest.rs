//! The rules of a Cargo manifest: dependencies are declared once, in the workspace's own, where each
//! one says why it is there. Knows TOML and comments; knows no crate.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::Finding;
use super::files::SourceFile;

const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let manifest: Table = match file.text.parse() {
        Ok(manifest) => manifest,
        Err(_) => return vec![Finding::in_file(&file.path, "is no valid TOML")],
    };
    let mut found = check_inheritance(file, &manifest);
    if let Some(dependencies) = shared_dependencies(&manifest) {
        found.extend(check_reasons(file, dependencies));
    }
    found
}

fn shared_dependencies(manifest: &Table) -> Option<&Table> {
    manifest.get("workspace")?.get("dependencies")?.as_table()
}

/// A version that a member names itself would escape the one place where reasons are given. A
/// package below our root that is a workspace of its own has nobody to inherit from.
fn check_inheritance(file: &SourceFile, manifest: &Table) -> Vec<Finding> {
    if manifest.contains_key("workspace") {
        return Vec::new();
    }
    let own = own_dependencies(manifest);
    let foreign = own.filter(|(_, value)| value.get("workspace") != Some(&Value::Boolean(true)));
    foreign
        .map(|(name, _)| {
            let message = format!("{name} must be inherited: `{name}.workspace = true`");
            Finding::in_file(&file.path, message)
        })
        .collect()
}

fn own_dependencies(manifest: &Table) -> impl Iterator<Item = (&String, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let per_target = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    std::iter::once(manifest)
        .chain(per_target)
        .flat_map(|table| {
            KINDS
                .iter()
                .filter_map(move |kind| table.get(*kind)?.as_table())
        })
        .flatten()
}

fn check_reasons(file: &SourceFile, dependencies: &Table) -> Vec<Finding> {
    let explained = explained_names(&file.text);
    dependencies
        .iter()
        .filter(|(_, value)| value.get("path").is_none())
        .filter(|(name, _)| !explained.contains(name.as_str()))
        .map(|(name, _)| {
            let message = format!("{name} needs a comment directly above it that says why");
            Finding::in_file(&file.path, message)
        })
        .collect()
}

/// The names in `[workspace.dependencies]` that stand below a comment, alone or as the second of two.
fn explained_names(text: &str) -> BTreeSet<&str> {
    let section = text
        .lines()
        .skip_while(|line| line.trim() != "[workspace.dependencies]")
        .skip(1);
    let lines: Vec<_> = section
        .take_while(|line| !line.starts_with('['))
        .map(str::trim)
        .collect();
    let is_reason = |index: usize| {
        let reason = lines[index].strip_prefix('#');
        reason.is_some_and(|reason| !reason.trim().is_empty())
    };
    let is_explained = |index: usize| match index {
        0 => false,
        1 => is_reason(0),
        _ => is_reason(index - 1) || (key_of(lines[index - 1]).is_some() && is_reason(index - 2)),
    };
    let explained = (0..lines.len()).filter(|index| is_explained(*index));
    explained.filter_map(|index| key_of(lines[index])).collect()
}

fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim().trim_matches('"');
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!key.is_empty() && key.chars().all(is_bare)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::super::files::FileKind;
    use super::*;

    fn check_text(text: &str, expected: &[&str]) {
        let file = SourceFile {
            path: "Cargo.toml".into(),
            kind: FileKind::CargoManifest,
            text: text.to_owned(),
        };
        let found: Vec<_> = check(&file)
            .into_iter()
            .map(|finding| finding.message)
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn every_shared_dependency_says_why() {
        let missing = "b needs a comment directly above it that says why";
        check_text("[workspace.dependencies]\n# Why.\nb = \"1\"\n", &[]);
        check_text("[workspace.dependencies]\nb = \"1\"\n", &[missing]);
        check_text(
            "[workspace.dependencies]\n# Why.\n\nb = \"1\"\n",
            &[missing],
        );
        check_text("[workspace.dependencies]\n#\nb = \"1\"\n", &[missing]);
        check_text("# Why.\n[workspace.dependencies]\nb = \"1\"\n", &[missing]);
    }

    #[test]
    fn two_neighbours_may_share_a_reason_but_not_three() {
        check_text(
            "[workspace.dependencies]\n# Why.\na = \"1\"\nb = \"1\"\n",
            &[],
        );
        check_text(
            "[workspace.dependencies]\n# Why.\na = \"1\"\nb = \"1\"\nc = \"1\"\n",
            &["c needs a comment directly above it that says why"],
        );
    }

    #[test]
    fn a_crate_of_our_own_needs_no_reason() {
        check_text(
            "[workspace.dependencies]\na = { path = \"crates/a\" }\n",
            &[],
        );
    }

    #[test]
    fn a_member_names_no_version_of_its_own() {
        check_text("[dependencies]\na.workspace = true\n", &[]);
        check_text(
            "[dependencies]\na = { features = [\"x\"], workspace = true }\n",
            &[],
        );
        let foreign = "a must be inherited: `a.workspace = true`";
        check_text("[dependencies]\na = \"1\"\n", &[foreign]);
        check_text("[dev-dependencies]\na = { version = \"1\" }\n", &[foreign]);
        check_text(
            "[target.'cfg(unix)'.build-dependencies]\na = \"1\"\n",
            &[foreign],
        );
        check_text("[workspace]\n[dependencies]\na = \"1\"\n", &[]);
    }

    #[test]
    fn a_broken_manifest_is_a_finding() {
        check_text("[dependencies", &["is no valid TOML"]);
    }
}
