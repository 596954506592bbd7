//! Who we are: passwords and tokens, and to whom they are shown.

use banger_image::layers::LayerSource;
use banger_image::registry::RegistryError;
use std::io::Read;

use crate::support::{Answer, Server, World};

/// `me:secret`
const BASIC: &str = "Basic bWU6c2VjcmV0";

fn wants(challenge: &str) -> Vec<(&'static str, String)> {
    vec![("www-authenticate", challenge.to_owned())]
}

#[tokio::test]
async fn a_password_is_shown_where_one_is_wanted() {
    let world = World::new().await;
    let guarded = Answer::Only(BASIC.into(), wants("Basic realm=\"x\""));
    world.server.script(&world.manifest_path, &[guarded]);
    let error = world.resolve().await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("anybody"), "{error}");
    world.resolve_with(vec![world.credentials()]).await.unwrap();
    let asked = world.server.requests(&world.manifest_path);
    assert_eq!(asked[0].authorization, None, "nobody is told unasked");
}

#[tokio::test]
async fn a_wrong_password_is_shown_once() {
    let world = World::new().await;
    let guarded = Answer::Only("Basic other".into(), wants("Basic realm=\"x\""));
    world.server.script(&world.manifest_path, &[guarded]);
    let failed = world.resolve_with(vec![world.credentials()]).await;
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("the user me"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    assert_eq!(world.server.requests(&world.manifest_path).len(), 2);
}

#[tokio::test]
async fn a_token_is_got_for_the_password_and_shown_instead_of_it() {
    let world = World::new().await;
    let realm = Server::start().await;
    realm.put("/token", br#"{"token":"t1"}"#.to_vec());
    let challenge = format!("Bearer realm=\"{}\",service=\"s\"", realm.url("/token"));
    let guarded = Answer::Only("Bearer t1".into(), wants(&challenge));
    world
        .server
        .script(&world.manifest_path, std::slice::from_ref(&guarded));
    world.server.script(&world.layer_path, &[guarded]);
    world.resolve_with(vec![world.credentials()]).await.unwrap();
    let asked = "/token?service=s&scope=repository%3Aweb%3Apull&account=me";
    let asked = realm.requests(asked);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization.as_deref(), Some(BASIC));
    let shown = world.server.requests(&world.manifest_path);
    assert_eq!(shown[1].authorization.as_deref(), Some("Bearer t1"));
    // Without credentials it is asked for, too, as public images want it.
    world.resolve().await.unwrap();
    let anonymous = realm.requests("/token?service=s&scope=repository%3Aweb%3Apull");
    assert_eq!(anonymous[0].authorization, None);
}

#[tokio::test]
async fn no_credentials_follow_a_redirect_to_another_host() {
    let world = World::new().await;
    let elsewhere = Server::start().await;
    elsewhere.put("/data", world.layer.clone());
    let guarded = Answer::Only(BASIC.into(), wants("Basic realm=\"x\""));
    world.server.script(&world.manifest_path, &[guarded]);
    let redirect = Answer::Redirect(elsewhere.url("/data"));
    world.server.script(&world.layer_path, &[redirect]);
    let resolved = world.resolve_with(vec![world.credentials()]).await.unwrap();
    let blob = resolved.blobs[0].clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        blob.open().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    });
    assert!(read.await.unwrap() == world.layer);
    let shown = world.server.requests(&world.layer_path);
    assert_eq!(shown[0].authorization.as_deref(), Some(BASIC));
    let asked = elsewhere.requests("/data");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization, None);
}
