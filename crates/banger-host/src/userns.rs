//! Whether this host lets its users make namespaces. Reads switches; makes none.

use std::fs;

/// Switches of the kernel, and of distributions' kernels, and what each must not be.
const SWITCHES: [(&str, &str); 3] = [
    ("/proc/sys/user/max_user_namespaces", "0"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ),
];

/// Whether an ordinary user may make a user namespace, and all others inside it.
pub(crate) fn may_be_made() -> bool {
    SWITCHES.iter().all(|(path, forbidding)| {
        // A switch that is not there forbids nothing.
        fs::read_to_string(path).map_or(true, |value| allows(&value, forbidding))
    })
}

fn allows(value: &str, forbidding: &str) -> bool {
    value.trim() != forbidding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_forbids_with_one_value_only() {
        assert!(!allows("0\n", "0"));
        assert!(allows("96365\n", "0"));
        assert!(allows("0\n", "1"));
    }
}
