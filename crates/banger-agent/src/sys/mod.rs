//! Owns every unsafe line of the agent: the system calls that neither std nor rustix wraps. Knows no policy.

#![allow(unsafe_code)]

pub(crate) mod spawn;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::ioctl::{self, NoArg, Setter, opcode};
use rustix::process::Pid;
use tokio::io::unix::AsyncFd;

/// `EXT4_IOC_RESIZE_FS` is `_IOW('f', 16, __u64)`.
const EXT4_IOC_RESIZE_FS: ioctl::Opcode = opcode::write::<u64>(b'f', 16);
/// `RNDADDENTROPY` is `_IOW('R', 3, int [2])`, whatever follows the two numbers.
const RNDADDENTROPY: ioctl::Opcode = opcode::write::<[i32; 2]>(b'R', 3);

/// `RNDRESEEDCRNG` is `_IO('R', 7)`.
const RNDRESEEDCRNG: ioctl::Opcode = opcode::none(b'R', 7);

/// Which side of a fork one is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forked {
    Child,
    Parent { child: Pid },
}

/// Forks. The process must have one thread only.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: callers fork before they start any thread, so the child may do whatever the parent may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent {
            child: Pid::from_raw(pid).expect("fork returns a process id"),
        }),
    }
}

/// Sends a signal by number, real-time signals included; a negative `target` is a process group.
pub(crate) fn kill(target: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory.
    match unsafe { libc::kill(target, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The signal that asks systemd to reboot as `systemctl reboot` does: `SIGRTMIN+5`, counted from systemd's own C
/// library, which is glibc, and not from ours.
pub(crate) const SYSTEMD_REBOOT: i32 = 34 + 5;

/// Grows the mounted ext4 file system that `directory` is on to this many blocks.
pub(crate) fn ext4_resize(directory: impl AsFd, blocks: u64) -> io::Result<()> {
    // SAFETY: the opcode takes a pointer to a u64, which `Setter` passes.
    Ok(unsafe { ioctl::ioctl(directory, Setter::<EXT4_IOC_RESIZE_FS, u64>::new(blocks)) }?)
}

/// Mixes bytes into the kernel's pool and counts them as random.
pub(crate) fn add_entropy(random_device: impl AsFd, bytes: [u8; 32]) -> io::Result<()> {
    /// `struct rand_pool_info` with room for the bytes.
    #[repr(C)]
    struct PoolInfo {
        entropy_count: i32,
        buf_size: i32,
        buf: [u8; 32],
    }
    let info = PoolInfo {
        entropy_count: 32 * 8,
        buf_size: 32,
        buf: bytes,
    };
    // SAFETY: the opcode takes a pointer to a rand_pool_info of which it reads `buf_size` bytes behind the numbers.
    Ok(unsafe { ioctl::ioctl(random_device, Setter::<RNDADDENTROPY, PoolInfo>::new(info)) }?)
}

/// Makes the kernel draw its next random numbers from what is in the pool now.
pub(crate) fn reseed(random_device: impl AsFd) -> io::Result<()> {
    // SAFETY: the opcode takes no argument.
    Ok(unsafe { ioctl::ioctl(random_device, NoArg::<RNDRESEEDCRNG>::new()) }?)
}

/// Hands a descriptor to the event loop, for both directions.
pub(crate) fn watch<T: AsRawFd + Into<OwnedFd>>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: an owner of a descriptor keeps the same one open for as long as it lives.
    Ok(unsafe { AsyncFd::register(owner) }?)
}

/// The process group that a terminal's keys signal.
pub(crate) fn terminal_foreground_group(terminal: impl AsFd) -> Option<i32> {
    let mut group: libc::pid_t = 0;
    // SAFETY: TIOCGPGRP writes one pid_t to the pointer, which is valid for the call.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGPGRP, &mut group) };
    (result == 0 && group > 0).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opcodes_are_those_of_the_kernel_headers() {
        assert_eq!(EXT4_IOC_RESIZE_FS, 0x4008_6610);
        assert_eq!(RNDADDENTROPY, 0x4008_5203);
        assert_eq!(RNDRESEEDCRNG, 0x5207);
    }
}
