//! Makes the interfaces of a network namespace of a VM's own: a tap for the VMM, a tap for the
//! uplink, and the bridge between them. System calls only; knows no VMM and no uplink.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, SocketFlags, SocketType},
};

/// The VMM's end of the guest's cable.
pub(crate) const GUEST_TAP: &str = "guest";
/// The end that a user-mode network serves.
pub(crate) const UPLINK_TAP: &str = "uplink";
const BRIDGE: &CStr = c"cable";
const TUN: &CStr = c"/dev/net/tun";

/// The interfaces of one VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taps {
    /// No interface but a loopback that is down.
    None,
    /// A cable between guest and uplink; the user may open the guest's end.
    Cable { owner: u32 },
}

/// `struct ifreq`, as far as it is used here.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: [u8; 24],
}

impl Request {
    fn new(name: &[u8]) -> Self {
        let mut request = Self {
            name: [0; libc::IFNAMSIZ],
            data: [0; 24],
        };
        request.name[..name.len()].copy_from_slice(name);
        request
    }

    fn with_flags(name: &[u8], flags: i16) -> Self {
        let mut request = Self::new(name);
        request.data[..2].copy_from_slice(&flags.to_ne_bytes());
        request
    }
}

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
const TUNSETOWNER: libc::c_ulong = 0x4004_54cc;
const SIOCGIFFLAGS: libc::c_ulong = 0x8913;
const SIOCSIFFLAGS: libc::c_ulong = 0x8914;
const SIOCGIFINDEX: libc::c_ulong = 0x8933;
const SIOCBRADDBR: libc::c_ulong = 0x89a0;
const SIOCBRADDIF: libc::c_ulong = 0x89a2;
const IFF_TAP_NO_PI: i16 = 0x0002 | 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;
const IFF_UP: i16 = 0x1;

/// Makes them in the calling thread's network namespace.
pub(super) fn create(taps: &Taps) -> io::Result<()> {
    let owner = match *taps {
        Taps::None => return Ok(()),
        Taps::Cable { owner } => owner,
    };
    persistent(GUEST_TAP, IFF_TAP_NO_PI | IFF_VNET_HDR, Some(owner))?;
    persistent(UPLINK_TAP, IFF_TAP_NO_PI, None)?;
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: the call reads a terminated string.
    call(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCBRADDBR as _, BRIDGE.as_ptr()) })?;
    for tap in [GUEST_TAP, UPLINK_TAP] {
        join_bridge(&socket, tap)?;
        set_up(&socket, tap.as_bytes())?;
    }
    set_up(&socket, BRIDGE.to_bytes())
}

/// An interface that stays when its descriptor is closed, for as long as its namespace.
fn persistent(name: &str, flags: i16, owner: Option<u32>) -> io::Result<()> {
    let tun = rustix::fs::open(TUN, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let request = Request::with_flags(name.as_bytes(), flags);
    // SAFETY: the request is as long as the kernel's `ifreq`, and lives through the call;
    // the other two calls take numbers.
    unsafe {
        call(libc::ioctl(
            tun.as_raw_fd(),
            TUNSETIFF as _,
            &raw const request,
        ))?;
        call(libc::ioctl(tun.as_raw_fd(), TUNSETPERSIST as _, 1))?;
        if let Some(owner) = owner {
            call(libc::ioctl(tun.as_raw_fd(), TUNSETOWNER as _, owner))?;
        }
    }
    Ok(())
}

fn join_bridge(socket: &OwnedFd, tap: &str) -> io::Result<()> {
    let mut request = Request::new(tap.as_bytes());
    ask(socket, SIOCGIFINDEX, &mut request)?;
    let mut joining = Request::new(BRIDGE.to_bytes());
    // The index is where the answer has it and where the next question wants it.
    joining.data = request.data;
    ask(socket, SIOCBRADDIF, &mut joining)
}

fn set_up(socket: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let mut request = Request::new(name);
    ask(socket, SIOCGIFFLAGS, &mut request)?;
    let flags = i16::from_ne_bytes([request.data[0], request.data[1]]) | IFF_UP;
    request.data[..2].copy_from_slice(&flags.to_ne_bytes());
    ask(socket, SIOCSIFFLAGS, &mut request)
}

fn ask(socket: &OwnedFd, question: libc::c_ulong, request: &mut Request) -> io::Result<()> {
    // SAFETY: the request is as long as the kernel's `ifreq`, and lives through the call.
    call(unsafe { libc::ioctl(socket.as_raw_fd(), question as _, &raw mut *request) })
}

fn call(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
