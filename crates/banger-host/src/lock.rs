//! Owns the lock that tells whether a VM's VMM is alive, and which process it is.
//!
//! The VMM itself holds a lock on the open file that is its standard input, from before its
//! exec to its end. The kernel keeps that lock, so no stored process id is ever trusted and
//! none can be mistaken for a later process.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use banger_core::{
    host::{Accelerator, Built, Confinement, VmmKind},
    spec::Network,
};
use rustix::process::Pid;

use crate::sys::{self, Holder};

/// What the lock's file says of the VMM that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) vmm: VmmKind,
    pub(crate) accelerator: Accelerator,
    pub(crate) confinement: Confinement,
    /// What the guest's kernel was told.
    pub(crate) command_line: String,
    pub(crate) built: Option<Built>,
    /// It goes on from a saved machine.
    pub(crate) copy: bool,
}

/// The line of one that does.
const COPY: &str = "copy";

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vmm, accelerator) = (self.vmm.as_str(), self.accelerator.as_str());
        writeln!(f, "{vmm} {accelerator}")?;
        writeln!(f, "{}", self.confinement.as_str())?;
        writeln!(f, "{}", self.command_line)?;
        if let Some(built) = self.built {
            writeln!(f, "{}", words(built))?;
        }
        match self.copy {
            true => writeln!(f, "{COPY}"),
            false => Ok(()),
        }
    }
}

impl Note {
    /// The file is our own, but may be of another version: the first ones had one line.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (first, second) = lines.next()?.split_once(' ')?;
        let vmms = [VmmKind::Qemu, VmmKind::Firecracker];
        let accelerators = [Accelerator::Kvm, Accelerator::Tcg];
        let confinements = [
            Confinement::Seccomp,
            Confinement::Jailer,
            Confinement::Namespaces,
            Confinement::Landlock,
        ];
        let mut note = Self {
            vmm: vmms.into_iter().find(|vmm| vmm.as_str() == first)?,
            accelerator: accelerators
                .into_iter()
                .find(|kind| kind.as_str() == second)?,
            confinement: match lines.next() {
                None => Confinement::Seccomp,
                Some(word) => confinements
                    .into_iter()
                    .find(|confinement| confinement.as_str() == word)?,
            },
            command_line: lines.next().unwrap_or_default().to_owned(),
            built: None,
            copy: false,
        };
        for line in lines {
            match line {
                COPY => note.copy = true,
                line => note.built = built(line),
            }
        }
        Some(note)
    }
}

fn words(built: Built) -> String {
    let (vcpus, memory) = (built.vcpus.get(), built.memory.bytes());
    format!("{vcpus} {memory} {}", built.network.as_str())
}

fn built(line: &str) -> Option<Built> {
    let mut words = line.split(' ');
    let mut number = || words.next()?.parse::<u64>().ok();
    let (vcpus, memory) = (u32::try_from(number()?).ok()?, number()?);
    let networks = [Network::User, Network::None];
    let network = words.next()?;
    Some(Built {
        vcpus: vcpus.try_into().ok()?,
        memory: memory.try_into().ok()?,
        network: networks.into_iter().find(|one| one.as_str() == network)?,
    })
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
        let unseen = || io::Error::other("the holder is outside of this PID namespace");
        match sys::lock_holder(self.0.as_fd())? {
            Holder::Nobody => Ok(None),
            Holder::Process(number) => Pid::from_raw(number).map(Some).ok_or_else(unseen),
            Holder::Opener => match self.reader()? {
                Some(pid) => Ok(Some(pid)),
                // It may have ended while it was looked for.
                None if sys::lock_holder(self.0.as_fd())? == Holder::Nobody => Ok(None),
                None => Err(unseen()),
            },
        }
    }

    /// The process whose standard input this file is: that is how a VMM holds it.
    fn reader(&self) -> io::Result<Option<Pid>> {
        let own = self.0.metadata()?;
        let is_own = |process: &Path| {
            let input = fs::metadata(process.join("fd/0"));
            input.is_ok_and(|input| (input.dev(), input.ino()) == (own.dev(), own.ino()))
        };
        let found = fs::read_dir("/proc")?.flatten().find_map(|entry| {
            let number: i32 = entry.file_name().to_str()?.parse().ok()?;
            is_own(&entry.path()).then(|| Pid::from_raw(number))?
        });
        Ok(found)
    }

    /// Writes what the VMM about to be started is.
    pub(crate) fn write_note(&mut self, note: &Note) -> io::Result<()> {
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

    /// The open file, for the process that is to hold the lock.
    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_the_first_version_is_understood() {
        let note = Note::parse("qemu tcg\n").unwrap();
        assert_eq!(note.confinement, Confinement::Seccomp);
        assert_eq!((note.command_line.as_str(), note.built), ("", None));
        assert!(Note::parse("qemu tcg\nchroot\n").is_none());
    }

    #[test]
    fn a_note_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmm.lock");
        assert!(VmmLock::open(&path).unwrap().is_none());
        let note = Note {
            vmm: VmmKind::Firecracker,
            accelerator: Accelerator::Kvm,
            confinement: Confinement::Jailer,
            command_line: "console=ttyS0 quiet".into(),
            built: Some(Built {
                vcpus: 2.try_into().unwrap(),
                memory: (512 << 20).try_into().unwrap(),
                network: Network::User,
            }),
            copy: true,
        };
        VmmLock::create(&path).unwrap().write_note(&note).unwrap();
        let mut again = VmmLock::open(&path).unwrap().unwrap();
        assert_eq!(again.read_note().unwrap(), note);
        assert_eq!(again.holder().unwrap(), None);
    }
}
