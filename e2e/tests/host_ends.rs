//! Stories about the end of the whole host: a restart, and a power cut in the middle of work.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use banger_api::{image::Image, vm::VmState};
use e2e::{LoopDisk, World, eventually, has_programs, is_root, wait_for_end};

const SOON: Duration = Duration::from_secs(60);

/// What a restart of the host does: no daemon and no machine has time to say goodbye.
fn lose_everything(world: &World) {
    let lost = [vec![world.daemon().pid], world.machines()].concat();
    for pid in lost {
        world.shell(&format!("kill -KILL {pid}")).run().ok();
        wait_for_end(pid, SOON);
    }
    // The sockets' directory is in memory (file-hierarchy(7)).
    fs::remove_dir_all(world.home().join("run")).expect("nobody lives there");
}

/// Starts a daemon that sees another boot of the host, in a mount namespace of its own.
fn start_after_boot(world: &World, id: &str) {
    let line = format!(
        "echo {id} > $BANGER_HOME/boot-id && exec unshare --mount sh -c \
         'mount --bind $BANGER_HOME/boot-id /proc/sys/kernel/random/boot_id && exec banger daemon start'"
    );
    world.shell(&line).run().ok();
}

#[test]
fn machines_that_are_to_start_with_the_host_do_and_no_others() {
    if !is_root() {
        eprintln!("SKIPPED: only root can make a host seem to start");
        return;
    }
    let world = World::new();
    for (name, wish) in [
        ("auto", "--autostart"),
        ("kept", "--restart=unless-stopped"),
        ("plain", "--restart=no"),
    ] {
        world.banger(["vm", "create", "--name", name, wish]).ok();
    }
    let stopped = ["vm", "create", "--name", "stopped", "--no-start"];
    world
        .call_with(&[&stopped[..], &["--autostart"]].concat())
        .run()
        .ok();
    let boot = world.boot_id("auto");
    lose_everything(&world);
    start_after_boot(&world, "11111111-1111-4111-8111-111111111111");
    for name in ["auto", "kept", "stopped"] {
        eventually("it runs again", SOON * 2, || {
            (world.state_of(name) == VmState::Running).then_some(())
        });
    }
    assert_ne!(world.boot_id("auto"), boot);
    assert_ne!(world.state_of("plain"), VmState::Running);

    // The next daemon of the same boot starts nothing.
    world.banger(["vm", "stop", "auto", "kept", "stopped"]).ok();
    world.banger(["daemon", "stop"]).ok();
    start_after_boot(&world, "11111111-1111-4111-8111-111111111111");
    for name in ["auto", "kept", "stopped", "plain"] {
        assert_ne!(world.state_of(name), VmState::Running, "{name}");
    }
    world.expect_tidy(SOON);
}

/// Work of all kinds, over and over. What was told to be there is written down, and what is to go before
/// it goes.
const LOAD: &str = "
    cd $BANGER_HOME
    for i in $(seq 1000); do
        [ ! -e enough ] || break
        banger vm create --no-start --name vm-$i && echo vm-$i >> told
        banger image import img-$i tar:busybox.tar && echo img-$i >> told
        banger vm rename vm-$i v-$i && echo v-$i >> told
        [ $((i % 3)) = 0 ] || continue
        echo v-$i >> going; echo img-$i >> going
        banger rm v-$i; banger image delete img-$i
    done";

/// The numbers that the guest tells are on its disk.
const WRITER: &str =
    "i=0; while :; do i=$((i+1)); echo $i >>/count; sync; echo $i; sleep 0.05; done";

/// How often the power is cut.
const CUTS: u64 = 2;

#[test]
fn a_power_cut_in_the_middle_of_work_loses_nothing_that_was_confirmed() {
    if !is_root() || !has_programs(&["mkfs.xfs", "mkfs.ext4", "e2fsck"]) {
        eprintln!("SKIPPED: this story needs root, xfsprogs and e2fsprogs");
        return;
    }
    let bench = tempfile::tempdir().expect("a directory can be made");
    let path = |name: &str| bench.path().join(name);
    // A file system that copies a file at one instant, so that the copy is what a disk has when the
    // power goes: what was written and not yet flushed is not in it.
    let outer = LoopDisk::make("mkfs.xfs", 4096, &path("xfs"), &path("outer"));
    let world = World::new();
    world.configure_also("vmm = \"qemu\"");
    fs::write(world.home().join("busybox.tar"), e2e::busybox_tar()).expect("it is writable");
    let file = outer.at().join("disk");
    let filled = LoopDisk::make("mkfs.ext4", 1500, &file, &path("inner"));
    copy(&world.state("."), filled.at());
    assert!(filled.unmount());
    let disk = LoopDisk::mount(&file, &world.state(""));

    world.start("writer");
    let write = ["exec", "writer", "--", "sh", "-c", WRITER];
    let writing = world.call(write).limit(10 * SOON).spawn();
    writing.expect_stdout("\n5\n");
    let load = world.shell(LOAD).limit(10 * SOON).spawn();
    let cuts = (1..=CUTS).map(|number| {
        let least = told(&world, "told").len() + 8;
        eventually("some work is done", SOON, || {
            (told(&world, "told").len() >= least).then_some(())
        });
        let (said, written) = (told(&world, "told"), writing.lines());
        let disk = disk.clone_to(&outer.at().join(format!("cut-{number}")));
        let going = told(&world, "going");
        eprintln!(
            "cut {number}: {} things told, {written} numbers written",
            said.len()
        );
        Cut {
            disk,
            said,
            going,
            written,
        }
    });
    let cuts: Vec<_> = cuts.collect();
    fs::write(world.home().join("enough"), "").expect("it is writable");
    load.finish().ok();
    world.banger(["vm", "stop", "writer"]).ok();
    drop(writing);
    world.banger(["daemon", "stop"]).ok();
    assert!(disk.unmount(), "nothing of it is left open");
    for cut in cuts {
        look_at(&cut);
    }
    assert!(outer.unmount());
}

/// What a disk had at an instant, and what had been told by then.
struct Cut {
    disk: PathBuf,
    said: Vec<String>,
    /// What was to go soon after.
    going: Vec<String>,
    written: usize,
}

fn told(world: &World, file: &str) -> Vec<String> {
    let text = fs::read_to_string(world.home().join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .arg(from)
        .arg(to)
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
}

/// The host comes back with what its disk had.
fn look_at(cut: &Cut) {
    let Cut {
        disk: file,
        said,
        going,
        written,
    } = cut;
    let world = World::empty();
    world.configure_also("vmm = \"qemu\"");
    // Mounting it plays its journal back, as it does after a power cut.
    assert!(LoopDisk::mount(file, &world.state("")).unmount());
    let check = Command::new("e2fsck").arg("-fn").arg(file).output();
    let check = check.expect("e2fsck is here");
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
    let disk = LoopDisk::mount(file, &world.state(""));
    let images: Vec<Image> = world.banger(["image", "list", "--json"]).ok().json();
    let there: Vec<_> = world.vms().into_iter().map(|vm| vm.name).collect();
    let images = images.into_iter().map(|image| image.name);
    let all: Vec<_> = there.iter().cloned().chain(images).collect();
    for name in said {
        // A machine may have got its next name already.
        let next = name.replace("vm-", "v-");
        let is_gone = going.contains(name) || going.contains(&next);
        let is_there = all.contains(name) || all.contains(&next);
        assert!(is_there || is_gone, "{name} is not in {all:?}");
    }
    world.banger(["vm", "start", "writer"]).ok();
    let count = world.guest("writer", "wc -l < /count");
    let count: usize = count.trim().parse().expect("a number");
    assert!(count >= *written, "{written} were on the disk, {count} are");
    let first = world.guest("writer", "head -n 3 /count | tr '\\n' ' '");
    assert_eq!(first.trim(), "1 2 3");
    let made = there.iter().find(|name| *name != "writer");
    let made = made.expect("one of three machines stays");
    world.banger(["vm", "start", made]).ok();
    assert_eq!(world.guest(made, "echo here"), "here");
    let image = said
        .iter()
        .rfind(|name| name.starts_with("img-") && !going.contains(name));
    let image = image.expect("one of three images stays");
    let run = ["run", "--rm", "--image", image, "--", "echo", "whole"];
    world.banger(run).ok().stdout("whole\n");
    world.banger(["vm", "stop", "--all"]).ok();
    world.expect_tidy(SOON);
    world.banger(["daemon", "stop"]).ok();
    assert!(disk.unmount(), "nothing of it is left open");
}
