//! Bundles from a server: resumed, checked, fetched once more, refused.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use banger_image::bundle::BundleError;
use banger_image::catalog::{Downloads, SIGNED};
use banger_image::fetch::Patience;

use crate::web::Answer;
use crate::world::{SIZE, World, chain, disk, manifest, pack};

#[tokio::test]
async fn an_image_comes_out_as_it_went_in() {
    let world = World::new().await;
    let offered = world.catalog().await.unwrap().catalog;
    assert_eq!(offered.images().collect::<Vec<_>>(), [&world.entry]);
    assert_eq!(world.pull().await.unwrap(), manifest());
    assert!(fs::read(world.image()).unwrap() == disk());
    let metadata = fs::metadata(world.image()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o444);
    // What was zeros takes no room.
    assert!(
        metadata.blocks() * 512 < SIZE as u64 * 2 / 3,
        "{}",
        metadata.blocks()
    );
}

#[tokio::test]
async fn the_same_image_gives_the_same_bundle() {
    let world = World::new().await;
    let (rootfs, other) = (
        world.root.path().join("rootfs"),
        world.root.path().join("other"),
    );
    fs::create_dir(&other).unwrap();
    let bundle = pack(&manifest(), &rootfs, &other).unwrap();
    assert_eq!(bundle, world.entry.bundle);
    let digest = &bundle.sha256.to_hex()[..16];
    let name = format!("web-{}-{digest}.tar.zst", std::env::consts::ARCH);
    assert_eq!(bundle.file.as_str(), name);
    let mode = fs::metadata(other.join(name)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[tokio::test]
async fn an_image_that_shrinks_while_it_is_packed_is_not_published() {
    let world = World::new().await;
    let rootfs = world.root.path().join("rootfs");
    fs::write(&rootfs, &disk()[1..]).unwrap();
    let other = world.root.path().join("other");
    fs::create_dir(&other).unwrap();
    assert!(matches!(
        pack(&manifest(), &rootfs, &other),
        Err(BundleError::Pack { .. })
    ));
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
}

/// Pulls a bundle that is answered for like this; how often it is asked for.
async fn check(answers: &[Answer], expected: Result<(), &str>) -> usize {
    let world = World::new().await;
    world.server.script(&world.bundle_path(), answers);
    let pulled = world.pull().await.map(drop).map_err(|error| chain(&error));
    match (pulled, expected) {
        (Ok(()), Ok(())) => assert!(fs::read(world.image()).unwrap() == disk()),
        (Err(text), Err(part)) => {
            assert!(text.contains(part) && text.contains("web-"), "{text}");
            assert!(!world.image().exists());
        }
        (pulled, expected) => panic!("{answers:?}: {pulled:?}, but {expected:?} was expected"),
    }
    world.server.requests(&world.bundle_path()).len()
}

#[tokio::test]
async fn what_passes_is_passed_over() {
    let busy = Answer::Status(503, vec![]);
    assert_eq!(check(&[busy, Answer::Content], Ok(())).await, 2);
    let half = Answer::BreaksOff(100);
    assert_eq!(
        check(&[half.clone(), half, Answer::Content], Ok(())).await,
        3
    );
    assert_eq!(
        check(&[Answer::Stalls(100), Answer::Content], Ok(())).await,
        2
    );
    assert_eq!(check(&[Answer::Corrupt, Answer::Content], Ok(())).await, 2);
}

#[tokio::test]
async fn what_stays_wrong_is_refused_by_name() {
    assert_eq!(check(&[Answer::Corrupt], Err("has the digest")).await, 2);
    let nobody = Answer::Status(404, vec![]);
    assert_eq!(check(&[nobody], Err("answered 404")).await, 1);
    let broken = Answer::Status(503, vec![]);
    assert_eq!(check(&[broken], Err("answered 503")).await, 3);
    check(&[Answer::Endless(vec![7; 9999])], Err("is larger than")).await;
    check(&[Answer::Other(b"short".to_vec())], Err("bytes where")).await;
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named() {
    let world = World::new().await;
    let downloads = Downloads::new(Patience::default(), vec!["/nonexistent.pem".into()]);
    let text = chain(&world.place().signed(&downloads).await.unwrap_err());
    assert!(text.contains("/nonexistent.pem"), "{text}");
    assert_eq!(world.server.requests(&format!("/shelf/{SIGNED}")), []);
}

#[tokio::test]
async fn a_catalog_that_is_wrong_is_refused() {
    let check = async |answer: Answer, expected: &str| {
        let world = World::new().await;
        world.server.script(&format!("/shelf/{SIGNED}"), &[answer]);
        let text = world.catalog().await.unwrap_err();
        assert!(text.contains(expected), "{text}");
    };
    check(Answer::Status(404, vec![]), "answered 404").await;
    check(Answer::Status(500, vec![]), "answered 500").await;
    check(Answer::Silent, "did not answer").await;
    check(Answer::Stalls(10), "stalled").await;
    check(Answer::Endless(vec![b'x'; 99_999]), "is larger than").await;
    check(Answer::ShortLength(100), "no signed text").await;
    check(Answer::Other(b"<html>".to_vec()), "no signed text").await;
    check(Answer::Corrupt, "cannot trust it").await;
}
