//! Layers: resumed, shared, fetched again, never half.

use std::io::Read;
use std::sync::Arc;

use banger_image::blobs::{BlobLayer, Verdict};
use banger_image::layers::LayerSource;
use banger_image::registry::RegistryError;

use crate::support::{Answer, SIZE, World};

async fn read(layer: &Arc<BlobLayer>) -> std::io::Result<Vec<u8>> {
    let layer = Arc::clone(layer);
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        layer.open()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    reading.await.unwrap()
}

fn files(world: &World) -> usize {
    std::fs::read_dir(world.store.directory()).map_or(0, Iterator::count)
}

/// Fetches the layer; the ranges that were asked for.
async fn fetched(answers: &[Answer]) -> Vec<Option<String>> {
    let world = World::new().await;
    world.server.script(&world.layer_path, answers);
    let resolved = world.resolve().await.unwrap();
    let bytes = read(&resolved.blobs[0]).await;
    assert!(bytes.unwrap() == world.layer, "{answers:?}");
    assert_eq!(world.store.list().unwrap().len(), 1);
    let asked = world.server.requests(&world.layer_path).into_iter();
    asked.map(|request| request.range).collect()
}

fn from(begin: usize) -> Option<String> {
    Some(format!("bytes={begin}-"))
}

#[tokio::test]
async fn a_layer_that_breaks_off_is_resumed_where_it_was() {
    let third = SIZE / 3;
    let breaking = [const { Answer::BreaksOff(SIZE / 3 - 1) }; 3];
    let third = third - 1;
    let ranges = fetched(&[&breaking[..], &[Answer::Content]].concat()).await;
    assert_eq!(
        ranges,
        [None, from(third), from(2 * third), from(3 * third)]
    );
}

#[tokio::test]
async fn more_breaks_than_tries_are_survived_while_each_brings_something() {
    let breaking = Answer::BreaksOff(70_000);
    let ranges = fetched(&[breaking]).await;
    assert_eq!(ranges.len(), SIZE.div_ceil(70_000));
}

#[tokio::test]
async fn stumbles_of_all_kinds_are_survived() {
    let wait = vec![("retry-after", "0".to_owned())];
    assert_eq!(
        fetched(&[Answer::Status(503, vec![]), Answer::Content])
            .await
            .len(),
        2
    );
    assert_eq!(
        fetched(&[Answer::Status(429, wait), Answer::Content])
            .await
            .len(),
        2
    );
    assert_eq!(
        fetched(&[Answer::Stalls(5), Answer::Content]).await,
        [None, from(5)]
    );
    assert_eq!(
        fetched(&[Answer::Silent, Answer::Content]).await,
        [None, None]
    );
    assert_eq!(
        fetched(&[Answer::ShortLength(9), Answer::Content]).await,
        [None, from(9)]
    );
    // What is missing was never there: all that is wanted has come.
    assert_eq!(fetched(&[Answer::LongLength(9)]).await, [None]);
}

#[tokio::test]
async fn a_server_without_ranges_begins_anew() {
    let ranges = fetched(&[Answer::BreaksOff(1000), Answer::WithoutRange]).await;
    assert_eq!(ranges, [None, from(1000)]);
}

#[tokio::test]
async fn a_layer_that_is_another_fails_at_its_end_and_the_next_try_fetches_it_again() {
    let world = World::new().await;
    let script = [Answer::Corrupt, Answer::Content];
    world.server.script(&world.layer_path, &script);
    let resolved = world.resolve().await.unwrap();
    let blob = &resolved.blobs[0];
    assert!(read(blob).await.is_err());
    let verdict = blob.verdict().await;
    let Verdict::Failed(error) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(
        matches!(&*error, RegistryError::Corrupt { .. }),
        "{error:?}"
    );
    assert_eq!(files(&world), 0, "nothing half is left");
    assert!(read(blob).await.unwrap() == world.layer);
}

#[tokio::test]
async fn a_layer_that_is_always_another_is_fetched_twice() {
    let world = World::new().await;
    world.server.script(&world.layer_path, &[Answer::Corrupt]);
    let resolved = world.resolve().await.unwrap();
    let blob = &resolved.blobs[0];
    for _ in 0..4 {
        assert!(read(blob).await.is_err());
        let verdict = blob.verdict().await;
        assert!(matches!(&verdict, Verdict::Failed(error) if error.is_wrong()));
    }
    assert_eq!(world.server.requests(&world.layer_path).len(), 2);
    assert_eq!(files(&world), 0);
}

#[tokio::test]
async fn a_layer_that_is_here_is_not_fetched_but_looked_at() {
    let world = World::new().await;
    let resolved = world.resolve().await.unwrap();
    read(&resolved.blobs[0]).await.unwrap();
    let again = world.resolve().await.unwrap();
    assert!(read(&again.blobs[0]).await.unwrap() == world.layer);
    assert!(!again.blobs[0].was_fetched());
    assert_eq!(world.server.requests(&world.layer_path).len(), 1);
    let digest = world.store.list().unwrap()[0].digest;
    let mut wrecked = world.layer.clone();
    wrecked[7] ^= 1;
    std::fs::write(world.store.directory().join(digest.to_hex()), wrecked).unwrap();
    let third = world.resolve().await.unwrap();
    assert!(read(&third.blobs[0]).await.is_err());
    let verdict = third.blobs[0].verdict().await;
    assert!(matches!(verdict, Verdict::Rotten), "{verdict:?}");
    assert!(read(&third.blobs[0]).await.unwrap() == world.layer);
}

#[tokio::test]
async fn two_pulls_share_one_download() {
    let world = World::new().await;
    let (first, second) = (
        world.resolve().await.unwrap(),
        world.resolve().await.unwrap(),
    );
    // Both have opened it before either reads: neither can come too late.
    let mut readers = [
        first.blobs[0].open().unwrap(),
        second.blobs[0].open().unwrap(),
    ];
    let reading = tokio::task::spawn_blocking(move || {
        readers.each_mut().map(|reader| {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        })
    });
    let [one, two] = reading.await.unwrap();
    assert!(one == world.layer && two == world.layer);
    assert_eq!(world.server.requests(&world.layer_path).len(), 1);
}

#[tokio::test]
async fn a_pull_that_is_given_up_leaves_nothing_half() {
    let world = World::new().await;
    world
        .server
        .script(&world.layer_path, &[Answer::Stalls(1000)]);
    let resolved = world.resolve().await.unwrap();
    let blob = Arc::clone(&resolved.blobs[0]);
    let mut reader = blob.open().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut first = [0; 1];
        reader.read_exact(&mut first).unwrap();
        (first, reader)
    });
    let (_, mut reader) = reading.await.unwrap();
    blob.close();
    let rest = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
    assert!(rest.await.unwrap().is_err());
    assert!(blob.open().is_err());
    drop(resolved);
    world.store.sweep().unwrap();
    assert_eq!(files(&world), 0);
}
