//! A machine that is kept: made, stopped, started again with its files, shown, deleted.
#![forbid(unsafe_code)]

use std::path::Path;

use banger_api::{image::Image, vm::VmState};
use e2e::{BUSYBOX, KERNEL, World};

#[test]
fn a_stopped_machine_comes_back_with_its_files() {
    let world = World::new();
    world.start("web");
    let first = world.boot_id("web");
    // Nobody calls sync: the stop has to write out what is still in memory.
    let line = "head -c 3000000 /dev/urandom >/kept && sha256sum /kept";
    let written = world.guest("web", line);
    world.banger(["vm", "stop", "web"]).ok().stdout("web\n");
    assert_eq!(world.state_of("web"), VmState::Stopped);
    assert!(world.machines().is_empty());

    world.banger(["vm", "start", "web"]).ok().stdout("web\n");
    assert_eq!(world.guest("web", "sha256sum /kept"), written);
    assert_ne!(world.boot_id("web"), first);
    // What is so already is no failure.
    world.banger(["vm", "start", "web"]).ok();
    world.banger(["vm", "stop", "web"]).ok();
    world.banger(["vm", "stop", "web"]).ok();
}

#[test]
fn the_documents_say_what_scripts_need() {
    let world = World::new();
    world
        .banger([
            "vm",
            "create",
            "--no-start",
            "--name",
            "web",
            "--memory",
            "320M",
        ])
        .ok();
    let made = world.vm("web");
    assert_eq!(
        (made.state, made.vmm, made.pid),
        (VmState::Created, None, None)
    );
    assert_eq!((made.memory_bytes, made.vcpus), (320 << 20, 1));
    world.banger(["vm", "start", "web"]).ok();

    let vm = world.vm("web");
    assert_eq!(vm.state, VmState::Running);
    assert_eq!((vm.image.as_str(), vm.kernel.as_str()), (BUSYBOX, KERNEL));
    assert_eq!(vm.vmm.as_deref(), Some("qemu"));
    assert!(matches!(vm.accelerator.as_deref(), Some("tcg" | "kvm")));
    assert!(Path::new(&vm.disk_path).is_file());
    assert!(Path::new(&vm.console_path).is_file());
    assert!(vm.pid.is_some_and(|pid| world.machines() == [pid]));
    assert_eq!(world.vms(), std::slice::from_ref(&vm));
    let agent = vm.agent.expect("it runs, so its agent has answered");
    assert_eq!(agent.boot_id, world.boot_id("web"));
    assert_eq!(agent.init, "agent");

    let image: Image = world.image(BUSYBOX);
    assert!(Path::new(&image.rootfs_path).is_file());
    assert_eq!(image.vms, ["web"]);
    // The same for people, in words.
    world
        .banger(["ps"])
        .ok()
        .stdout_has(["web", "running", BUSYBOX]);
    world.banger(["vm", "logs", "--vmm", "web"]).ok();
}

#[test]
fn only_force_deletes_a_running_machine() {
    let world = World::new();
    world.start("web");
    let directory = Path::new(&world.vm("web").disk_path)
        .parent()
        .map(Path::to_owned);
    let directory = directory.expect("a disk is in a directory");
    world
        .banger(["rm", "web"])
        .code(1)
        .stdout("")
        .stderr_has(["running", "--force"]);
    assert_eq!(world.state_of("web"), VmState::Running);
    world.banger(["rm", "--force", "web"]).ok().stdout("web\n");
    assert!(world.vms().is_empty() && world.machines().is_empty());
    assert!(!directory.exists());
    world.banger(["rm", "web"]).code(1).stderr_has(["web"]);
}

#[test]
fn a_command_for_several_machines_does_all_it_can() {
    let world = World::new();
    for name in ["badger", "otter-one", "otter-two"] {
        world
            .banger(["vm", "create", "--no-start", "--name", name])
            .ok();
    }
    world
        .banger(["vm", "start", "otter-one", "badger"])
        .ok()
        .stdout("otter-one\nbadger\n");
    world
        .banger(["ps", "-q"])
        .ok()
        .stdout("badger\notter-one\n");
    world
        .banger(["vm", "list", "-q"])
        .ok()
        .stdout("badger\notter-one\notter-two\n");
    let stopped = world.banger(["vm", "stop", "badger", "nobody", "otter-one"]);
    stopped
        .code(1)
        .stdout("badger\notter-one\n")
        .stderr_has(["nobody"]);
    assert!(world.machines().is_empty());
    // Running or not, and named twice: each goes once.
    world
        .banger(["rm", "badger", "otter-one", "badger"])
        .ok()
        .stdout("badger\notter-one\n");
    world
        .banger(["vm", "list", "-q"])
        .ok()
        .stdout("otter-two\n");
}

#[test]
fn a_prefix_will_do_where_it_is_unique() {
    let world = World::new();
    for name in ["otter-one", "otter-two", "otter"] {
        world
            .banger(["vm", "create", "--no-start", "--name", name])
            .ok();
    }
    let check = |target: &str, name: &str| assert_eq!(world.vm(target).name, name);
    check("otter-o", "otter-one");
    check("otter", "otter");
    check(&world.vm("otter-two").id, "otter-two");
    let ambiguous = world.banger(["vm", "show", "otter-"]);
    ambiguous
        .code(1)
        .stdout("")
        .stderr_has(["otter-one", "otter-two"]);
    world
        .banger(["vm", "show", "badger"])
        .code(1)
        .stderr_has(["badger"]);
}

#[test]
fn a_name_is_given_once() {
    let world = World::new();
    let create = || world.banger(["vm", "create", "--no-start", "--name", "web"]);
    create().ok();
    create()
        .code(1)
        .stdout("")
        .stderr_has(["web", "banger vm delete"]);
    world.banger(["rm", "web"]).ok();
    create().ok();
    // Without a name one is made up.
    let made_up = world.banger(["vm", "create", "--no-start"]).ok().text();
    assert_eq!(world.vm(&made_up).name, made_up);
}

#[test]
fn a_boot_tells_where_its_time_went() {
    let world = World::new();
    let told = world.banger([
        "run",
        "--rm",
        "--json",
        "--",
        "sh",
        "-c",
        "echo out; exit 42",
    ]);
    told.code(42).stdout("out\n");
    let line: serde_json::Value = told.stderr_json();
    assert_eq!(line["exit_code"], 42);
    let boot = &line["vm"]["boot"];
    let stages = [
        "vmm_started_ms",
        "kernel_entered_ms",
        "init_entered_ms",
        "modules_loaded_ms",
        "root_mounted_ms",
        "agent_ready_ms",
        "connected_ms",
        "command_started_ms",
    ];
    let at = stages.map(|stage| {
        boot[stage]
            .as_u64()
            .unwrap_or_else(|| panic!("{stage}: {boot}"))
    });
    assert!(at.is_sorted(), "{boot}");

    world.start("web");
    let boot = world.vm("web").boot.expect("this daemon saw the boot");
    assert!(boot.connected_ms.is_some());
    assert_eq!(boot.command_started_ms, None);
    world.banger(["exec", "web", "--", "true"]).ok();
    let boot = world.vm("web").boot.expect("this daemon saw the boot");
    assert!(boot.command_started_ms > boot.connected_ms, "{boot:?}");
}

#[test]
fn every_verb_takes_several_machines_or_all() {
    let world = World::new();
    world.start("a");
    world.start("b");
    let first = world.boot_id("a");
    world.banger(["vm", "restart", "a"]).ok().stdout("a\n");
    assert_ne!(world.boot_id("a"), first);

    let waiting = world.call(["vm", "wait", "a", "b"]).spawn();
    world.banger(["vm", "kill", "--all"]).ok().stdout("a\nb\n");
    waiting.finish().ok().stdout("a\nb\n");
    assert!(world.machines().is_empty());
    let told = world.vm("a").last_error;
    assert!(told.is_some_and(|why| why.contains("was killed")));
    world.banger(["vm", "kill", "--all"]).ok().stdout("");

    world.banger(["vm", "rename", "a", "c"]).ok().stdout("c\n");
    world
        .banger(["vm", "rename", "c", "b"])
        .code(1)
        .stderr_has(["a VM named b exists already"]);
    world.banger(["vm", "set", "c", "--disk-size", "2G"]).ok();
    world
        .banger(["vm", "set", "c", "--disk-size", "1G"])
        .code(2)
        .stderr_has(["a VM's disk only grows", "2048 MiB"]);
    world.banger(["vm", "start", "c"]).ok();
    assert_eq!(world.guest("c", "hostname").trim(), "c");
    let blocks = world.guest("c", "echo $(($(stat -f -c '%b * %S' /) >> 20))");
    let mib: u64 = blocks.trim().parse().unwrap();
    assert!((1800..2048).contains(&mib), "{mib}");
    world
        .banger(["vm", "set", "c", "--memory", "1G"])
        .ok()
        .stderr_has(["c runs on with", "vm restart c"]);

    let told = ["vm", "set", "c", "--label", "team=red", "--ttl", "1h"];
    world.banger(told).ok();
    let found = ["vm", "list", "-q", "--filter", "label=team=red"];
    world.banger(found).ok().stdout("c\n");
    world
        .banger(["vm", "list", "-q", "--filter", "label=team=blue"])
        .ok()
        .stdout("");
    assert!(world.vm("c").expires_at.is_some());

    // What runs is none of `prune`'s business, and nobody is deleted unasked.
    world.banger(["vm", "prune", "-n"]).ok().stdout("b\n");
    world
        .banger(["vm", "prune"])
        .code(2)
        .stderr_has(["cannot ask", "--force"]);
    world.banger(["vm", "prune", "--force"]).ok().stdout("b\n");
    world
        .banger(["vm", "wait", "--timeout", "0", "c"])
        .code(1)
        .stderr_has(["waited 0 s"]);
    world
        .banger(["vm", "delete", "-f", "--all"])
        .ok()
        .stdout("c\n");
    assert!(world.vms().is_empty());
}
