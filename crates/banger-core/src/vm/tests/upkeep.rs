//! What a VM does by its owner's wishes: comes back after its end, and stops when nobody uses it.

use std::{sync::Arc, time::Duration};

use crate::{
    record::VmState,
    spec::SpecChange,
    testing::{Act, FakeMachine, LONG, Step, VmWorld, reaches, silent, time_passes},
    upkeep::{IdleStop, RestartPolicy},
    vm::VmHandle,
};

const PAUSE: Duration = Duration::from_millis(100);

fn restart(policy: &str) -> SpecChange {
    let policy: RestartPolicy = policy.parse().unwrap();
    SpecChange {
        restart: Some(policy),
        ..SpecChange::default()
    }
}

async fn running(world: &VmWorld, policy: &str) -> (VmHandle, Arc<FakeMachine>) {
    let (vm, machine) = world.running("a").await;
    vm.change(restart(policy)).await.expect("it may run");
    (vm, machine)
}

fn launches(world: &VmWorld) -> usize {
    world.host.count(Act::Launch)
}

#[tokio::test(start_paused = true)]
async fn what_ended_comes_back_if_its_policy_says_so() {
    let check = async |policy: &str, clean: bool, comes_back: bool| {
        let world = VmWorld::new();
        let (vm, machine) = running(&world, policy).await;
        machine.end("its end", clean);
        let down = if clean {
            VmState::Stopped
        } else {
            VmState::Error
        };
        reaches(&vm, down).await;
        time_passes(LONG).await;
        let expected = if comes_back { VmState::Running } else { down };
        assert_eq!(world.settled(&vm).0, expected, "{policy} {clean}");
        assert_eq!(launches(&world), 1 + usize::from(comes_back), "{policy}");
    };
    check("no", false, false).await;
    check("on-failure", true, false).await;
    check("on-failure", false, true).await;
    check("always", true, true).await;
    check("unless-stopped", false, true).await;
}

#[tokio::test(start_paused = true)]
async fn who_stops_a_vm_has_the_last_word() {
    for kill in [false, true] {
        let world = VmWorld::new();
        let (vm, _) = running(&world, "always").await;
        if kill {
            vm.kill().await.unwrap();
        } else {
            vm.stop(None).await.unwrap();
        }
        time_passes(LONG).await;
        assert_eq!(world.settled(&vm).0, VmState::Stopped);
        assert_eq!(launches(&world), 1);
        vm.start(silent()).await.unwrap();
        let machine = world.host.machine(vm.view().record.id);
        machine.end("its end", true);
        reaches(&vm, VmState::Stopped).await;
        // Also between its end and its return.
        vm.stop(None).await.unwrap();
        time_passes(LONG).await;
        assert_eq!(world.settled(&vm).0, VmState::Stopped, "kill: {kill}");
        assert_eq!(launches(&world), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_again_and_again_pauses_longer_and_gives_up_at_its_number() {
    let world = VmWorld::new();
    let (vm, machine) = running(&world, "on-failure:3").await;
    world.host.script(|script| script.launch = Step::Fails);
    machine.end("signal 9", false);
    reaches(&vm, VmState::Error).await;
    // After 100, 200 and 400 ms.
    for tried in [1, 2, 3] {
        let told = vm.view().record.life;
        assert!(told.restart_at.is_some(), "{told:?}");
        time_passes(PAUSE * (1 << (tried - 1)) + PAUSE / 10).await;
        assert_eq!(launches(&world), 1 + tried);
    }
    time_passes(LONG).await;
    assert_eq!(launches(&world), 4);
    assert_eq!(world.settled(&vm).0, VmState::Error);
    assert_eq!(vm.view().record.life.restart_at, None);
    // A start that somebody asks for begins to count anew.
    world.host.script(|script| script.launch = Step::Works);
    vm.start(silent()).await.unwrap();
    assert_eq!(vm.view().record.life.restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_ran_long_enough_begins_to_count_anew() {
    let world = VmWorld::new();
    let (vm, _) = running(&world, "always").await;
    for _ in 0..3 {
        world.host.machine(vm.view().record.id).end("its end", true);
        reaches(&vm, VmState::Stopped).await;
        reaches(&vm, VmState::Running).await;
    }
    // The first had run since its own start.
    assert_eq!(vm.view().record.life.restarts, 3);
    time_passes(Duration::from_secs(11)).await;
    world.host.machine(vm.view().record.id).end("its end", true);
    reaches(&vm, VmState::Stopped).await;
    reaches(&vm, VmState::Running).await;
    assert_eq!(vm.view().record.life.restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_nobody_uses_is_stopped_and_stays_down() {
    let world = VmWorld::new();
    let (vm, _) = running(&world, "always").await;
    let idle = |idle_stop: &str| SpecChange {
        idle_stop: Some(idle_stop.parse::<IdleStop>().unwrap()),
        ..SpecChange::default()
    };
    vm.change(idle("60")).await.unwrap();
    let used = vm.in_use();
    time_passes(LONG).await;
    assert_eq!(world.settled(&vm).0, VmState::Running, "somebody is there");
    drop(used);
    time_passes(Duration::from_secs(50)).await;
    assert!(vm.view().record.life.touched_at.is_some());
    drop(vm.in_use());
    time_passes(Duration::from_secs(50)).await;
    assert_eq!(world.settled(&vm).0, VmState::Running, "it was used");
    vm.change(idle("never")).await.unwrap();
    time_passes(LONG).await;
    assert_eq!(world.settled(&vm).0, VmState::Running);
    vm.change(idle("60")).await.unwrap();
    reaches(&vm, VmState::Stopped).await;
    time_passes(LONG).await;
    let (state, why) = world.settled(&vm);
    assert_eq!((state, launches(&world)), (VmState::Stopped, 1));
    assert_eq!(why.as_deref(), Some("nobody used it for 1m"));
}
