//! Which kernel a VM gets, and where it is taken from.

use std::{fs, path::PathBuf};

use banger_image::digest::Sha256;
use tempfile::TempDir;

use super::*;
use crate::{
    store::Store,
    testing::{FakeHost, archive, catalogs, clock, kernel_sources, runtime, silent, vmlinux},
};

fn name(text: &str) -> KernelName {
    text.parse().unwrap()
}

fn target(text: &str) -> KernelTarget {
    text.parse().unwrap()
}

#[test]
fn a_kernel_is_called_by_its_name_or_by_its_catalog_s_too() {
    let check = |text: &str, expected: Option<(Option<&str>, &str)>| {
        let target = text.parse::<KernelTarget>().ok();
        let parts = target.map(|t| (t.catalog.map(|c| c.to_string()), t.name.to_string()));
        let expected = expected.map(|(c, n)| (c.map(str::to_owned), n.to_owned()));
        assert_eq!(parts, expected, "{text}");
    };
    check("generic-6.12", Some((None, "generic-6.12")));
    check("acme/generic-6.12", Some((Some("acme"), "generic-6.12")));
    for wrong in ["", "/", "a/", "/a", "a.b/c", "a/b/c"] {
        check(wrong, None);
    }
}

#[test]
fn a_kernel_is_chosen_for_a_reason() {
    use Whereabouts::{Elsewhere, Release, Store};
    let (mine, other) = (name("mine"), name("other"));
    let cases = [
        (Some(&mine), Some(&other), Store, "mine", "asked for"),
        (None, Some(&other), Store, "other", "default_kernel"),
        (None, None, Store, PREFERRED, "in the store"),
        (None, None, Release, PREFERRED, "came with this release"),
        (None, None, Elsewhere, FALLBACK, "neither in the store nor"),
    ];
    for (asked, configured, place, expected, because) in cases {
        let choice = decide(asked, configured, place);
        assert_eq!(choice.name, name(expected), "{place:?}");
        assert!(choice.reason.contains(because), "{}", choice.reason);
    }
}

/// A store, a release and a catalog, each in a directory of its own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, part: &str) -> PathBuf {
        self.0.path().join(part)
    }

    fn kernels(&self) -> Kernels {
        let store = Arc::new(Store::open(&self.path("state.db")).unwrap());
        let sources = KernelSources {
            release: Some(Shelf::new(self.path("release"))),
            directories: vec![Shelf::new(self.path("catalog"))],
            ..kernel_sources(catalogs(&store))
        };
        let ledger = Arc::new(Ledger::open(store, clock).unwrap());
        let store = KernelStore::new(self.path("store"));
        Kernels::new(store, sources, ledger, FakeHost::new())
    }

    /// Offers a kernel whose release ends in `build`.
    fn offer(&self, shelf: &str, kernel: &str, build: char) {
        let directory = self.path(shelf);
        fs::create_dir_all(&directory).unwrap();
        let bytes = archive("vmlinux", &built(build));
        fs::write(directory.join("bundle.tar"), &bytes).unwrap();
        let catalog = format!(
            r#"{{"format": 1, "kernels": [{{"name": "{kernel}", "description": "", "arch": "x86_64", "source":
                {{"kind": "bundle", "file": "bundle.tar", "sha256": "{}", "bytes": {}}}}}]}}"#,
            Sha256::of(&bytes),
            bytes.len()
        );
        fs::write(directory.join("catalog.json"), catalog).unwrap();
    }
}

/// A kernel of `uname -r` 6.1.0-BUILD-test.
fn built(build: char) -> Vec<u8> {
    let mut kernel = vmlinux();
    let at = kernel
        .windows(6)
        .position(|part| part == b"6.1.0-")
        .unwrap()
        + 6;
    kernel[at] = u8::try_from(build).unwrap();
    kernel
}

async fn version(kernels: &Kernels, name: &KernelName) -> String {
    kernels.ensure(name, silent()).await.unwrap();
    kernels.get(name).unwrap().manifest.version
}

#[test]
fn what_came_with_the_release_is_unpacked_on_first_use_and_renewed_by_the_next_release() {
    runtime().block_on(async {
        let (place, own) = (Place::new(), name(PREFERRED));
        let choose = || place.kernels().choose(None, None).unwrap().name;
        assert_eq!(choose(), name(FALLBACK));
        place.offer("release", PREFERRED, '1');
        assert_eq!(choose(), own);
        assert_eq!(place.kernels().list().unwrap(), []);
        assert_eq!(version(&place.kernels(), &own).await, "6.1.0-1-test");
        place.offer("release", PREFERRED, '2');
        assert_eq!(version(&place.kernels(), &own).await, "6.1.0-2-test");
        fs::remove_dir_all(place.path("release")).unwrap();
        assert_eq!(choose(), own);
        assert_eq!(version(&place.kernels(), &own).await, "6.1.0-2-test");
    });
}

#[test]
fn what_the_user_imported_is_not_renewed() {
    runtime().block_on(async {
        let (place, own) = (Place::new(), name(PREFERRED));
        fs::create_dir(place.path("from")).unwrap();
        fs::write(place.path("from/vmlinux"), built('7')).unwrap();
        let kernels = place.kernels();
        let from = place.path("from");
        let told = CommandLine::default();
        kernels.import(&own, &from, told, false).await.unwrap();
        place.offer("release", PREFERRED, '1');
        assert_eq!(version(&kernels, &own).await, "6.1.0-7-test");
    });
}

#[test]
fn a_configured_catalog_offers_what_the_release_does_not() {
    runtime().block_on(async {
        let place = Place::new();
        let kernels = place.kernels();
        let refused = kernels
            .pull(&target(PREFERRED), false, silent())
            .await
            .unwrap_err();
        assert!(matches!(
            refused,
            Error::Kernel(KernelError::NotOffered { .. })
        ));
        place.offer("catalog", PREFERRED, '1');
        let pulled = kernels
            .pull(&target(PREFERRED), false, silent())
            .await
            .unwrap();
        assert_eq!(pulled.manifest.version, "6.1.0-1-test");
        place.offer("release", "other", '2');
        let offered = kernels.offers().unwrap();
        let offered = offered.iter().map(|offer| offer.entry.name.as_str());
        assert_eq!(
            offered.collect::<Vec<_>>(),
            ["other", PREFERRED, PREFERRED, FALLBACK]
        );
        let unknown = kernels.pull(&target("hurd"), false, silent()).await;
        let text = unknown.unwrap_err().to_string();
        assert!(
            text.ends_with("available: other, generic-6.12, debian-6.1"),
            "{text}"
        );
    });
}
