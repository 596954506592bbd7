//! VMs that stand still and go on, also under another daemon.

use crate::{
    host::Halt,
    record::VmState,
    testing::{Act, VmWorld, reaches},
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

#[tokio::test(start_paused = true)]
async fn a_guest_whose_write_found_no_room_stands_still_until_somebody_lets_it_go_on() {
    let world = VmWorld::new();
    let (vm, machine) = world.running("a").await;
    for halt in [Halt::NoSpace, Halt::DiskError] {
        machine.halt(halt);
        reaches(&vm, VmState::Paused).await;
        assert_eq!(world.settled(&vm).1.as_deref(), Some(halt.why()));
        let resumes = world.host.count(Act::Resume);
        vm.resume().await.unwrap();
        assert_eq!(world.settled(&vm), (VmState::Running, None));
        assert_eq!(world.host.count(Act::Resume), resumes + 1);
    }
    assert!(machine.is_alive());
    // One that is stopped while it stands still is told to go on first.
    machine.halt(Halt::NoSpace);
    reaches(&vm, VmState::Paused).await;
    vm.stop(None).await.unwrap();
    assert_eq!(world.settled(&vm), (VmState::Stopped, None));
}
