//! Which catalogs are believed, what is remembered of them, and what is taken from them.

use std::{fs, path::PathBuf};

use banger_image::{catalog::SIGNED, kernel::KernelSource};

use super::*;
use crate::{
    image_target::ImageTarget,
    images::{Images, PullRequest},
    store::StoreError,
    testing::{World, catalogs, entries, runtime, silent, tiny_tar},
};

/// A publisher with a key, and a user with a world.
struct Bench {
    world: World,
    store: Arc<Store>,
    images: Images,
    catalogs: Arc<Catalogs>,
    place: tempfile::TempDir,
    key: PublicKey,
}

fn name(text: &str) -> CatalogName {
    text.parse().unwrap()
}

impl Bench {
    fn new() -> Self {
        let world = World::new();
        let ledger = world.ledger();
        let store = ledger.store().clone();
        let place = tempfile::tempdir().unwrap();
        let key = generate_key(&place.path().join("key"), "acme").unwrap();
        Self {
            images: world.images(ledger),
            catalogs: catalogs(&store),
            world,
            store,
            place,
            key,
        }
    }

    fn path(&self, part: &str) -> PathBuf {
        self.place.path().join(part)
    }

    fn url(&self, directory: &str) -> Place {
        Place::Directory(self.path(directory))
    }

    fn publication(&self, directory: &str) -> Publication {
        Publication {
            directory: self.path(directory),
            key: self.path("key"),
            description: None,
            valid: None,
        }
    }

    async fn import(&self, image: &str) {
        let source =
            banger_image::rootfs::Source::Stream(Box::new(std::io::Cursor::new(tiny_tar())));
        let name = image.parse().unwrap();
        let import = self.images.import(&name, source, "test".into(), silent());
        import.await.unwrap();
    }

    async fn publish(&self, image: &str, directory: &str) -> Published {
        let publication = self.publication(directory);
        self.publish_as(image, publication).await.unwrap()
    }

    async fn publish_as(&self, image: &str, how: Publication) -> Result<Published, Error> {
        let name = image.parse().unwrap();
        self.images.publish(&name, how, silent()).await
    }

    async fn pull(&self, target: &str, own: Option<&str>) -> Result<crate::images::Pulled, Error> {
        let target: ImageTarget = target.parse()?;
        let request = PullRequest {
            name: own.map(|own| own.parse().unwrap()),
            ..PullRequest::of("unused".parse()?)
        };
        self.images.pull(&target, request, silent()).await
    }

    async fn add(&self, catalog: &str, directory: &str) -> Result<Known, Error> {
        let (place, key) = (self.url(directory), self.key.clone());
        self.catalogs.add(name(catalog), place, key).await
    }
}

#[test]
fn what_was_published_is_pulled_as_it_was() {
    runtime().block_on(async {
        let bench = Bench::new();
        bench.import("web").await;
        let first = bench.publish("web", "shelf").await;
        let second = bench.publish("web", "shelf").await;
        assert_eq!(
            first.bundle, second.bundle,
            "the same image, the same bundle"
        );
        assert!(second.serial > first.serial);
        let known = bench.add("acme", "shelf").await.unwrap();
        assert_eq!(known.catalog.images().count(), 1);

        let pulled = bench.pull("acme/web", Some("copy")).await.unwrap();
        let web = bench.images.get(&"web".parse().unwrap()).unwrap();
        let bytes = |row: &crate::store::ImageRow| fs::read(bench.images.rootfs_of(row)).unwrap();
        assert!(bytes(&pulled.row) == bytes(&web));
        let same = |row: crate::store::ImageRow| (row.digest, row.entries, row.os, row.config);
        assert_eq!(same(pulled.row), same(web));

        // It is found again by what it was pulled by, and not pulled again.
        fs::remove_dir_all(bench.path("shelf")).unwrap();
        let again = bench.pull("acme/web", None).await.unwrap();
        assert!(again.summary.was_here);
        assert_eq!(again.row.name.as_str(), "copy");
        let found = bench.images.find(&"acme/web".parse().unwrap()).unwrap();
        assert_eq!(found.name.as_str(), "copy");
    });
}

#[test]
fn a_plain_name_is_the_first_catalog_s_that_has_it() {
    runtime().block_on(async {
        let bench = Bench::new();
        for image in ["web", "db"] {
            bench.import(image).await;
        }
        bench.publish("db", "one").await;
        bench.publish("web", "two").await;
        bench.publish("db", "two").await;
        bench.add("first", "one").await.unwrap();
        bench.add("second", "two").await.unwrap();
        for image in ["web", "db"] {
            bench.images.delete(&image.parse().unwrap()).unwrap();
        }
        let reference = async |target: &str| bench.pull(target, None).await.unwrap().row.reference;
        assert_eq!(reference("web").await.as_deref(), Some("second/web"));
        assert_eq!(reference("db").await.as_deref(), Some("first/db"));
        assert!(bench.pull("db", None).await.unwrap().summary.was_here);
        let exact = bench.pull("second/db", Some("other")).await.unwrap();
        assert_eq!(exact.row.reference.as_deref(), Some("second/db"));
        let nowhere = bench.pull("first/web", Some("third")).await.unwrap_err();
        assert_eq!(
            nowhere.to_string(),
            "the catalog first has no image \"web\""
        );
    });
}

#[test]
fn a_catalog_never_goes_back() {
    runtime().block_on(async {
        let bench = Bench::new();
        bench.import("web").await;
        bench.publish("web", "shelf").await;
        let signed = bench.path("shelf").join(SIGNED);
        let old = fs::read(&signed).unwrap();
        bench.publish("web", "shelf").await;
        bench.add("acme", "shelf").await.unwrap();
        let new = fs::read(&signed).unwrap();
        fs::write(&signed, &old).unwrap();
        let refused = bench.pull("acme/web", Some("copy")).await.unwrap_err();
        assert!(
            matches!(refused, Error::Catalog(CatalogError::Rollback { .. })),
            "{refused}"
        );
        // Another life of the daemon remembers, too.
        let reborn = catalogs(&Arc::new(bench.world.store()));
        let [(_, problem)] = &reborn.refresh().await.unwrap()[..] else {
            panic!("one catalog")
        };
        assert!(matches!(problem, Some(CatalogError::Rollback { .. })));
        fs::write(&signed, &new).unwrap();
        bench.pull("acme/web", Some("copy")).await.unwrap();

        // The same number for something else is as suspicious.
        fs::write(&signed, old).unwrap();
        bench.import("other").await;
        bench.publish("other", "shelf").await;
        let refused = bench.catalogs.refresh().await.unwrap().remove(0).1;
        assert!(
            matches!(refused, Some(CatalogError::Forked { .. })),
            "{refused:?}"
        );
    });
}

#[test]
fn only_what_is_signed_with_the_key_is_believed() {
    runtime().block_on(async {
        let bench = Bench::new();
        bench.import("web").await;
        bench.publish("web", "shelf").await;
        let other = generate_key(&bench.path("other"), "acme").unwrap();
        let stranger = bench.catalogs.add(name("acme"), bench.url("shelf"), other);
        let text = stranger.await.unwrap_err().chain();
        assert!(
            text.ends_with("it is not signed with the key of acme, but by acme"),
            "{text}"
        );
        assert!(!bench.catalogs.has(&name("acme")).unwrap());

        bench.add("acme", "shelf").await.unwrap();
        let twice = bench.add("acme", "shelf").await.unwrap_err();
        assert!(matches!(twice, Error::Store(StoreError::CatalogTaken(_))));
        let signed = bench.path("shelf").join(SIGNED);
        let note = fs::read_to_string(&signed).unwrap();
        fs::write(&signed, note.replace("web-", "bad-")).unwrap();
        let text = bench.pull("acme/web", Some("x")).await.unwrap_err().chain();
        assert!(
            text.ends_with("it was changed after it was signed"),
            "{text}"
        );
        // What publishes goes on only from its own work.
        let publication = bench.publication("shelf");
        let text = bench
            .publish_as("web", publication)
            .await
            .unwrap_err()
            .chain();
        assert!(text.contains("cannot publish the image web"), "{text}");

        bench.catalogs.remove(&name("acme")).unwrap();
        let gone = bench.catalogs.remove(&name("acme")).unwrap_err();
        assert!(matches!(gone, Error::Store(StoreError::NoCatalog(_))));
        assert_eq!(bench.store.catalogs().unwrap(), []);
    });
}

#[test]
fn somebody_else_s_catalog_is_not_published_over() {
    runtime().block_on(async {
        let bench = Bench::new();
        bench.import("web").await;
        bench.publish("web", "shelf").await;
        let before = fs::read(bench.path("shelf").join(SIGNED)).unwrap();
        generate_key(&bench.path("other"), "mallory").unwrap();
        let publication = Publication {
            key: bench.path("other"),
            ..bench.publication("shelf")
        };
        let text = bench
            .publish_as("web", publication)
            .await
            .unwrap_err()
            .chain();
        assert!(text.contains("is somebody else's"), "{text}");
        assert_eq!(fs::read(bench.path("shelf").join(SIGNED)).unwrap(), before);
    });
}

#[test]
fn a_tampered_bundle_is_refused_by_name_and_leaves_nothing() {
    runtime().block_on(async {
        let bench = Bench::new();
        bench.import("web").await;
        let published = bench.publish("web", "shelf").await;
        bench.add("acme", "shelf").await.unwrap();
        let bundle = bench.path("shelf").join(published.bundle.file.as_str());
        let good = fs::read(&bundle).unwrap();
        let before = entries(&bench.world.images_directory());
        let check = async |bytes: Option<&[u8]>, expected: &str| {
            fs::remove_file(&bundle).unwrap();
            if let Some(bytes) = bytes {
                fs::write(&bundle, bytes).unwrap();
            }
            let refused = bench.pull("acme/web", Some("copy")).await.unwrap_err();
            let text = refused.chain();
            assert!(
                text.contains(expected) && text.contains("web-x86_64-"),
                "{text}"
            );
            assert_eq!(entries(&bench.world.images_directory()), before);
            if bytes.is_none() {
                fs::write(&bundle, b"").unwrap();
            }
        };
        let mut changed = good.clone();
        changed[good.len() / 2] ^= 1;
        check(Some(&changed), "but its catalog promises").await;
        check(Some(&good[..good.len() - 1]), "but its catalog promises").await;
        check(
            Some(&[&good[..], b"x"].concat()),
            "but its catalog promises",
        )
        .await;
        check(None, "No such file").await;
        fs::write(&bundle, good).unwrap();
        bench.pull("acme/web", Some("copy")).await.unwrap();
    });
}

#[test]
fn an_expired_catalog_is_not_believed() {
    runtime().block_on(async {
        let bench = Bench::new();
        bench.import("web").await;
        let publication = Publication {
            valid: Some(Duration::ZERO),
            ..bench.publication("shelf")
        };
        bench.publish_as("web", publication).await.unwrap();
        let refused = bench.add("acme", "shelf").await.unwrap_err();
        assert!(
            matches!(refused, Error::Catalog(CatalogError::Expired { .. })),
            "{refused}"
        );
    });
}

#[test]
fn what_was_read_last_will_do_when_nobody_answers() {
    runtime().block_on(async {
        let bench = Bench::new();
        bench.import("web").await;
        bench.publish("web", "shelf").await;
        bench.add("acme", "shelf").await.unwrap();
        fs::remove_file(bench.path("shelf").join(SIGNED)).unwrap();
        let [(known, problem)] = &bench.catalogs.refresh().await.unwrap()[..] else {
            panic!("one catalog")
        };
        assert!(matches!(problem, Some(CatalogError::Source { .. })));
        assert_eq!(known.catalog.images().count(), 1);
        bench.pull("acme/web", Some("copy")).await.unwrap();
    });
}

#[test]
fn a_kernel_comes_from_a_catalog_as_an_image_does() {
    runtime().block_on(async {
        let bench = Bench::new();
        let kernels = bench
            .world
            .kernels_of(bench.world.ledger(), bench.catalogs.clone());
        let own: KernelName = "test".parse().unwrap();
        let publication = bench.publication("shelf");
        let published = kernels.publish(&own, publication, silent()).await.unwrap();
        bench.add("acme", "shelf").await.unwrap();
        let offers = kernels.offers().unwrap();
        let offer = offers.iter().find(|offer| offer.entry.name == own).unwrap();
        assert_eq!(offer.catalog, Some(name("acme")));
        assert_eq!(offer.entry.source, KernelSource::Bundle(published.bundle));
        let before = kernels.get(&own).unwrap().manifest;
        for target in ["test", "acme/test"] {
            kernels.delete(&own).await.unwrap();
            let target = target.parse().unwrap();
            let pulled = kernels.pull(&target, false, silent()).await.unwrap();
            assert_eq!(pulled.manifest.sha256, before.sha256);
        }
        let nowhere = kernels
            .pull(&"acme/hurd".parse().unwrap(), false, silent())
            .await;
        let text = nowhere.unwrap_err().to_string();
        assert_eq!(text, "the catalog acme has no kernel \"hurd\"");
        let nobody = kernels
            .pull(&"nobody/hurd".parse().unwrap(), false, silent())
            .await;
        assert_eq!(
            nobody.unwrap_err().to_string(),
            "there is no catalog \"nobody\""
        );
    });
}
