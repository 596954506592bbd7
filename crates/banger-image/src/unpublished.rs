//! Owns files that nobody sees before they are whole: they have no name until they are published,
//! so that nothing of them survives a crash. Knows nothing of what is in them.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, linkat};

/// What every name begins with that a crash can leave behind, where files need one.
pub(crate) const LEFTOVER_PREFIX: &str = ".unfinished-";

/// A file under construction in the directory where it will be published.
#[derive(Debug)]
pub(crate) struct Unpublished {
    file: File,
    dir: PathBuf,
    /// Where the file system has no files without names.
    named: Option<tempfile::TempPath>,
}

impl Unpublished {
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        let unnamed = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlags::TMPFILE.bits() as i32)
            .open(dir);
        let (file, named) = match unnamed {
            // Without a name it is reached through its descriptor only.
            Ok(file) if descriptor_path(&file).exists() => (file, None),
            Ok(_) | Err(_) => {
                let (file, path) = tempfile::Builder::new()
                    .prefix(LEFTOVER_PREFIX)
                    .tempfile_in(dir)?
                    .into_parts();
                (file, Some(path))
            }
        };
        Ok(Self {
            file,
            dir: dir.to_owned(),
            named,
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The same file with a description of its own, whose flags can differ.
    pub(crate) fn reopen(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match &self.named {
            Some(path) => options.open(path),
            None => options.open(descriptor_path(&self.file)),
        }
    }

    /// Makes the file durable and gives it its name, which must be free.
    pub(crate) fn publish(self, dest: &Path, mode: u32) -> io::Result<()> {
        self.file.sync_all()?;
        self.name(dest, mode)?;
        File::open(&self.dir)?.sync_all()
    }

    /// Gives the file its name, which must be free; what a crash of the host leaves of it is
    /// undefined.
    pub(crate) fn name(&self, dest: &Path, mode: u32) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode))?;
        match &self.named {
            Some(path) => std::fs::hard_link(path, dest),
            None => {
                let flags = AtFlags::SYMLINK_FOLLOW;
                Ok(linkat(CWD, descriptor_path(&self.file), CWD, dest, flags)?)
            }
        }
    }
}

fn descriptor_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Removes what a crash left in a directory. Whoever calls it knows that nobody is at work there.
pub(crate) fn sweep(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_leftover = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(LEFTOVER_PREFIX));
        if is_leftover {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_seen_when_it_is_whole_and_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("dest");
        let make = |text: &str| {
            let made = Unpublished::create(dir.path()).unwrap();
            made.reopen().unwrap().write_all(text.as_bytes()).unwrap();
            made
        };
        let (first, second) = (make("first"), make("second"));
        assert!(!dest.exists());
        first.publish(&dest, 0o444).unwrap();
        let taken = second.publish(&dest, 0o444).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&dest).unwrap(), b"first");
        assert!(dest.metadata().unwrap().permissions().readonly());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_leftovers_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let leftover = dir.path().join(format!("{LEFTOVER_PREFIX}x"));
        let other = dir.path().join("other");
        for path in [&leftover, &other] {
            std::fs::write(path, b"").unwrap();
        }
        sweep(dir.path()).unwrap();
        assert!(!leftover.exists() && other.exists());
    }
}
