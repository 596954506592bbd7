//! Which crate may depend on which. The table below is the architecture; the check only reads it.
//! Edges of tests and build scripts count like any other.

use std::path::Path;

use super::Finding;
use super::workspace::{Member, Workspace};

const ALLOWED: [(&str, &[&str]); 10] = [
    ("banger", &["banger-api"]),
    ("bangerd", &["banger-api", "banger-core", "banger-host"]),
    ("banger-api", &[]),
    ("banger-core", &["banger-image"]),
    ("banger-host", &["banger-core", "banger-guest-proto"]),
    ("banger-image", &[]),
    ("banger-guest-proto", &[]),
    ("banger-agent", &["banger-guest-proto"]),
    ("e2e", &["banger-api"]),
    ("xtask", &[]),
];

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    workspace.members.iter().flat_map(check_member).collect()
}

fn check_member(member: &Member) -> Vec<Finding> {
    let manifest = member.directory.join("Cargo.toml");
    let Some((name, allowed)) = ALLOWED.iter().find(|(name, _)| *name == member.name) else {
        return vec![unknown(&manifest, &member.name)];
    };
    let forbidden = member
        .edges
        .iter()
        .filter(|edge| !allowed.contains(&edge.as_str()));
    forbidden
        .map(|edge| {
            Finding::in_file(
                &manifest,
                format!("the edge {name} -> {edge} is not allowed"),
            )
        })
        .collect()
}

fn unknown(manifest: &Path, name: &str) -> Finding {
    let message = format!("the crate {name} has no row in the table of allowed edges");
    Finding::in_file(manifest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_edges(name: &str, edges: &[&str], expected: &[&str]) {
        let member = Member {
            name: name.to_owned(),
            directory: Path::new("crates").join(name),
            edges: edges.iter().map(|edge| (*edge).to_owned()).collect(),
            roots: [].into(),
        };
        let found: Vec<_> = check_member(&member)
            .into_iter()
            .map(|f| f.message)
            .collect();
        assert_eq!(found, expected, "{name} -> {edges:?}");
    }

    #[test]
    fn an_edge_outside_the_table_is_named() {
        check_edges("banger", &["banger-api"], &[]);
        check_edges("banger", &[], &[]);
        check_edges(
            "banger",
            &["banger-api", "banger-core", "banger-host"],
            &[
                "the edge banger -> banger-core is not allowed",
                "the edge banger -> banger-host is not allowed",
            ],
        );
        check_edges(
            "banger-image",
            &["banger-core"],
            &["the edge banger-image -> banger-core is not allowed"],
        );
    }

    #[test]
    fn a_new_crate_must_enter_the_table_first() {
        check_edges(
            "banger-utils",
            &[],
            &["the crate banger-utils has no row in the table of allowed edges"],
        );
    }

    #[test]
    fn the_table_names_only_crates_that_it_lists() {
        for (name, edges) in ALLOWED {
            for edge in edges {
                assert!(
                    ALLOWED.iter().any(|(other, _)| other == edge),
                    "{name} -> {edge}"
                );
            }
        }
    }
}
