//! Owns the step from the initramfs into the machine's own root, and giving the initramfs's memory back.

use std::io;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// A root that could not be switched.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub(super) struct SwitchError {
    step: &'static str,
    #[source]
    source: io::Error,
}

/// Makes `new_root` the root and removes everything that the initramfs held.
pub(super) fn into(new_root: &str) -> Result<(), SwitchError> {
    let step = |step| {
        move |error: Errno| SwitchError {
            step,
            source: error.into(),
        }
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let old_root =
        rustix::fs::open("/", flags, Mode::empty()).map_err(step("open the initramfs"))?;
    rustix::process::chdir(new_root).map_err(step("enter the new root"))?;
    rustix::mount::mount_move(".", "/").map_err(step("move the new root"))?;
    rustix::process::chroot(".").map_err(step("change the root"))?;
    rustix::process::chdir("/").map_err(step("enter the root"))?;
    // What stays of the initramfs costs memory only. The agent's own file lives on until it ends.
    let _ = empty(&old_root);
    Ok(())
}

/// Removes everything below a directory that is on the same file system.
fn empty(directory: &OwnedFd) -> rustix::io::Result<()> {
    let device = rustix::fs::fstat(directory)?.st_dev;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_dev != device {
            continue;
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            empty(&openat(directory, name, flags, Mode::empty())?)?;
            // A mount point cannot be removed, and need not be.
            let _ = unlinkat(directory, name, AtFlags::REMOVEDIR);
        } else {
            unlinkat(directory, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_emptied_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(tree.join("a/b/file"), "x").unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        let fd = rustix::fs::open(&tree, OFlags::DIRECTORY, Mode::empty()).unwrap();
        empty(&fd).unwrap();
        assert_eq!(std::fs::read_dir(&tree).unwrap().count(), 0);
        assert!(outside.join("kept").exists());
    }
}
