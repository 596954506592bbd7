//! What a child does between fork and exec to get other surroundings than its parent's:
//! namespaces, mounts, a root, an identity. System calls only: it allocates nothing, takes no
//! lock, and knows no VMM.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, StatVfsMountFlags},
    mount::{MountFlags, MountPropagationFlags, UnmountFlags},
    thread::{LinkNameSpaceType, UnshareFlags},
};

use super::{
    landlock::Fence,
    tap::{self, Taps},
};

/// Everything about a program that is not its own. What is absent stays the parent's.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// Namespaces of another process to enter first.
    pub(crate) joins: Vec<Join>,
    /// A user namespace of its own, in which it is root.
    pub(crate) user: Option<IdMaps>,
    /// A network namespace of its own, with these interfaces.
    pub(crate) network: Option<Taps>,
    pub(crate) mounts: Option<Mounts>,
    /// A PID namespace of its own, or membership of the one that was joined.
    pub(crate) pid: PidSpace,
    pub(crate) privileges: Privileges,
    pub(crate) fence: Option<Fence>,
    /// Others of the host have most of its processors' time where they need it.
    pub(crate) yields: bool,
}

/// What makes a process get a tenth of what others get.
const MODEST: i32 = 10;

/// A namespace that another process lives in.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) space: OwnedFd,
    pub(crate) kind: LinkNameSpaceType,
}

/// Who root of a user namespace is outside of it.
#[derive(Debug)]
pub(crate) struct IdMaps {
    uid: String,
    gid: String,
}

impl IdMaps {
    /// This user is root inside, and nobody else is there.
    pub(crate) fn of_this_user() -> Self {
        Self {
            uid: format!("0 {} 1\n", rustix::process::geteuid().as_raw()),
            gid: format!("0 {} 1\n", rustix::process::getegid().as_raw()),
        }
    }
}

/// What of the host's files is there, and where.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    pub(crate) binds: Vec<Bind>,
    /// A directory whose files are in memory, and go with the namespace.
    pub(crate) in_memory: Option<InMemory>,
    /// The directory that becomes the root, and the only thing that is left.
    pub(crate) root: Option<CString>,
}

/// A file or directory that appears in another place.
#[derive(Debug)]
pub(crate) struct Bind {
    pub(crate) from: CString,
    pub(crate) to: CString,
    pub(crate) read_only: bool,
}

/// An empty directory in memory.
#[derive(Debug)]
pub(crate) struct InMemory {
    pub(crate) at: CString,
    /// Its size and its owner, in the kernel's words.
    pub(crate) options: CString,
}

/// In which PID namespace the program runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PidSpace {
    #[default]
    Parents,
    /// Its end is the end of all that ever joins it.
    Own,
    /// The one in `joins`.
    Joined,
}

/// What the program may do once it begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Privileges {
    /// As much as its parent.
    #[default]
    Parents,
    /// Nothing beyond its user's files, for ever, though it be root of a namespace.
    Fewest,
    /// As [`Self::Fewest`], as another user.
    FewestAs { id: u32 },
}

/// What a child does next, for its parent to name when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Join = b'j',
    User = b'u',
    Network = b'n',
    Mounts = b'm',
    Fork = b'f',
    Detach = b'd',
    Root = b'r',
    Privileges = b'v',
    Fence = b'l',
    Exec = b'x',
}

impl Step {
    pub(crate) const ALL: [Self; 10] = [
        Self::Join,
        Self::User,
        Self::Network,
        Self::Mounts,
        Self::Fork,
        Self::Detach,
        Self::Root,
        Self::Privileges,
        Self::Fence,
        Self::Exec,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Join => "enter its namespaces",
            Self::User => "make its user namespace",
            Self::Network => "make its network interfaces",
            Self::Mounts => "make its mounts",
            Self::Fork => "make its PID namespace",
            Self::Detach => "set it apart",
            Self::Root => "change its root",
            Self::Privileges => "give up its privileges",
            Self::Fence => "put up its fence",
            Self::Exec => "execute it",
        }
    }
}

/// What stands before the number of the process that a child made.
pub(crate) const NUMBER: u8 = b'#';

/// A child's way to tell its parent how far it is, in single bytes. Between them, in one piece,
/// [`NUMBER`] and eight bytes with the number of the process that it made.
#[derive(Debug)]
pub(super) struct Tell(pub(super) OwnedFd);

impl Tell {
    pub(super) fn step(&self, step: Step) {
        // A parent that does not listen any more misses nothing.
        let _ = rustix::io::write(&self.0, &[step as u8]);
    }

    fn number(&self, process: i64) -> bool {
        let mut message = [NUMBER; 9];
        message[1..].copy_from_slice(&process.to_ne_bytes());
        rustix::io::write(&self.0, &message).is_ok()
    }
}

impl Surroundings {
    /// Whether the child forks once more, so that the program is not the parent's direct child.
    pub(crate) fn forks(&self) -> bool {
        self.pid != PidSpace::Parents
    }

    /// Enters all that has to be entered before the program's process exists.
    pub(super) fn enter(&self, tell: &Tell) -> io::Result<()> {
        tell.step(Step::Join);
        for join in &self.joins {
            rustix::thread::move_into_link_name_space(join.space.as_fd(), Some(join.kind))?;
        }
        if let Some(maps) = &self.user {
            tell.step(Step::User);
            unshare(UnshareFlags::NEWUSER)?;
            write_file(c"/proc/self/setgroups", b"deny")?;
            write_file(c"/proc/self/uid_map", maps.uid.as_bytes())?;
            write_file(c"/proc/self/gid_map", maps.gid.as_bytes())?;
        }
        if let Some(taps) = &self.network {
            tell.step(Step::Network);
            unshare(UnshareFlags::NEWNET)?;
            tap::create(taps)?;
        }
        if let Some(mounts) = &self.mounts {
            tell.step(Step::Mounts);
            unshare(UnshareFlags::NEWNS | UnshareFlags::NEWIPC)?;
            mounts.make()?;
        }
        Ok(())
    }

    /// Makes the program's own process where it needs one, and tells its number through
    /// `tell`. Returns in that process only.
    pub(super) fn fork(&self, tell: &Tell) -> io::Result<()> {
        if !self.forks() {
            return Ok(());
        }
        tell.step(Step::Fork);
        // The parent's parent becomes the parent, so that it can wait for the program.
        let mut flags = libc::CLONE_PARENT | libc::SIGCHLD;
        if self.pid == PidSpace::Own {
            flags |= libc::CLONE_NEWPID;
        }
        // SAFETY: without CLONE_VM the call is a fork: the new process has a copy of all
        // memory and goes on here; no pointer is passed.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        match pid {
            0 => Ok(()),
            -1 => Err(io::Error::last_os_error()),
            pid => {
                let told = tell.number(pid);
                // SAFETY: `_exit` runs nothing of this copy of the parent's memory.
                unsafe { libc::_exit(i32::from(!told)) }
            }
        }
    }

    /// Gives up what the program shall not have. The last step before its exec.
    pub(super) fn give_up(&self, tell: &Tell) -> io::Result<()> {
        if self.yields {
            // Who may not have less than others has as much.
            let _ = rustix::process::nice(MODEST);
        }
        tell.step(Step::Root);
        if let Some(root) = self
            .mounts
            .as_ref()
            .and_then(|mounts| mounts.root.as_deref())
        {
            rustix::process::chdir(root)?;
            rustix::process::pivot_root(c".", c".")?;
            rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
            rustix::process::chdir(c"/")?;
        }
        tell.step(Step::Privileges);
        match self.privileges {
            Privileges::Parents => {}
            Privileges::Fewest => forget_root()?,
            Privileges::FewestAs { id } => {
                forget_root()?;
                become_user(id)?;
            }
        }
        if let Some(fence) = &self.fence {
            tell.step(Step::Fence);
            fence.close()?;
        }
        Ok(())
    }
}

impl Mounts {
    fn make(&self) -> io::Result<()> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", private)?;
        if let Some(root) = self.root.as_deref() {
            // A root must be a mount of its own.
            rustix::mount::mount_bind(root, root)?;
        }
        for bind in &self.binds {
            rustix::mount::mount_bind(bind.from.as_c_str(), bind.to.as_c_str())?;
            if bind.read_only {
                protect(bind)?;
            }
        }
        if let Some(InMemory { at, options }) = &self.in_memory {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            rustix::mount::mount(c"tmpfs", at.as_c_str(), c"tmpfs", flags, options.as_c_str())?;
        }
        Ok(())
    }
}

/// A mount of a user namespace keeps the restrictions that it came with.
fn protect(bind: &Bind) -> io::Result<()> {
    let now = rustix::fs::statvfs(bind.to.as_c_str())?.f_flag;
    let kept = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (had, keep) in kept {
        if now.contains(had) {
            flags |= keep;
        }
    }
    Ok(rustix::mount::mount_remount(
        bind.to.as_c_str(),
        flags,
        c"",
    )?)
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: no namespace in use here changes what a descriptor of this process means:
    // neither the table of files nor that of signals is unshared.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Being root of a user namespace, or root at all, gives an exec no capabilities any more.
fn forget_root() -> io::Result<()> {
    use rustix::thread::CapabilitiesSecureBits as Bits;
    rustix::thread::set_no_new_privs(true)?;
    let bits = Bits::NO_ROOT | Bits::NO_ROOT_LOCKED;
    match rustix::thread::set_capabilities_secure_bits(bits) {
        // Who may not set them has no capabilities that an exec could keep.
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn become_user(id: u32) -> io::Result<()> {
    let check = |result: libc::c_long| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: an empty list is not read; the calls change this process's identity only.
    unsafe {
        check(libc::syscall(
            libc::SYS_setgroups,
            0,
            std::ptr::null::<libc::gid_t>(),
        ))?;
        check(libc::syscall(libc::SYS_setresgid, id, id, id))?;
        check(libc::syscall(libc::SYS_setresuid, id, id, id))
    }
}

fn write_file(path: &std::ffi::CStr, bytes: &[u8]) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, bytes)?;
    Ok(())
}
