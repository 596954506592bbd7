//! Stories about machines that come back by themselves, and about those that nobody uses.

use std::time::Duration;

use banger_api::vm::VmState;
use e2e::{World, eventually};
use rustix::process::{Pid, Signal, kill_process};

fn kill_vmm(world: &World, vm: &str) {
    let pid = world.vm(vm).pid.expect("it runs");
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid is not 0");
    kill_process(pid, Signal::KILL).expect("it is our process");
}

fn comes_back(world: &World) {
    eventually("the machine is back", Duration::from_secs(100), || {
        let vm = world.vm("web");
        let back = vm.state == VmState::Running && vm.upkeep.restarts > 0;
        back.then_some(())
    });
}

#[test]
fn a_machine_comes_back_after_its_end_and_stays_down_after_a_stop() {
    let world = World::new();
    let create = ["vm", "create", "--name", "web", "--restart", "always"];
    world.banger(create).ok();
    let first = world.boot_id("web");

    kill_vmm(&world, "web");
    comes_back(&world);
    let second = world.boot_id("web");
    assert_ne!(first, second);
    assert_eq!(world.vm("web").upkeep.restarts, 1);
    let told = world.banger(["vm", "events", "web"]).ok().text();
    assert!(
        told.contains("web error: the VMM ended unexpectedly"),
        "{told}"
    );

    // Its end is also noticed when no daemon was there to see it.
    world.banger(["daemon", "stop"]).ok();
    for machine in world.machines() {
        let pid = Pid::from_raw(i32::try_from(machine).expect("a pid")).expect("a pid is not 0");
        kill_process(pid, Signal::KILL).expect("it is our process");
    }
    comes_back(&world);
    assert_ne!(world.boot_id("web"), second);

    world.banger(["vm", "stop", "web"]).ok();
    world.banger(["daemon", "stop"]).ok();
    assert_eq!(world.state_of("web"), VmState::Stopped);
    world
        .banger(["vm", "create", "--restart", "sometimes"])
        .code(2)
        .stderr_has(["on-failure:N"]);
}

#[test]
fn a_machine_that_nobody_uses_is_stopped() {
    let world = World::new();
    world.configure_also("auto_stop_stale_after = \"3s\"");
    world
        .banger(["vm", "create", "--name", "kept", "--idle-stop", "never"])
        .ok();
    world.banger(["vm", "create", "--name", "web"]).ok();
    world.banger(["vm", "wait", "web"]).ok();
    let told = world.vm("web");
    assert_eq!(told.last_error.as_deref(), Some("nobody used it for 3s"));
    assert_eq!(world.state_of("kept"), VmState::Running);
    // While a command runs, it is in use.
    world.banger(["vm", "start", "web"]).ok();
    assert_eq!(world.guest("web", "sleep 5; echo still here"), "still here");
    world.banger(["vm", "wait", "web"]).ok();
}
