//! Refuses machines for which this host has no room. Reads sizes, creates nothing.

use std::{fs, path::Path};

use banger_core::{
    host::{LaunchPlan, Space},
    host_error::HostError,
};

use crate::places::file_error;

const MIB: u64 = 1 << 20;
/// A VM that starts with less than this beside its disk would fail at its first writes.
pub(crate) const LEAST_SPACE: u64 = 128 * MIB;

pub(crate) fn admit(plan: &LaunchPlan, reserve: u64) -> Result<(), HostError> {
    for path in [&plan.kernel, &plan.initramfs, &plan.base] {
        fs::File::open(path).map_err(|source| file_error("read", path, source))?;
    }
    let wanted_mib = plan.memory.mib();
    match available_memory() {
        Some(bytes) if wanted_mib > bytes / MIB => {
            return Err(HostError::Memory {
                wanted_mib,
                available_mib: bytes / MIB,
            });
        }
        Some(_) | None => {}
    }
    let available = space(&plan.places.state, reserve)?.free;
    let wanted = LEAST_SPACE.saturating_sub(reserve);
    if available < wanted + reserve {
        let path = plan.places.state.clone();
        return Err(HostError::Space {
            path,
            wanted,
            available,
            reserve,
        });
    }
    Ok(())
}

/// What the VMM may make of one file: its disk, or as much as the guest has memory. This is
/// what bounds a guest's console while no daemon runs that cuts it.
pub(crate) fn file_limit(plan: &LaunchPlan) -> Result<u64, HostError> {
    let disk = plan.places.disk();
    let length = fs::metadata(&disk)
        .map_err(|source| file_error("read", &disk, source))?
        .len();
    Ok(length.max(plan.memory.bytes()))
}

/// What can be had without making the host swap, in bytes.
pub(crate) fn available_memory() -> Option<u64> {
    parse_available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let value = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Free space for this user where `path` is or will be.
pub(crate) fn free_space(path: &Path) -> Result<u64, HostError> {
    Ok(space(path, 0)?.free)
}

/// The room where `path` is or will be.
pub(crate) fn space(path: &Path, reserve: u64) -> Result<Space, HostError> {
    let there = path
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(there);
    let stat = stat.map_err(|errno| file_error("measure", there, errno.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space {
        size: bytes(stat.f_blocks),
        free: bytes(stat.f_bavail),
        reserve,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_bytes() {
        let check = |text, wanted| assert_eq!(parse_available(text), wanted, "{text}");
        check(
            "MemTotal: 9 kB\nMemAvailable:   24251000 kB\n",
            Some(24_251_000 * 1024),
        );
        check("MemTotal: 9 kB\n", None);
        check("MemAvailable: many kB", None);
        assert!(available_memory().is_some());
    }

    #[test]
    fn space_is_measured_where_a_directory_will_be() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_space(&dir.path().join("not/yet/there")).unwrap() > 0);
    }
}
