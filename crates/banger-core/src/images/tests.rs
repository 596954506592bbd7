//! Images end to end: real tars become real file systems, or leave nothing.

use std::{
    fs,
    io::{self, Cursor, Read},
    sync::{Arc, mpsc},
};

use banger_image::rootfs::Source;

use super::Images;
use crate::{
    error::Error,
    name::{ImageName, VmId},
    store::{Store, StoreError},
    testing::{Act, FakeTar, World, directories, silent, soon, tiny_tar},
};

struct Bench {
    world: World,
    store: Arc<Store>,
    images: Arc<Images>,
}

impl Bench {
    fn new() -> Self {
        let world = World::new();
        let ledger = world.ledger();
        let store = ledger.store().clone();
        let images = Arc::new(world.images(ledger));
        Self {
            world,
            store,
            images,
        }
    }

    async fn import(&self, source: Source) -> Result<(), Error> {
        self.images
            .import(&name("mine"), source, "test".into(), silent())
            .await
            .map(drop)
    }

    /// Asserts that of all imports only so many images are left, in the store and on the disk.
    fn left(&self, count: usize) {
        let known = self.images.list().unwrap();
        assert_eq!(
            known.iter().filter(|row| row.name != name("tiny")).count(),
            count
        );
        assert_eq!(
            self.store.images().unwrap().len(),
            known.len(),
            "no half-made row"
        );
        assert_eq!(directories(&self.world.images_directory()).len(), count);
    }
}

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

fn stream(bytes: Vec<u8>) -> Source {
    Source::Stream(Box::new(Cursor::new(bytes)))
}

/// Gives its bytes once it is let go, and tells when it is read.
struct Held {
    reached: Option<tokio::sync::oneshot::Sender<()>>,
    go: mpsc::Receiver<()>,
    bytes: Cursor<Vec<u8>>,
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(reached) = self.reached.take() {
            reached.send(()).expect("the test waits for this");
            self.go.recv().map_err(io::Error::other)?;
        }
        self.bytes.read(buffer)
    }
}

#[tokio::test]
async fn an_import_makes_a_read_only_image_once() {
    let bench = Bench::new();
    bench.import(stream(tiny_tar())).await.unwrap();
    let row = bench.images.get(&name("mine")).unwrap();
    assert!(
        row.digest.contains("sha256:") || row.digest.len() == 64,
        "{}",
        row.digest
    );
    assert_eq!(
        (row.entries, row.content_bytes, row.has_systemd),
        (2, 5, false)
    );
    let file = fs::metadata(bench.images.rootfs(&name("mine")).unwrap()).unwrap();
    assert!(file.permissions().readonly());
    assert_eq!(file.len(), row.size_bytes);
    let again = bench.import(stream(tiny_tar())).await.unwrap_err();
    assert!(
        matches!(again, Error::Store(StoreError::ImageTaken(_))),
        "{again:?}"
    );
    bench.left(1);
    bench.images.delete(&name("mine")).unwrap();
    bench.left(0);
}

#[tokio::test]
async fn an_import_that_fails_leaves_nothing_and_frees_the_name() {
    let check = async |source: Source| {
        let bench = Bench::new();
        let failed = bench.import(source).await.unwrap_err();
        assert!(matches!(failed, Error::Import { .. }), "{failed:?}");
        bench.left(0);
        bench.import(stream(tiny_tar())).await.unwrap();
        bench.left(1);
    };
    check(Source::File("/nonexistent".into())).await;
    check(stream(b"this is no tar".repeat(100))).await;
    check(stream(tiny_tar()[..700].to_vec())).await;
}

#[tokio::test]
async fn an_import_that_is_given_up_leaves_nothing() {
    let bench = Bench::new();
    let (reached, is_reached) = tokio::sync::oneshot::channel();
    let (go, held) = mpsc::channel();
    let bytes = Cursor::new(tiny_tar());
    let source = Source::Stream(Box::new(Held {
        reached: Some(reached),
        go: held,
        bytes,
    }));
    let import = tokio::spawn({
        let images = bench.images.clone();
        async move {
            images
                .import(&name("mine"), source, "test".into(), silent())
                .await
        }
    });
    is_reached.await.unwrap();
    assert_eq!(
        bench.images.get(&name("mine")).ok(),
        None,
        "what is half-made is not shown"
    );
    import.abort();
    import.await.unwrap_err();
    go.send(()).unwrap();
    // The name is held until the thread is through.
    bench.import(stream(tiny_tar())).await.unwrap();
    bench.left(1);
}

#[tokio::test]
async fn two_that_need_one_image_make_it_once() {
    let bench = Bench::new();
    let (tar, go) = FakeTar::held();
    bench.world.host.next_root(tar);
    let image = name("debian-bookworm");
    let ensure = || {
        let (images, image) = (bench.images.clone(), image.clone());
        tokio::spawn(async move { images.ensure(&image.clone().into(), silent()).await })
    };
    let (first, second) = (ensure(), ensure());
    bench.world.host.asked(Act::DebianRoot, 1).await;
    go.send(()).unwrap();
    soon("the first has it", first).await.unwrap().unwrap();
    soon("the second has it", second).await.unwrap().unwrap();
    bench
        .images
        .ensure(&image.clone().into(), silent())
        .await
        .unwrap();
    assert_eq!(bench.world.host.count(Act::DebianRoot), 1);
    bench.left(1);
}

#[tokio::test]
async fn an_image_of_a_program_that_failed_is_not_kept() {
    let bench = Bench::new();
    bench.world.host.next_root(FakeTar::flowing().discontent());
    let failed = bench
        .images
        .ensure(&name("debian-bookworm").into(), silent())
        .await
        .unwrap_err();
    assert!(
        failed.chain().contains("fake failed: exit code 1"),
        "{}",
        failed.chain()
    );
    bench.left(0);
}

#[tokio::test]
async fn half_made_and_forgotten_images_are_swept_and_others_are_not() {
    let bench = Bench::new();
    bench.import(stream(tiny_tar())).await.unwrap();
    let directory = bench.world.images_directory();
    let (half, forgotten) = (VmId::random().to_string(), VmId::random().to_string());
    bench
        .store
        .reserve_image(&name("half"), &half, "test", 1)
        .unwrap();
    for name in [&half, &forgotten] {
        fs::create_dir(directory.join(name)).unwrap();
        fs::write(directory.join(name).join("rootfs.ext4"), "half").unwrap();
    }
    fs::create_dir(directory.join("notes")).unwrap();
    bench.images.sweep().unwrap();
    assert_eq!(bench.store.image(&name("half")).unwrap(), None);
    assert_eq!(
        directories(&directory).len(),
        2,
        "the image and what is not ours"
    );
    assert!(bench.images.rootfs(&name("mine")).unwrap().exists());
    assert!(directory.join("notes").exists());
}
