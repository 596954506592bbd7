//! What a save promises to whoever asks for it: a snapshot, or a machine that goes on as before.

use std::{fs, os::unix::fs::symlink, sync::Arc};

use crate::{
    engine::{CreateRequest, Engine, Planned},
    error::Error,
    events::EventFilter,
    host_error::HostError,
    journal,
    record::VmState,
    snapshot::{SnapshotError, SnapshotRecord},
    testing::{Act, LONG, Step, World, create, entries, reaches, request, silent, time_passes},
    vm::{AfterSave, VmHandle},
};

const MIB: u64 = 1 << 20;

async fn save(
    engine: &Engine,
    vm: &VmHandle,
    name: &str,
    after: AfterSave,
) -> Result<SnapshotRecord, Error> {
    let name = name.parse().unwrap();
    engine.snapshot(vm, name, after, silent()).await
}

fn from_snapshot(name: &str, snapshot: &str) -> CreateRequest {
    CreateRequest {
        snapshot: Some(snapshot.parse().unwrap()),
        ..request(name, true, false)
    }
}

#[test]
fn what_is_not_kept_does_not_end() {
    let world = World::new();
    world.life(async |engine| {
        let (vm, other) = (
            create(&engine, "a", true, false).await,
            create(&engine, "b", true, false).await,
        );
        let machine = world.host.machine(vm.view().record.id);
        machine.script(|script| script.fetch = Step::Hangs);
        let engine = Arc::new(engine);
        let saving = tokio::spawn({
            let (engine, vm) = (engine.clone(), vm.clone());
            async move { save(&engine, &vm, "s", AfterSave::End).await }
        });
        world.host.asked(Act::Fetch, 1).await;
        // Somebody else takes the name meanwhile.
        save(&engine, &other, "s", AfterSave::GoOn).await.unwrap();
        machine.script(|script| script.fetch = Step::Works);
        let refused = saving.await.unwrap();
        assert!(matches!(refused, Err(Error::Store(_))), "{refused:?}");
        goes_on(&world, &vm).await;
        assert_eq!(entries(&world.snapshots()).len(), 1);
    });
}

#[test]
fn whoever_goes_away_leaves_no_snapshot_and_a_machine_that_goes_on() {
    let check = |after: AfterSave, act: Act| {
        let world = World::new();
        world.life(async |engine| {
            let vm = create(&engine, "a", true, false).await;
            let machine = world.host.machine(vm.view().record.id);
            let hang = |step: Step| {
                machine.script(|script| {
                    (script.save, script.fetch) = match act {
                        Act::Save => (step, Step::Works),
                        _ => (Step::Works, step),
                    };
                });
            };
            hang(Step::Hangs);
            let engine = Arc::new(engine);
            let saving = tokio::spawn({
                let (engine, vm) = (engine.clone(), vm.clone());
                async move { save(&engine, &vm, "s", after).await }
            });
            world.host.asked(act, 1).await;
            saving.abort();
            assert!(saving.await.unwrap_err().is_cancelled());
            hang(Step::Works);
            goes_on(&world, &vm).await;
            assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
            assert_eq!(engine.snapshots().list().unwrap(), []);
        });
    };
    for after in [AfterSave::GoOn, AfterSave::End] {
        check(after, Act::Save);
        check(after, Act::Fetch);
    }
}

/// Once its task has time for it again, the machine runs.
async fn goes_on(world: &World, vm: &VmHandle) {
    // A question that its task answers after all that came before.
    vm.rename(vm.name()).await.unwrap();
    assert_eq!(vm.view().record.state, VmState::Running);
    let acts = world.host.acts_of(vm.view().record.id);
    let moved = acts.into_iter().rev();
    let last = moved
        .into_iter()
        .find(|act| matches!(act, Act::Pause | Act::Resume));
    assert_eq!(last, Some(Act::Resume));
}

#[test]
fn a_machine_that_cannot_be_let_go_on_is_known_to_stand_still() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        let machine = world.host.machine(vm.view().record.id);
        machine.script(|script| script.resume = Step::Fails);
        save(&engine, &vm, "s", AfterSave::GoOn).await.unwrap_err();
        let record = vm.view().record;
        assert_eq!(record.state, VmState::Paused);
        assert!(record.last_error.unwrap().contains("let go on"));
        machine.script(|script| script.resume = Step::Works);
        vm.resume().await.unwrap();
        assert_eq!(vm.view().record.state, VmState::Running);
    });
}

#[test]
fn nothing_is_saved_where_there_is_no_room() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        world.host.has_free(511 * MIB, 512 * MIB);
        let refused = save(&engine, &vm, "s", AfterSave::End).await;
        assert!(
            matches!(refused, Err(Error::Host(HostError::Space { .. }))),
            "{refused:?}"
        );
        assert_eq!(world.host.count(Act::Pause), 0);
        assert_eq!(vm.view().record.state, VmState::Running);
    });
}

#[test]
fn a_file_that_is_not_what_was_saved_is_refused_before_anything_ends() {
    let check = |file: &'static str, change: fn(&std::path::Path)| {
        let world = World::new();
        world.life(async |engine| {
            let vm = create(&engine, "a", true, false).await;
            save(&engine, &vm, "s", AfterSave::GoOn).await.unwrap();
            let [id] = entries(&world.snapshots()).try_into().unwrap();
            let name = match file {
                "disk" => "disk.ext4",
                other => other,
            };
            change(&world.snapshots().join(id).join(name));
            let snapshot = "s".parse().unwrap();
            let refused = engine.restore(&vm, &snapshot, silent()).await;
            assert!(
                matches!(
                    refused,
                    Err(Error::Snapshot(SnapshotError::Damaged { file: told, .. })) if told == file
                ),
                "{file}: {refused:?}"
            );
            assert_eq!(world.host.count(Act::Kill), 0);
            let refused = engine.create(from_snapshot("b", "s"), silent()).await;
            assert!(matches!(refused, Err(Error::Snapshot(_))), "{refused:?}");
            assert_eq!(engine.views().len(), 1);
        });
    };
    let shorter = |path: &std::path::Path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    };
    let elsewhere = |path: &std::path::Path| {
        let place = path.with_extension("elsewhere");
        fs::rename(path, &place).unwrap();
        symlink(place, path).unwrap();
    };
    let no_file = |path: &std::path::Path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    for file in ["memory", "disk", "devices"] {
        check(file, shorter);
        check(file, elsewhere);
        check(file, no_file);
    }
    // The VMM would find out when the machine that it replaces is gone.
    check("devices", |path| fs::write(path, "devicez").unwrap());
}

#[test]
fn who_goes_away_before_a_machine_goes_back_leaves_it_as_it_is() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        save(&engine, &vm, "s", AfterSave::GoOn).await.unwrap();
        let copies = world.host.count(Act::Copy);
        world.host.script(|script| script.copy = Step::Hangs);
        let engine = Arc::new(engine);
        let restoring = tokio::spawn({
            let (engine, vm) = (engine.clone(), vm.clone());
            async move {
                let snapshot = "s".parse().unwrap();
                engine.restore(&vm, &snapshot, silent()).await
            }
        });
        world.host.asked(Act::Copy, copies + 1).await;
        restoring.abort();
        assert!(restoring.await.unwrap_err().is_cancelled());
        world.host.script(|script| script.copy = Step::Works);
        vm.rename("c".parse().unwrap()).await.unwrap();
        assert_eq!(vm.view().record.state, VmState::Running);
        assert_eq!(world.host.count(Act::Kill), 0);
        let own = entries(&vm.view().places.state);
        assert!(!own.iter().any(|name| name.contains("partial")), "{own:?}");
    });
}

#[test]
fn a_kernel_is_kept_while_a_snapshot_needs_it_and_saved_boots_go_with_it() {
    let mut world = World::new();
    world.boots_budget = Some(u64::MAX);
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        time_passes(LONG).await;
        save(&engine, &vm, "s", AfterSave::GoOn).await.unwrap();
        vm.delete(true).await.unwrap();
        let kernel = "test".parse().unwrap();
        let refused = engine.delete_kernel(&kernel).await;
        assert!(
            matches!(refused, Err(Error::KernelSaved { .. })),
            "{refused:?}"
        );
        assert_eq!(entries(&world.snapshots()).len(), 2, "and a saved boot");
        engine.snapshots().delete(&"s".parse().unwrap()).unwrap();
        engine.delete_kernel(&kernel).await.unwrap();
        assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
    });
}

#[test]
fn what_somebody_saved_is_told_of_and_what_banger_saves_is_not() {
    let mut world = World::new();
    world.boots_budget = Some(u64::MAX);
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        time_passes(LONG).await;
        save(&engine, &vm, "s", AfterSave::GoOn).await.unwrap();
        engine.snapshots().delete(&"s".parse().unwrap()).unwrap();
    });
    let events = world.store().events(&EventFilter::default(), 100).unwrap();
    let told: Vec<_> = events
        .iter()
        .filter(|event| event.subject.as_str() == "snapshot")
        .map(|event| (event.name.as_str(), event.what.as_str()))
        .collect();
    assert_eq!(told, [("s", "created"), ("s", "deleted")]);
}

#[test]
fn a_plan_is_of_the_machine_that_would_go_on() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        save(&engine, &vm, "s", AfterSave::GoOn).await.unwrap();
        let fetches = |request: CreateRequest| {
            let engine = &engine;
            async move {
                let plan = engine.preview(&request).await?;
                let named = plan.acts.first().cloned();
                let own = Planned::Act(journal::Act::Vm("b".parse().unwrap()));
                Ok::<_, Error>(named != Some(own))
            }
        };
        let elsewhere = CreateRequest {
            image: Some("docker.io/library/other:1".parse().unwrap()),
            ..request("b", true, false)
        };
        assert!(fetches(elsewhere).await.unwrap());
        assert!(!fetches(from_snapshot("b", "s")).await.unwrap());
        let nowhere = fetches(from_snapshot("b", "nowhere")).await;
        assert!(matches!(nowhere, Err(Error::NotFound { .. })));
        world.host.script(|script| script.vmm_version = "2.0");
        let unfit = fetches(from_snapshot("b", "s")).await;
        assert!(matches!(unfit, Err(Error::Snapshot(_))));
        reaches(&vm, VmState::Running).await;
        assert_eq!(engine.views().len(), 1);
    });
}

#[test]
fn a_snapshot_stays_until_the_machine_that_reads_it_runs() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        save(&engine, &vm, "s", AfterSave::GoOn).await.unwrap();
        let copies = world.host.count(Act::Copy);
        world.host.script(|script| script.copy = Step::Hangs);
        let engine = Arc::new(engine);
        let going_on = tokio::spawn({
            let engine = engine.clone();
            async move { engine.create(from_snapshot("b", "s"), silent()).await }
        });
        world.host.asked(Act::Copy, copies + 1).await;
        let snapshot = "s".parse().unwrap();
        let refused = engine.snapshots().delete(&snapshot);
        assert!(
            matches!(refused, Err(Error::Snapshot(SnapshotError::InUse(_)))),
            "{refused:?}"
        );
        world.host.script(|script| script.copy = Step::Works);
        going_on.await.unwrap().unwrap();
        engine.snapshots().delete(&snapshot).unwrap();
    });
}
