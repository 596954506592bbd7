//! The licences of the libraries inside banger's programs, as one text to go with a release.
//! Knows what cargo says of packages, and files by their names; judges no licence: `deny.toml` does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use serde::Deserialize;

/// The packages whose programs a release has; the agent travels inside the daemon.
const PROGRAMS: [&str; 3] = ["banger", "bangerd", "banger-agent"];
/// How files begin that a licence asks to keep.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT"];

/// Why there are no notices.
#[derive(Debug, thiserror::Error)]
pub enum NoticesError {
    #[error("cannot run cargo metadata")]
    Run { source: io::Error },
    #[error("cargo metadata failed: {message}")]
    Cargo { message: String },
    #[error("cannot read what cargo metadata says")]
    Metadata { source: serde_json::Error },
    #[error("cannot read {path}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{name} {version} names no licence")]
    Unlicensed { name: String, version: String },
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    license_file: Option<String>,
    manifest_path: PathBuf,
    /// Absent for packages of this repository.
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

/// `None` is what ends up in the program; others build or test it.
#[derive(Debug, Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// The text, ready to print.
#[derive(Debug, Default)]
pub struct Notices {
    /// Library, version and licence, by name.
    libraries: BTreeSet<String>,
    /// Each text once, with those who use it.
    texts: BTreeMap<String, BTreeSet<String>>,
}

/// Gathers the notices of the repository at `root`.
pub fn gather(root: &Path) -> Result<Notices, NoticesError> {
    let metadata = metadata(root)?;
    let mut notices = Notices::default();
    let inside = reachable(&metadata);
    let libraries = metadata.packages.iter().filter(|p| p.source.is_some());
    for package in libraries.filter(|package| inside.contains(package.id.as_str())) {
        let title = format!("{} {}", package.name, package.version);
        let unlicensed = || NoticesError::Unlicensed {
            name: package.name.clone(),
            version: package.version.clone(),
        };
        let licence = package.license.as_ref().or(package.license_file.as_ref());
        let licence = licence.ok_or_else(unlicensed)?;
        notices.libraries.insert(format!("{title}: {licence}"));
        for text in texts(package)? {
            notices.texts.entry(text).or_default().insert(title.clone());
        }
    }
    Ok(notices)
}

fn metadata(root: &Path) -> Result<Metadata, NoticesError> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root)
        .output()
        .map_err(|source| NoticesError::Run { source })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(NoticesError::Cargo { message });
    }
    serde_json::from_slice(&output.stdout).map_err(|source| NoticesError::Metadata { source })
}

/// The ids of all packages that end up in the programs.
fn reachable(metadata: &Metadata) -> BTreeSet<&str> {
    let nodes: BTreeMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let is_program =
        |package: &&Package| package.source.is_none() && PROGRAMS.contains(&package.name.as_str());
    let programs = metadata.packages.iter().filter(is_program);
    let mut waiting: Vec<&str> = programs.map(|package| package.id.as_str()).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if found.insert(id) {
            let edges = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            let inside = edges.filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            waiting.extend(inside.map(|edge| edge.pkg.as_str()));
        }
    }
    found
}

/// The licences and notices that lie in a package.
fn texts(package: &Package) -> Result<Vec<String>, NoticesError> {
    let directory = package.manifest_path.parent().unwrap_or(Path::new("."));
    let read_error = |path: &Path| {
        let path = path.to_owned();
        move |source| NoticesError::Read { path, source }
    };
    let entries = fs::read_dir(directory).map_err(read_error(directory))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && is_notice(path))
        .collect();
    paths.sort();
    let read = |path: &PathBuf| fs::read(path).map_err(read_error(path));
    let texts = paths.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.iter().map(|text| tidy(text)).collect())
}

fn is_notice(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_uppercase();
    NAMES.iter().any(|start| name.starts_with(start))
}

/// The same licence in two packages often differs in line ends only.
fn tidy(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

impl fmt::Display for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "These libraries are inside banger's programs:\n")?;
        for library in &self.libraries {
            writeln!(f, "  {library}")?;
        }
        for (text, users) in &self.texts {
            let mut heading = String::new();
            for user in users {
                write!(
                    heading,
                    "{}{user}",
                    if heading.is_empty() { "" } else { ", " }
                )?;
            }
            writeln!(f, "\n{}\n{heading}:\n\n{text}", "=".repeat(78))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_licences_ask_to_keep_are_known_by_their_names() {
        for (name, expected) in [
            ("LICENSE-MIT", true),
            ("license.md", true),
            ("COPYING", true),
            ("NOTICE", true),
            ("README.md", false),
            ("src", false),
        ] {
            assert_eq!(is_notice(&Path::new("/x").join(name)), expected, "{name}");
        }
    }

    #[test]
    fn what_only_builds_or_tests_a_program_is_not_inside_it() {
        let json = r#"{
            "packages": [
                {"id": "a", "name": "banger", "version": "1", "license": null, "license_file": null, "manifest_path": "/a/Cargo.toml", "source": null},
                {"id": "b", "name": "inside", "version": "1", "license": "MIT", "license_file": null, "manifest_path": "/b/Cargo.toml", "source": "r"},
                {"id": "c", "name": "tests", "version": "1", "license": "MIT", "license_file": null, "manifest_path": "/c/Cargo.toml", "source": "r"}
            ],
            "resolve": {"nodes": [
                {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}, {"pkg": "c", "dep_kinds": [{"kind": "dev"}]}]},
                {"id": "b", "deps": []},
                {"id": "c", "deps": []}
            ]}
        }"#;
        let metadata: Metadata = serde_json::from_str(json).unwrap();
        assert_eq!(reachable(&metadata), ["a", "b"].into());
    }

    #[test]
    fn a_text_that_two_libraries_share_stands_once() {
        let mut notices = Notices::default();
        for library in ["a 1", "b 2"] {
            notices.libraries.insert(format!("{library}: MIT"));
            let users = notices
                .texts
                .entry(tidy(b"\nMIT \r\ntext\n\n"))
                .or_default();
            users.insert(library.to_owned());
        }
        let text = notices.to_string();
        assert!(text.contains("  a 1: MIT\n  b 2: MIT\n"), "{text}");
        assert!(text.ends_with("a 1, b 2:\n\nMIT\ntext\n"), "{text}");
    }
}
