//! Whether all that a world has made on its host belongs to somebody. Looks; ends and removes
//! nothing.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use banger_api::{journal::HostJournal, vm::VmState};

use crate::{World, wait::within};

impl World {
    /// Waits until nothing is half-done, and nothing is there that no VM has. Fails the story with
    /// what is.
    #[track_caller]
    pub fn expect_tidy(&self, patience: Duration) {
        let mut last = Vec::new();
        let tidy = within(patience, || {
            last = self.untidy();
            last.is_empty().then_some(())
        });
        assert!(tidy.is_some(), "after {patience:?}:\n{}", last.join("\n"));
    }

    /// What was done on the host, as the daemon knows it.
    #[track_caller]
    #[must_use]
    pub fn host_journal(&self) -> HostJournal {
        self.banger(["host", "journal", "--json"]).ok().json()
    }

    fn untidy(&self) -> Vec<String> {
        let (vms, journal) = (self.vms(), self.host_journal());
        let mut untidy = Vec::new();
        let ids: BTreeSet<_> = vms.iter().map(|vm| vm.id.clone()).collect();
        let mut differs = |what: &str, there: BTreeSet<String>, wanted: BTreeSet<String>| {
            if there != wanted {
                untidy.push(format!("{what}: {there:?} instead of {wanted:?}"));
            }
        };
        differs("directories of VMs", names(&self.state("vms")), ids);
        let live = |state| matches!(state, VmState::Running | VmState::Paused);
        let live = vms.iter().filter(|vm| live(vm.state));
        let live: BTreeSet<_> = live
            .filter_map(|vm| Some((vm.pid?, vm.id.clone())))
            .collect();
        let sockets = self.home().join("run/vm");
        let short = names(&sockets).into_iter();
        let lives = live
            .iter()
            .map(|(_, id)| id[..short_length(id, &sockets)].to_owned());
        differs("directories of sockets", short.collect(), lives.collect());
        let machines = self.machines().iter().map(ToString::to_string).collect();
        let pids = live.iter().map(|(pid, _)| pid.to_string()).collect();
        differs("machines", machines, pids);
        differs(
            "control groups",
            groups_of_nobody(&journal),
            BTreeSet::new(),
        );
        for entry in journal.entries {
            if entry.stage != "confirmed" {
                let (act, operand, stage) = (entry.act, entry.operand, entry.stage);
                untidy.push(format!("{act} {operand} is {stage}"));
            }
        }
        untidy
    }
}

/// The names of directories are the beginnings of ids.
fn short_length(id: &str, directory: &Path) -> usize {
    let names = names(directory);
    let beginning = names.iter().find(|name| id.starts_with(name.as_str()));
    beginning.map_or(id.len(), String::len)
}

/// Groups that the journal has, and that are not there.
fn groups_of_nobody(journal: &HostJournal) -> BTreeSet<String> {
    let groups = journal.entries.iter().filter(|entry| entry.act == "group");
    let missing = groups.filter(|group| !Path::new(&group.operand).is_dir());
    missing.map(|group| group.operand.clone()).collect()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(name).collect()
}
