//! Manifests and configurations: verified, fetched again, refused by name.

use banger_image::registry::RegistryError;

use crate::support::{Answer, World};

#[tokio::test]
async fn an_image_is_found_and_no_layer_is_fetched_for_it() {
    let world = World::new().await;
    let resolved = world.resolve().await.unwrap();
    assert_eq!(resolved.layers.len(), 1);
    assert_eq!(world.server.requests(&world.layer_path), []);
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let check = async |answers: &[Answer], tries: usize| {
        let world = World::new().await;
        world.server.script(&world.manifest_path, answers);
        world.resolve().await.unwrap();
        let asked = world.server.requests(&world.manifest_path).len();
        assert_eq!(asked, tries, "{answers:?}");
    };
    let wait = vec![("retry-after", "0".to_owned())];
    check(&[Answer::Status(503, vec![]), Answer::Content], 2).await;
    check(&[Answer::Status(429, wait), Answer::Content], 2).await;
    check(
        &[Answer::BreaksOff(9), Answer::Stalls(9), Answer::Content],
        3,
    )
    .await;
    check(&[Answer::Silent, Answer::Content], 2).await;
}

#[tokio::test]
async fn what_does_not_pass_is_not_tried_again() {
    let check = async |answer: Answer, why: &str| {
        let world = World::new().await;
        world.server.script(&world.manifest_path, &[answer]);
        let error = world.resolve().await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(world.server.requests(&world.manifest_path).len(), 1);
    };
    check(Answer::Status(404, vec![]), "has no image").await;
    check(Answer::Status(403, vec![]), "does not let anybody have web").await;
    check(Answer::Status(400, vec![]), "400").await;
    let late = vec![("retry-after", "86400".to_owned())];
    check(Answer::Status(429, late), "429").await;
}

#[tokio::test]
async fn a_registry_that_is_down_is_given_up() {
    let world = World::new().await;
    world
        .server
        .script(&world.manifest_path, &[Answer::Status(500, vec![])]);
    let error = world.resolve().await.unwrap_err();
    assert!(matches!(error, RegistryError::Status { .. }), "{error:?}");
    assert_eq!(world.server.requests(&world.manifest_path).len(), 4);
}

#[tokio::test]
async fn a_configuration_that_is_another_is_fetched_once_more_then_refused() {
    let world = World::new().await;
    let resolved = world.resolve().await.unwrap();
    drop(resolved);
    let all = world.server.asked_for("/blobs/").remove(0);
    world
        .server
        .script(&all, &[Answer::Corrupt, Answer::Content]);
    world.resolve().await.unwrap();
    world.server.script(&all, &[Answer::Corrupt]);
    let before = world.server.requests(&all).len();
    let error = world.resolve().await.unwrap_err();
    assert!(matches!(error, RegistryError::Corrupt { .. }), "{error:?}");
    assert_eq!(world.server.requests(&all).len() - before, 2);
}

#[tokio::test]
async fn a_mirror_is_asked_in_the_place_of_a_registry() {
    let world = World::new().await;
    world.resolve_at("mirrored.example", vec![]).await.unwrap();
    assert_eq!(world.server.requests(&world.manifest_path).len(), 1);
}
