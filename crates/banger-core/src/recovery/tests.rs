//! A store that is lost, damaged or old: what lies on the disk is had again.

use std::{collections::BTreeSet, fs, time::Duration};

use super::*;
use crate::{
    engine::{CreateRequest, PoolRequest},
    record::VmState,
    spec::SpecChange,
    store::StoreError,
    testing::{World, create, directories, reaches, request, silent, soon, time_passes},
    vm::AfterSave,
};

/// A world with a VM that runs, one that does not, and an image of its own.
fn inhabited() -> World {
    let world = World::new();
    world.life(async |engine| {
        world.import(&engine, "mine").await;
        create(&engine, "runs", true, false).await;
        let request = CreateRequest {
            image: Some("mine".parse().unwrap()),
            ..request("rests", false, false)
        };
        engine.create(request, silent()).await.unwrap();
        let change = SpecChange {
            vcpus: Some(3.try_into().unwrap()),
            ..SpecChange::default()
        };
        let rests = engine.find("rests").unwrap();
        rests.change(change).await.unwrap();
        rests.rename("sleeps".parse().unwrap()).await.unwrap();
    });
    world
}

fn names(recovered: &Recovered) -> (BTreeSet<String>, BTreeSet<String>) {
    let vms = recovered.vms.iter().map(ToString::to_string).collect();
    let images = recovered.images.iter().map(ToString::to_string).collect();
    (vms, images)
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn remains(world: &World) -> Remains {
    Remains {
        vms: world.vms(),
        images: world.images_directory(),
        snapshots: world.snapshots(),
        pools: world.path("pools"),
    }
}

#[test]
fn what_a_lost_store_told_of_is_had_again() {
    let world = inhabited();
    let mut rows = world.rows();
    fs::remove_file(world.path("state.db")).unwrap();
    world.publish_tiny();
    let remains = &remains(&world);
    let store = world.store();
    for dry_run in [true, true, false] {
        let recovered = recover(&store, remains, dry_run).unwrap();
        let wanted = (set(["runs", "sleeps"]), set(["mine"]));
        assert_eq!(names(&recovered), wanted);
        assert_eq!(recovered.problems, []);
    }
    assert_eq!(
        recover(&store, remains, false).unwrap(),
        Recovered::default()
    );
    drop(store);
    world.life(async |engine| {
        reaches(&engine.find("runs").unwrap(), VmState::Running).await;
        let sleeps = reaches(&engine.find("sleeps").unwrap(), VmState::Stopped).await;
        assert_eq!(sleeps.record.spec.vcpus.get(), 3);
    });
    let mut again = world.rows();
    for row in rows.iter_mut().chain(&mut again) {
        // When they were changed last, and why they do not run, is all that differs.
        (row.updated_at, row.last_error, row.choice) = (0, None, None);
        row.state = VmState::Stopped;
    }
    assert_eq!(again, rows);
}

#[test]
fn a_pool_is_had_again_with_the_machines_that_wait_in_it() {
    let world = World::new();
    let web: PoolName = "web".parse().unwrap();
    let pool = |name: &str, size: u32| PoolRequest {
        name: name.parse().unwrap(),
        size: size.try_into().unwrap(),
        machine: CreateRequest::default(),
        wait: true,
    };
    let before = world.life(async |engine| {
        engine.create_pool(pool("web", 2), silent()).await.unwrap();
        for gone in ["gone", "changed"] {
            engine.create_pool(pool(gone, 1), silent()).await.unwrap();
        }
        let gone = engine.delete_pool(&"gone".parse().unwrap()).await;
        gone.unwrap();
        let changed = "changed".parse().unwrap();
        let resized = engine.resize_pool(&changed, 0.try_into().unwrap()).await;
        resized.unwrap();
        engine.pool(&web).unwrap()
    });
    let ids = |pool: &crate::engine::PoolView| -> BTreeSet<_> {
        pool.machines.iter().map(|view| view.record.id).collect()
    };
    fs::remove_file(world.path("state.db")).unwrap();
    world.publish_tiny();
    let remains = &remains(&world);
    for dry_run in [true, false] {
        let recovered = recover(&world.store(), remains, dry_run).unwrap();
        let names: Vec<_> = recovered.pools.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["changed", "web"]);
        assert_eq!((recovered.vms.len(), recovered.problems.len()), (2, 0));
    }
    world.life(async |engine| {
        engine.looked_for().await;
        let sizes: Vec<_> = engine
            .pools()
            .iter()
            .map(|pool| pool.record.size.get())
            .collect();
        assert_eq!(sizes, [0, 2]);
        let full = async {
            while engine.pool(&web).unwrap().status.ready < 2 {
                time_passes(Duration::from_millis(50)).await;
            }
        };
        soon("the pool has its machines", full).await;
        assert_eq!(ids(&engine.pool(&web).unwrap()), ids(&before));
    });
}

#[test]
fn a_pool_that_an_old_store_does_not_know_is_had_again_while_the_daemon_serves() {
    let world = World::new();
    let web: PoolName = "web".parse().unwrap();
    world.life(async |engine| {
        let request = PoolRequest {
            name: web.clone(),
            size: 1.try_into().unwrap(),
            machine: CreateRequest::default(),
            wait: true,
        };
        engine.create_pool(request, silent()).await.unwrap();
    });
    fs::remove_file(world.path("state.db")).unwrap();
    world.publish_tiny();
    world.life(async |engine| {
        assert!(engine.pools().is_empty());
        assert_eq!(
            engine.recover(false).await.unwrap().pools,
            std::slice::from_ref(&web)
        );
        let full = async {
            while engine.pool(&web).unwrap().status.ready < 1 {
                time_passes(Duration::from_millis(50)).await;
            }
        };
        soon("the pool has its machine", full).await;
        assert_eq!(engine.recover(false).await.unwrap(), Recovered::default());
        assert_eq!(engine.views().len(), 1);
    });
}

#[test]
fn a_damaged_store_is_put_aside_and_kept() {
    let check = |damage: fn(&mut Vec<u8>)| {
        let world = inhabited();
        let path = world.path("state.db");
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let opened = Store::open(&path);
        assert!(
            matches!(opened, Err(StoreError::Damaged { .. })),
            "{opened:?}"
        );
        let (store, kept) = Store::open_or_replace(&path, 9).unwrap();
        assert_eq!(fs::read(kept.unwrap()).unwrap(), bytes);
        assert_eq!(store.vms().unwrap(), []);
        let (store, kept) = Store::open_or_replace(&path, 10).unwrap();
        assert_eq!((store.vms().unwrap(), kept), (Vec::new(), None));
    };
    check(|bytes| bytes[..4096].fill(0x55));
    check(|bytes| bytes[100..].fill(0));
}

#[test]
fn what_cannot_be_had_again_is_told_of_and_left_alone() {
    let check = |spoil: fn(&Path), wanted: &str| {
        let world = inhabited();
        let id = world.rows()[0].id;
        fs::remove_file(world.path("state.db")).unwrap();
        world.publish_tiny();
        let directory = world.vms().join(id.to_string());
        spoil(&directory);
        let recovered = recover(&world.store(), &remains(&world), false).unwrap();
        let [problem] = &recovered.problems[..] else {
            panic!("{recovered:?}");
        };
        assert_eq!((&problem.path, &problem.reason[..]), (&directory, wanted));
        assert!(directory.join("disk.ext4").exists());
    };
    check(
        |vm| fs::remove_file(vm.join("vm.json")).unwrap(),
        "there is no card beside it",
    );
    check(
        |vm| fs::write(vm.join("vm.json"), "[").unwrap(),
        "its card is no JSON object",
    );
    check(
        |vm| fs::write(vm.join("vm.json"), "{\"name\": \"A\"}").unwrap(),
        "its card has no name",
    );
}

#[test]
fn a_card_that_was_changed_leads_nowhere_and_is_in_nobodys_way() {
    let check = |column: &str, value: &str, had_again: &[&str]| {
        let world = World::new();
        world.life(async |engine| {
            let vm = create(&engine, "vm", true, false).await;
            for name in ["a", "b"] {
                let name = name.parse().unwrap();
                let saved = engine.snapshot(&vm, name, AfterSave::GoOn, silent());
                saved.await.unwrap();
            }
        });
        let [first, _] = world.store().snapshots().unwrap().try_into().unwrap();
        let path = snapshot_card(&world.snapshots().join(first.directory));
        let card = read(&path).unwrap().with(column, value);
        fs::write(&path, card.to_json()).unwrap();
        fs::remove_file(world.path("state.db")).unwrap();
        world.publish_tiny();
        world.life(async |engine| {
            engine.recover(false).await.unwrap();
        });
        world.life(async |engine| {
            let listed = engine.snapshots().list().unwrap();
            let names: Vec<_> = listed.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(names, had_again, "{column}");
            for snapshot in &listed {
                engine.snapshots().delete(&snapshot.name).unwrap();
            }
            assert_eq!(directories(&world.vms()).len(), 1);
        });
    };
    check("vmm", "none", &["b"]);
    check("memory", "much", &["b"]);
    check("directory", "../vms", &["a", "b"]);
}
