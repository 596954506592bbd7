//! The user-mode network behind a VM's tap: slirp4netns, in the VMM's own PID
//! namespace, so that it ends with the VMM whoever else is alive. Knows taps, not guests.

use std::{
    ffi::OsString,
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
};

use banger_core::{
    host::{Accelerator, Confinement, VmPlaces, VmmKind},
    host_error::HostError,
    journal::Journal,
};
use rustix::thread::LinkNameSpaceType;

use crate::{
    acts,
    lock::{Note, VmmLock},
    places::{self, file_error},
    process::{self, Detached, Log, Process},
    sys::{Join, PidSpace, Surroundings, UPLINK_TAP},
};

/// What the uplink may write to one file; it has no file to write to but its log.
const FILE_LIMIT: u64 = 64 << 20;

/// The program that connects a tap with the host's own network, without privileges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uplink(PathBuf);

const SLIRP: &str = "slirp4netns";

impl Uplink {
    pub(crate) fn find() -> Result<Self, HostError> {
        let found = process::find(SLIRP).map(Self);
        found.ok_or_else(|| process::missing(None, SLIRP, SLIRP))
    }

    /// Starts it for the VMM `vmm`, unless it runs already.
    pub(crate) fn ensure(&self, places: &VmPlaces, vmm: u32) -> Result<Process, HostError> {
        let lock = lock(places);
        if let Some((process, _)) = Process::adopt(&lock)? {
            return Ok(process);
        }
        let network = open_space(vmm, "net")?;
        let args = args(&format!("/proc/self/fd/{}", network.as_raw_fd()));
        Process::start(Detached {
            program: self.0.clone(),
            args,
            output: None,
            log: Log::Shared(places.vmm_log()),
            lock,
            note: note(),
            file_limit: FILE_LIMIT,
            surroundings: beside(vmm)?,
            kept: vec![network],
        })
    }
}

/// The words for the network namespace at `space`. The guest finds the same addresses as in
/// QEMU's user network, and the host's loopback is out of its reach.
fn args(space: &str) -> Vec<OsString> {
    let words = [
        "--mtu=1500",
        "--disable-host-loopback",
        "--enable-sandbox",
        "--enable-seccomp",
        "--netns-type=path",
        space,
        UPLINK_TAP,
    ];
    words.map(OsString::from).into()
}

/// Records that a VMM is to have an uplink: the guest may begin before it has one, and the
/// daemon may end before that.
pub(crate) fn intend(places: &VmPlaces) -> Result<(), HostError> {
    let lock = lock(places);
    let made = VmmLock::create(&lock).map(drop);
    made.map_err(|source| file_error("make", &lock, source))
}

/// The uplink of a VMM that an earlier daemon started, if it was to have one: the one that
/// runs, or a new one.
pub(crate) fn adopt(
    places: &VmPlaces,
    vmm: u32,
    journal: &dyn Journal,
) -> Result<Option<Process>, HostError> {
    if !lock(places).exists() {
        return Ok(None);
    }
    let ensure = || Uplink::find()?.ensure(places, vmm);
    journal.act(&acts::uplink(places), ensure).map(Some)
}

/// Forgets that there was an uplink, when its VMM is gone.
pub(crate) fn sweep(places: &VmPlaces) -> Result<(), HostError> {
    places::remove(&lock(places))
}

/// The namespaces that an uplink shares with its VMM. Its sockets are the host's, so the
/// network is not among them.
fn beside(vmm: u32) -> Result<Surroundings, HostError> {
    let mut joins = Vec::new();
    if !rustix::process::geteuid().is_root() {
        joins.push(Join {
            space: open_space(vmm, "user")?,
            kind: LinkNameSpaceType::User,
        });
    }
    joins.push(Join {
        space: open_space(vmm, "pid")?,
        kind: LinkNameSpaceType::ProcessID,
    });
    Ok(Surroundings {
        joins,
        pid: PidSpace::Joined,
        ..Surroundings::default()
    })
}

fn open_space(process: u32, name: &str) -> Result<OwnedFd, HostError> {
    let path = PathBuf::from(format!("/proc/{process}/ns/{name}"));
    let opened = File::open(&path).map(OwnedFd::from);
    opened.map_err(|source| file_error("open", &path, source))
}

pub(crate) fn lock(places: &VmPlaces) -> PathBuf {
    places.state.join("uplink.lock")
}

/// An uplink's lock says nothing that anybody reads.
fn note() -> Note {
    Note {
        vmm: VmmKind::Firecracker,
        accelerator: Accelerator::Kvm,
        confinement: Confinement::Namespaces,
        command_line: String::new(),
        built: None,
        copy: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_reach_the_hosts_loopback() {
        let args = args("/proc/self/fd/9");
        assert!(args.iter().any(|word| word == "--disable-host-loopback"));
        assert!(args.iter().any(|word| word == "/proc/self/fd/9"));
    }
}
