//! Commands in a VM: who gets a connection, who waits for one, who is refused.

use std::time::Duration;

use crate::{
    error::Error,
    exec::ExecRequest,
    record::VmState,
    testing::{Act, Connect, VmWorld, soon, time_passes},
    vm::VmHandle,
};

#[tokio::test(start_paused = true)]
async fn exec_never_starts_a_vm() {
    let check = async |state: VmState| {
        let world = VmWorld::new();
        let vm = world.vm_in("a", state, false);
        let refused = exec(&vm).await.unwrap_err();
        assert!(
            matches!(refused, Error::State { state: s, .. } if s == state),
            "{refused:?}"
        );
        assert_eq!(world.host.count(Act::Launch), 0);
    };
    check(VmState::Created).await;
    check(VmState::Stopped).await;
    check(VmState::Error).await;
}

#[tokio::test(start_paused = true)]
async fn exec_waits_for_a_boot_in_progress() {
    let world = VmWorld::new();
    let (vm, _start) = world.booting("a").await;
    let waiting = tokio::spawn(waiting_exec(vm.clone()));
    time_passes(Duration::from_secs(10)).await;
    assert!(!waiting.is_finished());
    world
        .host
        .machine(vm.view().record.id)
        .script(|script| script.connect = Connect::Answers);
    soon("the command runs", waiting).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn exec_ends_with_the_boot_that_it_waits_for() {
    let world = VmWorld::new();
    let (vm, start) = world.booting("a").await;
    let waiting = tokio::spawn(waiting_exec(vm.clone()));
    start.await.unwrap().unwrap_err();
    let refused = soon("the command is refused", waiting)
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(
            refused,
            Error::State {
                state: VmState::Error,
                ..
            }
        ),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn exec_of_a_vm_that_is_deleted_meanwhile_is_refused() {
    let world = VmWorld::new();
    let (vm, _start) = world.booting("a").await;
    let waiting = tokio::spawn(waiting_exec(vm.clone()));
    vm.delete(true).await.unwrap();
    soon("the command is refused", waiting)
        .await
        .unwrap()
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_again_and_commands_wait_for_it() {
    let world = VmWorld::new();
    let (vm, machine) = world.running("a").await;
    machine.script(|script| script.connect = Connect::Breaks);
    machine.disconnect();
    // Several tries fail before one succeeds.
    world.host.asked(Act::Connect, 5).await;
    assert_eq!(world.settled(&vm), (VmState::Running, None));
    let waiting = tokio::spawn(waiting_exec(vm.clone()));
    machine.script(|script| script.connect = Connect::Hangs);
    time_passes(Duration::from_secs(10)).await;
    assert!(!waiting.is_finished() && vm.view().guest.is_none());
    machine.script(|script| script.connect = Connect::Answers);
    soon("the command runs", waiting).await.unwrap().unwrap();
}

async fn waiting_exec(vm: VmHandle) -> Result<(), Error> {
    exec(&vm).await
}

async fn exec(vm: &VmHandle) -> Result<(), Error> {
    Ok(vm
        .guest()
        .await?
        .exec(ExecRequest::default())
        .await
        .map(drop)?)
}
