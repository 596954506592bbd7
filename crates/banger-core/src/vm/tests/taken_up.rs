//! VMs whose host cannot be asked when the daemon comes back. The other ways to be taken up
//! are told of whole engines.

use crate::{
    record::VmState,
    testing::{Act, Step, VmWorld, reaches},
};

#[tokio::test(start_paused = true)]
async fn a_vm_that_may_or_may_not_run_is_left_alone() {
    let check = async |found: VmState, wanted: VmState| {
        let world = VmWorld::new();
        world.host.script(|script| script.adopt = Step::Fails);
        let vm = world.vm_in("a", found, false);
        world.host.asked(Act::Adopt, 1).await;
        reaches(&vm, wanted).await;
        vm.stop(None).await.ok();
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
