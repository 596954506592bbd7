//! Machines that are saved, and go on: as they were, as often as one likes, and each as itself.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use banger_api::{
    snapshot::{Forked, Snapshot},
    vm::VmState,
};
use e2e::{World, eventually};

fn snapshots(world: &World) -> Vec<Snapshot> {
    let listed = world.banger(["vm", "snapshot", "list", "--json"]);
    listed.ok().json()
}

/// Seconds by which the guest's clock is surely off.
fn clock_error(world: &World, vm: &str) -> u64 {
    let now = || SystemTime::UNIX_EPOCH.elapsed().expect("it is past 1970");
    let before = now().as_secs();
    let text = world.guest(vm, "date +%s");
    let after = now().as_secs();
    let guest: u64 = text.trim().parse().expect("a number");
    guest.abs_diff(guest.clamp(before, after))
}

/// Waits until a program has written this: it is apart from the exec that began it then.
const APART: &str = "apart() { until [ -s $1 ]; do sleep 0.05; done; }; apart";

/// Leaves a process in the guest that counts tenths of a second into a file in its memory.
fn start_counting(world: &World, vm: &str) {
    let counter = "i=0; while :; do i=$((i+1)); echo $i >/run/count; sleep 0.1; done";
    let line =
        format!("(setsid sh -c '{counter}' >/dev/null 2>&1 </dev/null &); {APART} /run/count");
    let _ = world.guest(vm, &line);
}

fn count(world: &World, vm: &str) -> u64 {
    // The file is empty for a moment each time.
    let line = "n=; until [ -n \"$n\" ]; do n=$(cat /run/count); done; echo $n";
    let text = world.guest(vm, line);
    text.trim().parse().expect("a number")
}

#[test]
fn a_saved_machine_goes_on_where_it_was() {
    let world = World::new();
    world.start("web");
    start_counting(&world, "web");
    let _ = world.guest("web", "echo kept >/kept && sync; echo in-memory >/run/word");
    // What tells a copy from its origin: its keys are gone, and the image's hook ran.
    let _ = world.guest(
        "web",
        "mkdir -p /etc/ssh /etc/banger/on-fork.d; echo k >/etc/ssh/ssh_host_rsa_key; \
         h=/etc/banger/on-fork.d/1; printf '#!/bin/sh\\necho fork >/run/hook\\n' >$h; chmod +x $h",
    );
    let marks = "ls /etc/ssh/ssh_host_rsa_key /run/hook 2>/dev/null; :";
    let boot = world.boot_id("web");
    let saved: Snapshot = world
        .banger([
            "vm",
            "snapshot",
            "create",
            "web",
            "ready",
            "--keep-running",
            "--json",
        ])
        .ok()
        .json();
    assert_eq!(world.state_of("web"), VmState::Running);
    assert_eq!(snapshots(&world), std::slice::from_ref(&saved));
    assert!(
        saved.memory_bytes < saved.guest_memory_bytes,
        "zeros are holes"
    );
    let counted = count(&world, "web");

    // A new machine of it: the same processes, the same files, another name, the present time.
    let line = "cat /kept /run/word; hostname; cat /proc/sys/kernel/random/boot_id";
    let run = world.banger(["run", "--name", "copy", "--snapshot", "ready", "-d"]);
    run.ok().stdout("copy\n");
    let copied = world.guest("copy", line);
    assert_eq!(copied, format!("kept\nin-memory\ncopy\n{boot}"));
    assert!(clock_error(&world, "copy") <= 2);
    assert_eq!(world.guest("copy", marks), "/run/hook");
    let goes_on = count(&world, "copy");
    std::thread::sleep(Duration::from_secs(1));
    assert!(count(&world, "copy") > goes_on, "a timer that ran goes on");
    assert!(count(&world, "web") > counted, "and so does the origin's");

    // What one of them does is its own.
    let _ = world.guest("copy", "rm /kept && echo changed >/run/word && sync");
    assert_eq!(world.guest("web", "cat /kept /run/word"), "kept\nin-memory");
    // A copy can be saved as its origin could.
    world
        .banger(["vm", "snapshot", "create", "copy", "again"])
        .ok()
        .stdout("again\n");
    assert_eq!(world.state_of("copy"), VmState::Stopped);
    world
        .banger(["vm", "restore", "copy", "again"])
        .ok()
        .stdout("copy\n");
    assert_eq!(
        world.guest("copy", "cat /run/word; ls /kept 2>&1 | wc -l"),
        "changed\n1"
    );
    world
        .banger(["vm", "restore", "copy", "ready"])
        .code(1)
        .stderr_has(["web", "run --snapshot ready"]);

    // Back to before: a file that was deleted since is there again.
    let _ = world.guest("web", "rm /kept; echo lost >/run/word; sync");
    world
        .banger(["vm", "restore", "web", "ready"])
        .ok()
        .stdout("web\n");
    assert_eq!(world.guest("web", "cat /kept /run/word"), "kept\nin-memory");
    assert_eq!(world.guest("web", "hostname"), "web");
    let own = "/etc/ssh/ssh_host_rsa_key";
    assert_eq!(world.guest("web", marks), own, "it is nobody's copy");

    // The snapshots are of no use to machines that went on from them.
    world
        .banger(["vm", "snapshot", "delete", "ready", "again"])
        .ok()
        .stdout("ready\nagain\n");
    assert_eq!(world.guest("web", "cat /kept"), "kept");
    assert_eq!(world.files_below("snapshots"), 0);
    // And a machine that went on stops, and boots from its own disk.
    world.banger(["vm", "stop", "copy"]).ok();
    assert_eq!(world.vm("copy").last_error, None, "it ends as any other");
    world.banger(["vm", "start", "copy"]).ok();
    assert_ne!(world.boot_id("copy"), boot);
    assert_eq!(world.guest("copy", "ls /kept 2>&1 | wc -l"), "1");
}

#[test]
fn forks_are_somebody_each() {
    let world = World::new();
    world.start("web");
    let hook = "mkdir -p /etc/banger/on-fork.d && cd /etc/banger/on-fork.d && \
                printf '#!/bin/sh\\nhostname >>/forked\\n' >10-note && chmod +x 10-note && \
                echo 00112233445566778899aabbccddeeff >/etc/machine-id && sync";
    let _ = world.guest("web", hook);
    start_counting(&world, "web");
    let writer = "(setsid sh -c 'exec 3>/log; i=0; while :; do i=$((i+1)); echo $i >&3; sync; done' \
                  >/dev/null 2>&1 </dev/null &)";
    let _ = world.guest("web", &format!("{writer}; {APART} /log"));
    let forked: Forked = world
        .banger(["vm", "fork", "web", "-n", "3", "--json"])
        .ok()
        .json();
    let names: Vec<_> = forked.vms.iter().map(|vm| vm.name.clone()).collect();
    assert_eq!(names, ["web-1", "web-2", "web-3"]);

    let mut random = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for name in ["web", "web-1", "web-2", "web-3"] {
        random.insert(world.guest(name, "head -c 32 /dev/urandom | sha256sum"));
        ids.insert(world.guest(name, "cat /etc/machine-id"));
        assert!(clock_error(&world, name) <= 2, "{name}");
        let goes_on = count(&world, name);
        std::thread::sleep(Duration::from_millis(700));
        assert!(count(&world, name) > goes_on, "{name}: a timer goes on");
        // Lines in order and none twice: what was being written at that moment was written once.
        let torn = "awk 'NR != $1 { print \"torn\", NR, $1; exit }' /log";
        assert_eq!(world.guest(name, torn), "", "{name}");
    }
    assert_eq!((random.len(), ids.len()), (4, 4), "each is somebody else");
    for name in ["web-1", "web-2", "web-3"] {
        // The hook ran before the first command could, and once.
        assert_eq!(world.guest(name, "cat /forked"), name);
    }
    assert_eq!(
        world.guest("web", "ls /forked 2>&1 | grep -c '^/forked$'; true"),
        "0"
    );
    assert_eq!(world.files_below("snapshots"), 0);
    world
        .banger(["rm", "-f", "web", "web-1", "web-2", "web-3"])
        .ok();
    assert!(world.machines().is_empty() && world.vms().is_empty());
}

#[test]
fn what_cannot_be_is_said_before_anything_happens() {
    let world = World::new();
    let without = world.banger(["vm", "create", "--no-start", "--name", "web"]);
    without.ok();
    world
        .banger(["vm", "snapshot", "create", "web", "s"])
        .code(1)
        .stderr_has(["created", "start it first"]);
    world
        .banger(["vm", "fork", "web"])
        .code(1)
        .stderr_has(["created"]);
    world
        .banger(["run", "--snapshot", "nowhere", "--rm", "--", "true"])
        .code(125)
        .stderr_has(["nowhere", "snapshot list"]);
    world.banger(["vm", "start", "web"]).ok();
    world
        .banger(["vm", "snapshot", "create", "web", "s", "--keep-running"])
        .ok();
    world
        .banger(["vm", "snapshot", "create", "web", "s"])
        .code(1)
        .stderr_has(["exists already"]);
    let image = world.vm("web").image;
    world.banger(["rm", "-f", "web"]).ok();
    world
        .banger(["image", "delete", &image])
        .code(1)
        .stderr_has(["snapshot s"]);
    world
        .banger(["run", "--rm", "--snapshot", "s", "--", "sh", "-c", "exit 7"])
        .code(7);
    assert!(world.vms().is_empty() && world.machines().is_empty());
}

#[test]
fn the_second_machine_of_a_kind_skips_its_boot() {
    let world = World::new();
    world.banger(["config", "set", "fast_start", "true"]).ok();
    let who = "cat /proc/sys/kernel/random/boot_id; hostname; \
               head -c 16 /dev/urandom | sha256sum; cat /sys/class/net/eth0/address";
    let run = |args: &[&str]| {
        let args = [&["run", "--rm"], args, &["--", "sh", "-c", who]].concat();
        let text = world.call_with(&args).run().ok().text();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        <[String; 4]>::try_from(lines).expect("four lines")
    };
    let [cold_boot, ..] = run(&["--name", "cold"]);
    // Behind its back another of its kind boots, is saved and goes.
    let is_saved = || {
        let whole = world.files_below("snapshots") == 4 && world.files_below("vms") == 0;
        whole.then_some(())
    };
    eventually("a boot is saved", Duration::from_secs(60), is_saved);
    assert!(world.vms().is_empty() && world.machines().is_empty());
    let [boot, first, drawn, card] = run(&["--name", "first"]);
    let [same_boot, second, drawn_anew, other_card] = run(&["--name", "second"]);
    assert_eq!((first.as_str(), second.as_str()), ("first", "second"));
    assert_eq!(boot, same_boot, "both went on from one boot");
    assert_ne!(boot, cold_boot);
    assert_ne!(drawn, drawn_anew);
    assert_ne!(card, other_card);
    let [other_boot, ..] = run(&["--cold"]);
    assert_ne!(boot, other_boot);
    let [other_kind, ..] = run(&["--memory", "192M"]);
    assert_ne!(boot, other_kind);
    // Nobody asked for a snapshot, so none is shown; and they go with their image.
    assert_eq!(snapshots(&world), []);
    assert!(world.files_below("snapshots") > 0);
    let image = world.image("busybox").name;
    world.banger(["image", "delete", &image]).ok();
    assert_eq!(world.files_below("snapshots"), 0);
    assert!(world.vms().is_empty() && world.machines().is_empty());
}

#[test]
fn no_machine_that_nobody_knows_of_outlives_its_daemon() {
    let world = World::new();
    world.banger(["config", "set", "fast_start", "true"]).ok();
    world.start("web");
    let boots = || (world.machines().len() == 2).then_some(());
    eventually("another boots to be saved", Duration::from_secs(30), boots);
    world.banger(["daemon", "stop"]).ok();
    eventually("it is gone", Duration::from_secs(30), || {
        (world.machines().len() == 1).then_some(())
    });
    assert_eq!(world.guest("web", "echo well"), "well");
    // And one that is killed leaves it to the next.
    let again = || (world.machines().len() == 2).then_some(());
    let other = ["vm", "create", "--name", "other", "--memory", "192M"];
    world.banger(other).ok();
    world.banger(["rm", "-f", "other"]).ok();
    eventually("another boots to be saved", Duration::from_secs(30), again);
    let daemon = world.daemon().pid;
    world.shell(&format!("kill -KILL {daemon}")).run().ok();
    assert_eq!(world.vms().len(), 1);
    eventually("it is gone", Duration::from_secs(30), || {
        (world.machines().len() == 1).then_some(())
    });
    assert_eq!(world.files_below("snapshots"), 0);
}

/// Kills the daemon so long after a machine has begun to be saved.
const INSTANTS_MS: [u64; 6] = [0, 15, 40, 80, 130, 250];

#[test]
fn a_daemon_that_is_killed_while_it_saves_leaves_no_half_and_nobody_standing_still() {
    let world = World::new();
    world.start("web");
    start_counting(&world, "web");
    for instant in INSTANTS_MS {
        let daemon = world.daemon().pid;
        let name = format!("at-{instant}");
        let args = ["vm", "snapshot", "create", "web", &name, "--keep-running"];
        let saving = world.call_with(&args).spawn();
        // This is the instant itself; nothing is waited for.
        std::thread::sleep(Duration::from_millis(instant));
        world.shell(&format!("kill -KILL {daemon}")).run().ok();
        let _ = saving.finish();
        // The next daemon has come with this command, and let the machine go on.
        let goes_on = count(&world, "web");
        std::thread::sleep(Duration::from_millis(500));
        assert!(count(&world, "web") > goes_on, "after {instant} ms");
        let whole = snapshots(&world);
        assert_eq!(world.files_below("snapshots"), 4 * whole.len());
        for snapshot in whole {
            let run = world.banger(["run", "--rm", "--snapshot", &snapshot.name, "--", "true"]);
            run.ok();
        }
    }
    assert_eq!(world.machines().len(), 1);
}
