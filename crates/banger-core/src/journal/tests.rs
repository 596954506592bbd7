//! What is written can be read again, and what an earlier daemon left is told of.

use std::sync::Arc;

use super::*;
use crate::{
    store::{JournalRow, Store},
    testing::clock,
};

fn open(directory: &tempfile::TempDir) -> Arc<Ledger> {
    let store = Arc::new(Store::open(&directory.path().join("state.db")).unwrap());
    Arc::new(Ledger::open(store, clock).unwrap())
}

fn acts() -> Vec<Act> {
    let path = |text: &str| PathBuf::from(text);
    vec![
        Act::Vm("web".parse().unwrap()),
        Act::Image(path("/i")),
        Act::Kernel(path("/k")),
        Act::Directory(path("/d")),
        Act::Disk(path("/d/disk")),
        Act::Growth(path("/d/disk")),
        Act::Download(path("/b")),
        Act::Initramfs(path("/c/initramfs")),
        Act::Sockets(path("/r")),
        Act::Jail(path("/j")),
        Act::Namespaces(path("/j/root")),
        Act::Tap("tap0".into()),
        Act::Group(path("/g")),
        Act::Vmm(path("/d/vmm.lock")),
        Act::Uplink(path("/d/uplink.lock")),
    ]
}

fn owners() -> Vec<Owner> {
    vec![
        Owner::Vm(VmId::random()),
        Owner::Image("tiny".parse().unwrap()),
        Owner::Kernel("test".parse().unwrap()),
    ]
}

#[test]
fn every_act_of_every_owner_survives_its_row() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let mut written = Vec::new();
    for owner in owners() {
        for act in acts() {
            ledger.page(owner.clone()).journal().intend(&act).unwrap();
            let (owner, at) = (owner.clone(), clock());
            let stage = Stage::Intended;
            written.push(JournalRow {
                owner,
                act,
                stage,
                at,
            });
        }
    }
    assert_eq!(open(&directory).rows().unwrap(), written);
}

#[test]
fn an_act_has_one_entry_and_undone_none() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let page = ledger.page(Owner::Vm(VmId::random()));
    let act = Act::Disk("/d".into());
    let check = |stage: Option<Stage>| {
        let rows = ledger.rows().unwrap();
        let stages: Vec<_> = rows.iter().map(|row| row.stage).collect();
        assert_eq!(stages, stage.into_iter().collect::<Vec<_>>());
    };
    let journal = page.journal();
    for _ in 0..2 {
        journal.intend(&act).unwrap();
        check(Some(Stage::Intended));
    }
    journal.confirm(&act).unwrap();
    check(Some(Stage::Confirmed));
    journal.undoing(&act).unwrap();
    check(Some(Stage::Undoing));
    for _ in 0..2 {
        journal.strike(&act).unwrap();
        check(None);
    }
    // What was never intended is not there to be undone.
    journal.undoing(&act).unwrap();
    check(None);
}

#[test]
fn what_fails_stays_what_it_was_meant_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let page = ledger.page(Owner::Vm(VmId::random()));
    let act = Act::Disk("/d".into());
    let fails = || Err::<(), _>(crate::error::Error::Ending);
    page.journal().act(&act, fails).unwrap_err();
    assert_eq!(ledger.rows().unwrap()[0].stage, Stage::Intended);
    page.journal().undo(&act, fails).unwrap_err();
    assert_eq!(ledger.rows().unwrap()[0].stage, Stage::Undoing);
}

#[test]
fn half_done_acts_are_told_of_once_they_are_settled() {
    let directory = tempfile::tempdir().unwrap();
    let owner = Owner::Vm(VmId::random());
    let [done, left, gone] = ["/done", "/left", "/gone"].map(|path| Act::Disk(path.into()));
    {
        let earlier = open(&directory);
        let page = earlier.page(owner.clone());
        for act in [&done, &left, &gone] {
            page.journal().intend(act).unwrap();
        }
    }
    let ledger = open(&directory);
    assert_eq!(ledger.owners_of_halves(), std::slice::from_ref(&owner));
    let page = ledger.page(owner.clone());
    page.journal().confirm(&done).unwrap();
    page.journal().strike(&gone).unwrap();
    assert_eq!(ledger.report(), Report::default());
    for _ in 0..2 {
        ledger.settle(&owner);
        let settled = |act: &Act, outcome| Settled {
            owner: owner.clone(),
            act: act.clone(),
            was: Stage::Intended,
            outcome,
        };
        let wanted = [
            settled(&done, Outcome::Finished),
            settled(&left, Outcome::Left),
            settled(&gone, Outcome::Undone),
        ];
        assert_eq!(ledger.report().settled, wanted);
    }
}
