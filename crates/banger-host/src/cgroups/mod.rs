//! Owns the control groups of VMs: what a VMM and its helpers may use together of memory, threads
//! and processors, whichever VMM it is. The groups are a second wall, so a host that has none, or
//! none for this user, only goes without. Knows no command lines.

mod hierarchy;
mod strays;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use banger_core::{
    host::{Accelerator, LaunchPlan, VmPlaces, VmmKind},
    host_error::HostError,
    journal::{Act, Journal},
};
use tokio::time::{Instant, sleep};

use crate::{
    acts,
    places::{self, file_error},
    task::blocking,
};
use hierarchy::{Controller, Site, Tables, Version};
pub(crate) use strays::{remove as remove_stray, strays};

const MIB: u64 = 1 << 20;
/// Of the names of our groups.
const PREFIX: &str = "banger-";
/// One period of the processors' time, in microseconds.
const PERIOD: u64 = 100_000;
/// How long the kernel may take to forget the last process of a group, and how often it is asked:
/// the first version of groups tells nobody.
const OBLIVION: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// What a VM may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    memory: u64,
    threads: u32,
    processors: u32,
    /// It weighs less than others.
    yields: bool,
}

impl Limits {
    pub(crate) fn of(plan: &LaunchPlan) -> Self {
        // What the VMM has beside its guest's memory: its own, and pages of the files it reads.
        // An emulator keeps up to 1 GiB of translated code. QEMU reads and writes with up to 64
        // threads at a time.
        let (overhead, threads) = match (plan.vmm, plan.accelerator) {
            (VmmKind::Firecracker, _) => (128 * MIB, 32),
            (VmmKind::Qemu, Accelerator::Kvm) => (256 * MIB, 128),
            (VmmKind::Qemu, Accelerator::Tcg) => (1280 * MIB, 128),
        };
        // A balloon's bookkeeping and page tables grow with the guest.
        let share = plan.memory.bytes() / 32;
        Self {
            memory: plan.memory.bytes() + share + overhead,
            threads: plan.vcpus.get() + threads,
            // One for the devices.
            processors: plan.vcpus.get() + 1,
            yields: plan.yields,
        }
    }

    /// The file of a group that holds a limit, and what is to be written there.
    fn words(self, controller: Controller, version: Version) -> Vec<(&'static str, String)> {
        let time = u64::from(self.processors) * PERIOD;
        // A group weighs as much as one process, however many it has, unless it is told: on a
        // busy host a machine shall weigh as much as its processors, and one that nobody waits for a
        // tenth of that: enough to be over one day.
        let share = if self.yields { 10 } else { 1 };
        let weigh = |one: u32| (one * self.processors / share).to_string();
        match (controller, version) {
            (Controller::Memory, Version::First) => {
                vec![("memory.limit_in_bytes", self.memory.to_string())]
            }
            (Controller::Memory, Version::Second) => vec![("memory.max", self.memory.to_string())],
            (Controller::Pids, Version::First | Version::Second) => {
                vec![("pids.max", self.threads.to_string())]
            }
            (Controller::Cpu, Version::First) => vec![
                ("cpu.cfs_period_us", PERIOD.to_string()),
                ("cpu.cfs_quota_us", time.to_string()),
                ("cpu.shares", weigh(1024)),
            ],
            (Controller::Cpu, Version::Second) => vec![
                ("cpu.max", format!("{time} {PERIOD}")),
                ("cpu.weight", weigh(100)),
            ],
        }
    }
}

/// The groups of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Groups(Vec<PathBuf>);

impl Groups {
    /// Makes them with their limits, and records them first, so that they are found again.
    #[cfg(test)]
    pub(crate) fn make(places: &VmPlaces, limits: Limits) -> Result<Self, HostError> {
        Self::make_in(&sites_here(), places, limits)
    }

    fn make_in(sites: &[Site], places: &VmPlaces, limits: Limits) -> Result<Self, HostError> {
        let planned = directories(sites, places);
        record(places, &planned)?;
        let mut made = Vec::new();
        for (site, directory) in sites.iter().zip(planned) {
            match make(site, &directory, limits) {
                Ok(()) => made.push(directory),
                Err(error) => {
                    let directory = directory.display();
                    tracing::debug!(%error, %directory, "no control group can be made");
                }
            }
        }
        Ok(Self(made))
    }

    /// Takes processes in, with all their threads. The kernel needs some ten milliseconds for
    /// the first of them, so the processes do well to go on meanwhile.
    pub(crate) fn take_in(&self, processes: &[u32]) {
        for group in &self.0 {
            for process in processes {
                match fs::write(group.join("cgroup.procs"), process.to_string()) {
                    Ok(()) => {}
                    // It has ended already, and the group with it.
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        let group = group.display();
                        tracing::warn!(%error, %group, "a VMM runs without its limits");
                    }
                }
            }
        }
    }
}

fn directories(sites: &[Site], places: &VmPlaces) -> Vec<PathBuf> {
    let name = format!("{PREFIX}{}", places.id.short());
    sites.iter().map(|site| site.parent.join(&name)).collect()
}

/// Where the groups of a VM would be made.
pub(crate) fn planned(places: &VmPlaces) -> Vec<PathBuf> {
    directories(&sites_here(), places)
}

/// Makes the groups of a VM, and takes a process in while other things go on.
pub(crate) fn hold(
    places: &VmPlaces,
    limits: Limits,
    process: u32,
    journal: &dyn Journal,
) -> Result<impl Future<Output = Result<Groups, HostError>>, HostError> {
    let sites = sites_here();
    let acts = acts::groups(&directories(&sites, places));
    for act in &acts {
        journal.intend(act)?;
    }
    let groups = Groups::make_in(&sites, places, limits)?;
    let taken = blocking(move || {
        groups.take_in(&[process]);
        groups
    });
    Ok(async move {
        let groups = taken.await;
        let made = acts::groups(&groups.0);
        for act in &acts {
            match made.contains(act) {
                true => journal.confirm(act)?,
                false => journal.strike(act)?,
            }
        }
        Ok(groups)
    })
}

/// Takes a process that an earlier daemon started into the groups that it made for it, where it
/// had no time to do so.
pub(crate) fn hold_again(places: &VmPlaces, process: u32) {
    let recorded = fs::read_to_string(record_file(places)).unwrap_or_default();
    let is_out = |group: &&str| {
        let held = fs::read_to_string(Path::new(group).join("cgroup.procs"));
        held.is_ok_and(|held| held.lines().all(|line| line != process.to_string()))
    };
    let groups: Vec<_> = recorded.lines().filter(is_out).map(PathBuf::from).collect();
    Groups(groups).take_in(&[process]);
}

fn make(site: &Site, directory: &Path, limits: Limits) -> io::Result<()> {
    if site.version == Version::Second {
        offer(&site.parent, &site.controllers);
    }
    match fs::create_dir(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    for &controller in &site.controllers {
        for (file, value) in limits.words(controller, site.version) {
            if let Err(error) = fs::write(directory.join(file), value) {
                let directory = directory.display();
                tracing::debug!(%error, %directory, file, "a limit cannot be set");
            }
        }
    }
    Ok(())
}

/// Lets the children of a group have its controllers. Often they have them already, and a user
/// cannot change that.
fn offer(parent: &Path, controllers: &[Controller]) {
    for controller in controllers {
        let word = format!("+{}", controller.as_str());
        if let Err(error) = fs::write(parent.join("cgroup.subtree_control"), word) {
            tracing::trace!(%error, "a controller is not given to children");
        }
    }
}

/// What limits a VM on this host, for people.
pub(crate) fn names() -> Vec<&'static str> {
    let sites = sites_here();
    let mut names: Vec<_> = sites
        .iter()
        .filter(|site| rustix::fs::access(&site.parent, rustix::fs::Access::WRITE_OK).is_ok())
        .flat_map(|site| &site.controllers)
        .copied()
        .collect();
    names.sort();
    names.into_iter().map(Controller::as_str).collect()
}

fn sites_here() -> Vec<Site> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let tables = Tables {
        mounts: &read("/proc/self/mounts"),
        own: &read("/proc/self/cgroup"),
        as_root: rustix::process::geteuid().is_root(),
    };
    hierarchy::sites(tables, |parent| {
        fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default()
    })
}

fn record_file(places: &VmPlaces) -> PathBuf {
    places.state.join("groups")
}

fn record(places: &VmPlaces, groups: &[PathBuf]) -> Result<(), HostError> {
    let lines: Vec<_> = groups.iter().map(|group| group.to_string_lossy()).collect();
    let path = record_file(places);
    fs::write(&path, lines.join("\n")).map_err(|source| file_error("write", &path, source))
}

/// What the processes of a VM may have of memory, where a group of theirs says so.
pub(crate) fn memory_limit(places: &VmPlaces) -> Option<u64> {
    let groups = fs::read_to_string(record_file(places)).ok()?;
    let files = ["memory.max", "memory.limit_in_bytes"];
    let mut limits = groups
        .lines()
        .flat_map(|group| files.map(|file| Path::new(group).join(file)));
    limits.find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// Removes the groups of a VM whose processes have ended, or are about to be forgotten.
pub(crate) async fn sweep(places: &VmPlaces, journal: &dyn Journal) -> Result<(), HostError> {
    let path = record_file(places);
    let groups = match fs::read_to_string(&path) {
        Ok(groups) => groups,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(file_error("read", &path, source)),
    };
    let deadline = Instant::now() + OBLIVION;
    for group in groups.lines().map(Path::new) {
        let act = Act::Group(group.to_owned());
        journal.undoing(&act)?;
        while let Err(source) = fs::remove_dir(group) {
            match source.kind() {
                io::ErrorKind::NotFound => break,
                io::ErrorKind::ResourceBusy if Instant::now() < deadline => sleep(ASK_AGAIN).await,
                _ => return Err(file_error("remove", group, source)),
            }
        }
        journal.strike(&act)?;
    }
    places::remove(&path)
}

#[cfg(test)]
mod tests {
    use banger_core::journal::Unrecorded;

    use super::*;
    use crate::qemu::args::tests::plan;

    fn limits() -> Limits {
        Limits {
            memory: 1000,
            threads: 33,
            processors: 2,
            yields: false,
        }
    }

    fn places(directory: &Path) -> VmPlaces {
        VmPlaces {
            state: directory.to_owned(),
            ..plan().places
        }
    }

    #[test]
    fn each_version_has_its_own_words() {
        let check = |controller, version, wanted: &[(&str, &str)]| {
            let words = limits().words(controller, version);
            let words: Vec<_> = words
                .iter()
                .map(|(file, text)| (*file, &text[..]))
                .collect();
            assert_eq!(words, wanted, "{controller:?} {version:?}");
        };
        use Version::{First, Second};
        let memory = [("memory.limit_in_bytes", "1000")];
        check(Controller::Memory, First, &memory);
        check(Controller::Memory, Second, &[("memory.max", "1000")]);
        check(Controller::Pids, First, &[("pids.max", "33")]);
        let quota = [("cpu.max", "200000 100000"), ("cpu.weight", "200")];
        check(Controller::Cpu, Second, &quota);
        let quota = [
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "200000"),
            ("cpu.shares", "2048"),
        ];
        check(Controller::Cpu, First, &quota);
    }

    #[test]
    fn a_machine_that_nobody_waits_for_weighs_a_tenth() {
        let check = |version, wanted: (&str, &str)| {
            let last = Limits {
                yields: true,
                ..limits()
            };
            let words = last.words(Controller::Cpu, version);
            let weight = words.iter().find(|(file, _)| *file == wanted.0);
            assert_eq!(weight.map(|(_, text)| &text[..]), Some(wanted.1));
        };
        check(Version::First, ("cpu.shares", "204"));
        check(Version::Second, ("cpu.weight", "20"));
    }

    #[test]
    fn the_limits_leave_room_beside_the_guest() {
        let check = |vmm, accelerator, overhead: u64, threads| {
            let limits = Limits::of(&LaunchPlan {
                vmm,
                accelerator,
                ..plan()
            });
            let wanted = Limits {
                memory: (512 + 16 + overhead) * MIB,
                threads,
                processors: 3,
                yields: false,
            };
            assert_eq!(limits, wanted);
        };
        check(VmmKind::Firecracker, Accelerator::Kvm, 128, 34);
        check(VmmKind::Qemu, Accelerator::Tcg, 1280, 130);
    }

    /// A directory stands for the hierarchy: the kernel's own makes the limits' files itself.
    #[tokio::test]
    async fn what_was_made_is_found_again_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let site = |parent: PathBuf| Site {
            parent,
            version: Version::Second,
            controllers: Vec::new(),
        };
        let there = site(dir.path().to_owned());
        let missing = site(dir.path().join("not-there"));
        for _ in 0..2 {
            let groups = Groups::make_in(&[missing.clone(), there.clone()], &places, limits());
            let group = dir.path().join(format!("banger-{}", places.id.short()));
            assert_eq!(groups.unwrap(), Groups(vec![group.clone()]));
            assert!(group.is_dir());
        }
        for _ in 0..2 {
            sweep(&places, &Unrecorded).await.unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    /// The kernel's own account of a process's groups.
    fn groups_of(process: u32) -> String {
        fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap()
    }

    #[tokio::test]
    async fn a_process_is_held_in_its_groups_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let groups = Groups::make(&places, limits_of_a_cat()).unwrap();
        if groups.0.is_empty() {
            eprintln!("SKIPPED: this user can make no control groups here");
            return;
        }
        let mut cat = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        check_limits(&groups);
        groups.take_in(&[cat.id()]);
        let name = format!("/banger-{}", places.id.short());
        let held = groups_of(cat.id()).matches(&name).count();
        assert!(held >= 1, "{}", groups_of(cat.id()));
        for group in &groups.0 {
            let error = fs::remove_dir(group).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        }
        drop(cat.stdin.take());
        cat.wait().unwrap();
        groups.take_in(&[cat.id()]);
        sweep(&places, &Unrecorded).await.unwrap();
        assert!(groups.0.iter().all(|group| !group.exists()));
    }

    /// The kernel rounds no limit of a cat's, and every group has at least one.
    fn check_limits(groups: &Groups) {
        let wanted: Vec<_> = Controller::ALL
            .into_iter()
            .flat_map(|controller| {
                let words = |version| limits_of_a_cat().words(controller, version);
                [words(Version::First), words(Version::Second)].concat()
            })
            .collect();
        for group in &groups.0 {
            let holds = |(file, value): &&(&str, String)| {
                fs::read_to_string(group.join(file)).is_ok_and(|text| text.trim() == value)
            };
            let there = wanted.iter().filter(|(file, _)| group.join(file).exists());
            let held = wanted.iter().filter(holds).count();
            assert!(held >= 1 && held == there.count(), "{}", group.display());
        }
    }

    fn limits_of_a_cat() -> Limits {
        Limits {
            memory: 64 * MIB,
            threads: 8,
            processors: 1,
            yields: false,
        }
    }
}
