//! Landlock: a fence around a program that it puts up itself and can never open again.
//! Knows the kernel's calls; the paths inside the fence are others' choice.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

/// A fence that is made and not closed yet.
#[derive(Debug)]
pub(crate) struct Fence(OwnedFd);

/// What a program may do with something inside its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Execute,
    Read,
    ReadWrite,
    /// Make sockets in a directory, and write to what else is there.
    Sockets,
}

mod right {
    pub(super) const EXECUTE: u64 = 1;
    pub(super) const WRITE_FILE: u64 = 1 << 1;
    pub(super) const READ_FILE: u64 = 1 << 2;
    pub(super) const REMOVE_FILE: u64 = 1 << 5;
    pub(super) const MAKE_SOCK: u64 = 1 << 9;
    pub(super) const TRUNCATE: u64 = 1 << 14;
    pub(super) const IOCTL_DEV: u64 = 1 << 15;
}

#[repr(C)]
struct Attributes {
    files: u64,
    network: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathRule {
    rights: u64,
    parent: i32,
}

const CREATE_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

/// All rights over files that a version of the interface knows.
fn known_rights(version: i64) -> u64 {
    match version {
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => (1 << 16) - 1,
    }
}

fn rights(wanted: Use) -> u64 {
    match wanted {
        Use::Execute => right::EXECUTE | right::READ_FILE,
        Use::Read => right::READ_FILE,
        Use::ReadWrite => right::READ_FILE | right::WRITE_FILE | right::TRUNCATE | right::IOCTL_DEV,
        Use::Sockets => {
            right::READ_FILE
                | right::WRITE_FILE
                | right::TRUNCATE
                | right::MAKE_SOCK
                | right::REMOVE_FILE
        }
    }
}

/// The interface's version; nothing where the kernel has none, or has it switched off.
pub(crate) fn version() -> Option<i64> {
    // SAFETY: with this flag the call reads no attributes and returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Attributes>(),
            0,
            CREATE_VERSION,
        )
    };
    (version > 0).then_some(version)
}

impl Fence {
    /// A fence with nothing inside but `paths`; nothing where the kernel has no Landlock.
    pub(crate) fn around(paths: &[(&Path, Use)]) -> io::Result<Option<Self>> {
        let Some(version) = version() else {
            return Ok(None);
        };
        let known = known_rights(version);
        let attributes = Attributes {
            files: known,
            // Neither binding nor connecting over TCP.
            network: if version >= 4 { 0b11 } else { 0 },
            // Neither abstract sockets nor signals of processes outside.
            scoped: if version >= 6 { 0b11 } else { 0 },
        };
        let size = match version {
            1..=3 => 8_usize,
            4 | 5 => 16,
            _ => 24,
        };
        // SAFETY: the kernel reads `size` bytes of the attributes, which has as many.
        let fence = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attributes,
                size,
                0,
            )
        };
        let number = i32::try_from(fence).unwrap_or(-1);
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just returned this descriptor, and nobody else knows it.
        let fence = Self(unsafe { OwnedFd::from_raw_fd(number) });
        for (path, wanted) in paths {
            fence.take_in(path, rights(*wanted) & known)?;
        }
        Ok(Some(fence))
    }

    fn take_in(&self, path: &Path, rights: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let place = options.read(true).custom_flags(libc::O_PATH).open(path)?;
        let rule = PathRule {
            rights,
            parent: place.as_raw_fd(),
        };
        // SAFETY: the kernel reads the 12 bytes of the rule, whose descriptor is open.
        let added = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.0.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                0,
            )
        };
        if added < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Closes it around the calling thread and all that it becomes.
    pub(super) fn close(&self) -> io::Result<()> {
        // SAFETY: the call takes a descriptor and a zero.
        let closed =
            unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0) };
        if closed < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_knows_no_more_rights_than_its_kernel() {
        let check = |version, right, known: bool| {
            assert_eq!(known_rights(version) & right != 0, known, "{version}");
        };
        check(1, right::MAKE_SOCK, true);
        check(1, right::TRUNCATE, false);
        check(3, right::TRUNCATE, true);
        check(4, right::IOCTL_DEV, false);
        check(7, right::IOCTL_DEV, true);
    }
}
