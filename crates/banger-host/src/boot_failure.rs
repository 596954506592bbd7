//! Reads from a console why a boot failed. Pure: text in, cause out.

use banger_core::host_error::BootFailure;
use banger_guest_proto::boot::fatal;

/// The cause that the last lines of a console tell. The first rule that fits decides: a
/// panic is what remains when nobody says more.
pub(crate) fn classify<S: AsRef<str>>(console: &[S]) -> BootFailure {
    let says = |needle: &str| console.iter().any(|line| line.as_ref().contains(needle));
    let any = |needles: &[&str]| needles.iter().any(|needle| says(needle));
    if let Some(complaint) = console
        .iter()
        .rev()
        .find_map(|line| agent_complaint(line.as_ref()))
    {
        return classify_complaint(complaint);
    }
    if any(OUT_OF_MEMORY) {
        BootFailure::OutOfMemory
    } else if any(NO_ROOT) {
        BootFailure::RootNotFound
    } else if any(NO_INIT) {
        BootFailure::InitFailed
    } else if says(PANIC) {
        BootFailure::KernelPanic
    } else {
        BootFailure::Unknown
    }
}

/// What brought the machine down, when its guest gave up at any time of its life. The guest
/// resets then, which ends QEMU as if all were well.
pub(crate) fn collapse<S: AsRef<str>>(console: &[S]) -> Option<&'static str> {
    let says = |needle: &str| console.iter().any(|line| line.as_ref().contains(needle));
    if says(PANIC) {
        Some("a kernel panic")
    } else if says(fatal::PREFIX) {
        Some("a failed boot")
    } else {
        None
    }
}

/// Whether the lines behind this one only say how it came to it.
pub(crate) fn begins_the_end(line: &str) -> bool {
    line.contains(PANIC)
}

const PANIC: &str = "Kernel panic - not syncing";

const OUT_OF_MEMORY: &[&str] = &[
    "Out of memory",
    "System is deadlocked on memory",
    "Initramfs unpacking failed: write error",
    "page allocation failure",
];

const NO_ROOT: &[&str] = &[
    "VFS: Unable to mount root fs",
    "VFS: Cannot open root device",
];

const NO_INIT: &[&str] = &[
    "Attempted to kill init!",
    "No working init found",
    "Requested init",
    "Failed to execute /init",
];

/// What the agent wrote before it gave up.
fn agent_complaint(line: &str) -> Option<&str> {
    line.split_once(fatal::PREFIX)
        .map(|(_, complaint)| complaint)
}

fn classify_complaint(complaint: &str) -> BootFailure {
    const PHRASES: [(&str, BootFailure); 6] = [
        (fatal::ROOT_NOT_FOUND, BootFailure::RootNotFound),
        (fatal::ROOT_NOT_MOUNTED, BootFailure::RootBroken),
        (fatal::OVERLAY, BootFailure::RootBroken),
        (fatal::SWITCH_ROOT, BootFailure::RootBroken),
        (fatal::DISK_NOT_FOUND, BootFailure::DiskBroken),
        (fatal::DISK_NOT_MOUNTED, BootFailure::DiskBroken),
    ];
    if complaint.contains("annot allocate memory") || complaint.contains("ut of memory") {
        return BootFailure::OutOfMemory;
    }
    let phrase = PHRASES
        .iter()
        .find(|(phrase, _)| complaint.starts_with(phrase));
    phrase.map_or(BootFailure::InitFailed, |(_, failure)| *failure)
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
        check(
            "[    9.1] Out of memory: Killed process 88",
            BootFailure::OutOfMemory,
        );
        check(
            "[    0.1] Kernel panic - not syncing: stack-protector: Kernel stack is corrupted",
            BootFailure::KernelPanic,
        );
    }

    #[test]
    fn the_agents_own_words_decide() {
        let panic = "[ 1.0] Kernel panic - not syncing: Attempted to kill init!";
        let check = |phrase: &str, cause: &str, wanted: BootFailure| {
            let fatal = format!("[ 0.9] {}{phrase}: {cause}", fatal::PREFIX);
            assert_eq!(
                classify(&[fatal.as_str(), panic]),
                wanted,
                "{phrase}: {cause}"
            );
        };
        check(
            fatal::ROOT_NOT_FOUND,
            "No such device",
            BootFailure::RootNotFound,
        );
        check(
            fatal::ROOT_NOT_MOUNTED,
            "Structure needs cleaning",
            BootFailure::RootBroken,
        );
        check(
            fatal::DISK_NOT_MOUNTED,
            "Structure needs cleaning",
            BootFailure::DiskBroken,
        );
        check(
            fatal::DISK_NOT_FOUND,
            "No such device",
            BootFailure::DiskBroken,
        );
        check(
            fatal::OVERLAY,
            "Cannot allocate memory",
            BootFailure::OutOfMemory,
        );
        check(
            fatal::INIT,
            "/sbin/init: No such file or directory",
            BootFailure::InitFailed,
        );
        check("a phrase of a later agent", "?", BootFailure::InitFailed);
    }
}
