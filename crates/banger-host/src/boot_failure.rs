//! Reads from a console why a boot failed. Pure: text in, cause out.

use banger_core::host_error::BootFailure;

/// The cause that the last lines of a console tell. The first rule that fits decides: a
/// panic is what remains when nobody says more.
pub(crate) fn classify<S: AsRef<str>>(console: &[S]) -> BootFailure {
    let says = |needle: &str| console.iter().any(|line| line.as_ref().contains(needle));
    let any = |needles: &[&str]| needles.iter().any(|needle| says(needle));
    if let Some(complaint) = console.iter().rev().find_map(|line| agent_complaint(line.as_ref())) {
        return classify_complaint(complaint);
    }
    if any(OUT_OF_MEMORY) {
        BootFailure::OutOfMemory
    } else if any(NO_ROOT) {
        BootFailure::RootNotFound
    } else if any(NO_INIT) {
        BootFailure::InitFailed
    } else if any(&["Kernel panic - not syncing"]) {
        BootFailure::KernelPanic
    } else {
        BootFailure::Unknown
    }
}

const OUT_OF_MEMORY: &[&str] = &[
    "Out of memory",
    "System is deadlocked on memory",
    "Initramfs unpacking failed: write error",
    "page allocation failure",
];

const NO_ROOT: &[&str] = &["VFS: Unable to mount root fs", "VFS: Cannot open root device"];

const NO_INIT: &[&str] =
    &["Attempted to kill init!", "No working init found", "Requested init", "Failed to execute /init"];

/// What the agent wrote before it gave up.
fn agent_complaint(line: &str) -> Option<&str> {
    line.split_once("banger-agent: fatal: ").map(|(_, complaint)| complaint)
}

fn classify_complaint(complaint: &str) -> BootFailure {
    let says = |needle: &str| complaint.contains(needle);
    if says("ENOMEM") || says("ut of memory") || says("Cannot allocate memory") {
        BootFailure::OutOfMemory
    } else if says("disk") {
        BootFailure::DiskBroken
    } else if says("base") && (says("find") || says("appear") || says("no device")) {
        BootFailure::RootNotFound
    } else if says("base") || says("root") || says("overlay") {
        BootFailure::RootBroken
    } else {
        BootFailure::InitFailed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_tells_why_the_boot_failed() {
        let check = |console: &str, wanted: BootFailure| {
            let lines: Vec<_> = console.lines().collect();
            assert_eq!(classify(&lines), wanted, "{console}");
        };
        check("", BootFailure::Unknown);
        check("[    0.3] Run /init as init process", BootFailure::Unknown);
        check(
            "[    1.2] VFS: Cannot open root device \"vda\" or unknown-block(0,0): error -6\n\
             [    1.3] Kernel panic - not syncing: VFS: Unable to mount root fs on \
             unknown-block(0,0)\n[    1.3] CPU: 0 PID: 1 Comm: swapper/0",
            BootFailure::RootNotFound,
        );
        check(
            "[    0.9] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
            BootFailure::InitFailed,
        );
        check(
            "[    0.9] Kernel panic - not syncing: No working init found.  Try passing init=",
            BootFailure::InitFailed,
        );
        check(
            "[    0.9] Initramfs unpacking failed: write error\n[    1.0] Kernel panic - not \
             syncing: VFS: Unable to mount root fs",
            BootFailure::OutOfMemory,
        );
        check("[    9.1] Out of memory: Killed process 88", BootFailure::OutOfMemory);
        check(
            "[    0.1] Kernel panic - not syncing: stack-protector: Kernel stack is corrupted",
            BootFailure::KernelPanic,
        );
    }

    #[test]
    fn the_agents_own_words_decide() {
        let panic = "[ 1.0] Kernel panic - not syncing: Attempted to kill init!";
        let check = |complaint: &str, wanted: BootFailure| {
            let fatal = format!("[ 0.9] banger-agent: fatal: {complaint}");
            assert_eq!(classify(&[fatal.as_str(), panic]), wanted, "{complaint}");
        };
        check("cannot find the base device", BootFailure::RootNotFound);
        check("cannot mount the base: Structure needs cleaning", BootFailure::RootBroken);
        check("cannot mount the disk: Structure needs cleaning", BootFailure::DiskBroken);
        check("cannot execute /sbin/init: No such file", BootFailure::InitFailed);
    }
}
