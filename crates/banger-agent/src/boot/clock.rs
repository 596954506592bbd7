//! Owns the machine's clocks and its pool of random bytes, as far as the host helps with them.

use std::fs::OpenOptions;
use std::io;

use banger_guest_proto::hello::Entropy;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::sys;

/// A clock that differs by less keeps what it has: time that jumps for nothing does more harm.
const TOLERANCE_NS: u64 = 1_000_000_000;

/// A clock or pool that the kernel did not let us touch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClockError {
    #[error("cannot set the clock")]
    Set(#[source] io::Error),
    #[error("cannot add random bytes")]
    Entropy(#[source] io::Error),
}

/// Nanoseconds since the kernel started.
pub(crate) fn uptime_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Boottime))
}

/// Sets the clock from what the host said when it started the machine.
pub(super) fn set_if_far_off(host_at_start_ns: Option<u64>) -> Result<(), ClockError> {
    match host_at_start_ns {
        Some(start) => follow(start.saturating_add(uptime_ns())),
        None => Ok(()),
    }
}

/// Sets the clock to the host's where they differ.
pub(crate) fn follow(host_ns: u64) -> Result<(), ClockError> {
    let own_ns = to_ns(clock_gettime(ClockId::Realtime));
    if own_ns.abs_diff(host_ns) < TOLERANCE_NS {
        return Ok(());
    }
    set(host_ns)
}

/// Sets the clock to the host's, however little they differ.
pub(crate) fn set(host_ns: u64) -> Result<(), ClockError> {
    let time = Timespec {
        tv_sec: i64::try_from(host_ns / 1_000_000_000).expect("u64 nanoseconds are 585 years"),
        tv_nsec: i64::try_from(host_ns % 1_000_000_000).expect("a remainder below a second"),
    };
    clock_settime(ClockId::Realtime, time).map_err(|error| ClockError::Set(error.into()))
}

/// Mixes the host's random bytes into the kernel's pool, and has it draw from them at once: a copy
/// must not draw what its origin draws.
pub(crate) fn reseed(entropy: &Entropy) -> Result<(), ClockError> {
    let reseed = || -> io::Result<()> {
        let device = OpenOptions::new().write(true).open("/dev/urandom")?;
        sys::add_entropy(&device, entropy.0)?;
        sys::reseed(&device)
    };
    reseed().map_err(ClockError::Entropy)
}

/// Mixes the host's random bytes into the kernel's pool.
pub(crate) fn add_entropy(entropy: &Entropy) -> Result<(), ClockError> {
    let add = || -> io::Result<()> {
        let device = OpenOptions::new().write(true).open("/dev/urandom")?;
        sys::add_entropy(device, entropy.0)
    };
    add().map_err(ClockError::Entropy)
}

fn to_ns(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
