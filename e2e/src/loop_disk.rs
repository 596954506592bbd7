//! File systems of their own in files, mounted while a story goes on. Only root can arrange that.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// A file system in a file, mounted somewhere. Dropping it unmounts it; the file stays.
#[derive(Debug)]
pub struct LoopDisk {
    file: PathBuf,
    at: PathBuf,
}

impl LoopDisk {
    /// Makes a file system with this program, and mounts it.
    #[track_caller]
    #[must_use]
    pub fn make(program: &str, mib: u64, file: &Path, at: &Path) -> Self {
        let image = File::create(file).expect("a file can be made");
        image.set_len(mib << 20).expect("a file can have holes");
        run(Command::new(program).arg("-q").arg(file));
        Self::mount(file, at)
    }

    /// Mounts the file system in a file.
    #[track_caller]
    #[must_use]
    pub fn mount(file: &Path, at: &Path) -> Self {
        fs::create_dir_all(at).expect("a directory can be made");
        run(Command::new("mount").args(["-o", "loop"]).arg(file).arg(at));
        Self {
            file: file.to_owned(),
            at: at.to_owned(),
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// What the disk has at this instant, as another file beside its own, whose file system shares blocks.
    #[track_caller]
    #[must_use]
    pub fn clone_to(&self, file: &Path) -> PathBuf {
        let mut copy = Command::new("cp");
        run(copy.arg("--reflink=always").arg(&self.file).arg(file));
        file.to_owned()
    }

    /// Unmounts it now, and says whether nobody used it any more.
    pub fn unmount(self) -> bool {
        let status = Command::new("umount").arg(&self.at).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // What still uses it keeps it until it ends; it may be unmounted already.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).output();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Whether all of these programs are here.
#[must_use]
pub fn has_programs(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = std::env::split_paths(&path).collect();
    // Where Debian keeps them, and not every shell looks.
    directories.extend(["/sbin", "/usr/sbin"].map(PathBuf::from));
    let is_here = |program: &&str| directories.iter().any(|at| at.join(program).is_file());
    programs.iter().all(is_here)
}
