//! Images of layouts and of files of the host: found again, told apart, never half.

use std::{fs, path::Path};

use banger_image::{digest::Sha256, manifest::Platform};

use super::{Images, PullRequest, Registration};
use crate::{
    error::{Error, RegisterError},
    image_target::ImageTarget,
    store::StoreError,
    testing::{World, entries, silent, tiny_tar},
};

struct Bench {
    world: World,
    images: Images,
}

impl Bench {
    fn new() -> Self {
        let world = World::new();
        let images = world.images(world.ledger());
        Self { world, images }
    }

    fn layout(&self, cmd: &str) -> String {
        let directory = self.world.images_directory().with_file_name("layout");
        write_layout(&directory, cmd);
        format!("oci:{}", directory.display())
    }

    async fn pull(&self, reference: &str, name: Option<&str>) -> Result<super::Pulled, Error> {
        let target: ImageTarget = reference.parse()?;
        let request = PullRequest {
            name: name.map(|name| name.parse().unwrap()),
            ..PullRequest::of(reference.parse()?)
        };
        self.images.pull(&target, request, silent()).await
    }
}

/// OCI's layout with one image of one layer.
fn write_layout(directory: &Path, cmd: &str) {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Sha256::of(bytes);
        fs::write(blobs.join(digest.to_hex()), bytes).unwrap();
        format!(r#""digest":"{digest}","size":{}"#, bytes.len())
    };
    let tar = tiny_tar();
    let (layer, diff_id) = (put(&tar), Sha256::of(&tar));
    let Platform { architecture, .. } = Platform::host();
    let config = put(format!(
        r#"{{"os":"linux","architecture":"{architecture}","config":{{"Cmd":["{cmd}"]}},
           "rootfs":{{"diff_ids":["{diff_id}"]}}}}"#
    )
    .as_bytes());
    let kind = "application/vnd.oci.image";
    let manifest = put(format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{kind}.config.v1+json",{config}}},
           "layers":[{{"mediaType":"{kind}.layer.v1.tar",{layer}}}]}}"#
    )
    .as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}.manifest.v1+json",{manifest}}}]}}"#
    );
    fs::write(directory.join("index.json"), index).unwrap();
}

#[tokio::test]
async fn a_layout_becomes_an_image_once_and_another_when_it_has_changed() {
    let bench = Bench::new();
    let reference = bench.layout("one");
    let first = bench.pull(&reference, None).await.unwrap();
    assert_eq!(first.row.name.as_str(), "layout");
    assert_eq!(first.row.config.cmd, ["one"]);
    assert_eq!((first.summary.layers, first.summary.was_here), (1, false));
    let again = bench.pull(&reference, None).await.unwrap();
    assert!(again.summary.was_here && again.row.name == first.row.name);
    bench.layout("two");
    let second = bench.pull(&reference, None).await.unwrap();
    assert_eq!(second.row.name.as_str(), "layout-2");
    assert_eq!(second.row.config.cmd, ["two"]);
    let taken = bench.pull(&reference, Some("tiny")).await.unwrap_err();
    assert!(
        matches!(taken, Error::Store(StoreError::ImageTaken(_))),
        "{taken:?}"
    );
}

#[tokio::test]
async fn an_image_is_found_by_its_reference() {
    let bench = Bench::new();
    let reference = bench.layout("one");
    let target: ImageTarget = reference.parse().unwrap();
    assert!(matches!(
        bench.images.find(&target),
        Err(Error::NotFound { .. })
    ));
    let name = bench.images.ensure(&target, silent()).await.unwrap();
    assert_eq!(bench.images.ensure(&target, silent()).await.unwrap(), name);
    assert_eq!(bench.images.find(&target).unwrap().name, name);
}

#[tokio::test]
async fn a_layer_that_is_another_makes_no_image() {
    let bench = Bench::new();
    let reference = bench.layout("one");
    let blobs = reference.trim_start_matches("oci:").to_owned() + "/blobs/sha256";
    let layer = Path::new(&blobs).join(Sha256::of(&tiny_tar()).to_hex());
    let mut bytes = tiny_tar();
    bytes[520] ^= 1;
    fs::write(layer, bytes).unwrap();
    let before = entries(&bench.world.images_directory());
    let failed = bench.pull(&reference, None).await.unwrap_err();
    assert!(matches!(failed, Error::Layers { .. }), "{failed:?}");
    assert_eq!(entries(&bench.world.images_directory()), before);
    assert_eq!(bench.images.list().unwrap().len(), 1, "only `tiny`");
}

#[tokio::test]
async fn a_file_of_the_host_is_registered_as_it_is_and_promoted_to_a_copy() {
    let bench = Bench::new();
    let source = bench.world.images_directory().with_file_name("mine.ext4");
    fs::write(&source, ext4_of_paper()).unwrap();
    let registration = Registration {
        name: "mine".parse().unwrap(),
        rootfs: source.clone(),
        kernel: None,
    };
    let row = bench.images.register(registration.clone()).await.unwrap();
    assert_eq!(bench.images.rootfs_of(&row), source);
    let again = bench.images.register(registration).await;
    assert!(matches!(
        again,
        Err(Error::Store(StoreError::ImageTaken(_)))
    ));
    let row = bench.images.promote(&row.name, silent()).await.unwrap();
    let own = bench.images.rootfs_of(&row);
    assert_ne!(own, source);
    assert!(fs::read(&own).unwrap() == fs::read(&source).unwrap());
    let twice = bench.images.promote(&row.name, silent()).await.unwrap_err();
    assert!(
        matches!(twice, Error::Register(RegisterError::Managed { .. })),
        "{twice:?}"
    );
    bench.images.delete(&row.name).unwrap();
    assert!(source.exists() && !own.exists());
}

#[tokio::test]
async fn what_is_no_file_system_is_not_registered() {
    let bench = Bench::new();
    let source = bench.world.images_directory().with_file_name("mine.ext4");
    let check = async |content: Option<&[u8]>| {
        match content {
            Some(content) => fs::write(&source, content).unwrap(),
            None => fs::remove_file(&source).unwrap(),
        }
        let registration = Registration {
            name: "mine".parse().unwrap(),
            rootfs: source.clone(),
            kernel: None,
        };
        bench.images.register(registration).await.unwrap_err();
        assert_eq!(bench.images.list().unwrap().len(), 1, "only `tiny`");
    };
    check(Some(b"")).await;
    check(Some(&[0; 4096])).await;
    check(None).await;
}

/// As much of ext4 as is looked at, with a hole behind it.
fn ext4_of_paper() -> Vec<u8> {
    let mut bytes = vec![0; 3 << 20];
    bytes[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
    bytes[2 << 20] = 7;
    bytes
}
