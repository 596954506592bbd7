//! Owns what the machine that built a root file system left in it, and takes it out. A pure
//! function of the tree.

use super::error::EntryError;
use super::node::{Kind, NodeId};
use super::tree::{Last, Tree};

/// Files that name the builder, or would give all machines of an image the same identity.
const DROPPED: [&str; 3] = [
    "/etc/hostname",
    "/etc/resolv.conf",
    "/var/lib/dbus/machine-id",
];
/// Must exist and be empty, so that the first boot fills it.
const MACHINE_ID: &[u8] = b"machine-id";
/// What a package manager can fetch again.
const CACHES: [&str; 3] = ["/var/lib/apt/lists", "/var/cache/apt", "/var/cache/apk"];
/// Programs expect these with their owner and mode, so they stay, empty.
const RECORDS: [&[u8]; 4] = [b"btmp", b"faillog", b"lastlog", b"wtmp"];
/// A package manager's lock is no content.
const LOCK: &[u8] = b"lock";

/// Takes the builder's traces out of a tree; how many names are gone or emptied.
pub(super) fn scrub(tree: &mut Tree) -> Result<u64, EntryError> {
    let mut changed = DROPPED.iter().filter(|path| tree.remove(path)).count() as u64;
    let etc = tree.lookup("/etc", Last::Follow);
    if let Some(etc) = etc.filter(|etc| tree.child(*etc, MACHINE_ID).is_some()) {
        tree.empty_child(etc, MACHINE_ID)?;
        changed += 1;
    }
    if let Some(ssh) = tree.lookup("/etc/ssh", Last::Follow) {
        changed += each_file(tree, ssh, |name| match name.starts_with(b"ssh_host_") {
            true => Fate::Drop,
            false => Fate::Keep,
        })?;
    }
    for cache in CACHES {
        if let Some(cache) = tree.lookup(cache, Last::Follow) {
            changed += each_file(tree, cache, |name| match name {
                LOCK => Fate::Keep,
                _ => Fate::Drop,
            })?;
        }
    }
    if let Some(log) = tree.lookup("/var/log", Last::Follow) {
        changed += each_file(tree, log, |name| match RECORDS.contains(&name) {
            true => Fate::Empty,
            false => Fate::Drop,
        })?;
    }
    Ok(changed)
}

enum Fate {
    Keep,
    Empty,
    Drop,
}

/// Decides on every file below a directory; directories themselves stay.
fn each_file(
    tree: &mut Tree,
    top: NodeId,
    decide: impl Fn(&[u8]) -> Fate,
) -> Result<u64, EntryError> {
    let mut changed = 0;
    let mut stack = vec![top];
    while let Some(parent) = stack.pop() {
        let Some(directory) = tree.directory(parent) else {
            continue;
        };
        let children: Vec<_> = directory
            .children()
            .map(|(name, id)| (name.to_vec(), id))
            .collect();
        for (name, id) in children {
            match &tree.node(id).kind {
                Kind::Directory(_) => stack.push(id),
                Kind::File(_) | Kind::Symlink(_) | Kind::Special(_) => match decide(&name) {
                    Fate::Keep => {}
                    Fate::Empty => {
                        tree.empty_child(parent, &name)?;
                        changed += 1;
                    }
                    Fate::Drop => changed += u64::from(tree.remove_child(parent, &name)),
                },
            }
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::super::node::{Content, NewKind};
    use super::super::path::TreePath;
    use super::*;
    use crate::ext4::{Attrs, Run};

    fn tree_of(paths: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for raw in paths {
            let path = TreePath::parse(raw.as_bytes(), 4096).expect("a path");
            let runs = [Run {
                logical: 0,
                first: 0,
                blocks: 1,
            }]
            .into();
            let kind = NewKind::File(Content { len: 5, runs });
            let attrs = Attrs {
                mode: 0o640,
                gid: 4,
                ..Attrs::IMPLIED_DIRECTORY
            };
            tree.insert(&path, attrs, Box::default(), kind)
                .expect("inserted");
        }
        tree
    }

    #[test]
    fn the_builder_leaves_no_trace() {
        let gone = [
            "/etc/hostname",
            "/etc/resolv.conf",
            "/etc/ssh/ssh_host_rsa_key",
            "/etc/ssh/ssh_host_ed25519_key.pub",
            "/var/lib/dbus/machine-id",
            "/var/lib/apt/lists/deb_dists_bookworm_InRelease",
            "/var/cache/apt/archives/bash.deb",
            "/var/cache/apt/pkgcache.bin",
            "/var/log/dpkg.log",
            "/var/log/apt/term.log",
        ];
        let kept = [
            "/etc/hosts",
            "/etc/ssh/sshd_config",
            "/var/lib/apt/lists/lock",
            "/var/lib/apt/extended_states",
        ];
        let emptied = ["/etc/machine-id", "/var/log/wtmp"];
        let mut tree = tree_of(&[&gone[..], &kept, &emptied].concat());
        assert_eq!(
            scrub(&mut tree).expect("scrubbed"),
            (gone.len() + emptied.len()) as u64
        );
        let found = |tree: &Tree, path| tree.lookup(path, Last::Keep);
        assert!(gone.iter().all(|path| found(&tree, path).is_none()));
        assert!(kept.iter().all(|path| found(&tree, path).is_some()));
        assert!(
            found(&tree, "/var/cache/apt/archives").is_some(),
            "directories stay"
        );
        for path in emptied {
            let node = tree.node(found(&tree, path).expect("kept"));
            assert_eq!(node.kind, Kind::File(Content::default()), "{path}");
            assert_eq!((node.attrs.mode, node.attrs.gid), (0o640, 4), "{path}");
        }
    }

    #[test]
    fn a_machine_id_that_is_a_link_becomes_an_empty_file() {
        let mut tree = Tree::default();
        let path = TreePath::parse(b"etc/machine-id", 4096).expect("a path");
        let kind = NewKind::Symlink(b"/var/lib/dbus/machine-id".as_slice().into());
        tree.insert(&path, Attrs::IMPLIED_DIRECTORY, Box::default(), kind)
            .expect("inserted");
        scrub(&mut tree).expect("scrubbed");
        let id = tree.lookup("/etc/machine-id", Last::Keep).expect("kept");
        assert_eq!(tree.node(id).kind, Kind::File(Content::default()));
        assert_eq!(tree.node(id).attrs.mode, 0o644);
    }

    #[test]
    fn a_tree_without_traces_stays_as_it_is() {
        let mut tree = tree_of(&["/init"]);
        assert_eq!(scrub(&mut tree).expect("scrubbed"), 0);
    }
}
