//! The user-mode network behind a VM's tap: slirp4netns or pasta, in the VMM's own PID
//! namespace, so that it ends with the VMM whoever else is alive. Knows taps, not guests.

use std::{
    ffi::OsString,
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use banger_core::{
    host::{Accelerator, Confinement, VmPlaces, VmmKind},
    host_error::HostError,
};
use rustix::thread::LinkNameSpaceType;

use crate::{
    lock::Note,
    places::{self, file_error},
    process::{self, Detached, Log, Process},
    sys::{Join, PidSpace, Surroundings, UPLINK_TAP},
};

/// What the uplink may write to one file; it has no file to write to but its log.
const FILE_LIMIT: u64 = 64 << 20;

/// A program that connects a tap with the host's own network, without privileges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uplink {
    Slirp(PathBuf),
    Pasta(PathBuf),
}

const SLIRP: &str = "slirp4netns";
const PASTA: &str = "pasta";

impl Uplink {
    /// The first that this host has.
    pub(crate) fn find() -> Result<Self, HostError> {
        let slirp = process::find(SLIRP).map(Self::Slirp);
        let found = slirp.or_else(|| process::find(PASTA).map(Self::Pasta));
        found.ok_or_else(|| process::missing(None, SLIRP, SLIRP))
    }

    pub(crate) fn program(&self) -> &Path {
        match self {
            Self::Slirp(path) | Self::Pasta(path) => path,
        }
    }

    /// The words for the network namespace at `space`. The guest finds the same addresses
    /// as in QEMU's user network, and neither of both lets it reach the host's loopback.
    fn args(&self, space: &str) -> Vec<OsString> {
        let words: &[&str] = match self {
            Self::Slirp(_) => &[
                "--mtu=1500",
                "--disable-host-loopback",
                "--enable-sandbox",
                "--enable-seccomp",
                "--netns-type=path",
                space,
                UPLINK_TAP,
            ],
            Self::Pasta(_) => &[
                "--foreground",
                "--quiet",
                "--ns-ifname",
                UPLINK_TAP,
                "--address",
                "10.0.2.15",
                "--netmask",
                "255.255.255.0",
                "--gateway",
                "10.0.2.2",
                "--dns-forward",
                "10.0.2.3",
                "--no-map-gw",
                "--no-dhcp",
                "--no-dhcpv6",
                "--no-ndp",
                "--no-ra",
                "--ipv4-only",
                "--tcp-ports",
                "none",
                "--udp-ports",
                "none",
                "--tcp-ns",
                "none",
                "--udp-ns",
                "none",
                "--netns",
                space,
            ],
        };
        words.iter().map(OsString::from).collect()
    }

    /// Starts it for the VMM `vmm`, unless it runs already.
    pub(crate) fn ensure(&self, places: &VmPlaces, vmm: u32) -> Result<Process, HostError> {
        let lock = lock(places);
        if let Some((process, _)) = Process::adopt(&lock)? {
            return Ok(process);
        }
        let network = open_space(vmm, "net")?;
        let args = self.args(&format!("/proc/self/fd/{}", network.as_raw_fd()));
        Process::start(Detached {
            program: self.program().to_owned(),
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

/// The uplink of a VMM that an earlier daemon started, if it was to have one: the one that
/// runs, or a new one.
pub(crate) fn adopt(places: &VmPlaces, vmm: u32) -> Result<Option<Process>, HostError> {
    if !lock(places).exists() {
        return Ok(None);
    }
    Uplink::find()?.ensure(places, vmm).map(Some)
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

fn lock(places: &VmPlaces) -> PathBuf {
    places.state.join("uplink.lock")
}

/// An uplink's lock says nothing that anybody reads.
fn note() -> Note {
    Note {
        vmm: VmmKind::Firecracker,
        accelerator: Accelerator::Kvm,
        confinement: Confinement::Namespaces,
        command_line: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_uplink_lets_a_guest_reach_the_hosts_loopback() {
        let check = |uplink: Uplink, fence: &str| {
            let args = uplink.args("/proc/self/fd/9");
            assert!(args.iter().any(|word| word == fence), "{uplink:?}");
            assert!(args.iter().any(|word| word == "/proc/self/fd/9"));
        };
        check(Uplink::Slirp(SLIRP.into()), "--disable-host-loopback");
        check(Uplink::Pasta(PASTA.into()), "--no-map-gw");
    }
}
