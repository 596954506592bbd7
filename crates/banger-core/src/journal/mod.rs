//! The journal: each act on the host is written down as an intention before it is done, confirmed
//! afterwards, and struck when it is undone. Declares what may be written; keeps nothing itself.

mod ledger;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use banger_image::kernel::KernelName;

pub(crate) use ledger::Passing;
pub use ledger::{Ledger, Moment, Outcome, Page, Report, Settled, Watch};

use crate::{
    name::{ImageName, VmId, VmName},
    store::StoreError,
};

/// Something that is made on the host, with what it is made at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A VM as a whole: confirmed when whoever asked for it has it.
    Vm(VmName),
    /// The directory of an image, and its file.
    Image(PathBuf),
    /// The directory of a kernel.
    Kernel(PathBuf),
    /// What a VM has for itself, running or not.
    Directory(PathBuf),
    /// The file that a VM writes to.
    Disk(PathBuf),
    /// That file becomes larger under a guest that runs; struck when the guest has the room.
    Growth(PathBuf),
    /// What is fetched, below this directory; struck when nothing is on its way any more.
    Download(PathBuf),
    /// The archive that VMs with a kernel boot from.
    Initramfs(PathBuf),
    /// The directory of a live machine's sockets.
    Sockets(PathBuf),
    /// The files that a confined VMM sees.
    Jail(PathBuf),
    /// What a VMM has of its own: mounts below this root, process ids, users, a network.
    Namespaces(PathBuf),
    /// A device in the network of a VMM.
    Tap(String),
    Group(PathBuf),
    /// A VMM, found again by its lock.
    Vmm(PathBuf),
    /// The program behind a tap, found again by its lock.
    Uplink(PathBuf),
}

impl Act {
    /// The word in rows, documents and messages.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Vm(_) => "vm",
            Self::Image(_) => "image",
            Self::Kernel(_) => "kernel",
            Self::Directory(_) => "directory",
            Self::Disk(_) => "disk",
            Self::Growth(_) => "growth",
            Self::Download(_) => "download",
            Self::Initramfs(_) => "initramfs",
            Self::Sockets(_) => "sockets",
            Self::Jail(_) => "jail",
            Self::Namespaces(_) => "namespaces",
            Self::Tap(_) => "tap",
            Self::Group(_) => "group",
            Self::Vmm(_) => "vmm",
            Self::Uplink(_) => "uplink",
        }
    }

    /// What it is made at.
    #[must_use]
    pub fn operand(&self) -> String {
        match self {
            Self::Vm(name) => name.to_string(),
            Self::Tap(name) => name.clone(),
            Self::Image(path)
            | Self::Kernel(path)
            | Self::Directory(path)
            | Self::Disk(path)
            | Self::Growth(path)
            | Self::Download(path)
            | Self::Initramfs(path)
            | Self::Sockets(path)
            | Self::Jail(path)
            | Self::Namespaces(path)
            | Self::Group(path)
            | Self::Vmm(path)
            | Self::Uplink(path) => path.to_string_lossy().into_owned(),
        }
    }

    /// The act of a word.
    #[must_use]
    pub fn parse(word: &str, operand: &str) -> Option<Self> {
        let path = || PathBuf::from(operand);
        Some(match word {
            "vm" => Self::Vm(operand.parse().ok()?),
            "image" => Self::Image(path()),
            "kernel" => Self::Kernel(path()),
            "directory" => Self::Directory(path()),
            "disk" => Self::Disk(path()),
            "growth" => Self::Growth(path()),
            "download" => Self::Download(path()),
            "initramfs" => Self::Initramfs(path()),
            "sockets" => Self::Sockets(path()),
            "jail" => Self::Jail(path()),
            "namespaces" => Self::Namespaces(path()),
            "tap" => Self::Tap(operand.to_owned()),
            "group" => Self::Group(path()),
            "vmm" => Self::Vmm(path()),
            "uplink" => Self::Uplink(path()),
            _ => return None,
        })
    }

    /// The path that is there exactly as long as what was made; some things have none.
    pub(crate) fn trace(&self) -> Option<&Path> {
        match self {
            Self::Image(path)
            | Self::Kernel(path)
            | Self::Directory(path)
            | Self::Disk(path)
            | Self::Initramfs(path)
            | Self::Sockets(path)
            | Self::Jail(path)
            | Self::Group(path) => Some(path),
            Self::Growth(_)
            | Self::Download(_)
            | Self::Vm(_)
            | Self::Namespaces(_)
            | Self::Tap(_)
            | Self::Vmm(_)
            | Self::Uplink(_) => None,
        }
    }

    /// Whether it passes, and leaves nothing by itself: one that an earlier daemon was at is over.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Growth(_) | Self::Download(_) => true,
            Self::Vm(_)
            | Self::Image(_)
            | Self::Kernel(_)
            | Self::Directory(_)
            | Self::Disk(_)
            | Self::Initramfs(_)
            | Self::Sockets(_)
            | Self::Jail(_)
            | Self::Namespaces(_)
            | Self::Tap(_)
            | Self::Group(_)
            | Self::Vmm(_)
            | Self::Uplink(_) => false,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.word(), self.operand())
    }
}

/// What an act is done for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    Vm(VmId),
    Image(ImageName),
    Kernel(KernelName),
}

impl Owner {
    /// The word in rows, documents and messages.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Vm(_) => "vm",
            Self::Image(_) => "image",
            Self::Kernel(_) => "kernel",
        }
    }

    /// Which of its kind.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Vm(id) => id.to_string(),
            Self::Image(name) => name.to_string(),
            Self::Kernel(name) => name.to_string(),
        }
    }

    /// The owner of a word.
    #[must_use]
    pub fn parse(word: &str, name: &str) -> Option<Self> {
        match word {
            "vm" => name.parse().ok().map(Self::Vm),
            "image" => name.parse().ok().map(Self::Image),
            "kernel" => name.parse().ok().map(Self::Kernel),
            _ => None,
        }
    }
}

/// How far an act is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It may have been done.
    Intended,
    Confirmed,
    /// It may have been undone.
    Undoing,
}

impl Stage {
    /// The word in rows, documents and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Confirmed => "confirmed",
            Self::Undoing => "undoing",
        }
    }

    /// The stage of a word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Intended, Self::Confirmed, Self::Undoing];
        all.into_iter().find(|stage| stage.as_str() == text)
    }
}

/// What is written of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    At(Stage),
    /// It is undone, and forgotten.
    Struck,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::At(stage) => stage.as_str(),
            Self::Struck => "struck",
        })
    }
}

/// An act that is not written down is not done.
#[derive(Debug, thiserror::Error)]
#[error("cannot write into the journal that {act} is {entry}")]
pub struct JournalError {
    pub act: Act,
    pub entry: Entry,
    #[source]
    pub source: Box<StoreError>,
}

/// Where the acts for one owner are written down. What this has returned survives the sudden end
/// of the daemon, though not that of the host, with which most of what it tells of ends, too.
pub trait Journal: fmt::Debug + Send + Sync {
    fn write(&self, act: &Act, entry: Entry) -> Result<(), JournalError>;
}

impl dyn Journal + '_ {
    /// Record, act, confirm. An act that fails stays an intention, for whoever undoes it.
    pub fn act<T, E: From<JournalError>>(
        &self,
        act: &Act,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.intend(act)?;
        let done = work()?;
        self.confirm(act)?;
        Ok(done)
    }

    /// Undoes an act. One that cannot be undone stays in the journal.
    pub fn undo<T, E: From<JournalError>>(
        &self,
        act: &Act,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.undoing(act)?;
        let done = work()?;
        self.strike(act)?;
        Ok(done)
    }

    pub fn intend(&self, act: &Act) -> Result<(), JournalError> {
        self.write(act, Entry::At(Stage::Intended))
    }

    pub fn confirm(&self, act: &Act) -> Result<(), JournalError> {
        self.write(act, Entry::At(Stage::Confirmed))
    }

    pub fn undoing(&self, act: &Act) -> Result<(), JournalError> {
        self.write(act, Entry::At(Stage::Undoing))
    }

    pub fn strike(&self, act: &Act) -> Result<(), JournalError> {
        self.write(act, Entry::Struck)
    }
}

/// The journal of a program that starts machines and keeps no state.
#[derive(Debug, Clone, Copy)]
pub struct Unrecorded;

impl Journal for Unrecorded {
    fn write(&self, _: &Act, _: Entry) -> Result<(), JournalError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
