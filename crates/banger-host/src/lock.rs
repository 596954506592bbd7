//! Owns the lock that tells whether a VM's VMM is alive, and which process it is.
//!
//! The VMM itself holds a POSIX record lock from before its exec to its end. The kernel says
//! who holds it, so no stored process id is ever trusted and none can be mistaken for a
//! later process. Such a lock is lost when its holder closes any descriptor of the file:
//! a process must not open this file twice while it starts the VMM.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use banger_core::host::{Accelerator, VmmKind};
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};

/// What the lock's file says of the VMM that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) vmm: VmmKind,
    pub(crate) accelerator: Accelerator,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.vmm.as_str(), self.accelerator.as_str())
    }
}

impl Note {
    /// The file is our own, but may be of another version.
    fn parse(text: &str) -> Option<Self> {
        let (first, second) = text.trim_end().split_once(' ')?;
        let vmms = [VmmKind::Qemu, VmmKind::Firecracker];
        let accelerators = [Accelerator::Kvm, Accelerator::Tcg];
        Some(Self {
            vmm: vmms.into_iter().find(|vmm| vmm.as_str() == first)?,
            accelerator: accelerators
                .into_iter()
                .find(|kind| kind.as_str() == second)?,
        })
    }
}

/// The open lock file of one VM.
#[derive(Debug)]
pub(crate) struct VmmLock(File);

impl VmmLock {
    /// Opens the file, and makes it where it is missing.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        options.open(path).map(Self)
    }

    /// Opens the file of a VM that may never have run.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Ok(Some(Self(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The living process that holds the lock.
    pub(crate) fn holder(&self) -> io::Result<Option<Pid>> {
        let Some(held) = fcntl_getlk(&self.0, &Flock::from(FlockType::WriteLock))? else {
            return Ok(None);
        };
        match held.pid {
            Some(pid) => Ok(Some(pid)),
            None => Err(io::Error::other(
                "the holder is outside of this PID namespace",
            )),
        }
    }

    /// Writes what the VMM about to be started is.
    pub(crate) fn write_note(&mut self, note: Note) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        write!(self.0, "{note}")
    }

    /// Reads what the VMM is.
    pub(crate) fn read_note(&mut self) -> io::Result<Note> {
        let mut text = String::new();
        self.0.rewind()?;
        (&self.0).take(4096).read_to_string(&mut text)?;
        Note::parse(&text).ok_or_else(|| io::Error::other("its words are unknown"))
    }

    /// The only descriptor of the file, for the process that is to hold the lock: a second
    /// one would be closed by its exec, and the lock lost with it.
    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmm.lock");
        assert!(VmmLock::open(&path).unwrap().is_none());
        let note = Note {
            vmm: VmmKind::Qemu,
            accelerator: Accelerator::Tcg,
        };
        VmmLock::create(&path).unwrap().write_note(note).unwrap();
        let mut again = VmmLock::open(&path).unwrap().unwrap();
        assert_eq!(again.read_note().unwrap(), note);
        assert_eq!(again.holder().unwrap(), None);
    }
}
