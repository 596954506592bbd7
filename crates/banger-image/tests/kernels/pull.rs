//! Pulling a kernel from a mirror: the truth, and one lie at a time.

use std::time::{Duration, SystemTime};

use banger_image::digest::Sha256;
use banger_image::kernel::{
    self, DebianPackage, IfTaken, KernelError, KernelName, KernelSource, KernelStore, Manifest,
    Origin, Upstream,
};

use crate::store::names;
use crate::support::fakes::{RELEASE, vmlinux};
use crate::support::mirror::{Dist, IMAGE, META, Mirror};
use crate::support::signer::{How, Signer};
use crate::support::{chain, silent};
use crate::web::Answer;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn name() -> KernelName {
    "debian-6.1".parse().unwrap()
}

fn package() -> DebianPackage {
    match &kernel::embedded().kernel(&name()).unwrap().source {
        KernelSource::Debian(package) => package.clone(),
        other => panic!("{other:?}"),
    }
}

fn dist() -> Dist {
    Dist::new("debian", "bookworm", "6.1.5-1")
}

/// A store in a directory of its own.
struct Place {
    root: tempfile::TempDir,
    store: KernelStore,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self {
            store: KernelStore::new(root.path()),
            root,
        }
    }

    async fn pull(&self, upstream: &Upstream, taken: IfTaken) -> Result<Manifest, KernelError> {
        let (name, package) = (name(), package());
        self.store
            .pull(&name, &package, upstream, &silent(), taken)
            .await
    }

    fn entries(&self) -> Vec<String> {
        names(self.root.path())
    }
}

/// Pulls; the error must say what is expected, hint at something, and leave nothing behind.
async fn check_refused(upstream: &Upstream, expected: &str) {
    let place = Place::new();
    let error = place.pull(upstream, IfTaken::Refuse).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains(expected), "{text}");
    assert_eq!(place.entries(), [""; 0], "{text}");
    assert!(
        matches!(error, KernelError::Unpack { .. }) || error.hint().is_some(),
        "{text}"
    );
}

#[tokio::test]
async fn a_truthful_mirror_gives_a_kernel() {
    let mirror = Mirror::with(&dist()).await;
    let place = Place::new();
    let manifest = place
        .pull(&mirror.upstream(false), IfTaken::Refuse)
        .await
        .unwrap();
    assert_eq!(manifest.version, RELEASE);
    assert_eq!(manifest.sha256, Sha256::of(&vmlinux(RELEASE)));
    let package = mirror.server.content("debian/pool/6.1.5-1.deb");
    assert_eq!(
        manifest.source,
        Origin::Debian {
            url: mirror.server.url("debian/pool/6.1.5-1.deb"),
            package: IMAGE.to_owned(),
            package_version: "6.1.5-1".to_owned(),
            sha256: Sha256::of(&package),
        }
    );
    assert_eq!(place.entries(), ["debian-6.1"]);
    let kernel = place.root.path().join("debian-6.1");
    assert_eq!(
        names(&kernel),
        ["config", "manifest.json", "modules", "vmlinux"]
    );
    place.store.verify(&manifest.name).unwrap();
    assert!(!mirror.server.asked_for("by-hash").is_empty());
}

#[tokio::test]
async fn the_newest_of_both_suites_is_taken() {
    for (plain, security, expected) in [
        ("6.1.5-1", "6.1.10-1", "6.1.10-1"),
        ("6.1.10-1", "6.1.9-1", "6.1.10-1"),
        ("6.1.5-1", "6.12.1-1", "6.1.5-1"),
    ] {
        let mirror = Mirror::with(&Dist::new("debian", "bookworm", plain)).await;
        mirror.publish(&Dist::new("security", "bookworm-security", security));
        let place = Place::new();
        let manifest = place
            .pull(&mirror.upstream(true), IfTaken::Refuse)
            .await
            .unwrap();
        let Origin::Debian {
            package_version, ..
        } = manifest.source
        else {
            panic!("imported")
        };
        assert_eq!(package_version, expected);
    }
}

#[tokio::test]
async fn a_mirror_without_names_by_hash_will_do() {
    let mirror = Mirror::with(&Dist {
        by_hash: false,
        ..dist()
    })
    .await;
    Place::new()
        .pull(&mirror.upstream(false), IfTaken::Refuse)
        .await
        .unwrap();
    // One that promises them, but does not have them.
    let mirror = Mirror::with(&dist()).await;
    mirror.spoil("by-hash", &Answer::Status(404, vec![]));
    Place::new()
        .pull(&mirror.upstream(false), IfTaken::Refuse)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_mirror_that_is_down_or_elsewhere_is_named() {
    let mirror = Mirror::with(&dist()).await;
    let mut upstream = mirror.upstream(false);
    upstream.config.mirror = "http://127.0.0.1:1/debian".parse().unwrap();
    check_refused(
        &upstream,
        "cannot get the release file of bookworm from http://127.0.0.1:1",
    )
    .await;
    upstream.config.mirror = mirror.server.url("nowhere").parse().unwrap();
    check_refused(&upstream, "answered 404").await;
}

#[tokio::test]
async fn a_missing_security_mirror_is_not_passed_over() {
    let mirror = Mirror::with(&dist()).await;
    check_refused(&mirror.upstream(true), "release file of bookworm-security").await;
}

#[tokio::test]
async fn a_changed_release_is_refused() {
    let mirror = Mirror::with(&dist()).await;
    let release = String::from_utf8(mirror.server.content(&dist().in_release())).unwrap();
    let changed = release.replace("Origin: Test", "Origin: Evil");
    mirror
        .server
        .put(&dist().in_release(), changed.into_bytes());
    check_refused(&mirror.upstream(false), "does not match the text").await;
    let around = format!("{release}SHA256:\n 00 1 main/binary-amd64/Packages.xz\n");
    mirror.server.put(&dist().in_release(), around.into_bytes());
    check_refused(&mirror.upstream(false), "something follows the signature").await;
}

#[tokio::test]
async fn a_release_signed_by_a_stranger_is_refused() {
    let mirror = Mirror {
        signer: Signer::new(),
        ..Mirror::with(&dist()).await
    };
    check_refused(&mirror.upstream(false), "not a trusted key").await;
}

#[tokio::test]
async fn a_release_signed_by_a_dead_key_is_refused() {
    let mut mirror = Mirror::with(&dist()).await;
    mirror.signer.revoke_primary();
    check_refused(&mirror.upstream(false), "key revoked").await;
}

#[tokio::test]
async fn an_old_release_is_refused_unless_told_otherwise() {
    let then = SystemTime::now() - 30 * DAY;
    let old = Dist {
        date: then,
        valid_until: Some(then + 7 * DAY),
        ..dist()
    };
    let mirror = Mirror::with(&old).await;
    let mut upstream = mirror.upstream(false);
    check_refused(&upstream, "it expired on").await;
    upstream.config.check_valid_until = false;
    Place::new().pull(&upstream, IfTaken::Refuse).await.unwrap();
}

#[tokio::test]
async fn a_release_of_another_time_or_suite_is_refused() {
    let future = Dist {
        date: SystemTime::now() + 3 * DAY,
        ..dist()
    };
    let mirror = Mirror::with(&future).await;
    check_refused(&mirror.upstream(false), "dated in the future").await;
    let other = Dist {
        codename: "trixie".to_owned(),
        ..dist()
    };
    let mirror = Mirror::with(&other).await;
    check_refused(
        &mirror.upstream(false),
        "it is for oldstable, trixie, not for bookworm",
    )
    .await;
}

#[tokio::test]
async fn another_index_than_was_signed_is_refused() {
    let mirror = Mirror::with(&dist()).await;
    let mut index = mirror.server.content(&dist().index());
    let last = index.len() - 1;
    index[last] ^= 1;
    mirror.spoil("Packages", &Answer::Status(404, vec![]));
    mirror.spoil("by-hash", &Answer::Other(index.clone()));
    check_refused(&mirror.upstream(false), "has the digest").await;
    mirror.spoil("by-hash", &Answer::Other(index[..last].to_vec()));
    check_refused(&mirror.upstream(false), "where").await;
    mirror.spoil("by-hash", &Answer::Endless(index));
    check_refused(&mirror.upstream(false), "is larger than").await;
}

#[tokio::test]
async fn an_index_that_unpacks_to_more_than_was_signed_is_refused() {
    let mirror = Mirror::with(&dist()).await;
    let packages = dist().packages(b"x");
    let index = crate::support::fakes::xz(format!("{packages}{packages}").as_bytes());
    mirror
        .server
        .put(&dist().index_by_hash(&index), index.clone());
    mirror.publish_release(&dist(), &dist().release(&packages, &index));
    check_refused(&mirror.upstream(false), "unpacks to too much").await;
}

#[tokio::test]
async fn another_package_than_was_signed_is_refused() {
    let mirror = Mirror::with(&dist()).await;
    let mut package = mirror.server.content("debian/pool/6.1.5-1.deb");
    let middle = package.len() / 2;
    package[middle] ^= 1;
    mirror.spoil("pool", &Answer::Other(package.clone()));
    check_refused(&mirror.upstream(false), "has the digest").await;
    mirror.spoil("pool", &Answer::BreaksOff(0));
    check_refused(&mirror.upstream(false), "broke off").await;
    mirror.spoil("pool", &Answer::Status(404, vec![]));
    check_refused(&mirror.upstream(false), "answered 404").await;
}

#[tokio::test]
async fn an_index_without_the_kernel_says_so() {
    let mirror = Mirror::with(&Dist {
        version: "6.12.5-1".to_owned(),
        ..dist()
    })
    .await;
    check_refused(
        &mirror.upstream(false),
        &format!("no package {META} of version 6.1"),
    )
    .await;
    let without = dist()
        .packages(b"x")
        .replace(&format!("Package: {IMAGE}"), "Package: gone");
    mirror.publish_index(&dist(), &without);
    check_refused(
        &mirror.upstream(false),
        &format!("needs {IMAGE}, which bookworm does not"),
    )
    .await;
}

#[tokio::test]
async fn a_package_that_climbs_out_is_refused() {
    let climbing = dist().packages(b"x").replace("pool/", "../pool/");
    let mirror = Mirror::with(&dist()).await;
    mirror.publish_index(&dist(), &climbing);
    check_refused(&mirror.upstream(false), "lacks a usable Filename").await;
}

#[tokio::test]
async fn a_package_without_a_kernel_is_refused() {
    let members = vec![("./usr/share/doc/x".to_owned(), b"x".to_vec())];
    let mirror = Mirror::with(&Dist { members, ..dist() }).await;
    check_refused(&mirror.upstream(false), "has no vmlinux").await;
}

#[tokio::test]
async fn pulls_of_one_name_wait_for_each_other() {
    let mirror = Mirror::with(&dist()).await;
    let (place, upstream) = (Place::new(), mirror.upstream(false));
    let pull = |taken| place.pull(&upstream, taken);
    let (first, second) = tokio::join!(pull(IfTaken::Keep), pull(IfTaken::Keep));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(mirror.server.asked_for("pool").len(), 1);
    let error = pull(IfTaken::Refuse).await.unwrap_err();
    assert!(matches!(error, KernelError::Taken { .. }));
    pull(IfTaken::Replace).await.unwrap();
    assert_eq!(place.entries(), ["debian-6.1"]);
}

#[tokio::test]
async fn a_dropped_pull_leaves_nothing() {
    let mirror = Mirror::with(&dist()).await;
    mirror.spoil("pool", &Answer::Stalls(100));
    let (place, upstream) = (Place::new(), mirror.upstream(false));
    let asked = async {
        while mirror.server.asked_for("pool").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = asked => {}
        result = place.pull(&upstream, IfTaken::Refuse) => panic!("it ended: {result:?}"),
    }
    assert_eq!(place.entries(), [""; 0]);
    // The name is free again.
    mirror.publish(&dist());
    place.pull(&upstream, IfTaken::Refuse).await.unwrap();
}

#[tokio::test]
async fn an_expired_signature_is_refused() {
    let mirror = Mirror::with(&dist()).await;
    let how = How {
        made: SystemTime::now() - 3 * DAY,
        lasts: Some(DAY),
        ..How::default()
    };
    let release = dist().release("", b"");
    let signed = mirror.signer.sign(&release, how);
    mirror.server.put(&dist().in_release(), signed.into_bytes());
    check_refused(&mirror.upstream(false), "signature expired").await;
}
