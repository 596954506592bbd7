//! What a new daemon makes of what an old one left: live VMs are adopted, half-done acts are
//! finished or undone, what was confirmed is untouched.

use std::sync::Arc;

use crate::{
    engine::CreateRequest,
    record::{VmRecord, VmState},
    testing::{
        Act, Connect, LONG, Shutdown, Step, World, create, is_over, reaches, request, silent, soon,
        time_passes,
    },
};

/// A VM `a` of an earlier daemon, which was killed when the row said `state`.
fn left_in(state: VmState, rm: bool) -> World {
    let world = World::new();
    world.life(async |engine| {
        let alive = match state {
            VmState::Created => false,
            VmState::Starting
            | VmState::Running
            | VmState::Paused
            | VmState::Stopping
            | VmState::Deleting
            | VmState::Stopped
            | VmState::Error => true,
        };
        let vm = create(&engine, "a", alive, rm).await;
        if alive {
            vm.owner_came().await;
        }
        let id = vm.view().record.id;
        engine
            .surroundings
            .store
            .set_vm_state(id, state, None, 9)
            .unwrap();
    });
    world
}

fn kill_vmm(world: &World) {
    world.host.machine(world.rows()[0].id).end("gone", true);
}

fn row(world: &World) -> VmRecord {
    let [row] = world.rows().try_into().expect("there is one VM");
    row
}

/// Takes up what was left, and waits until the VM has come to a rest.
fn check(left: VmState, alive: bool, wanted: VmState, why: Option<&str>) {
    let world = left_in(left, false);
    if !alive && left != VmState::Created {
        kill_vmm(&world);
    }
    world.life(async |engine| {
        let vm = engine.find("a").unwrap();
        reaches(&vm, wanted).await;
        assert_eq!(vm.view().record, row(&world), "{left:?}, alive: {alive}");
        assert_eq!(
            row(&world).last_error.as_deref(),
            why,
            "{left:?}, alive: {alive}"
        );
        if wanted == VmState::Running {
            soon("the agent answers", vm.guest()).await.unwrap();
        } else {
            assert!(world.host.is_idle());
            vm.start(silent()).await.expect("it starts again");
        }
    });
}

#[test]
fn live_vms_are_adopted_and_dead_ones_are_told_of() {
    let gone = Some("its VMM was gone when the daemon came back");
    check(VmState::Running, true, VmState::Running, None);
    check(VmState::Starting, true, VmState::Running, None);
    check(VmState::Stopping, true, VmState::Stopped, None);
    check(VmState::Running, false, VmState::Stopped, gone);
    check(VmState::Starting, false, VmState::Stopped, gone);
    check(VmState::Stopping, false, VmState::Stopped, gone);
    check(VmState::Created, false, VmState::Created, None);
    check(VmState::Stopped, false, VmState::Stopped, None);
    check(VmState::Error, false, VmState::Error, None);
}

#[test]
fn what_an_earlier_daemon_wrote_is_not_shown_as_the_truth() {
    let world = left_in(VmState::Running, false);
    kill_vmm(&world);
    world.life(async |engine| {
        engine.looked_for().await;
        assert_eq!(engine.views()[0].record.state, VmState::Stopped);
    });
}

#[test]
fn a_vm_that_could_not_be_looked_for_is_taken_up_by_the_next_start() {
    let world = left_in(VmState::Running, false);
    let launches = world.host.count(Act::Launch);
    world.host.script(|script| script.adopt = Step::Fails);
    world.life(async |engine| {
        let vm = engine.find("a").unwrap();
        engine.looked_for().await;
        assert_eq!(vm.view().record.state, VmState::Error);
        world.host.script(|script| script.adopt = Step::Works);
        let started = vm.start(silent()).await.unwrap();
        assert_eq!(started.record.state, VmState::Running);
        soon("the agent answers", vm.guest()).await.unwrap();
        assert_eq!(world.host.count(Act::Launch), launches);
    });
}

#[test]
fn a_vm_whose_time_ran_out_in_between_is_removed_by_the_next_daemon() {
    let world = World::new();
    world.life(async |engine| {
        let request = CreateRequest {
            expires_at: Some(1),
            ..request("a", false, false)
        };
        // Made, and the daemon is gone before anybody looks at the clock.
        drop(engine.create(request, silent()).await);
    });
    world.life(async |engine| {
        if let Ok(vm) = engine.find("a") {
            is_over(&vm).await;
        }
    });
    world.is_empty();
}

#[test]
fn a_deletion_that_was_cut_off_is_finished() {
    let check = |alive: bool| {
        let world = left_in(VmState::Deleting, false);
        if !alive {
            kill_vmm(&world);
        }
        world.life(async |engine| {
            if let Ok(vm) = engine.find("a") {
                is_over(&vm).await;
            }
            assert_eq!(engine.views().len(), 0);
        });
        world.is_empty();
    };
    check(true);
    check(false);
}

#[test]
fn a_vm_whose_disk_was_not_finished_is_undone() {
    let world = left_in(VmState::Created, false);
    let disk = world
        .vms()
        .join(row(&world).id.to_string())
        .join("disk.ext4");
    std::fs::rename(&disk, disk.with_extension("ext4.partial")).unwrap();
    world.life(async |engine| {
        is_over(&engine.find("a").unwrap()).await;
        assert_eq!(engine.views().len(), 0);
    });
    world.is_empty();
}

#[test]
fn an_owned_vm_whose_owner_does_not_come_back_is_removed() {
    let check = |left: VmState, alive: bool| {
        let world = left_in(left, true);
        if !alive && left != VmState::Created {
            kill_vmm(&world);
        }
        world.life(async |engine| {
            is_over(&engine.find("a").unwrap()).await;
        });
        world.is_empty();
    };
    check(VmState::Running, true);
    check(VmState::Running, false);
    check(VmState::Created, false);
    check(VmState::Stopped, false);
    check(VmState::Error, false);
}

#[test]
fn an_owned_vm_whose_owner_comes_back_stays() {
    let world = left_in(VmState::Running, true);
    world.life(async |engine| {
        let vm = engine.find("a").unwrap();
        vm.owner_came().await;
        time_passes(LONG).await;
        assert_eq!(vm.view().record.state, VmState::Running);
    });
}

#[test]
fn a_daemon_killed_in_a_boot_loses_no_vmm() {
    let world = World::new();
    world.host.script(|script| script.connect = Connect::Hangs);
    world.life(async |engine| {
        let vm = create(&engine, "a", false, false).await;
        tokio::spawn(async move { vm.start(silent()).await });
        world.host.asked(Act::Connect, 1).await;
    });
    assert_eq!(row(&world).state, VmState::Starting);
    world
        .host
        .machine(row(&world).id)
        .script(|script| script.connect = Connect::Answers);
    world.life(async |engine| {
        soon("the agent answers", engine.find("a").unwrap().guest())
            .await
            .unwrap();
        assert_eq!(row(&world).state, VmState::Running);
        assert_eq!(world.host.count(Act::Launch), 1);
    });
}

#[test]
fn a_creation_whose_daemon_was_killed_in_the_boot_is_undone() {
    let world = World::new();
    world.host.script(|script| script.connect = Connect::Hangs);
    world.life(async |engine| {
        let engine = Arc::new(engine);
        tokio::spawn(async move { engine.create(request("a", true, false), silent()).await });
        world.host.asked(Act::Connect, 1).await;
    });
    world.life(async |engine| is_over(&engine.find("a").unwrap()).await);
    world.is_empty();
}

#[test]
fn a_stop_goes_on_with_the_next_daemon_and_can_be_cut_short() {
    let world = left_in(VmState::Stopping, false);
    world
        .host
        .machine(row(&world).id)
        .script(|script| script.shutdown = Shutdown::NeverEnds);
    world.life(async |engine| {
        let vm = engine.find("a").unwrap();
        world.host.asked(Act::Shutdown, 1).await;
        vm.delete(true).await.unwrap();
    });
    world.is_empty();
}

#[test]
fn requests_wait_until_a_vm_is_taken_up() {
    let world = left_in(VmState::Running, false);
    world.host.script(|script| script.adopt = Step::Hangs);
    world.life(async |engine| {
        let vm = engine.find("a").unwrap();
        world.host.asked(Act::Adopt, 1).await;
        assert_eq!(engine.views().len(), 1, "a list waits for nobody");
        let other = create(&engine, "b", true, false).await;
        assert_eq!(other.view().record.state, VmState::Running);
        let stop = tokio::spawn(async move { vm.stop(None).await });
        world.host.script(|script| script.adopt = Step::Works);
        let stopped = soon("the stop is served", stop).await.unwrap().unwrap();
        assert_eq!(stopped.record.state, VmState::Stopped);
    });
}

#[test]
fn dropping_an_engine_ends_its_tasks_and_no_vmm() {
    let world = World::new();
    world.life(async |engine| {
        for name in ["a", "b"] {
            create(&engine, name, true, false).await;
        }
        drop(engine);
        let alive = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(alive(), 0, "no task is left");
    });
    assert!(!world.host.is_idle());
    assert!(world.rows().iter().all(|row| row.state == VmState::Running));
}
