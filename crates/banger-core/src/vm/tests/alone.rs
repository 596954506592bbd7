//! What happens to a VM without anybody asking: it ends, its owner goes, its daemon goes.

use std::time::Duration;

use crate::{
    record::VmState,
    spec::SpecChange,
    testing::{Act, LONG, PATIENCE, VmWorld, clock, is_over, reaches, silent, soon, time_passes},
};

#[tokio::test(start_paused = true)]
async fn a_vmm_that_ends_by_itself_is_noticed_and_swept_after() {
    let check = async |status: &str, clean: bool, wanted: (VmState, Option<&str>)| {
        let world = VmWorld::new();
        let (vm, machine) = world.running("a").await;
        machine.end(status, clean);
        reaches(&vm, wanted.0).await;
        let (state, why) = world.settled(&vm);
        assert_eq!((state, why.as_deref()), wanted);
        assert!(vm.view().guest.is_none() && vm.view().process.is_none());
        assert!(!vm.view().places.runtime.exists(), "its sockets are gone");
        vm.start(silent()).await.expect("it starts again");
    };
    check("exit code 0", true, (VmState::Stopped, None)).await;
    let why = "the VMM ended unexpectedly: signal 9";
    check("signal 9", false, (VmState::Error, Some(why))).await;
}

#[tokio::test(start_paused = true)]
async fn an_owned_vm_goes_with_its_owner() {
    let world = VmWorld::new();
    let vm = world.owned("a");
    vm.start(silent()).await.unwrap();
    vm.owner_came().await;
    time_passes(LONG).await;
    assert_eq!(
        world.settled(&vm),
        (VmState::Running, None),
        "its owner is there"
    );
    vm.owner_went().await;
    is_over(&vm).await;
    world.is_gone(&vm);
}

#[tokio::test(start_paused = true)]
async fn an_owned_vm_goes_if_no_owner_comes_in_time() {
    let world = VmWorld::new();
    let vm = world.owned("a");
    vm.start(silent()).await.unwrap();
    time_passes(PATIENCE.owner / 2).await;
    assert_eq!(
        world.settled(&vm),
        (VmState::Running, None),
        "there is time left"
    );
    is_over(&vm).await;
    world.is_gone(&vm);
}

#[tokio::test(start_paused = true)]
async fn an_owned_vm_that_ended_by_itself_goes_with_its_owner_or_after_a_while() {
    let check = async |owner_goes: bool| {
        let world = VmWorld::new();
        let vm = world.owned("a");
        vm.start(silent()).await.unwrap();
        vm.owner_came().await;
        // Heard, before the VMM ends.
        time_passes(PATIENCE.owner * 2).await;
        world
            .host
            .machine(vm.view().record.id)
            .end("exit code 0", true);
        reaches(&vm, VmState::Stopped).await;
        if owner_goes {
            vm.owner_went().await;
        }
        is_over(&vm).await;
        world.is_gone(&vm);
    };
    check(true).await;
    check(false).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_and_goes_during_a_stop_is_not_forgotten() {
    let world = VmWorld::new();
    let vm = world.owned("a");
    vm.start(silent()).await.unwrap();
    vm.owner_came().await;
    let (stopped, ()) = tokio::join!(vm.stop(None), vm.owner_went());
    stopped.unwrap();
    is_over(&vm).await;
    world.is_gone(&vm);
}

#[tokio::test(start_paused = true)]
async fn a_vm_without_owner_does_not_care_who_goes() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    vm.owner_came().await;
    vm.owner_went().await;
    time_passes(LONG).await;
    assert_eq!(world.settled(&vm), (VmState::Running, None));
}

#[tokio::test(start_paused = true)]
async fn a_task_ends_with_its_last_handle_and_leaves_the_vmm() {
    let world = VmWorld::new();
    let (vm, machine) = world.running("a").await;
    let mut view = vm.view.clone();
    drop(vm);
    soon("the task ends", async {
        while view.changed().await.is_ok() {}
    })
    .await;
    assert!(machine.is_alive());
    assert_eq!(view.borrow().record.state, VmState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_vm_goes_when_its_time_is_over_whatever_it_does() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let until = |seconds: Option<u64>| SpecChange {
        expires_at: Some(seconds.map(|seconds| clock() + seconds)),
        set_labels: [("owner".to_owned(), "me".to_owned())].into(),
        ..SpecChange::default()
    };
    vm.change(until(Some(60))).await.expect("it may run");
    assert_eq!(world.row(&vm).unwrap(), vm.view().record);
    time_passes(Duration::from_secs(59)).await;
    assert_eq!(world.settled(&vm).0, VmState::Running);
    vm.change(until(None)).await.unwrap();
    time_passes(LONG).await;
    assert_eq!(
        world.settled(&vm).0,
        VmState::Running,
        "it may stay after all"
    );
    vm.change(until(Some(60))).await.unwrap();
    is_over(&vm).await;
    world.is_gone(&vm);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_grows_under_a_guest_is_grown_in_it_too() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let growth = |disk: u64| SpecChange {
        disk: Some(disk.try_into().unwrap()),
        ..SpecChange::default()
    };
    vm.change(growth(128 << 20)).await.unwrap();
    assert_eq!(world.row(&vm).unwrap().spec.disk.bytes(), 128 << 20);
    let acts = world.host.acts_of(vm.view().record.id);
    assert!(
        acts.ends_with(&[Act::GrowDisk, Act::GrowFileSystem]),
        "{acts:?}"
    );
    assert!(
        vm.change(growth(64 << 20)).await.is_err(),
        "it does not shrink"
    );
    vm.pause().await.unwrap();
    assert!(
        vm.change(growth(256 << 20)).await.is_err(),
        "nobody would see it"
    );
}

#[tokio::test(start_paused = true)]
async fn memory_of_a_vm_that_runs_is_another_from_its_next_start_on() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let built = |vm: &crate::vm::VmHandle| vm.view().process.and_then(|process| process.built);
    let memory = |vm: &crate::vm::VmHandle| built(vm).map(|built| built.memory.mib());
    let before = memory(&vm).expect("a VMM knows what it gave");
    let change = SpecChange {
        memory: Some(((before + 64) << 20).try_into().unwrap()),
        ..SpecChange::default()
    };
    vm.change(change).await.expect("it may run");
    assert_eq!(world.row(&vm).unwrap().spec.memory.mib(), before + 64);
    assert_eq!(memory(&vm), Some(before), "the VMM has what it has");
    vm.stop(None).await.unwrap();
    assert_eq!(memory(&vm), None);
    vm.start(silent()).await.unwrap();
    assert_eq!(memory(&vm), Some(before + 64));
}
