//! Groups that are named as ours are, and that nobody is in. Other daemons of this host have groups of the
//! same names beside ours: what is young may be about to be used by one of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use banger_core::{host_error::HostError, name::VmId};

use super::{PREFIX, sites_here};
use crate::places::file_error;

/// Longer than any daemon takes from a group to its first process.
const YOUNG: Duration = Duration::from_secs(60);

/// Those that belong to none of these VMs.
pub(crate) fn strays(known: &[VmId]) -> Vec<PathBuf> {
    let sites = sites_here().into_iter();
    let strays = sites.flat_map(|site| below(&site.parent, known, SystemTime::now()));
    strays.collect()
}

fn below(parent: &Path, known: &[VmId], now: SystemTime) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let strays = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| is_strange(name, known)) && is_old(path, now) && is_empty(path)
    });
    strays.collect()
}

/// Whether this is the name of a group of ours, of a VM that is not known.
fn is_strange(name: &str, known: &[VmId]) -> bool {
    let Some(id) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let as_ours = id.len() == SHORT && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    as_ours && known.iter().all(|known| known.short() != id)
}

/// The length of a short id.
const SHORT: usize = 12;

fn is_old(path: &Path, now: SystemTime) -> bool {
    let changed = fs::metadata(path).and_then(|meta| meta.modified());
    changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > YOUNG))
}

/// A group that cannot be read is not taken for an empty one.
fn is_empty(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|inside| inside.trim().is_empty())
}

/// The kernel keeps a group that somebody has come into meanwhile.
pub(crate) fn remove(path: &Path) -> Result<(), HostError> {
    match fs::remove_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(file_error("remove", path, source))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_old_and_empty_group_of_our_naming_is_stray() {
        let root = tempfile::tempdir().unwrap();
        let known = VmId::random();
        let own = format!("banger-{}", known.short());
        let check = |name: &str, inside: &str, age: u64, expected: bool| {
            let group = root.path().join(name);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("cgroup.procs"), inside).unwrap();
            let now = SystemTime::now() + Duration::from_secs(age);
            let found = below(root.path(), &[known], now);
            assert_eq!(found.contains(&group), expected, "{name} {inside:?} {age}");
            fs::remove_dir_all(group).unwrap();
        };
        check("banger-0123456789ab", "", 120, true);
        check("banger-0123456789ab", "", 1, false);
        check("banger-0123456789ab", "4711\n", 120, false);
        check(&own, "", 120, false);
        check("banger-builds", "", 120, false);
        check("other-0123456789ab", "", 120, false);
    }
}
