//! What a process uses of this host, as the kernel accounts for it. Parsing is apart from reading; knows pids
//! and groups, not VMs.

use std::{fs, time::Duration};

use banger_core::host::VmmUsage;

/// Of the times that the kernel gives to programs: a part of its interface (time(7)).
const TICKS_PER_SECOND: u64 = 100;

/// Of a process that may have ended.
pub(crate) fn of_process(pid: u32, memory_limit: Option<u64>) -> Option<VmmUsage> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    let stat = parse_stat(&read("stat").ok()?)?;
    let memory = parse_field(&read("status").ok()?, "VmRSS:")? * 1024;
    // Another user's process does not tell everybody what it reads.
    let io = read("io").unwrap_or_default();
    Some(VmmUsage {
        cpu: stat.cpu,
        memory,
        memory_limit,
        threads: stat.threads,
        read: parse_field(&io, "read_bytes:"),
        written: parse_field(&io, "write_bytes:"),
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu: Duration,
    threads: u32,
}

/// The second field is a name that may contain anything, but ends at the last parenthesis (proc(5)).
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)?.checked_add(field(15)?)?;
    Some(Stat {
        cpu: Duration::from_millis(ticks.checked_mul(1000 / TICKS_PER_SECOND)?),
        threads: field(20)?.try_into().ok()?,
    })
}

fn parse_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_figures() {
        let rest: Vec<_> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b 1 2 3) {}", rest.join(" "));
        let expected = Stat {
            cpu: Duration::from_millis((14 + 15) * 10),
            threads: 20,
        };
        assert_eq!(parse_stat(&stat), Some(expected));
        assert_eq!(parse_stat("7 (a) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn figures_are_found_by_their_names() {
        let text = "rchar: 5\nread_bytes: 4096\nwrite_bytes: 12 kB\n";
        assert_eq!(parse_field(text, "read_bytes:"), Some(4096));
        assert_eq!(parse_field(text, "write_bytes:"), Some(12));
        assert_eq!(parse_field(text, "VmRSS:"), None);
    }

    #[test]
    fn this_process_uses_something_and_one_that_is_gone_nothing() {
        let usage = of_process(std::process::id(), Some(7)).unwrap();
        assert!(usage.memory > 0 && usage.threads > 0);
        assert_eq!(usage.memory_limit, Some(7));
        assert_eq!(of_process(u32::MAX, None), None);
    }
}
