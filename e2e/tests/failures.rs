//! A failure says what failed, on what, why, what is left behind, and what to do next.
#![forbid(unsafe_code)]

use std::{fs, path::Path, time::Duration};

use banger_api::vm::VmState;
use e2e::{BUSYBOX, Devices, KERNEL, Outcome, World, eventually, is_root};

const PATIENCE: Duration = Duration::from_secs(30);

/// A failed run: its exit code says that banger failed, nothing is left, and the words are there.
#[track_caller]
fn check<const N: usize>(world: &World, failed: &Outcome, words: [&str; N]) {
    failed
        .code(125)
        .stdout("")
        .stderr_has(words)
        .stderr_has(["hint:"]);
    assert!(world.vms().is_empty(), "{failed}");
    assert!(world.machines().is_empty(), "{failed}");
}

/// Replaces a file by another: the bytes of the old one may be shared with other worlds.
fn replace(path: &str, bytes: &[u8]) {
    let path = Path::new(path);
    fs::remove_file(path).expect("the home is writable");
    fs::write(path, bytes).expect("the home is writable");
}

#[test]
fn what_is_no_kernel_is_refused_at_once() {
    let world = World::new();
    let directory = world.home().join("kernel");
    fs::create_dir(&directory).expect("the home is writable");
    let import = || {
        let from = directory.to_string_lossy();
        world.banger(["kernel", "import", "mine", "--from", &from])
    };
    import().code(2).stdout("").stderr_has(["vmlinux", "hint:"]);
    fs::write(directory.join("vmlinux"), b"#!/bin/sh\n").expect("the home is writable");
    import()
        .code(2)
        .stdout("")
        .stderr_has(["vmlinux", "bzImage", "caused by"]);
    world
        .banger(["kernel", "show", "mine"])
        .code(1)
        .stderr_has(["mine", KERNEL]);
    let kernels = fs::read_dir(world.state("kernels")).expect("the store is there");
    assert_eq!(
        kernels
            .flatten()
            .filter(|entry| entry.file_name() != KERNEL)
            .count(),
        0
    );
}

#[test]
fn a_kernel_that_finds_no_root_shows_its_console() {
    let world = World::new();
    // Debian's kernel has its drivers in modules; without them there is no disk.
    let line = format!(
        "mkdir $BANGER_HOME/bare && cp $(banger kernel show --json {KERNEL} | grep -o '/.*/vmlinux') $BANGER_HOME/bare \
         && banger kernel import bare --from $BANGER_HOME/bare"
    );
    world.shell(&line).run().ok();
    let failed = world.banger(["run", "--rm", "--kernel", "bare", "--", "true"]);
    check(
        &world,
        &failed,
        [
            "cannot start",
            "last lines of the guest's console",
            "--kernel",
        ],
    );
}

#[test]
fn a_panic_is_told_with_its_reason() {
    let world = World::new();
    // Debian's kernel comes to its first process with twice as much.
    let failed = world.banger(["run", "--rm", "--memory", "64M", "--", "true"]);
    let reason = "Kernel panic - not syncing";
    check(&world, &failed, ["cannot start", reason, "--memory"]);

    world.start("web");
    let crash = "echo c > /proc/sysrq-trigger";
    world
        .banger(["exec", "web", "--", "sh", "-c", crash])
        .code(125);
    let vm = eventually("the end of the machine", PATIENCE, || {
        let vm = world.vm("web");
        (vm.state == VmState::Error).then_some(vm)
    });
    let error = vm.last_error.expect("a VM that failed says how");
    assert!(error.contains("kernel panic"), "{error}");
    world
        .banger(["vm", "logs", "web"])
        .ok()
        .stdout_has([reason]);
}

#[test]
fn a_broken_image_is_told_from_a_broken_kernel() {
    let world = World::new();
    let rootfs = world.image(BUSYBOX).rootfs_path;
    let length = fs::metadata(&rootfs).expect("an image is a file").len();
    replace(
        &rootfs,
        &vec![0; usize::try_from(length).expect("a small image")],
    );
    let failed = world.banger(["run", "--rm", "--", "true"]);
    let words = [
        "cannot start",
        "last lines of the guest's console",
        "image",
        "make it again",
    ];
    check(&world, &failed, words);

    // A machine that was to stay is there to be looked at.
    let kept = world.banger(["run", "--name", "web", "--", "true"]);
    kept.code(125)
        .stderr_has(["left behind", "banger vm delete web"]);
    assert_eq!(world.state_of("web"), VmState::Error);
    assert!(world.vm("web").last_error.is_some());
    assert!(world.machines().is_empty());
    world
        .banger(["vm", "logs", "web"])
        .ok()
        .stdout_has(["fatal", "root file system"]);
    world.banger(["rm", "web"]).ok();
}

#[test]
fn an_init_that_is_not_there_is_named() {
    let world = World::new();
    let failed = world.banger(["run", "--rm", "--init", "/no/init", "--", "true"]);
    check(&world, &failed, ["/no/init", "--init"]);
}

#[test]
fn memory_that_the_host_lacks_is_refused_before_anything_starts() {
    let world = World::new();
    let failed = world.banger(["run", "--rm", "--memory", "900G", "--", "true"]);
    check(&world, &failed, ["memory", "MiB", "--memory"]);
}

#[test]
fn a_missing_qemu_is_named_with_its_package() {
    let world = World::new();
    world.configure_also("qemu_bin = \"/no/such/qemu\"");
    let failed = world.banger(["run", "--rm", "--", "true"]);
    let words = [
        "/no/such/qemu",
        "apt-get install",
        "qemu-system-x86",
        "doctor",
    ];
    check(&world, &failed, words);
    let doctor = world.banger(["doctor"]);
    doctor.code(1).stdout_has(["FAIL", "qemu", "hint:"]);
}

#[test]
fn a_configuration_that_cannot_be_understood_is_shown() {
    let world = World::empty();
    let file = world.home().join("config/config.toml");
    for (text, words) in [
        (
            "defualt_image = \"x\"",
            ["defualt_image", "did you mean default_image?"],
        ),
        ("[vm_defaults]\nmemory = \"much\"", ["much", "512M"]),
        ("default_image = ", ["default_image", "TOML"]),
    ] {
        world.configure(text);
        let failed = world.banger(["vm", "list"]);
        failed
            .code(1)
            .stdout("")
            .stderr_has(words)
            .stderr_has([&file.to_string_lossy()]);
        world
            .banger(["run", "--", "true"])
            .code(125)
            .stderr_has(words);
    }
}

#[test]
fn a_home_too_deep_for_sockets_is_refused_with_advice() {
    let world = World::empty();
    let deep = world.home().join("x".repeat(100));
    let failed = world.call(["vm", "list"]).env("BANGER_HOME", &deep).run();
    failed
        .code(1)
        .stdout("")
        .stderr_has(["bangerd.sock", "BANGER_HOME"]);
    assert!(!deep.join("state/state.db").exists());
}

#[test]
fn a_home_must_be_an_absolute_path() {
    let world = World::empty();
    let failed = world.call(["vm", "list"]).env("BANGER_HOME", "here").run();
    failed
        .code(1)
        .stdout("")
        .stderr_has(["BANGER_HOME", "absolute"]);
}

#[test]
fn a_home_that_cannot_be_made_is_named() {
    let world = World::empty();
    let failed = world
        .call(["vm", "list"])
        .env("BANGER_HOME", "/proc/nowhere")
        .run();
    failed
        .code(1)
        .stdout("")
        .stderr_has(["cannot make /proc/nowhere", "hint:"]);
}

/// A home whose state lies on a file system of its own, which ends with the command.
#[test]
fn a_state_that_cannot_be_written_is_told() {
    let check = |options: &str, words: [&str; 2]| {
        let world = World::empty();
        let line = format!(
            "mkdir -p $BANGER_HOME/state && exec unshare --map-root-user --mount sh -c \
             'mount -t tmpfs -o {options} tmpfs $BANGER_HOME/state && banger vm list'"
        );
        let failed = world.shell(&line).run();
        failed.code(1).stdout("").stderr_has(words);
        world.banger(["vm", "list", "-q"]).ok().stdout("");
    };
    check("ro", ["state", "Read-only file system"]);
    check("size=4k", ["state", "full"]);
}

#[test]
fn too_few_open_files_are_told() {
    let world = World::empty();
    let listed = |files: u32| {
        let line = format!("ulimit -n {files}; exec banger vm list -q");
        world.shell(&line).run()
    };
    listed(12)
        .code(1)
        .stdout("")
        .stderr_has(["Too many open files"]);
    listed(64).ok().stdout("");
}

#[test]
fn files_that_may_not_grow_are_told_and_end_no_daemon() {
    let world = World::empty();
    let listed = world.shell("ulimit -f 4; exec banger vm list -q").run();
    listed
        .code(1)
        .stdout("")
        .stderr_has(["cannot open the store", "state.db"]);
    world.banger(["vm", "list", "-q"]).ok().stdout("");
}

#[test]
fn too_few_processes_are_told() {
    if !is_root() {
        eprintln!("SKIPPED: only root can be somebody else, who is not root");
        return;
    }
    let world = World::empty();
    world.banger(["vm", "list", "-q"]).ok();
    let life = "bash -c '! { ulimit -u 1; exec banger vm list; }'";
    let listed = world.as_nobody(Devices::Common, life).run();
    let words = ["cannot start", "bangerd", "temporarily unavailable"];
    listed.stdout("").stderr_has(words);
}

#[test]
fn an_unknown_name_of_the_catalog_is_answered_with_those_it_has() {
    let world = World::empty();
    let failed = world.banger(["kernel", "pull", "linux-7"]);
    failed
        .code(1)
        .stdout("")
        .stderr_has(["linux-7", "banger kernel list --available"]);
    world
        .banger(["kernel", "list", "--available"])
        .ok()
        .stdout_has([KERNEL]);
}

#[test]
fn a_registry_that_is_down_is_named() {
    let world = World::empty();
    // Nobody listens on the discard port of this host.
    let failed = world.banger(["image", "pull", "127.0.0.1:9/plan9"]);
    let words = ["cannot pull", "127.0.0.1:9/plan9", "hint:"];
    failed.code(1).stdout("").stderr_has(words);
    world
        .banger(["image", "list", "--json"])
        .ok()
        .stdout("[]\n");
}

#[test]
fn a_mirror_that_is_down_leaves_nothing() {
    let world = World::empty();
    // Nobody listens on the discard port of this host.
    world.configure_also("[debian]\nmirror = \"http://127.0.0.1:9/debian\"");
    let failed = world.banger(["kernel", "pull", KERNEL]);
    failed
        .code(1)
        .stdout("")
        .stderr_has(["127.0.0.1:9", "hint:"]);
    world
        .banger(["kernel", "list", "--json"])
        .ok()
        .stdout("[]\n");
    let failed = world.banger(["run", "--", "true"]);
    check(&world, &failed, ["127.0.0.1:9"]);
}
