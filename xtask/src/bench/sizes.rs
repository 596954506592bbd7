//! What banger costs where it stands still: memory, disk, and the time of its bookkeeping.

use std::fs;

use super::{
    BenchError,
    figures::{Figure, Unit},
    home::{Home, output},
    stats::median,
};

/// Memory and disk of the daemon and of the agent in the VM `bench`.
pub(super) fn measure(home: &Home) -> Result<Vec<Figure>, BenchError> {
    let worked = daemon(home)?;
    home.banger(&["daemon", "stop"])?;
    home.banger(&["exec", "bench", "--", "true"])?;
    let fresh = daemon(home)?;

    let in_guest = ["exec", "bench", "--", "cat", "/proc/1/status"];
    let text = home.banger(&in_guest)?;
    let agent = resident(&text).ok_or_else(|| output(&in_guest, "VmRSS"))?;
    let on_disk = [
        "exec",
        "bench",
        "--",
        "stat",
        "-L",
        "-c",
        "%s",
        "/proc/1/exe",
    ];
    let size = home.banger(&on_disk)?.trim().parse();
    let size: f64 = size.map_err(|_| output(&on_disk, "size"))?;
    Ok(vec![
        Figure::new("bangerd, resident after all this", Unit::Mib, worked).goal(20.0),
        Figure::new(
            "bangerd, resident with one machine adopted",
            Unit::Mib,
            fresh,
        )
        .goal(20.0),
        Figure::new("agent, resident", Unit::Mib, agent).goal(4.0),
        Figure::new("agent, on disk", Unit::Mib, size / f64::from(1 << 20)).goal(3.0),
    ])
}

/// Resident memory of the daemon that runs now.
fn daemon(home: &Home) -> Result<f64, BenchError> {
    let path = format!("/proc/{}/status", home.daemon()?);
    let text = fs::read_to_string(&path).map_err(BenchError::file("read", path))?;
    resident(&text).ok_or_else(|| output(&["daemon", "status"], "process with VmRSS"))
}

/// Bookkeeping without machines: creating records and disks, and listing many.
pub(super) fn many_vms(home: &Home, rounds: usize, vms: usize) -> Result<Vec<Figure>, BenchError> {
    let list = ["vm", "list", "-q"];
    let few = times(rounds, || home.time(&list))?;
    let create = ["vm", "create", "--quiet", "--no-start"];
    let mut took = Vec::with_capacity(vms);
    for _ in 0..vms {
        took.push(home.time(&create)?);
    }
    let created = median(took.iter().copied());
    let many = times(rounds, || home.time(&list))?;
    Ok(vec![
        Figure::new(
            "create --no-start, process included",
            Unit::Seconds,
            created,
        )
        .beside("vm list of one VM", few)
        .goal(0.010),
        Figure::new(format!("vm list with {vms} more VMs"), Unit::Seconds, many)
            .beside("vm list of one VM", few)
            .goal(0.010),
    ])
}

pub(super) fn times(
    rounds: usize,
    once: impl Fn() -> Result<f64, BenchError>,
) -> Result<f64, BenchError> {
    let took: Result<Vec<_>, _> = (0..rounds).map(|_| once()).collect();
    Ok(median(took?))
}

/// Resident memory in MiB, of a process's status file.
fn resident(status: &str) -> Option<f64> {
    kib(status, "VmRSS:").map(|kib| kib / 1024.0)
}

/// KiB of one kind of a process's memory, all its mappings together.
pub(super) fn mapped(pid: u64, kind: &str) -> Result<f64, BenchError> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(BenchError::file("read", &path))?;
    kib(&text, kind).ok_or_else(|| output(&["vm", "show"], "process with memory"))
}

/// A line of KiB in what the kernel says of a process.
fn kib(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_off_a_status_file() {
        assert_eq!(
            resident("Name:\tx\nVmRSS:\t   20480 kB\nThreads: 3\n"),
            Some(20.0)
        );
        assert_eq!(resident("Name:\tkthreadd\n"), None);
        assert_eq!(resident("VmRSS:\t much kB\n"), None);
    }
}
