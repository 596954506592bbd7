//! Owns the reading of the kernel's figures from /proc. Parsing is apart from reading.

use std::fs;

/// Identifies this boot of this kernel.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Load averages over 1, 5 and 15 minutes.
pub(crate) fn load() -> [f32; 3] {
    parse_load(&fs::read_to_string("/proc/loadavg").unwrap_or_default())
}

/// Memory in bytes: (total, available).
pub(crate) fn memory() -> (u64, u64) {
    parse_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

/// Where the kernel keeps this process's arguments: the address of the first byte.
pub(crate) fn arguments_address() -> Option<u64> {
    parse_arguments_address(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse_load(text: &str) -> [f32; 3] {
    let mut words = text
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(0.0));
    std::array::from_fn(|_| words.next().unwrap_or(0.0))
}

fn parse_memory(text: &str) -> (u64, u64) {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    };
    (
        value("MemTotal:").unwrap_or(0),
        value("MemAvailable:").unwrap_or(0),
    )
}

/// The address is field 48; the second field is a name that may contain anything but ends at the last parenthesis.
fn parse_arguments_address(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace()
        .nth(48 - 3)?
        .parse()
        .ok()
        .filter(|address| *address != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_their_files() {
        assert_eq!(parse_load("0.50 1.25 2.00 1/99 4242\n"), [0.5, 1.25, 2.0]);
        let meminfo = "MemTotal:  500 kB\nMemFree: 10 kB\nMemAvailable:    400 kB\n";
        assert_eq!(parse_memory(meminfo), (512_000, 409_600));
    }

    #[test]
    fn files_that_are_not_there_give_zeros() {
        assert_eq!(parse_load(""), [0.0; 3]);
        assert_eq!(parse_memory(""), (0, 0));
        assert_eq!(parse_arguments_address(""), None);
    }

    #[test]
    fn the_arguments_address_is_that_of_the_arguments() {
        let address = arguments_address().unwrap();
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("1 (a) b) {}", fields.join(" "));
        assert_eq!(parse_arguments_address(&stat), Some(48));
        assert!(address > 4096);
    }
}
