//! Machines that are saved and go on: whole or not at all, whatever fails and whoever is killed.

use std::sync::Arc;

use crate::{
    engine::{CreateRequest, Engine, ForkRequest},
    error::Error,
    name::SnapshotName,
    record::VmState,
    snapshot::SnapshotError,
    testing::{
        Act, Connect, LONG, Step, World, create, entries, reaches, request, silent, time_passes,
    },
    vm::{AfterSave, VmHandle},
};

async fn save(engine: &Engine, vm: &VmHandle, name: &str) -> Result<(), Error> {
    let name = name.parse().unwrap();
    let saved = engine.snapshot(vm, name, AfterSave::GoOn, silent()).await;
    saved.map(drop)
}

fn from_snapshot(name: &str, snapshot: &str) -> CreateRequest {
    CreateRequest {
        snapshot: Some(snapshot.parse().unwrap()),
        ..request(name, true, false)
    }
}

/// Asserts that nothing is listed and nothing lies about.
fn no_snapshot(world: &World) {
    assert_eq!(world.store().snapshots().unwrap(), []);
    assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
}

fn last_of(world: &World, vm: &VmHandle, acts: [Act; 2]) -> Option<Act> {
    let done = world.host.acts_of(vm.view().record.id);
    done.into_iter().rev().find(|act| acts.contains(act))
}

fn goes_on(world: &World, vm: &VmHandle) {
    was_resumed(world, vm);
    assert_eq!(
        last_of(world, vm, [Act::TellTime, Act::Resume]),
        Some(Act::TellTime),
        "it has the present time"
    );
}

fn was_resumed(world: &World, vm: &VmHandle) {
    assert_eq!(vm.view().record.state, VmState::Running);
    assert_eq!(
        last_of(world, vm, [Act::Pause, Act::Resume]),
        Some(Act::Resume)
    );
}

#[test]
fn a_saved_vm_goes_on_as_often_as_one_likes() {
    let world = World::new();
    world.life(async |engine| {
        let origin = create(&engine, "origin", true, false).await;
        std::fs::write(origin.view().places.disk(), vec![7; 64 << 20]).unwrap();
        save(&engine, &origin, "s").await.unwrap();
        goes_on(&world, &origin);
        let [snapshot] = engine.snapshots().list().unwrap().try_into().unwrap();
        assert_eq!(snapshot.origin.as_str(), "origin");
        for name in ["one", "two"] {
            let view = engine.create(from_snapshot(name, "s"), silent()).await;
            let view = view.unwrap();
            assert_eq!(view.record.state, VmState::Running);
            let disk = std::fs::read(view.places.disk()).unwrap();
            assert!(
                disk.len() == 64 << 20 && disk[0] == 7,
                "it has its origin's disk"
            );
            let acts = world.host.acts_of(view.record.id);
            let at = |act: Act| acts.iter().position(|other| *other == act).unwrap();
            assert!(at(Act::Connect) < at(Act::Assume), "{acts:?}");
        }
    });
    world.life(async |engine| {
        let name = "s".parse().unwrap();
        assert_eq!(engine.snapshots().list().unwrap().len(), 1, "it is kept");
        engine.snapshots().delete(&name).unwrap();
        assert!(matches!(
            engine.snapshots().delete(&name),
            Err(Error::NotFound { .. })
        ));
    });
    no_snapshot(&world);
}

#[test]
fn what_cannot_be_saved_leaves_no_snapshot_and_goes_on() {
    let check = |saves: Step, copies: Step| {
        let world = World::new();
        world.life(async |engine| {
            let vm = create(&engine, "a", true, false).await;
            world.host.script(|script| script.copy = copies);
            let machine = world.host.machine(vm.view().record.id);
            machine.script(|script| script.save = saves);
            save(&engine, &vm, "s").await.unwrap_err();
            goes_on(&world, &vm);
            let forks = ForkRequest {
                count: 2,
                name_prefix: None,
            };
            engine.fork(&vm, forks, silent()).await.unwrap_err();
            goes_on(&world, &vm);
            assert_eq!(engine.views().len(), 1);
        });
        no_snapshot(&world);
    };
    check(Step::Fails, Step::Works);
    check(Step::Works, Step::Fails);
}

#[test]
fn a_vm_goes_on_before_what_was_saved_is_fetched_and_ends_only_afterwards() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        let acts_since = |act: Act| {
            let acts = world.host.acts_of(vm.view().record.id);
            let from = acts.iter().rposition(|other| *other == act).unwrap();
            acts[from..].to_vec()
        };
        save(&engine, &vm, "s").await.unwrap();
        let acts = acts_since(Act::Save);
        let at = |act: Act| acts.iter().position(|other| *other == act);
        assert!(at(Act::Resume) < at(Act::Fetch), "{acts:?}");

        let machine = world.host.machine(vm.view().record.id);
        machine.script(|script| script.fetch = Step::Fails);
        save(&engine, &vm, "t").await.unwrap_err();
        was_resumed(&world, &vm);
        let ending = engine.snapshot(&vm, "t".parse().unwrap(), AfterSave::End, silent());
        ending.await.unwrap_err();
        was_resumed(&world, &vm);
        machine.script(|script| script.fetch = Step::Works);
        let ending = engine.snapshot(&vm, "t".parse().unwrap(), AfterSave::End, silent());
        ending.await.unwrap();
        assert_eq!(vm.view().record.state, VmState::Stopped);
        let acts = acts_since(Act::Save);
        assert!(acts.contains(&Act::Fetch) && !acts.contains(&Act::Resume));
        assert_eq!(engine.snapshots().list().unwrap().len(), 2);
    });
}

#[test]
fn an_agent_whose_vmm_hung_up_to_save_is_called_again() {
    let check = |budget: Option<u64>| {
        let mut world = World::new();
        world.boots_budget = budget;
        world.host.script(|script| script.save_hangs_up = true);
        world.life(async |engine| {
            let vm = create(&engine, "a", true, false).await;
            save(&engine, &vm, "s").await.unwrap();
            was_resumed(&world, &vm);
            vm.guest().await.unwrap().health().await.unwrap();
            // One after the other, before anybody has answered.
            let machine = world.host.machine(vm.view().record.id);
            machine.script(|script| script.connect = Connect::Hangs);
            for name in ["again", "and-again"] {
                save(&engine, &vm, name).await.unwrap();
            }
            machine.script(|script| script.connect = Connect::Answers);
            vm.guest().await.unwrap().health().await.unwrap();
            vm.pause().await.unwrap();
            save(&engine, &vm, "t").await.unwrap();
            assert_eq!(vm.view().record.state, VmState::Paused);
            vm.resume().await.unwrap();
            vm.guest().await.unwrap().health().await.unwrap();
        });
    };
    check(None);
    check(Some(u64::MAX));
}

#[test]
fn a_daemon_that_is_killed_while_it_saves_leaves_no_half_and_nobody_standing_still() {
    let check = |saves: Step, copies: Step, asked: Act| {
        let world = World::new();
        world.life(async |engine| {
            let vm = create(&engine, "a", true, false).await;
            world.host.script(|script| script.copy = copies);
            let machine = world.host.machine(vm.view().record.id);
            machine.script(|script| script.save = saves);
            let engine = Arc::new(engine);
            let saving = engine.clone();
            tokio::spawn(async move { save(&saving, &vm, "s").await });
            world.host.asked(asked, 1).await;
        });
        // What is dropped tidies up; what is killed does not.
        std::fs::create_dir_all(world.snapshots().join("0.partial")).unwrap();
        world.host.script(|script| script.copy = Step::Works);
        world.life(async |engine| {
            let vm = engine.find("a").unwrap();
            reaches(&vm, VmState::Running).await;
            vm.looked_for().await;
            was_resumed(&world, &vm);
        });
        no_snapshot(&world);
    };
    check(Step::Hangs, Step::Works, Act::Save);
    check(Step::Works, Step::Hangs, Act::Copy);
}

#[test]
fn a_vm_that_is_not_to_go_on_ends_when_it_is_saved_and_comes_back() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        let name = "s".parse().unwrap();
        let saved = engine.snapshot(&vm, name, AfterSave::End, silent()).await;
        let snapshot = saved.unwrap();
        assert_eq!(vm.view().record.state, VmState::Stopped);
        assert!(world.host.is_idle());
        let back = engine.restore(&vm, &snapshot.name, silent()).await;
        assert_eq!(back.unwrap().record.state, VmState::Running);
        // Also from where it runs: the old machine ends.
        engine.restore(&vm, &snapshot.name, silent()).await.unwrap();
        assert_eq!(vm.view().record.state, VmState::Running);
        let other = create(&engine, "b", true, false).await;
        let refused = engine.restore(&other, &snapshot.name, silent()).await;
        assert!(matches!(
            refused,
            Err(Error::Snapshot(SnapshotError::Foreign { .. }))
        ));
    });
}

#[test]
fn a_state_that_does_not_fit_is_refused_before_anything_is_touched() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        save(&engine, &vm, "s").await.unwrap();
        world.host.script(|script| script.vmm_version = "2.0");
        let name = "s".parse().unwrap();
        let unfit = |result: Result<_, Error>| {
            assert!(matches!(
                result,
                Err(Error::Snapshot(SnapshotError::Unfit { .. }))
            ));
        };
        unfit(engine.restore(&vm, &name, silent()).await);
        assert_eq!(vm.view().record.state, VmState::Running);
        assert_eq!(world.host.count(Act::Kill), 0);
        unfit(engine.create(from_snapshot("b", "s"), silent()).await);
        assert_eq!(engine.views().len(), 1);
        world.host.script(|script| script.vmm_version = "1.0");
        std::fs::remove_file(
            world
                .snapshots()
                .join(&entries(&world.snapshots())[0])
                .join("memory"),
        )
        .unwrap();
        let damaged = engine.restore(&vm, &name, silent()).await;
        assert!(matches!(
            damaged,
            Err(Error::Snapshot(SnapshotError::Damaged {
                file: "memory",
                ..
            }))
        ));
        assert_eq!(vm.view().record.state, VmState::Running);
    });
}

#[test]
fn forks_are_all_made_or_none() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        create(&engine, "a-2", false, false).await;
        let three = || ForkRequest {
            count: 3,
            name_prefix: None,
        };
        let forked = engine.fork(&vm, three(), silent()).await.unwrap();
        let names: Vec<_> = forked
            .views
            .iter()
            .map(|view| view.record.name.to_string())
            .collect();
        assert_eq!(names, ["a-1", "a-3", "a-4"]);
        goes_on(&world, &vm);
        world.host.script(|script| script.launch = Step::Fails);
        engine.fork(&vm, three(), silent()).await.unwrap_err();
        goes_on(&world, &vm);
        assert_eq!(engine.views().len(), 5);
        let none = ForkRequest {
            count: 0,
            name_prefix: None,
        };
        engine.fork(&vm, none, silent()).await.unwrap_err();
    });
    no_snapshot(&world);
}

#[test]
fn a_daemon_that_is_killed_while_a_vm_is_made_of_a_snapshot_leaves_nothing_of_it() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        save(&engine, &vm, "s").await.unwrap();
        world.host.script(|script| script.copy = Step::Hangs);
        let copies = world.host.count(Act::Copy);
        let engine = Arc::new(engine);
        let making = engine.clone();
        tokio::spawn(async move { making.create(from_snapshot("b", "s"), silent()).await });
        world.host.asked(Act::Copy, copies + 1).await;
    });
    world.host.script(|script| script.copy = Step::Works);
    world.life(async |engine| {
        let vm = engine.find("a").unwrap();
        vm.looked_for().await;
        // The deletion of what was half made goes on behind it.
        while engine.views().len() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(entries(&world.vms()).len(), 1);
    });
}

#[test]
fn an_image_is_kept_while_a_snapshot_reads_it() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        save(&engine, &vm, "s").await.unwrap();
        vm.delete(true).await.unwrap();
        let image = "tiny".parse().unwrap();
        assert!(matches!(
            engine.delete_image(&image).await,
            Err(Error::ImageSaved { .. })
        ));
        engine.snapshots().delete(&"s".parse().unwrap()).unwrap();
        engine.delete_image(&image).await.unwrap();
    });
}

#[test]
fn a_snapshot_is_listed_when_its_row_is_there_and_its_files_are_kept_when_the_row_is_lost() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        save(&engine, &vm, "s").await.unwrap();
    });
    // As if its daemon had ended between the row and the name, or while it was deleted.
    let [id] = entries(&world.snapshots()).try_into().unwrap();
    let (place, partial) = (
        world.snapshots().join(&id),
        world.snapshots().join(format!("{id}.partial")),
    );
    std::fs::rename(&place, &partial).unwrap();
    world.life(async |engine| {
        let view = engine.create(from_snapshot("b", "s"), silent()).await;
        assert_eq!(view.unwrap().record.state, VmState::Running);
    });
    let unknown = world.snapshots().join("0");
    std::fs::create_dir(&unknown).unwrap();
    world.life(async |engine| assert_eq!(engine.snapshots().list().unwrap().len(), 1));
    assert!(unknown.exists());
}

#[test]
fn a_thousand_forks_and_deletes_leave_the_state_as_it_was() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        std::fs::create_dir(world.snapshots()).unwrap();
        let before = world.files();
        let rows = world.store().journal().unwrap();
        for _ in 0..10 {
            let hundred = ForkRequest {
                count: 100,
                name_prefix: None,
            };
            let forked = engine.fork(&vm, hundred, silent()).await.unwrap();
            assert_eq!(forked.views.len(), 100);
            for view in forked.views {
                let fork = engine.find(view.record.name.as_str()).unwrap();
                fork.delete(true).await.unwrap();
            }
        }
        goes_on(&world, &vm);
        assert_eq!(world.files(), before);
        assert_eq!(world.store().journal().unwrap(), rows);
        assert_eq!(world.host.alive().len(), 1);
    });
    no_snapshot(&world);
}

#[test]
fn a_snapshot_whose_row_is_lost_with_the_store_is_had_again() {
    let mut world = World::new();
    world.boots_budget = Some(u64::MAX);
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        save(&engine, &vm, "s").await.unwrap();
        time_passes(LONG).await;
    });
    assert_eq!(entries(&world.snapshots()).len(), 2, "and a saved boot");
    let rows = world.store().snapshots().unwrap();
    std::fs::remove_file(world.path("state.db")).unwrap();
    world.publish_tiny();
    world.life(async |engine| {
        assert_eq!(engine.snapshots().list().unwrap(), []);
        for dry_run in [true, false] {
            let recovered = engine.recover(dry_run).await.unwrap();
            let names: Vec<_> = recovered
                .snapshots
                .iter()
                .map(SnapshotName::as_str)
                .collect();
            assert_eq!((names, recovered.problems), (vec!["s"], Vec::new()));
        }
        let listed = engine.snapshots().list().unwrap();
        assert!(rows.contains(&listed[0]) && listed.len() == 1);
        let view = engine.create(from_snapshot("b", "s"), silent()).await;
        assert_eq!(view.unwrap().record.state, VmState::Running);
        assert_eq!(entries(&world.snapshots()).len(), 1, "boots are made again");
    });
}

#[test]
fn a_copy_that_its_daemon_did_not_name_is_named_by_the_next() {
    let world = World::new();
    let id = world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        save(&engine, &vm, "s").await.unwrap();
        world.host.script(|script| script.connect = Connect::Hangs);
        let engine = Arc::new(engine);
        let id = vm.view().record.id;
        tokio::spawn(async move {
            let snapshot = "s".parse().unwrap();
            engine.restore(&vm, &snapshot, silent()).await
        });
        // The first was to the machine as it was before.
        world.host.asked(Act::Connect, 2).await;
        id
    });
    let acts = world.host.acts_of(id);
    assert!(!acts.contains(&Act::Assume), "{acts:?}");
    let machine = world.host.machine(id);
    machine.script(|script| script.connect = Connect::Answers);
    world.life(async |engine| {
        let vm = engine.find("a").unwrap();
        reaches(&vm, VmState::Running).await;
        let acts = world.host.acts_of(id);
        assert_eq!(acts.last(), Some(&Act::Assume), "{acts:?}");
    });
}
