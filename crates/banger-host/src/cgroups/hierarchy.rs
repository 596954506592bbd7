//! Where this host keeps its control groups, and where in them this user may make some. Pure:
//! the kernel's own tables in, directories out.

use std::path::{Component, Path, PathBuf};

/// What a group can limit here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    pub(super) const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// The two interfaces of control groups. A hybrid host has both, and its controllers in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    First,
    Second,
}

/// A directory below which a VM's group can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) parent: PathBuf,
    pub(super) version: Version,
    pub(super) controllers: Vec<Controller>,
}

/// What the kernel tells of its hierarchies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables<'a> {
    /// `/proc/self/mounts`.
    pub(super) mounts: &'a str,
    /// `/proc/self/cgroup`.
    pub(super) own: &'a str,
    pub(super) as_root: bool,
}

/// All places where groups could be made, each controller in one of them. `offered` reads the
/// controllers that a directory of the second version can give to its children.
pub(super) fn sites(tables: Tables<'_>, offered: impl Fn(&Path) -> String) -> Vec<Site> {
    // Only root may write to hierarchies of the first version.
    let mut sites = if tables.as_root {
        first(tables.mounts)
    } else {
        Vec::new()
    };
    let taken: Vec<_> = sites
        .iter()
        .flat_map(|site| site.controllers.clone())
        .collect();
    if let Some(parent) = second(tables) {
        let offered = offered(&parent);
        let mut controllers = named(|name| offered.split_whitespace().any(|word| word == name));
        controllers.retain(|controller| !taken.contains(controller));
        if !controllers.is_empty() {
            sites.push(Site {
                parent,
                version: Version::Second,
                controllers,
            });
        }
    }
    sites
}

fn named(is_there: impl Fn(&str) -> bool) -> Vec<Controller> {
    let mut controllers = Controller::ALL.to_vec();
    controllers.retain(|controller| is_there(controller.as_str()));
    controllers
}

/// A hierarchy of the first version may hold several controllers, and be mounted twice.
fn first(mounts: &str) -> Vec<Site> {
    let mut sites: Vec<Site> = Vec::new();
    for (parent, kind, options) in rows(mounts) {
        if kind != "cgroup" {
            continue;
        }
        let mut controllers = named(|name| options.split(',').any(|word| word == name));
        controllers.retain(|one| sites.iter().all(|site| !site.controllers.contains(one)));
        if !controllers.is_empty() {
            sites.push(Site {
                parent,
                version: Version::First,
                controllers,
            });
        }
    }
    sites
}

/// Root makes its groups at the top: a VM outlives the session that it was started in. A user
/// makes them beside the group of the daemon, where somebody gave that branch away: a group
/// with processes of its own can give its children no controllers.
fn second(tables: Tables<'_>) -> Option<PathBuf> {
    let (mount, ..) = rows(tables.mounts).find(|(_, kind, _)| *kind == "cgroup2")?;
    if tables.as_root {
        return Some(mount);
    }
    let own = tables
        .own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))?;
    let beside = Path::new(own).parent()?;
    // A group outside of this namespace's view is told as one above it.
    let is_seen = beside
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    is_seen.then(|| mount.join(beside))
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
    use super::{Controller::*, *};

    const HYBRID: &str = "\
tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
";
    const SECOND: &str = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
    const SESSION: &str = "0::/user.slice/user@1000.service/app.slice/run-7.scope\n";

    fn check(tables: Tables<'_>, offered: &str, wanted: &[(&str, &[Controller])]) {
        let sites = sites(tables, |_| offered.to_owned());
        let found: Vec<_> = sites
            .iter()
            .map(|site| (site.parent.to_str().unwrap(), &site.controllers[..]))
            .collect();
        assert_eq!(found, wanted, "{tables:?} {offered}");
    }

    #[test]
    fn a_hybrid_host_gives_each_controller_where_it_has_it() {
        let tables = Tables {
            mounts: HYBRID,
            own: "4:memory:/\n0::/\n",
            as_root: true,
        };
        let first: [(&str, &[Controller]); 2] = [
            ("/sys/fs/cgroup/memory", &[Memory]),
            ("/sys/fs/cgroup/cpu,cpuacct", &[Cpu]),
        ];
        check(tables, "hugetlb", &first);
        let both: [(&str, &[Controller]); 3] =
            [first[0], first[1], ("/sys/fs/cgroup/unified", &[Pids])];
        check(tables, "pids memory", &both);
    }

    #[test]
    fn roots_groups_of_the_second_version_are_at_its_top() {
        let tables = Tables {
            mounts: SECOND,
            own: SESSION,
            as_root: true,
        };
        check(
            tables,
            "cpuset cpu io memory pids",
            &[("/sys/fs/cgroup", &[Memory, Pids, Cpu])],
        );
        check(tables, "", &[]);
    }

    #[test]
    fn a_users_groups_are_beside_the_daemons_own() {
        let tables = Tables {
            mounts: SECOND,
            own: SESSION,
            as_root: false,
        };
        let beside = "/sys/fs/cgroup/user.slice/user@1000.service/app.slice";
        check(tables, "memory pids", &[(beside, &[Memory, Pids])]);
        let hybrid = Tables {
            mounts: HYBRID,
            ..tables
        };
        check(hybrid, "", &[]);
    }

    #[test]
    fn a_user_in_the_topmost_group_gets_none() {
        let tables = Tables {
            mounts: SECOND,
            own: "0::/\n",
            as_root: false,
        };
        check(tables, "memory", &[]);
        let elsewhere = Tables {
            own: "0::/../other/daemon\n",
            ..tables
        };
        check(elsewhere, "memory", &[]);
        let without = Tables {
            mounts: "proc /proc proc rw 0 0\n",
            as_root: true,
            ..tables
        };
        check(without, "memory", &[]);
    }
}
