//! Owns the kernel's own file systems: which are mounted where, before and after the root is switched.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::Mode;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// One of the kernel's file systems.
struct Special {
    fs: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static str,
    /// Whether a machine can do without it.
    optional: bool,
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const INERT: MountFlags = QUIET.union(MountFlags::NOEXEC);

const fn special(
    fs: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static str,
) -> Special {
    Special {
        fs,
        target,
        flags,
        options,
        optional: false,
    }
}

/// What the agent itself needs to find the root.
const EARLY: [Special; 3] = [
    special("proc", "/proc", INERT, ""),
    special("sysfs", "/sys", INERT, ""),
    special("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
];

/// What every machine gets, with the options that systemd would choose, which leaves them as they are.
const IN_ROOT: [Special; 7] = [
    special("proc", "/proc", INERT, ""),
    special("sysfs", "/sys", INERT, ""),
    special("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
    special(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        "gid=5,mode=620,ptmxmode=666",
    ),
    special("tmpfs", "/dev/shm", QUIET, "mode=1777"),
    special("tmpfs", "/run", QUIET, "mode=0755,size=20%"),
    Special {
        fs: "mqueue",
        target: "/dev/mqueue",
        flags: INERT,
        options: "",
        optional: true,
    },
];

/// What a machine gets whose init is the agent; another init mounts it as it likes.
const CGROUPS: Special = Special {
    fs: "cgroup2",
    target: "/sys/fs/cgroup",
    flags: INERT,
    options: "nsdelegate",
    optional: true,
};

/// A file system of the kernel that is not where it belongs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("cannot create the directory {target}")]
    Directory {
        target: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount {fs} on {target}")]
    Mount {
        fs: &'static str,
        target: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Mounts what the agent needs inside the initramfs.
pub(super) fn early() -> Result<(), MountError> {
    EARLY.iter().try_for_each(mount_special)
}

/// Takes these away again, so that nothing stays hidden below the new root.
pub(super) fn leave_early() {
    for special in &EARLY {
        // A mount that stays costs a few bytes and is seen by nobody.
        let _ = unmount(special.target, UnmountFlags::DETACH);
    }
}

/// Mounts what every machine has, inside the machine's own root.
pub(super) fn in_root() -> Result<(), MountError> {
    IN_ROOT.iter().try_for_each(mount_special)?;
    std_links();
    Ok(())
}

/// Mounts the control groups for a machine that no other init sets up.
pub(crate) fn cgroups() -> Result<(), MountError> {
    mount_special(&CGROUPS)
}

fn mount_special(special: &Special) -> Result<(), MountError> {
    match try_mount(special) {
        Err(_) if special.optional => Ok(()),
        result => result,
    }
}

fn try_mount(special: &Special) -> Result<(), MountError> {
    let Special {
        fs,
        target,
        flags,
        options,
        ..
    } = *special;
    let existing = fs::metadata(target).is_ok_and(|metadata| metadata.is_dir());
    if !existing && let Err(source) = fs::create_dir(target) {
        return Err(MountError::Directory { target, source });
    }
    let options = std::ffi::CString::new(options).expect("options are literals without NUL");
    match mount(fs, target, fs, flags, options.as_c_str()) {
        // A kernel may mount its devtmpfs by itself.
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(MountError::Mount {
            fs,
            target,
            source: error.into(),
        }),
    }
}

/// The links in /dev that every program expects and devtmpfs lacks.
fn std_links() {
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ];
    for (target, link) in links {
        // Another init makes the same links.
        let _ = std::os::unix::fs::symlink(target, link);
    }
    // devtmpfs gives its terminals' multiplexer to root only.
    if Path::new("/dev/ptmx").exists() {
        let _ = rustix::fs::chmod("/dev/ptmx", Mode::from_raw_mode(0o666));
    }
}
