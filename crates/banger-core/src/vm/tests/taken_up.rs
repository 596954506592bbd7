//! VMs whose host cannot be asked when the daemon comes back. The other ways to be taken up
//! are told of whole engines.

use crate::{
    record::VmState,
    testing::{Act, Step, VmWorld, reaches, silent},
};

#[tokio::test(start_paused = true)]
async fn a_vm_that_may_or_may_not_run_is_left_alone() {
    let check = async |found: VmState, wanted: VmState| {
        let world = VmWorld::new();
        world.host.script(|script| script.adopt = Step::Fails);
        let vm = world.vm_in("a", found, false);
        world.host.asked(Act::Adopt, 1).await;
        reaches(&vm, wanted).await;
        vm.looked_for().await;
        let (state, why) = world.settled(&vm);
        assert_eq!(state, wanted, "found {found:?}");
        assert!(
            why.unwrap()
                .starts_with("cannot tell whether its VMM still runs: ")
        );
        assert_eq!(world.host.acts_of(vm.view().record.id), [Act::Adopt]);
        assert!(vm.view().places.disk().exists());
    };
    check(VmState::Running, VmState::Error).await;
    check(VmState::Starting, VmState::Error).await;
    check(VmState::Stopping, VmState::Error).await;
    check(VmState::Deleting, VmState::Deleting).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_vm_is_touched_until_the_host_can_say_whether_it_runs() {
    let world = VmWorld::new();
    world.host.script(|script| script.adopt = Step::Fails);
    let vm = world.vm_in("a", VmState::Running, false);
    vm.looked_for().await;
    vm.start(silent()).await.unwrap_err();
    vm.stop(None).await.unwrap_err();
    vm.delete(true).await.unwrap_err();
    assert!(vm.view().places.disk().exists());
    assert_eq!(world.host.count(Act::Launch), 0);
    world.host.script(|script| script.adopt = Step::Works);
    vm.delete(true).await.unwrap();
    world.is_gone(&vm);
}
