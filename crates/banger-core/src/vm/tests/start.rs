//! Starting: what is written when, and what is left of a start that does not come to its end.

use crate::{
    error::Error,
    record::VmState,
    testing::{
        Act, Connect, LONG, Script, Step, VmWorld, is_over, reaches, silent, soon, time_passes,
    },
    vm::{View, VmHandle},
};

#[tokio::test(start_paused = true)]
async fn a_start_is_recorded_before_the_vmm_exists_and_confirmed_when_the_agent_answers() {
    let world = VmWorld::new();
    world
        .host
        .script(|script| (script.launch, script.connect) = (Step::Hangs, Connect::Hangs));
    let vm = world.vm("a");
    let start = tokio::spawn(start(vm.clone()));
    world.host.asked(Act::Launch, 1).await;
    assert!(world.host.is_idle(), "the VMM is not there yet");
    let row = world.row(&vm).unwrap();
    assert_eq!(row.state, VmState::Starting);
    assert_eq!(row.choice.unwrap().reason, "there is nothing else here");

    world.host.script(|script| script.launch = Step::Works);
    world.host.asked(Act::Connect, 1).await;
    assert_eq!(world.row(&vm).unwrap().state, VmState::Starting);

    world
        .host
        .machine(vm.view().record.id)
        .script(|script| script.connect = Connect::Answers);
    let view = soon("the start ends", start).await.unwrap().unwrap();
    assert_eq!(world.settled(&vm), (VmState::Running, None));
    assert_eq!(view.process.unwrap().pid, 4711);
    assert_eq!(view.agent.unwrap().boot_id, "first");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_leaves_a_reason_and_no_process() {
    let check = async |change: fn(&mut Script), reason: &str| {
        let world = VmWorld::new();
        world.host.script(change);
        let vm = world.vm("a");
        let failed = vm.start(silent()).await.unwrap_err();
        assert!(
            matches!(failed, Error::Start { kept: true, .. }),
            "{failed:?}"
        );
        let (state, last_error) = world.settled(&vm);
        assert_eq!(state, VmState::Error);
        assert!(
            last_error.as_ref().is_some_and(|why| why.contains(reason)),
            "{last_error:?}"
        );
        assert!(world.host.is_idle() && vm.view().process.is_none());
        assert_eq!(
            world.host.acts_of(vm.view().record.id).last(),
            Some(&Act::Sweep)
        );
        assert!(!vm.view().places.runtime.exists(), "its sockets are gone");

        world.host.script(|script| *script = Script::default());
        vm.start(silent())
            .await
            .expect("what failed may be tried again");
        assert_eq!(world.settled(&vm), (VmState::Running, None));
    };
    check(|script| script.choose = Step::Fails, "ChooseVmm").await;
    check(|script| script.admit = Step::Fails, "Admit").await;
    check(|script| script.launch = Step::Fails, "Launch").await;
    check(
        |script| script.connect = Connect::Breaks,
        "the line is dead",
    )
    .await;
    check(
        |script| script.connect = Connect::Hangs,
        "did not answer within 1m 30s",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_cannot_be_made_is_a_failed_start() {
    let world = VmWorld::new();
    world.break_assembly();
    let vm = world.vm("a");
    vm.start(silent()).await.unwrap_err();
    assert_eq!(world.settled(&vm).0, VmState::Error);
    assert_eq!(world.host.count(Act::Launch), 0);
}

#[tokio::test(start_paused = true)]
async fn a_vmm_that_dies_during_boot_ends_the_start_at_once() {
    let world = VmWorld::new();
    let (vm, start) = world.booting("a").await;
    world
        .host
        .machine(vm.view().record.id)
        .end("exit code 1", false);
    start.await.unwrap().unwrap_err();
    let (state, why) = world.settled(&vm);
    assert_eq!(state, VmState::Error);
    assert!(why.unwrap().contains("exit code 1"));
}

#[tokio::test(start_paused = true)]
async fn start_is_idempotent_while_running_and_while_booting() {
    let world = VmWorld::new();
    let (vm, first) = world.booting("a").await;
    let second = tokio::spawn(start(vm.clone()));
    world
        .host
        .machine(vm.view().record.id)
        .script(|script| script.connect = Connect::Answers);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    vm.start(silent()).await.unwrap();
    assert_eq!(world.host.count(Act::Launch), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_during_boot_ends_the_vmm() {
    let world = VmWorld::new();
    let (vm, start) = world.booting("a").await;
    start.abort();
    reaches(&vm, VmState::Stopped).await;
    assert_eq!(world.settled(&vm), (VmState::Stopped, None));
    assert!(world.host.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_client_has_gone_before_its_turn_does_nothing() {
    let world = VmWorld::new();
    let (vm, first) = world.booting("a").await;
    let second = tokio::spawn(start(vm.clone()));
    time_passes(std::time::Duration::from_millis(1)).await;
    second.abort();
    first.abort();
    reaches(&vm, VmState::Stopped).await;
    vm.stop(None).await.unwrap();
    assert_eq!(world.host.count(Act::Launch), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_interrupts_a_boot_and_every_start_that_was_asked_for_before_it() {
    let world = VmWorld::new();
    let (vm, first) = world.booting("a").await;
    let second = tokio::spawn(start(vm.clone()));
    time_passes(std::time::Duration::from_millis(1)).await;
    let stopped = soon("the stop is served during the boot", vm.stop(None))
        .await
        .unwrap();
    assert_eq!(stopped.record.state, VmState::Stopped);
    for start in [first, second] {
        let Err(Error::Start { source, .. }) = start.await.unwrap() else {
            panic!("it was ended")
        };
        assert!(matches!(*source, Error::Interrupted { .. }), "{source:?}");
    }
    time_passes(LONG).await;
    assert_eq!(world.settled(&vm), (VmState::Stopped, None));
    assert!(world.host.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_forced_deletion_during_boot_leaves_nothing() {
    let world = VmWorld::new();
    let (vm, start) = world.booting("a").await;
    let refused = vm.delete(false).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::State {
                state: VmState::Starting,
                ..
            }
        ),
        "{refused:?}"
    );
    soon("the deletion is served during the boot", vm.delete(true))
        .await
        .unwrap();
    start.await.unwrap().unwrap_err();
    is_over(&vm).await;
    world.is_gone(&vm);
}

#[tokio::test(start_paused = true)]
async fn a_boot_that_hangs_delays_no_other_vm() {
    let world = VmWorld::new();
    let (slow, _start) = world.booting("slow").await;
    world
        .host
        .script(|script| script.connect = Connect::Answers);
    let (quick, _) = world.running("quick").await;
    quick.stop(None).await.unwrap();
    quick.delete(false).await.unwrap();
    assert_eq!(slow.view().record.state, VmState::Starting);
}

#[tokio::test(start_paused = true)]
async fn a_vm_is_not_said_to_boot_when_the_store_does_not_answer() {
    let world = VmWorld::new();
    let (vm, start) = world.booting("a").await;
    world.store.delete_vm(vm.view().record.id).unwrap();
    world
        .host
        .machine(vm.view().record.id)
        .script(|script| script.connect = Connect::Answers);
    start.await.unwrap().unwrap_err();
    assert_eq!(vm.view().record.state, VmState::Error);
    assert!(world.host.is_idle(), "what cannot be recorded does not run");
}

async fn start(vm: VmHandle) -> Result<View, Error> {
    vm.start(silent()).await
}
