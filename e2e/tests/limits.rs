//! What a machine may use of its host, held by the host's kernel.
#![forbid(unsafe_code)]

use std::time::Duration;

use e2e::{World, wait_for_end};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_machines_limits_outlive_its_daemon_and_end_with_it() {
    let world = World::new();
    let doctor = world.banger(["doctor"]);
    if !String::from_utf8_lossy(doctor.bytes()).contains("control groups limit") {
        eprintln!("SKIPPED: this user can make no control groups here");
        return;
    }
    world.start("web");
    let vm = world.vm("web");
    let (id, pid) = (&vm.id[..12], vm.pid.expect("a running VM has a process"));
    let held = format!("grep --quiet banger-{id} /proc/{pid}/cgroup");
    world.shell(&held).run().ok();

    let daemon = world.daemon().pid;
    world.shell(&format!("kill -KILL {daemon}")).run().ok();
    wait_for_end(daemon, SOON);
    assert_eq!(world.guest("web", "echo on"), "on");
    world.shell(&held).run().ok();

    world.banger(["vm", "delete", "--force", "web"]).ok();
    let left = format!("! find /sys/fs/cgroup -name 'banger-{id}' | grep .");
    world.shell(&left).run().ok();
}
