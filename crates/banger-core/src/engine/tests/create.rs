//! Creating: each step may fail or be cut off, and nothing is left behind.

use std::{os::unix::fs::symlink, sync::Arc};

use crate::{
    engine::{CreateRequest, Engine},
    error::Error,
    record::VmState,
    store::StoreError,
    testing::{
        Act, Connect, FakeTar, LONG, Script, Step, World, create, is_over, request, silent, soon,
        time_passes,
    },
    vm::View,
};

#[test]
fn a_created_vm_has_a_row_a_disk_and_no_process() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", false, false).await;
        let view = vm.view();
        assert_eq!(world.rows(), [view.record]);
        assert_eq!(view.places.disk().metadata().unwrap().len(), 64 << 20);
        assert_eq!(world.host.count(Act::Launch), 0);
    });
}

#[test]
fn a_created_and_started_vm_runs_and_takes_commands() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        assert_eq!(world.rows()[0].state, VmState::Running);
        let mut stream = engine
            .exec(&vm, Default::default(), Default::default())
            .await
            .unwrap();
        assert!(stream.output.recv().await.unwrap().is_ok());
    });
}

#[test]
fn a_creation_that_fails_leaves_nothing() {
    let check = |prepare: fn(&World), request: CreateRequest, wanted: fn(&Error) -> bool| {
        let world = World::new();
        prepare(&world);
        world.life(async |engine| {
            let failed = engine.create(request, silent()).await.unwrap_err();
            assert!(wanted(&failed), "{failed:?}");
            assert_eq!(engine.views().len(), 0);
            world.is_empty();
        });
    };
    let nothing = |_: &World| {};
    let elsewhere = |world: &World| symlink("nowhere", world.vms()).unwrap();
    let of_image = |name: &str| CreateRequest {
        image: Some(name.parse().unwrap()),
        ..request("a", true, false)
    };
    let of_kernel = CreateRequest {
        kernel: Some("unknown".parse().unwrap()),
        ..request("a", true, false)
    };
    let no_vmm = |world: &World| world.host.script(|script| script.choose = Step::Fails);
    let no_launch = |world: &World| world.host.script(|script| script.launch = Step::Fails);
    let no_agent = |world: &World| world.host.script(|script| script.connect = Connect::Breaks);
    let no_end = |error: &Error| matches!(error, Error::Start { kept: false, .. });
    check(no_vmm, request("a", true, false), |error| {
        matches!(error, Error::Host(_))
    });
    check(nothing, of_kernel, |error| {
        matches!(error, Error::Kernel(_))
    });
    check(nothing, of_image("unknown"), |error| {
        matches!(error, Error::NotInCatalog { .. })
    });
    check(nothing, of_image("debian-bookworm"), |error| {
        matches!(error, Error::Host(_))
    });
    check(elsewhere, request("a", true, false), |error| {
        matches!(error, Error::File { .. })
    });
    check(no_launch, request("a", true, true), no_end);
    check(no_agent, request("a", true, true), no_end);
}

#[test]
fn a_vm_that_does_not_start_is_kept_for_its_user() {
    let world = World::new();
    world.host.script(|script| script.launch = Step::Fails);
    world.life(async |engine| {
        let failed = engine
            .create(request("a", true, false), silent())
            .await
            .unwrap_err();
        assert!(
            matches!(failed, Error::Start { kept: true, .. }),
            "{failed:?}"
        );
        assert_eq!(
            engine.find("a").unwrap().view().record.state,
            VmState::Error
        );
        assert_eq!(world.rows()[0].state, VmState::Error);
    });
}

#[test]
fn a_taken_name_is_refused_before_anything_is_asked_or_made() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, "a", false, false).await;
        let asked = world.host.count(Act::ChooseVmm);
        let refused = engine
            .create(request("a", true, false), silent())
            .await
            .unwrap_err();
        assert!(
            matches!(refused, Error::Store(StoreError::VmTaken(_))),
            "{refused:?}"
        );
        assert_eq!(world.host.count(Act::ChooseVmm), asked);
    });
}

#[test]
fn a_name_goes_to_one_of_two_that_want_it_at_once() {
    let world = World::new();
    world.host.script(|script| script.choose = Step::Hangs);
    world.life(async |engine| {
        let engine = Arc::new(engine);
        let (first, second) = (begin(&engine, false), begin(&engine, false));
        world.host.asked(Act::ChooseVmm, 2).await;
        world.host.script(|script| script.choose = Step::Works);
        let made = [first.await.unwrap(), second.await.unwrap()];
        assert_eq!(
            made.iter().filter(|made| made.is_ok()).count(),
            1,
            "{made:?}"
        );
        assert_eq!(world.rows().len(), 1);
    });
}

#[test]
fn a_creation_that_is_given_up_leaves_nothing_at_any_stage() {
    let check = |hang: fn(&mut Script), stage: Act, rm: bool| {
        let world = World::new();
        world.host.script(hang);
        world.life(async |engine| {
            let engine = Arc::new(engine);
            let creation = begin(&engine, rm);
            world.host.asked(stage, 1).await;
            let vm = engine.find("a").ok();
            creation.abort();
            time_passes(LONG).await;
            world.host.script(|script| *script = Script::default());
            match vm {
                Some(vm) => is_over(&vm).await,
                None => time_passes(LONG).await,
            }
            assert_eq!(engine.views().len(), 0, "given up at {stage:?}");
            world.is_empty();
        });
    };
    for rm in [false, true] {
        check(|script| script.choose = Step::Hangs, Act::ChooseVmm, rm);
        check(|script| script.admit = Step::Hangs, Act::Admit, rm);
        check(|script| script.launch = Step::Hangs, Act::Launch, rm);
        check(|script| script.connect = Connect::Hangs, Act::Connect, rm);
    }
}

#[test]
fn a_creation_that_is_given_up_while_its_disk_is_made_is_undone_afterwards() {
    let world = World::new();
    one_thread_for_files().block_on(async {
        let engine = world.engine();
        let (go, held) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || held.recv());
        let creation = engine.create(request("a", true, false), silent());
        tokio::select! {
            biased;
            _ = creation => panic!("the disk waits for a thread"),
            () = std::future::ready(()) => {}
        }
        let vm = engine.find("a").unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            vm.view().record.state,
            VmState::Created,
            "a deletion would miss the disk"
        );
        go.send(()).unwrap();
        is_over(&vm).await;
        world.is_empty();
    });
}

#[test]
fn a_creation_that_is_given_up_while_its_image_is_made_leaves_no_image() {
    let world = World::new();
    let (tar, _go) = FakeTar::held();
    world.host.next_root(tar);
    world.life(async |engine| {
        let engine = Arc::new(engine);
        let image = "debian-bookworm".parse().unwrap();
        let creation = tokio::spawn({
            let (engine, image) = (engine.clone(), Some(image));
            let request = CreateRequest {
                image,
                ..request("a", true, false)
            };
            async move { engine.create(request, silent()).await }
        });
        world.host.asked(Act::DebianRoot, 1).await;
        creation.abort();
        world.host.next_root(FakeTar::flowing());
        let image = "debian-bookworm".parse().unwrap();
        // Waits for the thread that was given up, and does not stumble over what it left.
        soon(
            "the image is made",
            engine.images().ensure(&image, silent()),
        )
        .await
        .unwrap();
        assert_eq!(
            crate::testing::directories(&world.images_directory()).len(),
            1
        );
        world.is_empty();
    });
}

fn begin(engine: &Arc<Engine>, rm: bool) -> tokio::task::JoinHandle<Result<View, Error>> {
    let engine = engine.clone();
    tokio::spawn(async move { engine.create(request("a", true, rm), silent()).await })
}

/// A runtime whose work on files waits in a row.
fn one_thread_for_files() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_time()
        .start_paused(true)
        .max_blocking_threads(1)
        .build()
        .unwrap()
}
