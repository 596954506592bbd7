//! What starts make of the host's things, counted. Knows no VMM but by its programs' names.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Counts of what may be left behind, taken at one moment.
pub(crate) struct Census([(&'static str, usize); 7]);

impl Census {
    /// `directory` is where all machines of the bench have their places.
    pub(crate) fn take(directory: &Path) -> Self {
        let mounts = read("/proc/self/mounts");
        Self([
            ("processes", processes(directory)),
            ("namespaces", namespaces(directory)),
            ("mounts", mounts.lines().count()),
            ("control groups", groups(&mounts, directory)),
            ("chroots and other files", files(directory)),
            ("sockets", sockets(directory)),
            (
                "descriptors of our own",
                fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            ),
        ])
    }

    pub(crate) fn beside<'a>(
        &'a self,
        after: &'a Self,
    ) -> impl Iterator<Item = (&'static str, usize, usize)> + 'a {
        let both = self.0.iter().zip(&after.0);
        both.map(|((name, before), (_, after))| (*name, *before, *after))
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

/// Those that hold a lock of the bench, as every VMM and every uplink does as its standard input.
fn members(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .map(|entry| entry.path())
        .filter(|process| {
            let input = fs::read_link(process.join("fd/0")).unwrap_or_default();
            input.starts_with(directory)
        })
        .collect()
}

fn processes(directory: &Path) -> usize {
    members(directory).len()
}

/// Namespaces of the bench's processes that are not our own. One that nobody lives in is gone.
fn namespaces(directory: &Path) -> usize {
    let link = |process: &Path, kind: &str| fs::read_link(process.join("ns").join(kind)).ok();
    let kinds = ["net", "pid", "mnt", "ipc", "user"];
    let own = Path::new("/proc/self");
    let others: BTreeSet<_> = members(directory)
        .iter()
        .flat_map(|process| kinds.map(|kind| (kind, link(process, kind))))
        .filter(|(kind, space)| space.is_some() && *space != link(own, kind))
        .collect();
    others.len()
}

/// Groups whose names are those of the bench's machines, and so of their directories.
fn groups(mounts: &str, directory: &Path) -> usize {
    let recorded = below(directory)
        .into_iter()
        .filter(|path| path.ends_with("groups"))
        .count();
    let mounted = mounts
        .lines()
        .filter(|line| line.contains(" cgroup"))
        .filter_map(|line| line.split(' ').nth(1))
        .flat_map(|mount| fs::read_dir(mount).into_iter().flatten().flatten())
        .filter(|group| group.file_name().to_string_lossy().starts_with("banger-"))
        .filter(|group| read(group.path().join("cgroup.procs")).is_empty())
        .count();
    recorded + mounted
}

fn files(directory: &Path) -> usize {
    below(directory).len()
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

fn sockets(directory: &Path) -> usize {
    let place = directory.to_string_lossy();
    let table = read("/proc/net/unix");
    table.lines().filter(|line| line.contains(&*place)).count()
}
