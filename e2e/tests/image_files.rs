//! Files of the host become images: registered as they are, promoted to copies of our own.
#![forbid(unsafe_code)]

use std::{fs, path::PathBuf, time::Duration};

use e2e::{BUSYBOX, KERNEL, World, eventually, wait_for_end};

const SOON: Duration = Duration::from_secs(30);
/// So large that copying takes a while; most of it is a hole.
const LARGE: u64 = 24 << 30;

/// A file of the host with a file system that boots.
fn file(world: &World) -> PathBuf {
    let path = world.home().join("mine.ext4");
    fs::copy(world.image(BUSYBOX).rootfs_path, &path).expect("the home is writable");
    path
}

fn register(world: &World, file: &std::path::Path) {
    let line = format!(
        "cd {} && banger image register --name mine --rootfs {} --kernel-ref {KERNEL}",
        world.home().display(),
        file.display()
    );
    world.shell(&line).run().ok().stdout("mine\n");
}

fn boots(world: &World) {
    world
        .banger([
            "run",
            "--rm",
            "--image",
            "mine",
            "--",
            "cat",
            "/etc/os-release",
        ])
        .ok()
        .stdout_has(["Busybox of the stories"]);
}

#[test]
fn a_registered_file_boots_and_so_does_its_copy() {
    let world = World::new();
    let file = file(&world);
    register(&world, &file);
    let image = world.image("mine");
    assert!(!image.managed);
    assert_eq!(image.kernel.as_deref(), Some(KERNEL));
    assert_eq!(image.rootfs_path, file.display().to_string());
    boots(&world);
    let again = format!(
        "banger image register --name mine --rootfs {}",
        file.display()
    );
    world
        .shell(&again)
        .run()
        .code(1)
        .stderr_has(["mine", "hint:"]);

    world
        .banger(["image", "promote", "mine"])
        .ok()
        .stdout("mine\n");
    let copy = world.image("mine");
    assert!(copy.managed && copy.rootfs_path != image.rootfs_path);
    assert_eq!(copy.kernel.as_deref(), Some(KERNEL));
    assert!(fs::read(&file).expect("there") == fs::read(&copy.rootfs_path).expect("there"));
    // The file of the host is nobody's any more.
    fs::remove_file(&file).expect("the home is writable");
    boots(&world);
    world
        .banger(["image", "promote", "mine"])
        .code(1)
        .stderr_has(["own store"]);
    world.banger(["image", "delete", "mine"]).ok();
    assert!(!PathBuf::from(copy.rootfs_path).exists());
}

#[test]
fn a_registered_file_in_use_stays_and_its_deletion_leaves_the_file() {
    let world = World::new();
    let file = file(&world);
    register(&world, &file);
    world
        .banger([
            "vm",
            "create",
            "--no-start",
            "--image",
            "mine",
            "--name",
            "web",
        ])
        .ok();
    let refused = world.banger(["image", "delete", "mine"]);
    refused
        .code(1)
        .stderr_has(["mine", "web", "banger vm delete"]);
    world.banger(["rm", "web"]).ok();
    world.banger(["image", "delete", "mine"]).ok();
    assert!(file.exists(), "it is not ours to delete");
    let text = world.home().join("text");
    fs::write(&text, "no file system").expect("the home is writable");
    let line = format!(
        "banger image register --name text --rootfs {}",
        text.display()
    );
    world
        .shell(&line)
        .run()
        .code(2)
        .stderr_has(["ext4", "hint:"]);
    world.banger(["image", "show", "text"]).code(1);
}

#[test]
fn a_promotion_that_is_cut_short_leaves_the_image_as_it_was() {
    let world = World::new();
    let file = file(&world);
    let opened = fs::File::options().write(true).open(&file);
    opened
        .and_then(|file| file.set_len(LARGE))
        .expect("a hole costs nothing");
    register(&world, &file);
    let before = world.files_below("images");

    let promote = world.call(["image", "promote", "mine"]).spawn();
    promote.expect_stderr("copy:");
    promote.interrupt();
    promote.finish().code(130).stderr_has(["what it was"]);
    eventually("half a copy is removed", SOON, || {
        (world.files_below("images") == before).then_some(())
    });

    let promote = world.call(["image", "promote", "mine"]).spawn();
    promote.expect_stderr("copy:");
    assert!(world.files_below("images") > before, "it copies");
    let daemon = world.daemon().pid;
    world.shell(&format!("kill -KILL {daemon}")).run().ok();
    wait_for_end(daemon, SOON);
    promote.finish().code(1);
    // The next daemon finds what was cut short.
    let image = world.image("mine");
    assert!(!image.managed);
    assert_eq!(image.rootfs_path, file.display().to_string());
    assert_eq!(world.files_below("images"), before);
    boots(&world);
}
