//! Images of all kinds become machines: a system without an init, a single program, and what is
//! no image becomes nothing.
#![forbid(unsafe_code)]

use std::{fs, path::Path};

use e2e::{BUSYBOX, ONE_BINARY, World, busybox_tar};

#[test]
fn without_an_init_the_agent_is_the_first_process_and_reaps() {
    let world = World::new();
    let image = world.image(BUSYBOX);
    assert!(image.has_shell && !image.has_systemd, "{image:?}");
    assert_eq!(image.os.as_deref(), Some("Busybox of the stories"));
    world.start("web");
    assert_eq!(world.guest("web", "echo $PPID"), "1");
    assert!(world.guest("web", "ps").lines().count() > 1);
    // The shell in between ends first, so process 1 inherits its child.
    let orphan = "sh -c 'sleep 0.1 & echo $!' >/pid; cat /pid";
    let pid = world.guest("web", orphan);
    // A process that nobody reaps stays as a zombie and keeps its directory.
    let gone = format!("while [ -d /proc/{pid} ]; do :; done; echo gone");
    assert_eq!(world.guest("web", &gone), "gone");
    assert_eq!(
        world.guest(
            "web",
            "grep -l '^State:.*zombie' /proc/[0-9]*/status | wc -l"
        ),
        "0"
    );
}

#[test]
fn a_guest_has_what_programs_expect_of_a_machine() {
    let world = World::new();
    world.start("web");
    let check = |line: &str, wanted: &str| assert_eq!(world.guest("web", line), wanted, "{line}");
    check("hostname", "web");
    check("cat /etc/hostname", "web");
    check("grep -cw web /etc/hosts", "1");
    check("grep -c ^nameserver /etc/resolv.conf", "1");
    for mounted in ["/proc", "/sys", "/dev", "/run", "/dev/pts", "/dev/shm"] {
        check(&format!("grep -c ' {mounted} ' /proc/mounts"), "1");
    }
    check("stat -c %a /tmp", "1777");
    check("ip -4 -o addr show dev eth0 | wc -l", "1");
    // The clock is the host's, to a few seconds.
    let host = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_secs();
    let guest: u64 = world.guest("web", "date +%s").parse().expect("a number");
    assert!(guest.abs_diff(host) < 10, "host {host}, guest {guest}");
}

#[test]
fn the_guest_has_the_disk_that_was_asked_for() {
    let world = World::new();
    let line = "df -m / | tail -n 1 | awk '{print $(NF-4)}'";
    let ran = world.banger(["run", "--rm", "--disk-size", "3G", "--", "sh", "-c", line]);
    let mib: u32 = ran.ok().text().parse().expect("a number of mebibytes");
    assert!((2700..=3072).contains(&mib), "{mib} MiB");
}

#[test]
fn an_image_may_be_a_single_program() {
    let world = World::new();
    let run = |command: &str| {
        world
            .shell(&format!("banger run --rm --image {ONE_BINARY} {command}"))
            .run()
    };
    run("-- /bin/echo one two").ok().stdout("one two\n");
    run("-- echo by its name").ok().stdout("by its name\n");
    run("").code(127).stdout("").stderr_has(["no shell", "--"]);
    run("-- sh").code(127).stdout("").stderr_has(["sh"]);
    assert!(world.vms().is_empty());
}

#[test]
fn what_is_no_image_leaves_nothing() {
    let world = World::new();
    let whole = busybox_tar();
    let before = files(&world.state("images"));
    let check = |what: &str, bytes: &[u8]| {
        let imported = world
            .call(["image", "import", "bad", "tar:-"])
            .stdin(bytes)
            .run();
        imported.code(1).stdout("").stderr_has(["bad", "hint:"]);
        world.banger(["image", "show", "bad"]).code(1);
        assert_eq!(files(&world.state("images")), before, "{what}");
    };
    check("nothing", b"");
    check("garbage", &[0x5a; 8 << 10]);
    check("a tar that breaks off", &whole[..whole.len() / 2]);
    check("packed garbage", b"\x1f\x8b\x08\x00 not really");
    let missing = world.banger(["image", "import", "bad", "tar:/no/such/file.tar"]);
    missing.code(1).stdout("").stderr_has(["/no/such/file.tar"]);
    // The name is free for a better try.
    world
        .call(["image", "import", "bad", "tar:-"])
        .stdin(whole)
        .run()
        .ok();
}

#[test]
fn an_image_comes_from_a_file_or_from_standard_input() {
    let world = World::new();
    let file = world.home().join("root.tar");
    fs::write(&file, busybox_tar()).expect("the home is writable");
    let line = format!(
        "gzip -c {0} >{0}.gz && banger image import packed tar:{0}.gz",
        file.display()
    );
    world.shell(&line).run().ok();
    let line = format!(
        "cd {} && banger image import plain tar:root.tar",
        world.home().display()
    );
    world.shell(&line).run().ok();
    // The same content gives the same bytes, however it came.
    let bytes = |name: &str| fs::read(world.image(name).rootfs_path).expect("an image is a file");
    assert!(bytes("packed") == bytes("plain") && bytes("plain") == bytes(BUSYBOX));
    world
        .banger(["run", "--rm", "--image", "packed", "--", "echo", "hi"])
        .ok()
        .stdout("hi\n");

    let again = world
        .call(["image", "import", "plain", "tar:-"])
        .stdin(busybox_tar())
        .run();
    again.code(1).stderr_has(["plain", "banger image delete"]);
    world.banger(["image", "delete", "plain", "packed"]).ok();
}

#[test]
fn an_image_in_use_stays() {
    let world = World::new();
    world
        .banger(["vm", "create", "--no-start", "--name", "web"])
        .ok();
    let refused = world.banger(["image", "delete", BUSYBOX]);
    refused.code(1).stdout("").stderr_has([BUSYBOX, "web"]);
    let refused = world.banger(["kernel", "rm", e2e::KERNEL]);
    refused.code(1).stdout("").stderr_has([e2e::KERNEL, "web"]);
    world.banger(["rm", "web"]).ok();
    world.banger(["image", "delete", BUSYBOX]).ok();
    world.banger(["image", "show", BUSYBOX]).code(1);
}

#[test]
fn a_machine_cannot_change_its_image() {
    let world = World::new();
    let rootfs = world.image(BUSYBOX).rootfs_path;
    let before = fs::read(&rootfs).expect("an image is a file");
    let line = "rm -r /etc /var; echo changed >/bin/sh.new; for d in /dev/vd*; do \
                dd if=/dev/zero of=$d bs=4096 count=1 conv=notrunc 2>/dev/null; done; sync; true";
    // The machine wrecks itself, and is thrown away; what it was made of is whole.
    let wrecked = world.banger(["run", "--rm", "--", "sh", "-c", line]);
    assert!(wrecked.bytes().is_empty(), "{wrecked}");
    assert!(fs::read(&rootfs).expect("an image is a file") == before);
    world
        .banger(["run", "--rm", "--", "cat", "/etc/group"])
        .ok()
        .stdout_has(["root"]);
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
