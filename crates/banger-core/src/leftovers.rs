//! What VMs and work that are gone have left on the disk, on the host and in the journal, and its removal.
//! Removes nothing that anybody may miss: no disk, no image, nothing of a VM that runs, nothing that it does
//! not know.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    engine::Engine,
    error::Error,
    host::{Check, Verdict},
    journal::{Act, Owner, Stage},
    name::VmId,
    store::JournalRow,
    vm::View,
};

/// Nobody works on one file for so long.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// So many are named at once.
const NAMED: usize = 5;

/// Something that is left over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    File(PathBuf),
    /// Something of our making on the host that is in no file.
    Stray(Act),
    /// The journal has something that is not there.
    Entry(Box<JournalRow>),
}

impl Leftover {
    /// What is done about it, in the past.
    #[must_use]
    pub fn mended(&self) -> &'static str {
        match self {
            Self::File(_) | Self::Stray(_) => "removed",
            Self::Entry(_) => "struck",
        }
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stray(act) => f.write_str(&act.operand()),
            Self::Entry(row) => write!(f, "{} of the journal", row.act),
        }
    }
}

impl Engine {
    /// What could be removed.
    #[must_use]
    pub fn leftovers(&self) -> Vec<Leftover> {
        let directories = self.directories();
        let views = self.views();
        let mut files = runtimes(&directories.runtime.join("vm"), &views);
        files.extend(half_disks(&views));
        files.extend(old(&directories.state.join("scratch"), SystemTime::now()));
        let known: Vec<_> = views.iter().map(|view| view.record.id).collect();
        let strays = self.host().strays(&known);
        let entries = stale(self.ledger().rows().unwrap_or_default(), &views);
        let files = files.into_iter().map(Leftover::File);
        let strays = strays.into_iter().map(Leftover::Stray);
        let entries = entries.into_iter().map(Box::new).map(Leftover::Entry);
        files.chain(strays).chain(entries).collect()
    }

    /// Removes what is left over, and says of each whether that worked. Reads directories, so it is called
    /// where blocking is allowed.
    #[must_use]
    pub fn remove_leftovers(&self) -> Vec<(Leftover, Result<(), Error>)> {
        let remove = |leftover: Leftover| {
            let removed = self.remove_leftover(&leftover);
            (leftover, removed)
        };
        self.leftovers().into_iter().map(remove).collect()
    }

    fn remove_leftover(&self, leftover: &Leftover) -> Result<(), Error> {
        match leftover {
            Leftover::File(path) => remove(path).map_err(|source| Error::File {
                operation: "remove",
                path: path.clone(),
                source,
            }),
            Leftover::Stray(act) => Ok(self.host().remove_stray(act)?),
            Leftover::Entry(row) => {
                let page = self.ledger().page(row.owner.clone());
                Ok(page.journal().strike(&row.act)?)
            }
        }
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
                &named(forgotten(&vms, &self.views())),
                "no row of the store names these: have them again with `banger recover`",
            ),
        ]
    }
}

fn judge(name: &'static str, found: &[Leftover], hint: &str) -> Check {
    let named = found.iter().take(NAMED).map(ToString::to_string);
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

fn named(paths: Vec<PathBuf>) -> Vec<Leftover> {
    paths.into_iter().map(Leftover::File).collect()
}

/// What the journal has as done and what is not there any more: somebody else has removed it. A VM that
/// is busy may be about to strike it.
fn stale(rows: Vec<JournalRow>, views: &[View]) -> Vec<JournalRow> {
    let is_stale = |row: &JournalRow| {
        let gone = row.act.trace().is_some_and(|path| !path.exists());
        gone && row.stage == Stage::Confirmed && is_quiet(&row.owner, views)
    };
    rows.into_iter().filter(is_stale).collect()
}

fn is_quiet(owner: &Owner, views: &[View]) -> bool {
    let Owner::Vm(id) = owner else {
        return true;
    };
    let view = views.iter().find(|view| view.record.id == *id);
    view.is_none_or(|view| !view.record.state.may_have_a_vmm() && view.process.is_none())
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
