//! The workspace as cargo describes it: members, the edges between them, their roots.
//! Owns the call of `cargo metadata` and the parsing of its answer; judges nothing.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::TidyError;

/// The crates that call the kernel, and so are the only ones that may say `unsafe`.
const KERNEL_CALLERS: [&str; 2] = ["banger-agent", "banger-host"];

/// A member of the workspace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    /// The directory that holds its manifest, relative to the repository's root.
    pub(super) directory: PathBuf,
    /// The other members that it depends on, for whatever purpose.
    pub(super) edges: BTreeSet<String>,
    /// The root files of its library and binaries, relative to the repository's root.
    pub(super) roots: BTreeSet<PathBuf>,
}

/// What a file may do and must promise about unsafe code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fence {
    /// In a crate that calls the kernel.
    MayBeUnsafe,
    /// In any other crate.
    Safe,
    /// The root of a library or binary of any other crate: it must forbid unsafe code.
    SafeRoot,
}

/// The members of the workspace.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) members: Vec<Member>,
}

impl Workspace {
    pub(super) fn load(root: &Path) -> Result<Self, TidyError> {
        let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let output = Command::new(&program)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(root)
            .output()
            .map_err(|source| TidyError::RunCargo {
                program: program.into(),
                source,
            })?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(TidyError::CargoRefused { stderr });
        }
        Self::parse(&output.stdout).map_err(|source| TidyError::Metadata { source })
    }

    fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let metadata: Metadata = serde_json::from_slice(json)?;
        let names: BTreeSet<_> = metadata.packages.iter().map(|p| p.name.clone()).collect();
        let root = metadata.workspace_root;
        let members = metadata
            .packages
            .into_iter()
            .map(|p| p.into_member(&names, &root));
        Ok(Self {
            members: members.collect(),
        })
    }

    /// The fence that the file at `path` (relative to the repository's root) stands behind.
    pub(super) fn fence_of(&self, path: &Path) -> Fence {
        let owner = self
            .members
            .iter()
            .find(|member| path.starts_with(&member.directory));
        match owner {
            Some(member) if KERNEL_CALLERS.contains(&member.name.as_str()) => Fence::MayBeUnsafe,
            Some(member) if member.roots.contains(path) => Fence::SafeRoot,
            Some(_) | None => Fence::Safe,
        }
    }
}

#[derive(Deserialize)]
struct Metadata {
    /// As cargo writes all paths, so that they can be made relative whatever we call the directory.
    workspace_root: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<TargetKind>,
    src_path: PathBuf,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum TargetKind {
    Bin,
    Lib,
    Rlib,
    Dylib,
    Cdylib,
    Staticlib,
    ProcMacro,
    /// Tests, benches, examples and build scripts: they carry no promise of their own.
    #[serde(other)]
    Auxiliary,
}

impl Package {
    fn into_member(self, names: &BTreeSet<String>, root: &Path) -> Member {
        let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
        let ships = |target: &&Target| target.kind.iter().any(|k| *k != TargetKind::Auxiliary);
        Member {
            directory: relative(self.manifest_path.parent().unwrap_or(root)),
            edges: self
                .dependencies
                .into_iter()
                .map(|dependency| dependency.name)
                .filter(|name| names.contains(name))
                .collect(),
            roots: self
                .targets
                .iter()
                .filter(ships)
                .map(|t| relative(&t.src_path))
                .collect(),
            name: self.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"workspace_root": "/r", "packages": [
        {"name": "banger", "manifest_path": "/r/crates/banger/Cargo.toml",
         "dependencies": [{"name": "serde", "kind": null}, {"name": "banger-host", "kind": "dev"}],
         "targets": [
            {"kind": ["bin"], "src_path": "/r/crates/banger/src/main.rs"},
            {"kind": ["test"], "src_path": "/r/crates/banger/tests/cli.rs"}]},
        {"name": "banger-host", "manifest_path": "/r/crates/banger-host/Cargo.toml",
         "dependencies": [],
         "targets": [{"kind": ["lib"], "src_path": "/r/crates/banger-host/src/lib.rs"}]}
    ]}"#;

    fn workspace() -> Workspace {
        Workspace::parse(METADATA.as_bytes()).unwrap()
    }

    #[test]
    fn edges_lead_to_members_only_and_include_those_of_tests() {
        let edges = &workspace().members[0].edges;
        assert_eq!(edges.iter().collect::<Vec<_>>(), ["banger-host"]);
    }

    #[test]
    fn every_file_stands_behind_the_fence_of_its_crate() {
        let check = |path: &str, fence| {
            assert_eq!(workspace().fence_of(Path::new(path)), fence, "{path}");
        };
        check("crates/banger/src/main.rs", Fence::SafeRoot);
        check("crates/banger/src/render.rs", Fence::Safe);
        check("crates/banger/tests/cli.rs", Fence::Safe);
        check("crates/banger-host/src/lib.rs", Fence::MayBeUnsafe);
        check("crates/banger-host/src/tap.rs", Fence::MayBeUnsafe);
        check("fuzz/target.rs", Fence::Safe);
    }
}
