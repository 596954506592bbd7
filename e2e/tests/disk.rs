//! Stories about room on the host's disk: what takes it, what comes back, and what happens without it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use banger_api::{df::DiskUsage, vm::VmState};
use e2e::{BUSYBOX, LoopDisk, World, eventually, has_programs, is_root};

fn usage(world: &World) -> DiskUsage {
    world.banger(["df", "--json"]).ok().json()
}

fn unique(usage: &DiskUsage, kind: &str, name: &str) -> u64 {
    let mut things = usage.things.iter();
    let found = things.find(|taken| taken.kind == kind && taken.name == name);
    found
        .unwrap_or_else(|| panic!("{kind} {name}: {usage:?}"))
        .unique_bytes
}

#[test]
fn what_takes_room_is_told_and_what_nobody_needs_comes_back() {
    let world = World::new();
    world.start("web");
    world
        .banger(["vm", "create", "--no-start", "--name", "old"])
        .ok();
    let before = unique(&usage(&world), "vm", "web");
    let write = "dd if=/dev/urandom of=/root/data bs=1M count=20 2>/dev/null && sync";
    assert_eq!(world.guest("web", write), "");
    let told = usage(&world);
    let grown = unique(&told, "vm", "web") - before;
    assert!((19 << 20..40 << 20).contains(&grown), "{grown}");
    assert!(unique(&told, "image", BUSYBOX) > 0 && told.free_bytes > told.reserve_bytes);
    let table = world.banger(["df"]).ok().text();
    assert!(table.contains("web") && table.contains("UNIQUE"), "{table}");

    let plan = world.banger(["prune", "--dry-run"]).ok().text();
    let names: Vec<_> = plan
        .lines()
        .filter_map(|line| line.split("  ").next())
        .collect();
    assert_eq!(names, ["vm old", "image one-binary"], "{plan}");
    world
        .banger(["prune"])
        .code(2)
        .stderr_has(["cannot ask", "--force"]);
    world
        .banger(["prune", "--force"])
        .ok()
        .stderr_has(["freed about"]);
    assert_eq!(world.vms().len(), 1);
    assert_eq!(world.state_of("web"), VmState::Running);
    world.banger(["image", "prune", "-n"]).ok().stdout("");
    world.banger(["exec", "web", "--", "true"]).ok();
}

#[test]
fn nothing_is_made_of_the_last_room() {
    let world = World::new();
    world.configure_also("disk_reserve = \"4000000G\"");
    world
        .banger(["vm", "create", "--name", "web"])
        .code(1)
        .stderr_has(["are kept free", "banger df", "disk_reserve"]);
    assert!(world.vms().is_empty());
    world
        .call(["image", "import", "more", "tar:-"])
        .stdin(e2e::busybox_tar())
        .run()
        .code(1)
        .stderr_has(["are kept free"]);
}

#[test]
fn blocks_that_several_files_share_are_counted_once() {
    if !is_root() || !has_programs(&["mkfs.xfs"]) {
        eprintln!("SKIPPED: this story needs root and xfsprogs");
        return;
    }
    let bench = tempfile::tempdir().expect("a directory can be made");
    let world = World::new();
    world.configure_also("vmm = \"qemu\"");
    // The kernel and the images are brought along.
    let stock = bench.path().join("stock");
    let copy = |from: &Path, to: &Path| {
        let status = Command::new("cp")
            .arg("-a")
            .arg(from.join("."))
            .arg(to)
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    };
    std::fs::create_dir(&stock).expect("a directory can be made");
    copy(&world.state(""), &stock);
    let disk = LoopDisk::make(
        "mkfs.xfs",
        2048,
        &bench.path().join("xfs"),
        &world.state(""),
    );
    copy(&stock, disk.at());
    world.start("web");
    let write = "dd if=/dev/urandom of=/root/data bs=1M count=60 2>/dev/null && sync";
    assert_eq!(world.guest("web", write), "");
    let before = usage(&world);
    let save = ["vm", "snapshot", "create", "web", "saved"];
    world.banger(save).ok();
    let told = usage(&world);
    let of = |kind: &str, name: &str| {
        let mut things = told.things.iter();
        let found = things.find(|taken| taken.kind == kind && taken.name == name);
        found.unwrap_or_else(|| panic!("{kind} {name}: {told:?}"))
    };
    let (vm, saved) = (of("vm", "web"), of("snapshot", "saved"));
    let data = 60 << 20;
    assert!(vm.shared_bytes >= data, "{vm:?}");
    assert!(saved.shared_bytes >= data, "{saved:?}");
    // The snapshot costs its memory, and the disk's blocks once: what the file system says, too.
    let grown = told.total_bytes - before.total_bytes;
    let taken = before.free_bytes - told.free_bytes;
    assert!(
        saved.unique_bytes <= grown && grown < saved.unique_bytes + data,
        "{saved:?}"
    );
    assert!(
        grown.abs_diff(taken) < 16 << 20,
        "{grown} is told, {taken} are taken"
    );
    world.banger(["vm", "delete", "--force", "web"]).ok();
    let told = usage(&world);
    let alone = unique(&told, "snapshot", "saved");
    assert!(alone >= data + saved.unique_bytes, "{alone}");
    world.banger(["daemon", "stop"]).ok();
    assert!(disk.unmount(), "nothing of it is left open");
}

/// A file system of its own for a world's machines, as large as is said.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(world: &World, mib: u32) -> Self {
        let directory = world.state("vms");
        std::fs::create_dir_all(&directory).expect("the home is writable");
        let disk = Self(directory);
        disk.run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mib}m,mode=700"),
                "tmpfs",
            ],
        );
        disk
    }

    fn resize(&self, mib: u32) {
        self.run("mount", &["-o", &format!("remount,size={mib}m")]);
    }

    fn run(&self, program: &str, args: &[&str]) {
        let status = Command::new(program).args(args).arg(&self.0).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{program} {args:?}"
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still uses it keeps it until it ends.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_guest_that_finds_the_hosts_disk_full_waits_and_loses_nothing() {
    if !is_root() {
        return;
    }
    let world = World::new();
    world.configure_also("disk_reserve = \"1M\"\nvmm = \"qemu\"");
    let disk = SmallDisk::mount(&world, 200);
    world.start("web");
    let write = "dd if=/dev/zero bs=1M count=300 2>/dev/null | tr '\\0' x > /root/big && sync && \
                 tr -d x < /root/big | wc -c && wc -c < /root/big";
    let writing = world.call(["exec", "web", "--", "sh", "-c", write]).spawn();
    let told = eventually("the guest stands still", Duration::from_secs(60), || {
        let vm = world.vm("web");
        (vm.state == VmState::Paused).then_some(vm.last_error)
    });
    assert!(told.is_some_and(|why| why.contains("disk is full")));
    world
        .banger(["exec", "web", "--", "true"])
        .code(125)
        .stderr_has(["paused", "banger vm resume"]);
    disk.resize(600);
    world.banger(["vm", "resume", "web"]).ok();
    writing.finish().ok().stdout("0\n314572800\n");
    assert_eq!(world.state_of("web"), VmState::Running);
    world.banger(["vm", "stop", "web"]).ok();
    world.banger(["vm", "delete", "web"]).ok();
    world.banger(["daemon", "stop"]).ok();
    drop(disk);
}

#[test]
fn a_disk_grows_under_a_guest_that_runs() {
    let world = World::new();
    world.configure_also("vmm = \"qemu\"");
    let create = ["vm", "create", "--name", "web", "--disk-size", "200M"];
    world.banger(create).ok();
    let boot = world.boot_id("web");
    let mib = || -> u64 {
        let line = "echo $(($(stat -f -c '%b * %S' /) >> 20))";
        world.guest("web", line).trim().parse().expect("a number")
    };
    assert!((150..200).contains(&mib()), "{}", mib());
    world
        .banger(["vm", "set", "web", "--disk-size", "600M"])
        .ok();
    assert!((500..600).contains(&mib()), "{}", mib());
    // More than the disk had, and than the VMM was allowed to make of a file when it began.
    let write = "dd if=/dev/zero of=/root/big bs=1M count=350 2>/dev/null; sync; wc -c < /root/big";
    let written = (350_u64 << 20).to_string();
    assert_eq!(world.guest("web", write).trim(), written);
    assert_eq!(world.boot_id("web"), boot);
    assert_eq!(world.vm("web").disk_bytes, 600 << 20);
    // Memory does not, and that is told until it holds, also by the next daemon.
    let memory = || -> u64 {
        let line = "awk '/MemTotal/ { print $2 }' /proc/meminfo";
        world.guest("web", line).trim().parse().expect("a number")
    };
    let (least, most) = (memory(), 256 << 10);
    assert!(least < most, "{least} KiB");
    let both = [
        "vm",
        "set",
        "web",
        "--disk-size",
        "700M",
        "--memory",
        "400M",
    ];
    world
        .banger(both)
        .ok()
        .stderr_has(["web runs on with 1 vCPU, 256 MiB", "vm restart web"]);
    assert!((600..700).contains(&mib()), "{}", mib());
    assert!(memory() < most, "{} KiB", memory());
    world.banger(["daemon", "stop"]).ok();
    let vm = world.vm("web");
    assert_eq!(vm.memory_bytes, 400 << 20);
    assert_eq!(vm.now.map(|now| now.memory_bytes), Some(256 << 20));
    world.banger(["vm", "restart", "web"]).ok();
    assert_eq!(world.guest("web", "wc -c < /root/big").trim(), written);
    assert!(memory() > most, "{} KiB", memory());
    assert_eq!(world.vm("web").now, None);
}

#[test]
fn a_machine_that_cannot_be_saved_for_want_of_room_runs_on() {
    if !is_root() {
        return;
    }
    let world = World::new();
    world.configure_also("disk_reserve = \"1M\"\nvmm = \"qemu\"");
    world.start("web");
    // Less than what its kernel alone takes.
    let disk = FullDisk::mount(&world, "snapshots", 16);
    let boot = world.boot_id("web");
    let create = ["vm", "snapshot", "create", "web", "s", "--keep-running"];
    // Also one that was not to go on does.
    for args in [&create[..], &create[..5], &["vm", "fork", "web", "-n", "2"]] {
        let refused = world.call_with(args).run();
        refused.code(1).stderr_has(["web", "space"]);
        assert_eq!(world.state_of("web"), VmState::Running);
        assert_eq!(world.boot_id("web"), boot);
        assert_eq!(world.files_below("snapshots"), 0);
    }
    assert_eq!(world.vms().len(), 1);
    let listed = world
        .banger(["vm", "snapshot", "list", "--json"])
        .ok()
        .text();
    assert_eq!(listed, "[]");
    drop(disk);
    world.banger(["daemon", "stop"]).ok();
    world.call_with(&create).run().ok();
}

/// A file system in a file, mounted at a place in the state, as a real disk that is small.
struct FullDisk {
    place: PathBuf,
    file: PathBuf,
}

impl FullDisk {
    fn mount(world: &World, part: &str, mib: u32) -> Self {
        let place = world.state(part);
        std::fs::create_dir_all(&place).expect("the home is writable");
        let disk = Self {
            file: world.home().join("small-disk.img"),
            place,
        };
        let (file, place) = (disk.file.display(), disk.place.display());
        let line = format!(
            "truncate -s {mib}M {file} && mke2fs -q -F -t ext4 -m 0 {file} && \
             mount -o loop {file} {place} && rmdir {place}/lost+found"
        );
        world.shell(&line).run().ok();
        disk
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.place)
            .status();
        let _ = std::fs::remove_file(&self.file);
    }
}
