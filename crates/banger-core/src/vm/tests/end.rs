//! Stopping and deleting: carried through once accepted, and honest about what is lost.

use std::time::Duration;

use crate::{
    error::Error,
    record::VmState,
    spec::{SpecChange, SpecError},
    testing::{
        Act, Connect, LONG, Shutdown, Step, VmWorld, is_over, reaches, silent, soon, time_passes,
    },
};

#[tokio::test(start_paused = true)]
async fn a_guest_is_asked_to_end_and_loses_nothing() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let view = vm.stop(None).await.unwrap();
    assert_eq!(world.settled(&vm), (VmState::Stopped, None));
    assert!(view.guest.is_none() && view.process.is_none());
    assert_eq!(world.host.count(Act::Shutdown), 1);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_end_is_cut_off_and_the_loss_is_told() {
    let check = async |shutdown: Shutdown, reason: &str, waits: Duration| {
        let world = VmWorld::new();
        let (vm, machine) = world.running("a").await;
        machine.script(|script| script.shutdown = shutdown);
        let asked = tokio::time::Instant::now();
        vm.stop(Some(Duration::from_secs(10))).await.unwrap();
        assert_eq!(asked.elapsed().as_secs(), waits.as_secs(), "{shutdown:?}");
        let (state, lost) = world.settled(&vm);
        let lost = lost.unwrap_or_default();
        assert_eq!(state, VmState::Stopped);
        assert!(
            lost.contains("is lost") && lost.contains(reason),
            "{shutdown:?}: {lost}"
        );
        assert!(world.host.is_idle());
    };
    check(
        Shutdown::NeverEnds,
        "did not answer within 15s",
        Duration::from_secs(15),
    )
    .await;
    check(Shutdown::Refuses, "not now", Duration::ZERO).await;
    check(Shutdown::Crashes, "signal 11", Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_asks_again_where_the_connection_broke() {
    let world = VmWorld::new();
    let (vm, machine) = world.running("a").await;
    machine.script(|script| script.shutdown = Shutdown::BreaksOnce);
    vm.stop(None).await.unwrap();
    assert_eq!(world.settled(&vm), (VmState::Stopped, None));
    assert_eq!(world.host.count(Act::Shutdown), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_reaches_a_guest_that_is_just_being_reconnected() {
    let world = VmWorld::new();
    let (vm, machine) = world.running("a").await;
    machine.script(|script| script.connect = Connect::Hangs);
    machine.disconnect();
    world.host.asked(Act::Connect, 2).await;
    let stop = tokio::spawn({
        let vm = vm.clone();
        async move { vm.stop(None).await }
    });
    world.host.asked(Act::Connect, 3).await;
    machine.script(|script| script.connect = Connect::Answers);
    soon("the stop gets through", stop).await.unwrap().unwrap();
    assert_eq!(world.settled(&vm), (VmState::Stopped, None));
    assert_eq!(world.host.count(Act::Shutdown), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_goes_on_when_nobody_waits_for_it() {
    let world = VmWorld::new();
    let (vm, machine) = world.running("a").await;
    machine.script(|script| script.shutdown = Shutdown::NeverEnds);
    let stop = tokio::spawn({
        let vm = vm.clone();
        async move { vm.stop(None).await }
    });
    reaches(&vm, VmState::Stopping).await;
    assert_eq!(
        world.row(&vm).unwrap().state,
        VmState::Stopping,
        "the intention is recorded"
    );
    stop.abort();
    machine.end("exit code 0", true);
    reaches(&vm, VmState::Stopped).await;
    assert_eq!(world.settled(&vm), (VmState::Stopped, None));
}

#[tokio::test(start_paused = true)]
async fn stop_is_idempotent() {
    let world = VmWorld::new();
    let vm = world.vm("a");
    vm.stop(None).await.unwrap();
    assert_eq!(world.settled(&vm), (VmState::Created, None));
    vm.start(silent()).await.unwrap();
    let (first, second) = tokio::join!(vm.stop(None), vm.stop(None));
    assert_eq!(first.unwrap().record.state, VmState::Stopped);
    assert_eq!(second.unwrap().record.state, VmState::Stopped);
    assert_eq!(world.host.count(Act::Shutdown), 1);
}

#[tokio::test(start_paused = true)]
async fn commands_for_one_vm_are_served_in_order() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let (stopped, started) = tokio::join!(vm.stop(None), vm.start(silent()));
    assert_eq!(stopped.unwrap().record.state, VmState::Stopped);
    assert_eq!(started.unwrap().record.state, VmState::Running);
    let (stopped, started, last) = tokio::join!(vm.stop(None), vm.start(silent()), vm.stop(None));
    assert!(stopped.is_ok() && last.is_ok());
    // The last stop may find the start done, or in progress.
    assert!(
        matches!(started, Ok(_) | Err(Error::Start { .. })),
        "{started:?}"
    );
    assert_eq!(world.settled(&vm), (VmState::Stopped, None));
}

#[tokio::test(start_paused = true)]
async fn only_force_deletes_a_vm_that_runs() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let refused = vm.delete(false).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::State {
                state: VmState::Running,
                ..
            }
        ),
        "{refused:?}"
    );
    assert_eq!(world.settled(&vm), (VmState::Running, None));
    vm.delete(true).await.unwrap();
    world.is_gone(&vm);
}

#[tokio::test(start_paused = true)]
async fn a_forced_deletion_cuts_a_stop_short() {
    let world = VmWorld::new();
    let (vm, machine) = world.running("a").await;
    machine.script(|script| script.shutdown = Shutdown::NeverEnds);
    let stop = tokio::spawn({
        let vm = vm.clone();
        async move { vm.stop(Some(LONG)).await }
    });
    world.host.asked(Act::Shutdown, 1).await;
    let refused = vm.delete(false).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::State {
                state: VmState::Stopping,
                ..
            }
        ),
        "{refused:?}"
    );
    vm.delete(true).await.unwrap();
    let stopped = stop.await.unwrap().unwrap();
    assert_eq!(
        stopped.record.last_error.unwrap(),
        "the stop was cut short by a kill or a deletion"
    );
    is_over(&vm).await;
    world.is_gone(&vm);
}

#[tokio::test(start_paused = true)]
async fn two_deletions_at_once_both_succeed_and_others_find_no_vm() {
    let world = VmWorld::new();
    let vm = world.vm("a");
    let (first, second, start) =
        tokio::join!(vm.delete(false), vm.delete(true), vm.start(silent()));
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    assert!(matches!(start, Err(Error::NotFound { .. })), "{start:?}");
    assert!(matches!(vm.stop(None).await, Err(Error::NotFound { .. })));
    world.is_gone(&vm);
}

#[tokio::test(start_paused = true)]
async fn a_vmm_that_cannot_be_ended_keeps_its_vm() {
    let world = VmWorld::new();
    let (vm, machine) = world.running("a").await;
    machine.script(|script| script.kill = Step::Fails);
    vm.delete(true).await.unwrap_err();
    let (state, why) = world.settled(&vm);
    assert_eq!(state, VmState::Deleting);
    assert!(why.unwrap().contains("Kill"));
    assert!(
        vm.view().places.disk().exists(),
        "a VMM that lives keeps its disk"
    );

    machine.script(|script| script.kill = Step::Works);
    vm.delete(false)
        .await
        .expect("what was left is deleted by the next try");
    world.is_gone(&vm);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_without_a_waiter_is_carried_through() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    vm.delete_behind();
    is_over(&vm).await;
    world.is_gone(&vm);
    time_passes(LONG).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_asks_nobody_and_tells_of_the_loss() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let view = vm.kill().await.unwrap();
    let (state, lost) = world.settled(&vm);
    assert_eq!(state, VmState::Stopped);
    assert!(lost.unwrap().contains("was killed"));
    assert!(view.guest.is_none() && view.process.is_none() && world.host.is_idle());
    assert_eq!(world.host.count(Act::Shutdown), 0);
    vm.kill().await.expect("killing it twice is no error");
}

#[tokio::test(start_paused = true)]
async fn a_kill_cuts_a_start_and_a_stop_short() {
    let world = VmWorld::new();
    let (vm, start) = world.booting("a").await;
    vm.kill().await.unwrap();
    assert!(matches!(start.await.unwrap(), Err(Error::Start { .. })));
    assert_eq!(world.settled(&vm).0, VmState::Stopped);

    let world = VmWorld::new();
    let (vm, machine) = world.running("a").await;
    machine.script(|script| script.shutdown = Shutdown::NeverEnds);
    let stop = tokio::spawn({
        let vm = vm.clone();
        async move { vm.stop(Some(LONG)).await }
    });
    reaches(&vm, VmState::Stopping).await;
    soon("the kill does not wait for the stop", vm.kill())
        .await
        .unwrap();
    stop.await.unwrap().unwrap();
    assert!(world.host.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_a_stop_and_a_start() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let view = vm.restart(None, silent()).await.unwrap();
    assert_eq!(view.record.state, VmState::Running);
    assert_eq!(world.host.count(Act::Shutdown), 1);
    assert_eq!(world.host.count(Act::Launch), 2);
}

#[tokio::test(start_paused = true)]
async fn a_vm_gets_another_name_unless_it_is_taken() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let other = world.vm("b");
    let renamed = vm.rename("c".parse().unwrap()).await.unwrap();
    assert_eq!(renamed.record.name.as_str(), "c");
    assert_eq!(world.row(&vm).unwrap().name.as_str(), "c");
    let refused = other.rename("c".parse().unwrap()).await.unwrap_err();
    assert!(matches!(
        refused,
        Error::Store(crate::store::StoreError::VmTaken(_))
    ));
    assert_eq!(other.name().as_str(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_does_not_run_is_made_of_something_else() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let change = |disk: u64| SpecChange {
        memory: Some((256 << 20).try_into().unwrap()),
        disk: Some((disk << 20).try_into().unwrap()),
        ..SpecChange::default()
    };
    vm.stop(None).await.unwrap();
    let shrunk = SpecError::Shrinks {
        has: 128 << 20,
        wanted: 64 << 20,
    };
    vm.change(change(128)).await.unwrap();
    let refused = vm.change(change(64)).await.unwrap_err();
    assert!(matches!(refused, Error::Spec(error) if error == shrunk));
    vm.start(silent()).await.unwrap();
    assert_eq!(world.row(&vm), Some(vm.view().record));
    assert_eq!(vm.view().record.spec.memory.mib(), 256);
    let disk = vm.view().places.disk().metadata().unwrap();
    assert_eq!(disk.len(), 128 << 20, "a start brings the disk to its size");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_vm_hears_of_its_end() {
    let world = VmWorld::new();
    let (vm, _) = world.running("a").await;
    let waiting = tokio::spawn({
        let vm = vm.clone();
        async move { vm.reaches(|record| record.state == VmState::Stopped).await }
    });
    vm.stop(None).await.unwrap();
    let reached = soon("the stop is heard of", waiting).await.unwrap();
    assert_eq!(reached.unwrap().record.state, VmState::Stopped);
    let waiting = tokio::spawn({
        let vm = vm.clone();
        async move { vm.reaches(|record| record.state == VmState::Running).await }
    });
    vm.delete(false).await.unwrap();
    let gone = soon("the deletion is heard of", waiting).await.unwrap();
    assert!(gone.is_none());
}
