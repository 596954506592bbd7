//! Which modules boot needs, in which order.

use std::path::Path;

use banger_image::kernel::boot_modules::{BootModulesError, index};

use crate::support::chain;
use crate::support::fakes::{module, module_files};

fn write(root: &Path, files: &[(String, Vec<u8>)]) {
    for (path, bytes) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn names(files: &[(String, Vec<u8>)]) -> Result<Vec<String>, BootModulesError> {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), files);
    Ok(index(root.path())?
        .into_iter()
        .map(|module| module.name)
        .collect())
}

fn without(name: &str) -> Vec<(String, Vec<u8>)> {
    let files = module_files();
    assert!(files.iter().any(|(path, _)| path.contains(name)));
    files
        .into_iter()
        .filter(|(path, _)| !path.contains(name))
        .collect()
}

#[test]
fn dependencies_come_first_and_nothing_else_comes() {
    let expected = [
        "virtio_ring",
        "virtio",
        "virtio_mmio",
        "virtio_blk",
        "overlay",
        "virtio_rng",
    ];
    assert_eq!(names(&module_files()).unwrap(), expected);
}

#[test]
fn depmods_list_is_believed_where_there_is_one() {
    let mut files = module_files();
    let list = "kernel/virtio_blk.ko.xz: kernel/unrelated.ko\nkernel/unrelated.ko:\n";
    files.push(("modules.dep".to_owned(), list.as_bytes().to_vec()));
    let names = names(&files).unwrap();
    let at = |name: &str| names.iter().position(|n| n == name).unwrap();
    assert!(at("unrelated") < at("virtio_blk"));
}

#[test]
fn a_mandatory_module_that_is_missing_is_named() {
    for name in ["virtio_blk", "virtio_mmio", "overlay"] {
        let error = names(&without(name)).unwrap_err();
        assert!(
            matches!(&error, BootModulesError::Missing { name: n } if n == name),
            "{error:?}"
        );
    }
    let error = names(&without("virtio_ring")).unwrap_err();
    assert!(
        chain(&error).contains("virtio needs virtio_ring"),
        "{error}"
    );
}

#[test]
fn what_is_built_in_is_not_loaded() {
    let mut files = without("overlay");
    let builtin = b"kernel/fs/overlayfs/overlay.ko\nkernel/drivers/virtio/virtio_ring.ko\n";
    files.push(("modules.builtin".to_owned(), builtin.to_vec()));
    assert_eq!(
        names(&files).unwrap(),
        ["virtio", "virtio_mmio", "virtio_blk", "virtio_rng"]
    );
}

#[test]
fn an_optional_module_that_cannot_load_is_left_out_whole() {
    let mut files = module_files();
    files.push(("kernel/net_failover.ko".to_owned(), module(&["gone"])));
    files.push((
        "kernel/virtio_net.ko".to_owned(),
        module(&["virtio", "net_failover"]),
    ));
    let names = names(&files).unwrap();
    assert!(!names.iter().any(|name| name.contains("net")), "{names:?}");
}

#[test]
fn circles_are_refused() {
    let mut files = without("virtio_ring");
    files.push(("kernel/virtio_ring.ko".to_owned(), module(&["virtio"])));
    assert!(matches!(
        names(&files),
        Err(BootModulesError::Circle { .. })
    ));
}

#[test]
fn links_out_of_the_tree_are_not_followed() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &module_files());
    std::os::unix::fs::symlink("/", root.path().join("build")).unwrap();
    assert_eq!(index(root.path()).unwrap().len(), 6);
}
