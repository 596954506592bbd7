//! What the cache promises: a layer is unpacked once, an image is the same with and without it,
//! and nothing but whole layers stays behind.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use banger_image::digest::Sha256;
use banger_image::layers::{BuildOptions, Compression, LayersError};
use banger_image::rootfs::{ImportError, Limits};

use crate::support::{Tar, chain, read_image};
use crate::world::{Layer, World, count};

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(tar).expect("packed");
    out.finish().expect("packed")
}

fn lower() -> Vec<u8> {
    let sparse = Tar::new()
        .file("a/file", &[1; 10_000])
        .file("a/gone", &[2; 300_000])
        .file("a/replaced", &[3; 5000])
        .pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.size", b"100000"),
            ("GNU.sparse.map", b"5000,10,90000,5000"),
        ])
        .file("a/sparse", &[4; 5010]);
    sparse.symlink("l", "a").finish()
}

fn upper() -> Vec<u8> {
    Tar::new()
        .file("a/.wh.gone", b"")
        .file("l/replaced", b"new")
        .hardlink("b", "a/file")
        .finish()
}

fn read(world: &World, name: &str) -> Vec<u8> {
    std::fs::read(world.image(name)).expect("readable")
}

#[test]
fn an_image_is_the_same_however_its_layers_arrive() {
    let world = World::new();
    let plain = [Layer::plain(&lower()), Layer::plain(&upper())];
    let first = world.build("first", &plain);
    assert_eq!(first.reused, []);
    let second = world.build("second", &plain);
    let ids: Vec<_> = [lower(), upper()].map(|tar| Sha256::of(&tar)).into();
    assert_eq!(second.reused, ids);
    let opened: Vec<_> = plain
        .iter()
        .map(|layer| layer.opened.load(Ordering::Relaxed))
        .collect();
    assert_eq!(opened, [1, 1], "what is cached is not fetched");
    world.cache().layers().remove(ids[0]).expect("removed");
    let third = world.build("third", &plain);
    assert_eq!(third.reused, ids[1..]);
    let packed = World::new();
    let zstd = zstd::encode_all(&upper()[..], 1).expect("packed");
    packed.build(
        "fourth",
        &[
            Layer::new(&lower(), gzip(&lower()), Compression::Gzip),
            Layer::new(&upper(), zstd, Compression::Zstd),
        ],
    );
    let expected = read(&world, "first");
    assert!(read(&world, "second") == expected && read(&world, "third") == expected);
    assert!(read(&packed, "fourth") == expected);
    assert_eq!(
        (first.uuid, first.entries, first.content_bytes),
        (third.uuid, second.entries, third.content_bytes)
    );
}

#[test]
fn data_that_upper_layers_hide_takes_no_room() {
    let world = World::new();
    let large = Tar::new().file("large", &[5; 8 << 20]).finish();
    let hidden = Tar::new().file(".wh.large", b"").finish();
    let layers = [Layer::plain(&large), Layer::plain(&hidden)];
    // The second one is copied from the cache, which has what is hidden.
    for (name, reused) in [("image", 0), ("again", 2)] {
        assert_eq!(world.build(name, &layers).reused.len(), reused);
        let meta = world.image(name).metadata().expect("there");
        let on_disk = meta.blocks() * 512;
        assert!(on_disk < 1 << 20, "{name}: {on_disk} bytes");
    }
    assert!(read(&world, "image") == read(&world, "again"));
    assert!(
        !read(&world, "image")
            .windows(64)
            .any(|bytes| bytes == [5; 64])
    );
}

#[test]
fn layers_that_are_not_what_was_promised_are_refused_by_name() {
    let world = World::new();
    let wrong = Layer::new(&upper(), lower(), Compression::Plain);
    let layers = [Layer::plain(&lower()), wrong];
    let refused = world.try_build("image", &layers, &BuildOptions::default());
    let Err(LayersError::DiffId {
        expected, found, ..
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(
        (expected, found),
        (Sha256::of(&upper()), Sha256::of(&lower()))
    );
    assert_eq!(count(&world.images()), 0, "no image is left");
    let kept = world.cache().list().expect("listed");
    let kept: Vec<_> = kept.iter().map(|layer| layer.digest).collect();
    assert_eq!(
        kept,
        [Sha256::of(&lower())],
        "the layer that was right is kept"
    );
    let right = [Layer::plain(&lower()), Layer::plain(&upper())];
    assert_eq!(world.build("image", &right).reused, kept);
    let other = World::new();
    other.build("image", &right);
    assert!(read(&world, "image") == read(&other, "image"));
}

#[test]
fn failures_leave_nothing_behind() {
    let check = |layers: &[Arc<Layer>], options: &BuildOptions, said: &str| {
        let world = World::new();
        let error = world
            .try_build("image", layers, options)
            .expect_err("refused");
        assert!(chain(&error).contains(said), "{}", chain(&error));
        assert_eq!((count(&world.images()), count(&world.cached())), (0, 0));
    };
    let (tar, options) = (lower(), BuildOptions::default());
    let cut = gzip(&tar);
    let cut = cut[..cut.len() - 20].to_vec();
    check(
        &[Layer::new(&tar, cut, Compression::Gzip)],
        &options,
        "ends in the middle",
    );
    check(
        &[Layer::plain(b"no tar".repeat(100).as_slice())],
        &options,
        "no tar archive",
    );
    check(
        &[Layer::new(&tar, tar.clone(), Compression::Zstd)],
        &options,
        "cannot read the archive",
    );
    let cancelled = BuildOptions::default();
    cancelled.cancel.cancel();
    check(&[Layer::plain(&tar)], &cancelled, "cancelled");
    let bomb = Tar::new().file("zeros", &vec![0; 40 << 20]).finish();
    let limits = Limits {
        ratio: 100,
        ratio_free: 1 << 20,
        ..Limits::default()
    };
    let dense = BuildOptions {
        limits,
        ..BuildOptions::default()
    };
    check(
        &[Layer::new(&bomb, gzip(&bomb), Compression::Gzip)],
        &dense,
        "limit of 100",
    );
    let few = BuildOptions {
        limits: Limits {
            entries: 7,
            ..Limits::default()
        },
        ..BuildOptions::default()
    };
    let world = World::new();
    let layers = [Layer::plain(&lower()), Layer::plain(&upper())];
    let error = world
        .try_build("image", &layers, &few)
        .expect_err("refused");
    assert!(
        chain(&error).contains("limit of 7 entries"),
        "all layers count: {}",
        chain(&error)
    );
}

#[test]
fn a_destination_that_is_taken_stays_as_it_is() {
    let world = World::new();
    std::fs::write(world.image("image"), b"mine").expect("written");
    let taken = world.try_build("image", &[Layer::plain(&lower())], &BuildOptions::default());
    assert!(matches!(
        taken,
        Err(LayersError::Image(ImportError::Exists { .. }))
    ));
    assert_eq!(read(&world, "image"), b"mine");
}

#[test]
fn what_is_pruned_is_made_again_and_costs_what_its_image_does() {
    let world = World::new();
    let (base, more) = (Layer::plain(&lower()), Layer::plain(&upper()));
    world.build("base", std::slice::from_ref(&base));
    world.build("both", &[base.clone(), more.clone()]);
    let cache = world.cache();
    let cost = || -> u64 {
        cache
            .list()
            .expect("listed")
            .iter()
            .map(|it| it.bytes)
            .sum()
    };
    let room = |name: &str| world.image(name).metadata().expect("there").blocks() * 512;
    let (before, alone) = (cost(), room("both"));
    std::fs::remove_file(world.image("both")).expect("removed");
    // All of an image is kept for one of its layers, copies of others included.
    assert_eq!(cost(), before + alone);
    let pruned = cache.prune(before, false).expect("pruned");
    assert!(pruned.left <= before && pruned.left == cost());
    assert_eq!(pruned.freed + pruned.left, before + alone);
    world.build("again", &[base, more]);
    let all = cache.prune(0, false).expect("pruned");
    assert_eq!((all.left, count(&world.cached())), (0, 0));
    assert!(!read_image(&world.image("again")).is_empty());
}

#[test]
fn a_layer_twice_in_one_image_is_unpacked_once() {
    let world = World::new();
    let empty = Layer::plain(&Tar::new().finish());
    let layers = [
        empty.clone(),
        Layer::plain(&lower()),
        empty.clone(),
        empty.clone(),
    ];
    world.build("image", &layers);
    assert_eq!(empty.opened.load(Ordering::Relaxed), 1);
}

#[test]
fn layers_outlive_the_image_that_has_their_data() {
    let world = World::new();
    let layers = [Layer::plain(&lower()), Layer::plain(&upper())];
    world.build("first", &layers);
    let cache = world.cache();
    let bytes = || -> u64 {
        let layers = cache.list().expect("listed");
        layers.iter().map(|layer| layer.bytes).sum()
    };
    let shared = bytes();
    let expected = read(&world, "first");
    std::fs::remove_file(world.image("first")).expect("removed");
    let alone = bytes();
    assert!(
        alone >= shared + 4096 * 4,
        "{alone} {shared}: now they cost what they are"
    );
    assert_eq!(world.build("second", &layers).reused.len(), 2);
    assert!(read(&world, "second") == expected);
}
