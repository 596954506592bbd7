//! Kernels that travel as one file: what the catalog promises comes out, anything else is refused.

use std::fs;
use std::path::PathBuf;

use banger_image::bundle::Bundle;
use banger_image::catalog::Downloads;
use banger_image::digest::Sha256;
use banger_image::kernel::{
    self, CommandLine, IfTaken, KernelError, KernelSource, KernelStore, Manifest, Origin, Shelf,
};

use crate::store::{name, names};
use crate::support::fakes::{RELEASE, gzip, module_files, tar, vmlinux};
use crate::support::{chain, silent};

const FILE: &str = "mine-x86_64-0123.tar.gz";

/// A shelf with one bundle, and a store.
struct Place {
    root: tempfile::TempDir,
    store: KernelStore,
}

impl Place {
    fn with(file: &[u8], promised: &[u8]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let shelf = root.path().join("shelf");
        fs::create_dir(&shelf).unwrap();
        fs::write(shelf.join(FILE), file).unwrap();
        fs::write(shelf.join("catalog.json"), catalog(FILE, promised)).unwrap();
        Self {
            store: KernelStore::new(root.path().join("kernels")),
            root,
        }
    }

    fn shelf(&self) -> Shelf {
        Shelf::new(self.root.path().join("shelf"))
    }

    fn bundle(&self) -> Bundle {
        let catalog = self.shelf().catalog().unwrap().unwrap();
        match &catalog.kernel(&name()).unwrap().source {
            KernelSource::Bundle(bundle) => bundle.clone(),
            other => panic!("{other:?}"),
        }
    }

    async fn unpack(&self, taken: IfTaken) -> Result<Manifest, KernelError> {
        let (bundle, shelf) = (self.bundle(), self.shelf());
        let (place, downloads) = (shelf.place(), Downloads::default());
        self.store
            .unpack(&name(), (&bundle, &place), &downloads, &silent(), taken)
            .await
    }
}

fn catalog(file: &str, promised: &[u8]) -> String {
    let (digest, bytes) = (Sha256::of(promised), promised.len());
    format!(
        r#"{{"format": 1, "kernels": [{{"name": "mine", "description": "", "arch": "x86_64", "source":
            {{"kind": "bundle", "file": "{file}", "sha256": "{digest}", "bytes": {bytes}}}}}]}}"#
    )
}

fn members() -> Vec<(String, Vec<u8>)> {
    let modules = module_files().into_iter();
    let modules = modules.map(|(path, bytes)| (format!("modules/{path}"), bytes));
    let own = [
        ("vmlinux".to_owned(), vmlinux(RELEASE)),
        ("config".to_owned(), b"CONFIG_64BIT=y\n".to_vec()),
        ("COPYING".to_owned(), b"GPL\n".to_vec()),
    ];
    own.into_iter().chain(modules).collect()
}

#[tokio::test]
async fn a_bundle_becomes_a_kernel_that_knows_where_it_came_from() {
    let bytes = gzip(&tar(&members()));
    let place = Place::with(&bytes, &bytes);
    let manifest = place.unpack(IfTaken::Refuse).await.unwrap();
    assert_eq!(manifest.version, RELEASE);
    let Origin::Bundle { sha256, file, .. } = &manifest.source else {
        panic!("{:?}", manifest.source)
    };
    assert_eq!((*sha256, file.as_str()), (Sha256::of(&bytes), FILE));
    place.store.verify(&name()).unwrap();
    let kept = members().into_iter().filter(|(path, _)| path != "COPYING");
    let kept: usize = kept.map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(manifest.size_bytes, kept as u64);
    let kernel = place.store.get(&name()).unwrap();
    assert!(kernel.config.is_some() && kernel.modules.is_some());
    let licence = fs::read(kernel.vmlinux.with_file_name("COPYING"));
    assert_eq!(licence.unwrap(), b"GPL\n");
    assert_eq!(names(&place.root.path().join("kernels")), ["mine"]);
    assert!(matches!(
        place.unpack(IfTaken::Refuse).await,
        Err(KernelError::Taken { .. })
    ));
    assert_eq!(place.unpack(IfTaken::Keep).await.unwrap(), manifest);
}

#[tokio::test]
async fn a_kernel_is_packed_as_it_is_and_the_same_each_time() {
    let bytes = gzip(&tar(&members()));
    let place = Place::with(&bytes, &bytes);
    place.unpack(IfTaken::Refuse).await.unwrap();
    let told: CommandLine = "noxsave lpj=1".parse().unwrap();
    let from = place.root.path().join("kernels/mine");
    let imported = "told".parse().unwrap();
    let import = place
        .store
        .import_told(&imported, &from, told.clone(), IfTaken::Refuse);
    import.unwrap();
    let kernel = place.store.get(&imported).unwrap();
    let shelf = place.root.path().join("shelf");
    let pack = || kernel.pack(&shelf, &silent(), || true).unwrap();
    let bundle = pack();
    assert_eq!(pack(), bundle);
    let digest = &bundle.sha256.to_hex()[..16];
    assert_eq!(
        bundle.file.to_string(),
        format!("told-x86_64-{digest}.tar.zst")
    );
    let (shelf, downloads) = (place.shelf().place(), Downloads::default());
    let again = "again".parse().unwrap();
    let from = (&bundle, &shelf);
    let unpack = place
        .store
        .unpack(&again, from, &downloads, &silent(), IfTaken::Refuse)
        .await;
    let manifest = unpack.unwrap();
    assert_eq!(
        (manifest.cmdline, manifest.sha256),
        (told, kernel.manifest.sha256)
    );
    assert_eq!(manifest.boot_modules, kernel.manifest.boot_modules);
    assert_eq!(manifest.size_bytes, kernel.manifest.size_bytes);
    let licence = place.root.path().join("kernels/again/COPYING");
    assert_eq!(fs::read(licence).unwrap(), b"GPL\n");
    let given_up = kernel.pack(place.root.path(), &silent(), || false);
    assert!(given_up.is_err());
    let left = names(place.root.path());
    assert!(left.iter().all(|name| !name.contains("told")), "{left:?}");
}

async fn check_refused(file: &[u8], promised: &[u8], expected: &str) {
    let place = Place::with(file, promised);
    let error = place.unpack(IfTaken::Refuse).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains(expected), "{text}");
    assert_eq!(names(&place.root.path().join("kernels")), [""; 0], "{text}");
}

#[tokio::test]
async fn what_the_catalog_does_not_promise_is_refused() {
    let good = gzip(&tar(&members()));
    let mut longer = good.clone();
    longer.push(0);
    check_refused(&longer, &good, "but its catalog promises").await;
    check_refused(&good, b"another", "but its catalog promises").await;
    check_refused(b"no archive", b"no archive", "cannot unpack").await;
    let climbing = tar(&[("vmlinux/x".to_owned(), vec![])]);
    let text = String::from_utf8(climbing).unwrap();
    let climbing = text.replace("vmlinux/x", "../linux/x").into_bytes();
    check_refused(&climbing, &climbing, "cannot unpack").await;
    check_refused(&tar(&[]), &tar(&[]), "has no vmlinux").await;
}

#[test]
fn an_absent_shelf_is_empty_and_a_damaged_catalog_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(root.path().join("none"));
    assert_eq!(shelf.catalog().unwrap(), None);
    let shelf = Shelf::new(root.path());
    for (text, good) in [
        (catalog(FILE, b""), true),
        (catalog("../../etc/passwd", b""), false),
        ("{".to_owned(), false),
    ] {
        let path: PathBuf = root.path().join("catalog.json");
        fs::write(path, &text).unwrap();
        assert_eq!(shelf.catalog().is_ok(), good, "{text}");
    }
}

#[test]
fn the_embedded_catalog_says_that_banger_s_own_kernel_is_built() {
    let catalog = kernel::embedded();
    let entry = catalog.kernel(&"generic-6.12".parse().unwrap()).unwrap();
    assert_eq!(entry.source, KernelSource::Built);
}
