//! What a machine may use of its host, held by the host's kernel.
#![forbid(unsafe_code)]

use std::{path::Path, time::Duration};

use e2e::{World, is_root, wait_for_end};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_group_that_is_nobodys_is_removed() {
    let world = World::new();
    if !is_root() {
        eprintln!("SKIPPED: only root can make groups wherever it likes");
        return;
    }
    world.start("web");
    let journal = world.host_journal();
    let mut entries = journal.entries.iter();
    let Some(own) = entries.find(|entry| entry.act == "group") else {
        eprintln!("SKIPPED: this user can make no control groups here");
        return;
    };
    // As a daemon leaves it that was ended with all that it knew.
    let group = Path::new(&own.operand).with_file_name("banger-00112233aabb");
    let group = group.to_str().expect("a group's name is text");
    let make = format!("mkdir {group} && touch -d '1 hour ago' {group}");
    world.shell(&make).run().ok();
    world
        .banger(["doctor"])
        .stdout_has(["left-overs", "banger-", "doctor --fix"]);
    world
        .banger(["doctor", "--fix"])
        .stderr_has(["removed", group]);
    assert!(!Path::new(group).exists());
    assert_eq!(world.guest("web", "echo on"), "on");
    world.expect_tidy(SOON);
}

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
