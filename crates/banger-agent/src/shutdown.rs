//! Owns the machine's end: writing everything out, ending what runs, and the last system call. Knows no sessions.
//!
//! The last system call is always a restart. It ends a VMM that does not restart its guest (QEMU with `-no-reboot`,
//! Firecracker always) with and without ACPI, whereas powering off without ACPI halts the processor for ever.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use banger_guest_proto::hello::Pid1;
use banger_guest_proto::message::{ShutdownMode, ShutdownRequest};
use rustix::mount::{MountFlags, mount_remount};
use rustix::system::RebootCommand;
use tokio::time::{Instant, timeout_at};

use crate::reaper::Reaper;
use crate::{console, sys};

/// How long processes may take after a signal that cannot be caught.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// A host that asks for more patience than this has made a mistake.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// Writes all file systems out, on a thread of its own: other requests go on meanwhile.
pub(crate) async fn sync() -> io::Result<()> {
    tokio::task::spawn_blocking(rustix::fs::sync)
        .await
        .map_err(io::Error::other)
}

/// Takes the machine down. Returns only where the kernel refuses.
pub(crate) async fn go_down(
    request: ShutdownRequest,
    pid1: Pid1,
    reaper: &Reaper,
    disk: &OwnedFd,
) -> io::Result<()> {
    // What the guest has written is safe before anything else is tried; the host has its answer meanwhile.
    sync().await?;
    match request.mode {
        ShutdownMode::Graceful => {
            let deadline = Instant::now() + request.timeout().min(MAX_TIMEOUT);
            end_processes(pid1, reaper, deadline).await;
            sync().await?;
        }
        ShutdownMode::Force => {}
    }
    Err(restart(disk))
}

/// Ends a machine that never came up.
pub(crate) fn abort() -> ! {
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::Restart);
    // The kernel panics when process 1 ends, which ends the machine too.
    std::process::exit(1);
}

async fn end_processes(pid1: Pid1, reaper: &Reaper, deadline: Instant) {
    let asked = match pid1 {
        Pid1::Agent => return end_everything(reaper, deadline).await,
        Pid1::Systemd => sys::kill(1, sys::SYSTEMD_REBOOT),
        // What the kernel sends for Ctrl-Alt-Del, which inits take for a wish to restart.
        Pid1::Other => sys::kill(1, libc::SIGINT),
    };
    match asked {
        // Init ends this process too, or the machine, before the time is over.
        Ok(()) => tokio::time::sleep_until(deadline).await,
        Err(error) => console::warn("shutdown", &error),
    }
}

/// Signals every process but this one, which is process 1.
async fn end_everything(reaper: &Reaper, deadline: Instant) {
    // Shells with a terminal ignore a request to terminate but not a hangup; the stopped must run to notice either.
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGCONT] {
        let _ = sys::kill(-1, signal);
    }
    if timeout_at(deadline, reaper.childless()).await.is_err() {
        let _ = sys::kill(-1, libc::SIGKILL);
        let _ = timeout_at(Instant::now() + KILL_GRACE, reaper.childless()).await;
    }
}

/// Makes the file systems clean and restarts.
fn restart(disk: &OwnedFd) -> io::Error {
    // What cannot be made clean has at least been written out, and its journal does the rest at the next boot.
    let _ = remount_read_only("/");
    // The disk lies hidden below the root; its descriptor leads there.
    if remount_read_only(&format!("/proc/self/fd/{}", disk.as_fd().as_raw_fd())).is_err() {
        let _ = std::fs::write("/proc/sysrq-trigger", "u");
    }
    rustix::fs::sync();
    match rustix::system::reboot(RebootCommand::Restart) {
        Ok(()) => io::ErrorKind::Other.into(),
        Err(error) => error.into(),
    }
}

fn remount_read_only(path: &str) -> rustix::io::Result<()> {
    mount_remount(path, MountFlags::RDONLY, c"")
}
