//! The store: what goes in is whole, what is taken stays, what changed is noticed.

use std::fs;
use std::path::{Path, PathBuf};

use banger_image::kernel::{IfTaken, KernelError, KernelName, KernelStore, Manifest, Origin};

use crate::support::chain;
use crate::support::fakes::{
    Packed, RELEASE, bzimage, kernel_members, module_files, payload, vmlinux,
};

/// A store and a directory to import from.
pub(crate) struct World {
    root: tempfile::TempDir,
    pub(crate) store: KernelStore,
}

pub(crate) fn name() -> KernelName {
    "mine".parse().unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("from")).unwrap();
        Self {
            store: KernelStore::new(root.path().join("kernels")),
            root,
        }
    }

    pub(crate) fn from(&self) -> PathBuf {
        self.root.path().join("from")
    }

    pub(crate) fn kernels(&self) -> PathBuf {
        self.root.path().join("kernels")
    }

    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.from().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn put_modules(&self, below: &str) {
        for (path, bytes) in module_files() {
            self.put(&format!("{below}/{path}"), &bytes);
        }
    }

    pub(crate) fn import(&self) -> Result<Manifest, KernelError> {
        self.store.import(&name(), &self.from(), IfTaken::Refuse)
    }

    /// Everything in the store, hidden or not.
    pub(crate) fn entries(&self) -> Vec<String> {
        names(&self.kernels())
    }
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Imports what was put; checks what came to be, and that nothing else did.
fn check(world: &World, files: &[&str], boot_modules: usize) {
    let manifest = world.import().unwrap();
    assert_eq!(manifest.version, RELEASE);
    assert_eq!(manifest.boot_modules.len(), boot_modules);
    assert!(matches!(&manifest.source, Origin::Import { directory } if directory.is_absolute()));
    assert_eq!(world.entries(), ["mine"]);
    assert_eq!(names(&world.kernels().join("mine")), files);
    assert_eq!(world.store.list().unwrap(), std::slice::from_ref(&manifest));
    let kernel = world.store.get(&name()).unwrap();
    assert_eq!(kernel.manifest, manifest);
    assert!(fs::read(kernel.vmlinux).unwrap() == vmlinux(RELEASE));
    assert_eq!(kernel.modules.is_some(), boot_modules > 0);
    world.store.verify(&name()).unwrap();
}

#[test]
fn an_elf_kernel_alone_is_a_kernel() {
    let world = World::new();
    world.put("vmlinux", &vmlinux(RELEASE));
    check(&world, &["manifest.json", "vmlinux"], 0);
}

#[test]
fn a_packed_kernel_with_modules_and_configuration_is_unpacked() {
    let world = World::new();
    world.put(
        &format!("vmlinuz-{RELEASE}"),
        &bzimage(&payload(&vmlinux(RELEASE), Packed::Zstd)),
    );
    world.put("config", b"CONFIG_X=y");
    world.put_modules(&format!("lib/modules/{RELEASE}"));
    check(
        &world,
        &["config", "manifest.json", "modules", "vmlinux"],
        6,
    );
}

#[test]
fn modules_may_lie_in_a_directory_of_their_own() {
    for below in ["modules".to_owned(), format!("modules/{RELEASE}")] {
        let world = World::new();
        world.put("vmlinux", &vmlinux(RELEASE));
        world.put_modules(&below);
        check(&world, &["manifest.json", "modules", "vmlinux"], 6);
    }
}

#[test]
fn an_unpacked_package_can_be_imported() {
    let world = World::new();
    for (path, bytes) in kernel_members() {
        world.put(&path, &bytes);
    }
    check(
        &world,
        &["config", "manifest.json", "modules", "vmlinux"],
        6,
    );
}

/// Imports what was put; the store must stay as it was.
fn check_refused(world: &World, expected: &str) {
    let before = world.entries();
    let error = world.import().unwrap_err();
    let text = chain(&error);
    assert!(text.contains(expected), "{text}");
    assert_eq!(world.entries(), before);
}

#[test]
fn directories_without_a_kernel_are_refused_and_leave_nothing() {
    let world = World::new();
    check_refused(&world, "has no vmlinux and no vmlinuz");
    world.put("vmlinuz-1", b"x");
    check_refused(&world, "is not a bzImage");
    world.put("vmlinuz-2", b"x");
    check_refused(&world, "more than one kernel");
    world.put("vmlinux", &vmlinux("%s"));
    check_refused(&world, "does not say which kernel it is");
}

#[test]
fn modules_of_another_kernel_are_refused() {
    let world = World::new();
    world.put("vmlinux", &vmlinux(RELEASE));
    world.put_modules("lib/modules/5.10.0");
    check_refused(&world, &format!("lib/modules/{RELEASE} is not there"));
}

#[test]
fn modules_that_cannot_boot_are_refused() {
    let world = World::new();
    world.put("vmlinux", &vmlinux(RELEASE));
    world.put("modules/kernel/x.ko", b"");
    check_refused(&world, "virtio_mmio is needed to boot");
}

#[test]
fn a_taken_name_is_kept_replaced_or_refused() {
    let world = World::new();
    world.put("vmlinux", &vmlinux(RELEASE));
    let first = world.import().unwrap();
    check_refused(&world, "a kernel named mine already");
    world.put("vmlinux", &vmlinux("6.2.0-new"));
    let kept = world
        .store
        .import(&name(), &world.from(), IfTaken::Keep)
        .unwrap();
    assert_eq!(kept, first);
    let replaced = world
        .store
        .import(&name(), &world.from(), IfTaken::Replace)
        .unwrap();
    assert_eq!(replaced.version, "6.2.0-new");
    assert_eq!(world.store.list().unwrap(), [replaced]);
    assert_eq!(world.entries(), ["mine"]);
}

#[test]
fn a_kernel_can_be_removed_once() {
    let world = World::new();
    world.put("vmlinux", &vmlinux(RELEASE));
    world.import().unwrap();
    let other: KernelName = "other".parse().unwrap();
    let error = world.store.get(&other).unwrap_err();
    assert!(error.to_string().contains("present: mine"), "{error}");
    world.store.remove(&name()).unwrap();
    assert_eq!(world.entries(), [""; 0]);
    assert!(matches!(
        world.store.remove(&name()),
        Err(KernelError::NotFound { .. })
    ));
}

#[test]
fn a_changed_file_is_noticed() {
    let world = World::new();
    world.put("vmlinux", &vmlinux(RELEASE));
    world.put_modules("modules");
    world.import().unwrap();
    let kernel = world.kernels().join("mine");
    fs::write(kernel.join("modules/kernel/virtio.ko"), b"changed").unwrap();
    let error = world.store.verify(&name()).unwrap_err();
    assert!(error.to_string().contains("virtio.ko"), "{error}");
    fs::write(kernel.join("manifest.json"), b"{").unwrap();
    assert!(matches!(
        world.store.get(&name()),
        Err(KernelError::Manifest { .. })
    ));
}

#[test]
fn what_was_left_by_a_kill_is_swept() {
    let world = World::new();
    world.put("vmlinux", &vmlinux(RELEASE));
    assert_eq!(world.store.sweep().unwrap().len(), 0);
    world.import().unwrap();
    fs::create_dir_all(world.kernels().join(".mine.abc.partial/modules")).unwrap();
    assert_eq!(world.store.list().unwrap().len(), 1);
    assert_eq!(world.store.sweep().unwrap().len(), 1);
    assert_eq!(world.entries(), ["mine"]);
}
