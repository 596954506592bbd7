//! How much memory this process could take without anybody's harm: what the host has available, and
//! what its own control groups leave it. Reads, and takes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::admission::available_memory;

const GROUPS: &str = "/sys/fs/cgroup";

/// In bytes; nothing where it cannot be told.
pub(crate) fn memory() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let left = left_by_groups(&own, |path| fs::read_to_string(path).ok());
    Some(available_memory()?.min(left.unwrap_or(u64::MAX)))
}

/// What the tightest of a process's groups leaves, where one is limited.
fn left_by_groups(own: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let number = |path: PathBuf| -> Option<u64> { read(&path)?.trim().parse().ok() };
    let left = |group: &Path, limit: &str, usage: &str| {
        let limit = number(group.join(limit))?;
        Some(limit.saturating_sub(number(group.join(usage)).unwrap_or(0)))
    };
    let of_line = |line: &str| -> Option<u64> {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.trim_start_matches('/');
        let (root, limit, usage) = if controllers.is_empty() {
            (PathBuf::from(GROUPS), "memory.max", "memory.current")
        } else if controllers.split(',').any(|one| one == "memory") {
            let root = Path::new(GROUPS).join("memory");
            (root, "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            return None;
        };
        let group = root.join(path);
        let above = group
            .ancestors()
            .take_while(|group| group.starts_with(&root));
        above.filter_map(|group| left(group, limit, usage)).min()
    };
    own.lines().filter_map(of_line).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_of_either_version_counts() {
        let files = [
            ("memory.max", "max\n"),
            ("a/memory.max", "1000\n"),
            ("a/memory.current", "900\n"),
            ("a/b/memory.max", "500\n"),
            ("a/b/memory.current", "100\n"),
            ("memory/c/memory.limit_in_bytes", "70\n"),
            ("memory/c/memory.usage_in_bytes", "80\n"),
        ];
        let check = |own: &str, wanted: Option<u64>| {
            let left = left_by_groups(own, |path| {
                let name = path.strip_prefix(GROUPS).unwrap().to_str().unwrap();
                let found = files.iter().find(|(file, _)| *file == name)?;
                Some(found.1.to_owned())
            });
            assert_eq!(left, wanted, "{own}");
        };
        check("0::/\n", None);
        check("0::/a/b\n", Some(100));
        check("3:cpu,memory:/c\n0::/a/b\n", Some(0));
        check("3:cpu:/c\n", None);
        check("no group", None);
    }

    #[test]
    fn this_process_may_take_something() {
        assert!(memory().is_some_and(|bytes| bytes > 0));
    }
}
