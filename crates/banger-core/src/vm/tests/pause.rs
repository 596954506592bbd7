//! VMs that stand still and go on, also under another daemon.

use crate::{
    record::VmState,
    testing::{Act, VmWorld},
};

#[tokio::test(start_paused = true)]
async fn a_pause_and_its_end_are_idempotent() {
    let world = VmWorld::new();
    let (vm, _machine) = world.running("a").await;
    for _ in 0..2 {
        assert_eq!(vm.pause().await.unwrap().record.state, VmState::Paused);
    }
    assert_eq!(world.settled(&vm), (VmState::Paused, None));
    assert!(vm.guest().await.is_err(), "nobody in it could answer");
    for _ in 0..2 {
        assert_eq!(vm.resume().await.unwrap().record.state, VmState::Running);
    }
    assert_eq!(world.settled(&vm), (VmState::Running, None));
    assert!(vm.guest().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_paused_vm_goes_on_to_be_stopped() {
    let world = VmWorld::new();
    let (vm, _machine) = world.running("a").await;
    vm.pause().await.unwrap();
    vm.stop(None).await.unwrap();
    assert_eq!(world.settled(&vm), (VmState::Stopped, None));
    let acts = world.host.acts_of(vm.view().record.id);
    let at = |act: Act| acts.iter().position(|other| *other == act);
    assert!(at(Act::Pause) < at(Act::Resume), "{acts:?}");
    assert!(at(Act::Resume) < at(Act::Shutdown), "{acts:?}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_run_cannot_be_paused() {
    let world = VmWorld::new();
    let vm = world.vm("a");
    assert!(vm.pause().await.is_err());
    assert!(vm.resume().await.is_err());
}
