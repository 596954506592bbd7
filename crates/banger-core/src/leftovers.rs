//! What VMs and work that are gone have left on the disk, and its removal. Removes nothing that anybody may
//! miss: no disk, no image, nothing of a VM that runs, nothing that it does not know.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    engine::Engine,
    host::{Check, Verdict},
    name::VmId,
    vm::View,
};

/// Nobody works on one file for so long.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// So many are named at once.
const NAMED: usize = 5;

impl Engine {
    /// What could be removed.
    #[must_use]
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let directories = self.directories();
        let views = self.views();
        let mut found = runtimes(&directories.runtime.join("vm"), &views);
        found.extend(half_disks(&views));
        found.extend(old(&directories.state.join("scratch"), SystemTime::now()));
        found
    }

    /// Removes what is left over, and says of each whether that worked. Reads directories, so it is called
    /// where blocking is allowed.
    #[must_use]
    pub fn remove_leftovers(&self) -> Vec<(PathBuf, io::Result<()>)> {
        let remove = |path: PathBuf| {
            let removed = remove(&path);
            (path, removed)
        };
        self.leftovers().into_iter().map(remove).collect()
    }

    /// The rows of `banger doctor` about them.
    pub(crate) fn leftover_checks(&self) -> Vec<Check> {
        let vms = self.directories().state.join("vms");
        vec![
            judge(
                "left-overs",
                &self.leftovers(),
                "remove them with `banger doctor --fix`",
            ),
            judge(
                "forgotten VMs",
                &forgotten(&vms, &self.views()),
                "no row of the store names these: have them again with `banger recover`",
            ),
        ]
    }
}

fn judge(name: &'static str, found: &[PathBuf], hint: &str) -> Check {
    let named = found
        .iter()
        .take(NAMED)
        .map(|path| path.display().to_string());
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match found.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (verdict, detail, hint) = match found {
        [] => (Verdict::Pass, "none".to_owned(), None),
        [..] => (
            Verdict::Warn,
            format!("{named}{more}"),
            Some(hint.to_owned()),
        ),
    };
    Check {
        name,
        verdict,
        detail,
        hint,
    }
}

/// Directories for sockets whose VM has no VMM.
fn runtimes(directory: &Path, views: &[View]) -> Vec<PathBuf> {
    let live = |path: &PathBuf| {
        let of = |view: &&View| view.places.runtime == *path;
        let view = views.iter().find(of);
        view.is_some_and(|view| view.record.state.may_have_a_vmm() || view.process.is_some())
    };
    entries(directory)
        .into_iter()
        .filter(|path| !live(path))
        .collect()
}

/// Disks that never became whole, beside one that did.
fn half_disks(views: &[View]) -> Vec<PathBuf> {
    let half = |view: &View| {
        let partial = view.places.state.join(crate::vm::PARTIAL_DISK);
        (view.places.disk().exists() && partial.exists()).then_some(partial)
    };
    views.iter().filter_map(half).collect()
}

fn old(directory: &Path, now: SystemTime) -> Vec<PathBuf> {
    let is_old = |path: &PathBuf| {
        let changed = fs::symlink_metadata(path).and_then(|meta| meta.modified());
        let age = changed.map(|changed| now.duration_since(changed).unwrap_or_default());
        age.is_ok_and(|age| age > OLD)
    };
    entries(directory).into_iter().filter(is_old).collect()
}

/// Directories that are named as a VM's is, of which no row knows.
fn forgotten(directory: &Path, views: &[View]) -> Vec<PathBuf> {
    let unknown = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let is_vm = name.is_some_and(|name| name.parse::<VmId>().is_ok());
        is_vm && views.iter().all(|view| view.places.state != *path)
    };
    entries(directory).into_iter().filter(unknown).collect()
}

/// A directory that cannot be read has nothing that could be removed.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn remove(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}
