//! Where this host's control groups are, and what of them a VM gets: arguments for the jailer,
//! and directories to remove afterwards. Reads mounts; makes no group itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use banger_core::spec::{Memory, Vcpus};

const MIB: u64 = 1 << 20;
/// What the VMM may have beside its guest's memory: its own, and pages of the files it reads.
const OVERHEAD: u64 = 128 * MIB;
/// Threads beside those that are processors of the guest.
const THREADS: u32 = 32;

/// How control groups can be had on this host. A hybrid host has its controllers in the first
/// version, and an empty hierarchy of the second beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    None,
    First {
        memory: Option<PathBuf>,
        pids: Option<PathBuf>,
    },
    Second {
        mount: PathBuf,
        memory: bool,
        pids: bool,
    },
}

/// What a VM may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    memory: u64,
    threads: u32,
}

impl Limits {
    pub(crate) fn of(vcpus: Vcpus, memory: Memory) -> Self {
        // A balloon's bookkeeping and page tables grow with the guest.
        let share = memory.bytes() / 32;
        Self {
            memory: memory.bytes() + share + OVERHEAD,
            threads: vcpus.get() + THREADS,
        }
    }
}

impl Hierarchy {
    pub(crate) fn of_this_host() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self::parse(&mounts, |mount| {
            fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        })
    }

    fn parse(mounts: &str, controllers: impl Fn(&Path) -> String) -> Self {
        let first = |controller: &str| {
            rows(mounts).find_map(|(place, kind, options)| {
                let has = kind == "cgroup" && options.split(',').any(|word| word == controller);
                has.then(|| place.clone())
            })
        };
        let (memory, pids) = (first("memory"), first("pids"));
        if memory.is_some() || pids.is_some() {
            return Self::First { memory, pids };
        }
        let Some((mount, ..)) = rows(mounts).find(|(_, kind, _)| *kind == "cgroup2") else {
            return Self::None;
        };
        let controllers = controllers(&mount);
        let has = |name: &str| controllers.split_whitespace().any(|word| word == name);
        Self::Second {
            memory: has("memory"),
            pids: has("pids"),
            mount,
        }
    }

    /// The jailer's words for the group `parent` with these limits.
    pub(crate) fn jailer_words(&self, parent: &str, limits: Limits) -> Vec<String> {
        let Limits { memory, threads } = limits;
        let (version, values) = match self {
            Self::None => return Vec::new(),
            Self::First { memory: m, pids: p } => (
                "1",
                [
                    m.as_ref()
                        .map(|_| format!("memory.limit_in_bytes={memory}")),
                    p.as_ref().map(|_| format!("pids.max={threads}")),
                ],
            ),
            Self::Second {
                memory: m, pids: p, ..
            } => (
                "2",
                [
                    m.then(|| format!("memory.max={memory}")),
                    p.then(|| format!("pids.max={threads}")),
                ],
            ),
        };
        let mut words = Vec::new();
        for value in values.into_iter().flatten() {
            words.extend(["--cgroup".to_owned(), value]);
        }
        if !words.is_empty() {
            words.extend(["--cgroup-version", version, "--parent-cgroup", parent].map(Into::into));
        }
        words
    }

    /// The directories that the jailer makes for the VM `id` below the group `parent`, the
    /// inner ones first.
    fn directories(&self, parent: &str, id: &str) -> Vec<PathBuf> {
        let mounts: Vec<&PathBuf> = match self {
            Self::None => Vec::new(),
            Self::First { memory, pids } => memory.iter().chain(pids).collect(),
            Self::Second { mount, .. } => vec![mount],
        };
        let below = |mount: &PathBuf| [mount.join(parent).join(id), mount.join(parent)];
        mounts.into_iter().flat_map(below).collect()
    }

    /// Removes the groups of a VM that is gone. Groups that are not there are no error.
    pub(crate) fn sweep(&self, parent: &str, id: &str) -> Result<(), (PathBuf, io::Error)> {
        for directory in self.directories(parent, id) {
            match fs::remove_dir(&directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err((directory, error)),
            }
        }
        Ok(())
    }
}

/// Place, kind and options of each mount.
fn rows(mounts: &str) -> impl Iterator<Item = (PathBuf, &str, &str)> {
    mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((PathBuf::from(words.next()?), words.next()?, words.next()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
";
    const SECOND: &str = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";

    fn limits() -> Limits {
        Limits {
            memory: 1000,
            threads: 33,
        }
    }

    #[test]
    fn a_hybrid_host_has_its_controllers_in_the_first_version() {
        let hierarchy = Hierarchy::parse(HYBRID, |_| String::new());
        assert_eq!(
            hierarchy.jailer_words("banger-x", limits()),
            [
                "--cgroup",
                "memory.limit_in_bytes=1000",
                "--cgroup",
                "pids.max=33",
                "--cgroup-version",
                "1",
                "--parent-cgroup",
                "banger-x"
            ]
        );
        let directories = hierarchy.directories("banger-x", "x");
        assert_eq!(
            directories[0],
            Path::new("/sys/fs/cgroup/memory/banger-x/x")
        );
        assert_eq!(directories.len(), 4);
    }

    #[test]
    fn the_second_version_gives_what_it_has() {
        let check = |controllers: &str, wanted: &[&str]| {
            let hierarchy = Hierarchy::parse(SECOND, |_| controllers.to_owned());
            let words = hierarchy.jailer_words("p", limits());
            let values: Vec<_> = words.iter().filter(|word| word.contains('=')).collect();
            assert_eq!(values, wanted, "{controllers}");
        };
        check("cpu memory pids", &["memory.max=1000", "pids.max=33"]);
        check("cpu pids", &["pids.max=33"]);
        check("", &[]);
    }

    #[test]
    fn a_host_without_groups_limits_nothing() {
        let hierarchy = Hierarchy::parse("proc /proc proc rw 0 0\n", |_| String::new());
        assert_eq!(hierarchy, Hierarchy::None);
        assert!(hierarchy.jailer_words("p", limits()).is_empty());
        assert!(hierarchy.directories("p", "x").is_empty());
    }

    #[test]
    fn the_limit_leaves_room_beside_the_guest() {
        let limits = Limits::of(
            2.try_into().unwrap(),
            Memory::from_bytes(512 * MIB).unwrap(),
        );
        assert_eq!(limits.memory, (512 + 16 + 128) * MIB);
        assert_eq!(limits.threads, 34);
    }
}
