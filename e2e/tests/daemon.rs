//! The daemon may go at any time: machines stay, and the next command finds them again.
#![forbid(unsafe_code)]

use std::time::Duration;

use banger_api::vm::VmState;
use e2e::{World, eventually, wait_for_end};

const SOON: Duration = Duration::from_secs(20);

/// Ends the daemon somehow, then holds the next one to knowing the machine that still runs.
fn check(end: impl Fn(&World, u32)) {
    let world = World::new();
    world.start("web");
    let (boot, machines) = (world.boot_id("web"), world.machines());
    let daemon = world.daemon().pid;
    end(&world, daemon);
    wait_for_end(daemon, SOON);
    assert_eq!(
        world.machines(),
        machines,
        "the machine goes on without a daemon"
    );

    assert_eq!(world.boot_id("web"), boot);
    let next = world.daemon();
    assert_ne!(next.pid, daemon);
    assert_eq!(next.running_vms, 1);
    assert_eq!(world.state_of("web"), VmState::Running);
    assert_eq!(world.machines(), machines);
    // It is a machine like any other: it can be stopped and leaves nothing.
    world.banger(["vm", "stop", "web"]).ok();
    assert!(world.machines().is_empty());
}

#[test]
fn a_killed_daemon_is_replaced_and_the_machine_goes_on() {
    check(|world, pid| {
        world.shell(&format!("kill -KILL {pid}")).run().ok();
    });
}

#[test]
fn a_daemon_that_is_told_to_end_leaves_the_machine_running() {
    check(|world, pid| {
        world.shell(&format!("kill -TERM {pid}")).run().ok();
    });
}

#[test]
fn a_stopped_daemon_leaves_the_machine_running() {
    check(|world, _| {
        world.banger(["daemon", "stop"]).ok();
    });
}

#[test]
fn a_machine_that_ends_while_no_daemon_looks_is_found_out() {
    let world = World::new();
    world.start("web");
    lose_everything(&world);
    eventually("the machine is known to be down", SOON, || {
        match world.state_of("web") {
            VmState::Stopped | VmState::Error => Some(()),
            VmState::Created
            | VmState::Starting
            | VmState::Running
            | VmState::Paused
            | VmState::Stopping
            | VmState::Deleting => None,
        }
    });
    world.banger(["vm", "start", "web"]).ok();
    lose_everything(&world);
    // Asked at once, a daemon that has just begun does not take its record for the truth.
    world.banger(["vm", "start", "web"]).ok();
    assert_eq!(world.guest("web", "echo again"), "again");
}

/// What a reboot of the host does: no daemon and no machine has time to say goodbye.
fn lose_everything(world: &World) {
    let lost = [vec![world.daemon().pid], world.machines()].concat();
    for pid in lost {
        world.shell(&format!("kill -KILL {pid}")).run().ok();
        wait_for_end(pid, SOON);
    }
}

#[test]
fn commands_that_begin_together_share_one_daemon() {
    let world = World::empty();
    let line = "for i in 1 2 3 4; do banger vm list --quiet & done; \
                for job in $(jobs -p); do wait $job || exit 1; done";
    world.shell(line).run().ok().stdout("").stderr("");
    let pid = world.daemon().pid;
    // One daemon logs that it serves; a second would have done so, too.
    let log = std::fs::read_to_string(world.state("bangerd.log")).expect("the daemon has a log");
    let serving: Vec<_> = log
        .lines()
        .filter(|line| line.contains("serving"))
        .collect();
    assert_eq!(serving.len(), 1, "{log}");
    assert!(serving[0].contains(&pid.to_string()), "{log}");
}

#[test]
fn stopping_what_does_not_run_is_no_failure() {
    let world = World::empty();
    world.banger(["daemon", "stop"]).ok().stdout("");
    world
        .banger(["daemon", "status"])
        .code(1)
        .stderr_has(["not running", "banger daemon start"]);
}
