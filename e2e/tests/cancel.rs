//! Who goes away leaves nothing: an interrupted start, a command that is killed outright.
#![forbid(unsafe_code)]

use std::{fs, time::Duration};

use e2e::{World, eventually};

const SOON: Duration = Duration::from_secs(30);
/// A daemon that finds a machine of `--rm` gives its owner 30 s to come back.
const OWNERLESS: Duration = Duration::from_secs(60);

#[track_caller]
fn expect_nothing_left(world: &World) {
    expect_nothing_left_within(SOON, world);
}

#[track_caller]
fn expect_nothing_left_within(patience: Duration, world: &World) {
    eventually("every VM is gone", patience, || {
        world.vms().is_empty().then_some(())
    });
    eventually("every VMM is gone", SOON, || {
        world.machines().is_empty().then_some(())
    });
    let left = fs::read_dir(world.state("vms"))
        .into_iter()
        .flatten()
        .flatten();
    assert_eq!(left.count(), 0);
}

#[test]
fn an_interrupt_during_the_boot_leaves_no_machine() {
    let world = World::new();
    for rm in [&["--rm"][..], &[]] {
        let line = format!("exec banger run {} -- echo never", rm.join(" "));
        let starting = world.shell(&line).spawn();
        eventually("a VMM runs", SOON, || {
            (!world.machines().is_empty()).then_some(())
        });
        starting.interrupt();
        starting
            .finish()
            .code(130)
            .stdout("")
            .stderr_has(["interrupted"]);
        expect_nothing_left(&world);
    }
}

#[test]
fn a_killed_client_takes_its_machine_along() {
    let world = World::new();
    let script = "echo ready; exec sleep 1000";
    let running = world
        .call(["run", "--rm", "--", "sh", "-c", script])
        .open_stdin()
        .spawn();
    running.expect_stdout("ready");
    assert_eq!(world.vms().len(), 1);
    running.kill();
    drop(running);
    expect_nothing_left(&world);
}

#[test]
fn a_client_killed_during_the_boot_leaves_no_machine() {
    let world = World::new();
    let starting = world.call(["run", "--rm", "--", "true"]).spawn();
    eventually("a VMM runs", SOON, || {
        (!world.machines().is_empty()).then_some(())
    });
    starting.kill();
    drop(starting);
    expect_nothing_left(&world);
}

#[test]
fn an_interrupt_reaches_the_command_and_its_end_counts() {
    let world = World::new();
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done";
    let running = world
        .call(["run", "--rm", "--", "sh", "-c", script])
        .open_stdin()
        .spawn();
    running.expect_stdout("ready");
    running.interrupt();
    running.finish().code(9).stdout("ready\ncaught\n");
    expect_nothing_left(&world);
}

#[test]
fn a_daemon_killed_during_a_boot_leaves_nothing_that_the_next_does_not_find() {
    let world = World::new();
    let starting = world.call(["run", "--rm", "--", "true"]).spawn();
    eventually("a VMM runs", SOON, || {
        (!world.machines().is_empty()).then_some(())
    });
    let daemon = world.daemon().pid;
    world.shell(&format!("kill -KILL {daemon}")).run().ok();
    starting
        .finish()
        .code(125)
        .stdout("")
        .stderr_has(["daemon"]);
    // The next daemon finds it in the middle of its start; nobody waits for it any more.
    expect_nothing_left_within(OWNERLESS, &world);
}
