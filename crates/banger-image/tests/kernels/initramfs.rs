//! The archive that a kernel boots with.

use banger_image::digest::Sha256;
use banger_image::initramfs::{InitramfsError, ensure, sweep};

use crate::newc::{Entry, read};
use crate::store::{World, name, names};
use crate::support::fakes::{RELEASE, module, vmlinux};

const AGENT: &[u8] = b"the agent";

fn world(modules: bool) -> World {
    let world = World::new();
    world.put("vmlinux", &vmlinux(RELEASE));
    if modules {
        world.put_modules("modules");
    }
    world.import().unwrap();
    world
}

fn entries(world: &World, cache: &tempfile::TempDir) -> Vec<Entry> {
    let kernel = world.store.get(&name()).unwrap();
    let path = ensure(&kernel, AGENT, Sha256::of(AGENT), cache.path()).unwrap();
    read(&std::fs::read(path).unwrap())
}

#[test]
fn it_holds_the_agent_the_modules_and_their_order() {
    let entries = entries(&world(true), &tempfile::tempdir().unwrap());
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "dev",
            "proc",
            "sys",
            "dev/console",
            "dev/null",
            "init",
            "modules",
            "modules/00-virtio_ring.ko",
            "modules/01-virtio.ko",
            "modules/02-virtio_mmio.ko",
            "modules/03-virtio_blk.ko",
            "modules/04-overlay.ko",
            "modules/05-virtio_rng.ko",
            "modules/order",
        ]
    );
    let find = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
    assert_eq!(
        (find("init").mode, &find("init").contents[..]),
        (0o100755, AGENT)
    );
    assert_eq!(find("dev/console").device, (5, 1));
    // It is packed in the store.
    assert_eq!(
        find("modules/03-virtio_blk.ko").contents,
        module(&["virtio"])
    );
    let order = String::from_utf8(find("modules/order").contents.clone()).unwrap();
    let lines: Vec<&str> = order.lines().collect();
    assert_eq!(
        lines,
        [
            "bus 00-virtio_ring.ko",
            "bus 01-virtio.ko",
            "bus 02-virtio_mmio.ko",
            "root 03-virtio_blk.ko",
            "root 04-overlay.ko",
            "other 05-virtio_rng.ko",
        ]
    );
}

#[test]
fn a_kernel_without_modules_gets_an_archive_without_modules() {
    let entries = entries(&world(false), &tempfile::tempdir().unwrap());
    assert!(!entries.iter().any(|entry| entry.name.contains("modules")));
}

#[test]
fn a_hit_reads_nothing() {
    let (world, cache) = (world(true), tempfile::tempdir().unwrap());
    let kernel = world.store.get(&name()).unwrap();
    let get = || ensure(&kernel, AGENT, Sha256::of(AGENT), cache.path()).unwrap();
    let path = get();
    let made = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::remove_dir_all(world.kernels()).unwrap();
    assert_eq!(get(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), made);
}

#[test]
fn the_same_contents_give_the_same_bytes_and_others_another_name() {
    let caches = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let worlds = [world(true), world(true)];
    let paths = [0, 1].map(|at| {
        let kernel = worlds[at].store.get(&name()).unwrap();
        ensure(&kernel, AGENT, Sha256::of(AGENT), caches[at].path()).unwrap()
    });
    assert_eq!(paths[0].file_name(), paths[1].file_name());
    assert!(std::fs::read(&paths[0]).unwrap() == std::fs::read(&paths[1]).unwrap());
    let kernel = worlds[0].store.get(&name()).unwrap();
    ensure(&kernel, b"newer", Sha256::of(b"newer"), caches[0].path()).unwrap();
    assert_eq!(names(caches[0].path()).len(), 2);
}

#[test]
fn a_module_that_changed_in_the_store_is_not_booted() {
    let (world, cache) = (world(true), tempfile::tempdir().unwrap());
    std::fs::write(
        world.kernels().join("mine/modules/kernel/virtio.ko"),
        b"changed",
    )
    .unwrap();
    let kernel = world.store.get(&name()).unwrap();
    let error = ensure(&kernel, AGENT, Sha256::of(AGENT), cache.path()).unwrap_err();
    assert!(matches!(error, InitramfsError::ChangedModule { .. }));
    assert_eq!(names(cache.path()), [""; 0]);
}

#[test]
fn what_no_start_would_use_is_swept() {
    let (world, cache) = (world(true), tempfile::tempdir().unwrap());
    entries(&world, &cache);
    std::fs::write(cache.path().join(".initramfs-abc.partial"), b"half").unwrap();
    std::fs::write(
        cache.path().join("initramfs-abc.cpio"),
        b"of an older agent",
    )
    .unwrap();
    std::fs::write(cache.path().join("other"), b"not ours").unwrap();
    let kernels = world.store.list().unwrap();
    sweep(cache.path(), &kernels, Sha256::of(AGENT)).unwrap();
    let kept = names(cache.path());
    assert_eq!(kept.len(), 2, "{kept:?}");
    sweep(cache.path(), &[], Sha256::of(AGENT)).unwrap();
    assert_eq!(names(cache.path()), ["other"]);
}
