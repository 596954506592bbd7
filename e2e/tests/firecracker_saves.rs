//! Machines under the real Firecracker that are saved, go on, and are copied. Where /dev/kvm only
//! emulates, a guest loses its way when two of its programs are busy at a time, so what goes on
//! here waits rather than counts.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, time::Duration};

use banger_api::{
    snapshot::{Forked, Snapshot},
    vm::VmState,
};
use e2e::{
    Devices, World, eventually, firecracker_for_all, firecracker_world, is_root, leave_out,
    own_address, serve_words,
};

const LONG: Duration = Duration::from_secs(400);

/// Something in memory, something on the disk, and a program that waits.
const FURNISH: &str = "echo in-memory >/run/word; echo kept >/kept; \
    mkdir -p /etc/banger/on-fork.d; cd /etc/banger/on-fork.d; \
    printf '#!/bin/sh\\nhostname >>/forked\\n' >10-note; chmod +x 10-note; \
    echo 00112233445566778899aabbccddeeff >/etc/machine-id; sync; \
    (setsid sh -c 'echo >/run/apart; exec sleep 1000000' >/dev/null 2>&1 </dev/null &); \
    until [ -e /run/apart ]; do sleep 0.1; done";
/// What of it is there.
const FURNITURE: &str = "cat /run/word /kept; pidof sleep >/dev/null && echo waits";
const ALL_THERE: &str = "in-memory\nkept\nwaits";

fn save(world: &World, vm: &str, name: &str) -> Snapshot {
    let create = [
        "vm",
        "snapshot",
        "create",
        vm,
        name,
        "--keep-running",
        "--json",
    ];
    world.banger(create).ok().json()
}

#[test]
fn a_saved_machine_goes_on_where_it_was_and_forks_are_somebody_each() {
    let Some(world) = firecracker_world() else {
        return;
    };
    let boot = check_saved_boots(&world);
    let _ = world.guest("web", FURNISH);
    let saved = save(&world, "web", "ready");
    assert!(
        saved.memory_bytes < saved.guest_memory_bytes / 2,
        "zeros are holes"
    );
    assert_eq!(world.state_of("web"), VmState::Running);
    assert_eq!(world.guest("web", FURNITURE), ALL_THERE);
    check_copies(&world, &boot);
    check_restore(&world);
    check_forks(&world);
    world.banger(["vm", "snapshot", "delete", "ready"]).ok();
    assert_eq!(world.files_below("snapshots"), 0);
}

fn fast_start(world: &World, wanted: &str) {
    world.banger(["config", "set", "fast_start", wanted]).ok();
    world.banger(["daemon", "stop"]).ok();
}

/// The second machine of a kind skips its boot. Gives back the boot of the first, which runs on.
fn check_saved_boots(world: &World) -> String {
    fast_start(world, "true");
    world.start("web");
    let cold_boot = world.boot_id("web");
    eventually("a boot is saved", LONG, || {
        let whole = world.files_below("snapshots") == 4 && world.machines().len() == 1;
        whole.then_some(())
    });
    let who = "cat /proc/sys/kernel/random/boot_id; hostname";
    let run = |name: &str| {
        let args = ["run", "--rm", "--name", name, "--", "sh", "-c", who];
        let text = world.banger(args).ok().text();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        <[String; 2]>::try_from(lines).expect("two lines")
    };
    let [boot, first] = run("first");
    let [same_boot, second] = run("second");
    assert_eq!((first.as_str(), second.as_str()), ("first", "second"));
    assert_eq!(boot, same_boot, "both went on from one boot");
    assert_ne!(boot, cold_boot);
    assert_eq!((world.vms().len(), world.machines().len()), (1, 1));
    // What nobody wants any more goes.
    fast_start(world, "false");
    assert_eq!(world.state_of("web"), VmState::Running);
    assert_eq!(world.files_below("snapshots"), 0);
    cold_boot
}

/// A copy has what its origin had, is somebody else, and keeps what it does to itself.
fn check_copies(world: &World, boot: &str) {
    let run = world.banger(["run", "--name", "copy", "--snapshot", "ready", "-d"]);
    run.ok().stdout("copy\n");
    assert_eq!(world.guest("copy", FURNITURE), ALL_THERE);
    assert_eq!(world.boot_id("copy"), boot);
    assert_eq!(world.guest("copy", "hostname"), "copy");
    let _ = world.guest("copy", "rm /kept && echo changed >/run/word && sync");
    assert_eq!(world.guest("web", FURNITURE), ALL_THERE);
    // It can be saved as its origin could, and ends then.
    let saved = world.banger(["vm", "snapshot", "create", "copy", "again"]);
    saved.ok().stdout("again\n");
    assert_eq!(world.state_of("copy"), VmState::Stopped);
    world.banger(["vm", "restore", "copy", "again"]).ok();
    assert_eq!(
        world.guest("copy", "cat /run/word; ls /kept 2>&1 | wc -l"),
        "changed\n1"
    );
    world.banger(["vm", "snapshot", "delete", "again"]).ok();
    world.banger(["rm", "-f", "copy"]).ok();
}

fn check_restore(world: &World) {
    let _ = world.guest("web", "rm /kept; echo lost >/run/word; sync");
    world.banger(["vm", "restore", "web", "ready"]).ok();
    assert_eq!(world.guest("web", FURNITURE), ALL_THERE);
    assert_eq!(world.guest("web", "hostname"), "web");
}

/// Each has a name, an identity, random numbers and a way to the outside of its own.
fn check_forks(world: &World) {
    let outside = own_address().map(|address| (address, serve_words(address)));
    let fork = ["vm", "fork", "web", "-n", "3", "--json"];
    let forked: Forked = world.banger(fork).ok().json();
    let names: Vec<_> = forked.vms.iter().map(|vm| vm.name.as_str()).collect();
    assert_eq!(names, ["web-1", "web-2", "web-3"]);
    let mut own = BTreeSet::new();
    let who =
        "head -c 32 /dev/urandom | sha256sum; cat /etc/machine-id /sys/class/net/eth0/address";
    for name in [&["web"], names.as_slice()].concat() {
        assert_eq!(world.guest(name, FURNITURE), ALL_THERE, "{name}");
        assert_eq!(world.guest(name, "hostname"), name);
        own.extend(world.guest(name, who).lines().map(str::to_owned));
        if let Some((address, port)) = outside {
            let call = format!("nc -w 20 {address} {port} </dev/null");
            assert_eq!(world.guest(name, &call), "the outside", "{name}");
        }
    }
    assert_eq!(own.len(), 12, "each is somebody else: {own:?}");
    for name in &names {
        // The hook ran before the first command could.
        assert_eq!(world.guest(name, "tail -n 1 /forked"), **name);
    }
    world.banger(["rm", "-f", "web-1", "web-2", "web-3"]).ok();
    assert_eq!(world.machines().len(), 1);
}

/// Ends with its input, or by its own account when it is hung up.
const ATTENTIVE: &str = "trap 'echo was hung up >/run/fate; exit 3' HUP; echo ready; cat; exit 42";

#[test]
fn what_runs_for_somebody_is_hung_up_where_it_goes_on_and_everybody_is_told() {
    let Some(world) = firecracker_world() else {
        return;
    };
    world.start("web");
    let exec = ["exec", "-i", "web", "--", "sh", "-c", ATTENTIVE];
    let running = world.call(exec).open_stdin().limit(LONG).spawn();
    running.expect_stdout("ready");
    world.banger(["vm", "fork", "web"]).ok();
    let told = running.finish();
    told.code(125)
        .stderr_has(["the connection to the guest broke"]);
    for vm in ["web", "web-1"] {
        let log = eventually("it has ended", LONG, || {
            let log = world.banger(["vm", "logs", "--agent", vm]).ok().text();
            log.contains(" has ended: ").then_some(log)
        });
        assert!(log.contains("has ended: exit code 3"), "{vm}: {log}");
        assert_eq!(world.guest(vm, "cat /run/fate"), "was hung up", "{vm}");
    }
}

/// Kills the daemon so long after a machine has begun to be saved.
const INSTANTS_MS: [u64; 4] = [0, 60, 200, 500];

#[test]
fn a_daemon_that_is_killed_while_it_saves_leaves_no_half_and_nobody_standing_still() {
    let Some(world) = firecracker_world() else {
        return;
    };
    world.start("web");
    let _ = world.guest("web", FURNISH);
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
        assert_eq!(
            world.guest("web", FURNITURE),
            ALL_THERE,
            "after {instant} ms"
        );
        let listed = world.banger(["vm", "snapshot", "list", "--json"]);
        let whole: Vec<Snapshot> = listed.ok().json();
        for snapshot in whole {
            let run = [
                "run",
                "--rm",
                "--snapshot",
                &snapshot.name,
                "--",
                "cat",
                "/run/word",
            ];
            world.banger(run).ok().stdout("in-memory\n");
            world
                .banger(["vm", "snapshot", "delete", &snapshot.name])
                .ok();
        }
        assert_eq!(world.files_below("snapshots"), 0, "after {instant} ms");
    }
    assert_eq!(world.machines().len(), 1);
}

/// Nobody's own machines live in namespaces instead of a jail.
const LIFE: &str = "
    banger vm create --quiet --name web
    banger vm show web
    banger exec web -- sh -c 'echo in-memory >/run/word'
    banger vm fork web -n 2
    banger exec web-2 -- sh -c 'cat /run/word; hostname'
    banger vm snapshot create web ready
    banger run --rm --snapshot ready -- cat /run/word
    banger rm -f web web-1 web-2
    banger vm snapshot delete ready
    banger daemon stop
";

#[test]
fn an_ordinary_user_saves_and_forks_as_well() {
    if !is_root() {
        leave_out("only root can let another user open the devices");
        return;
    }
    let Some(world) = firecracker_world() else {
        return;
    };
    firecracker_for_all(&world);
    let life = world.as_nobody(Devices::Virtual, LIFE).limit(LONG).run();
    life.ok()
        .stdout_has(["namespaces", "in-memory\nweb-2\n", "ready\nin-memory\n"]);
}
