//! Stories about the store: in somebody else's hands, and lost.
#![forbid(unsafe_code)]

use std::{
    fs::{self, OpenOptions},
    time::Duration,
};

use banger_api::{snapshot::Snapshot, vm::VmState};
use e2e::World;
use rustix::fs::{FlockOperation, fcntl_lock};

/// What a store that is locked is waited for at most: nobody wants to look at a command that hangs.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn a_store_that_another_program_has_locked_is_refused_at_once() {
    let world = World::empty();
    world.banger(["vm", "list"]).ok();
    world.banger(["daemon", "stop"]).ok();
    let path = world.state("state.db");
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.expect("the daemon has left its store");
    // SQLite's own locks are locks of ranges of this file.
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).expect("nobody has it open");
    let refused = world.banger(["vm", "list"]);
    let text = path.to_str().expect("a home is text");
    refused
        .code(1)
        .stdout("")
        .stderr_has(["another program has the store", text, "fuser"]);
    assert!(refused.took() < AT_ONCE, "{refused}");
    drop(file);
    world.banger(["vm", "list", "--quiet"]).ok().stdout("");
}

#[test]
fn vms_of_a_store_that_is_damaged_are_had_again_and_go_on() {
    let world = World::new();
    world.start("web");
    let boot = world.boot_id("web");
    assert_eq!(world.guest("web", "echo kept > /root/file; sync"), "");
    let create = ["vm", "create", "--name", "db", "--no-start", "-l", "team=a"];
    world.banger(create).ok();
    world.banger(["daemon", "stop"]).ok();
    let path = world.state("state.db");
    fs::write(&path, [0x5a; 8192]).expect("the home is writable");

    // The machine that ran has run on, and the one that did not is there.
    assert_eq!(world.boot_id("web"), boot);
    assert_eq!(world.state_of("db"), VmState::Stopped);
    assert_eq!(world.vm("db").labels["team"], "a");
    let kept = world.daemon().kept_store.expect("it was put aside");
    assert_eq!(
        fs::read(&kept).expect("nothing is thrown away"),
        [0x5a; 8192]
    );
    world.banger(["vm", "stop", "web"]).ok();
    world.banger(["vm", "start", "web", "db"]).ok();
    assert_eq!(world.guest("web", "cat /root/file"), "kept");
    assert_eq!(world.guest("db", "echo here"), "here");
    world.expect_tidy(AT_ONCE);
}

#[test]
fn what_an_old_copy_of_the_store_does_not_know_is_recovered() {
    let world = World::new();
    world.banger(["vm", "list"]).ok();
    world.banger(["daemon", "stop"]).ok();
    let (path, copy) = (world.state("state.db"), world.home().join("copy.db"));
    fs::copy(&path, &copy).expect("the store is a file");
    let create = ["vm", "create", "--name", "web", "--no-start"];
    world.banger(create).ok();
    world.banger(["daemon", "stop"]).ok();
    for companion in ["state.db-wal", "state.db-shm"] {
        // A daemon that ends leaves none.
        let _ = fs::remove_file(world.state(companion));
    }
    fs::copy(&copy, &path).expect("the home is writable");

    assert!(world.vms().is_empty());
    let doctor = world.banger(["doctor"]);
    doctor.stdout_has(["forgotten VMs", "banger recover"]);
    let told = world.banger(["recover", "--dry-run"]).ok().text();
    assert_eq!(told, "VM web");
    assert!(world.vms().is_empty(), "a dry run makes nothing");
    world.banger(["recover"]).ok().stdout("VM web\n");
    world.banger(["vm", "start", "web"]).ok();
    assert_eq!(world.guest("web", "echo here"), "here");
}

#[test]
fn snapshots_of_a_store_that_is_lost_are_had_again_and_go_on() {
    let world = World::new();
    world.start("web");
    let _ = world.guest("web", "echo in-memory >/run/word; echo kept >/kept; sync");
    let boot = world.boot_id("web");
    let save = |vm: &str, name: &str| {
        let create = ["vm", "snapshot", "create", vm, name, "--keep-running"];
        world.banger(create).ok();
    };
    let snapshots = || -> Vec<Snapshot> {
        let listed = world.banger(["vm", "snapshot", "list", "--json"]);
        listed.ok().json()
    };
    // What a store that is put back does not know.
    let (path, copy) = (world.state("state.db"), world.home().join("copy.db"));
    world.banger(["daemon", "stop"]).ok();
    fs::copy(&path, &copy).expect("the store is a file");
    save("web", "ready");
    // One whose origin is no more.
    world.start("gone");
    save("gone", "orphan");
    world.banger(["rm", "-f", "gone"]).ok();
    let before = snapshots();
    let lose = || {
        world.banger(["daemon", "stop"]).ok();
        for part in ["state.db", "state.db-wal", "state.db-shm"] {
            // A daemon that ends leaves only the first.
            let _ = fs::remove_file(world.state(part));
        }
    };
    lose();
    fs::copy(&copy, &path).expect("the home is writable");
    assert!(snapshots().is_empty());
    for dry in [&["--dry-run"][..], &[]] {
        let told = world.call_with(&[&["recover"], dry].concat()).run();
        let told = told.ok().text();
        let mut lines: Vec<&str> = told.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["snapshot orphan", "snapshot ready"]);
    }
    assert_eq!(snapshots(), before);
    // Without any store a daemon does the same by itself.
    lose();
    assert_eq!(snapshots(), before);
    // The machine that ran has run on, can go back, and can be copied.
    assert_eq!(world.boot_id("web"), boot);
    let _ = world.guest("web", "rm /kept; sync");
    let word = "cat /run/word /kept; hostname";
    let run = [
        "run",
        "--rm",
        "--name",
        "copy",
        "--snapshot",
        "ready",
        "--",
        "sh",
        "-c",
        word,
    ];
    world.banger(run).ok().stdout("in-memory\nkept\ncopy\n");
    world.banger(["vm", "restore", "web", "ready"]).ok();
    assert_eq!(world.guest("web", word), "in-memory\nkept\nweb");
    let run = ["run", "--rm", "--snapshot", "orphan", "--", "true"];
    world.banger(run).ok();
    world
        .banger(["vm", "snapshot", "delete", "ready", "orphan"])
        .ok();
    assert_eq!(world.files_below("snapshots"), 0);
    assert!(world.banger(["recover"]).ok().text().is_empty());
}
