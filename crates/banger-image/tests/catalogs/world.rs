//! A published image, a server that has it, and somebody who pulls it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use banger_image::bundle::{Bundle, BundleError, ImageManifest, unpack_image};
use banger_image::catalog::{
    Arch, Downloads, ImageEntry, Place, PublicKey, Publisher, SIGNED, SecretKey, Signed,
};
use banger_image::fetch::Patience;
use banger_image::progress::{SharedProgress, Silent};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::web::Server;

/// With a hole of a few pieces in its middle.
pub(crate) const SIZE: usize = 400_000;

pub(crate) fn silent() -> SharedProgress {
    Arc::new(Silent)
}

/// What passes for an ext4 file system: its magic number is where it should be.
pub(crate) fn disk() -> Vec<u8> {
    let mut disk = vec![0; SIZE];
    for (at, byte) in disk.iter_mut().enumerate() {
        if !(70_000..350_000).contains(&at) {
            *byte = (at * at / 7) as u8;
        }
    }
    disk[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
    disk
}

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) root: TempDir,
    pub(crate) entry: ImageEntry,
    pub(crate) key: PublicKey,
}

impl World {
    pub(crate) async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (entry, key) = publish(root.path());
        let server = Server::start().await;
        let shelf = root.path().join("shelf");
        for file in [SIGNED, entry.bundle.file.as_str()] {
            server.put(
                &format!("/shelf/{file}"),
                fs::read(shelf.join(file)).unwrap(),
            );
        }
        Self {
            server,
            root,
            entry,
            key,
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.server.url("/shelf").parse().unwrap()
    }

    pub(crate) fn bundle_path(&self) -> String {
        format!("/shelf/{}", self.entry.bundle.file)
    }

    pub(crate) async fn catalog(&self) -> Result<Signed, String> {
        let note = self.place().signed(&downloads()).await;
        let note = note.map_err(|error| chain(&error))?;
        Signed::open(&note, &self.key).map_err(|error| chain(&error))
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.root.path().join("image")
    }

    /// Fetches and unpacks the image, to a place where it can be looked at.
    pub(crate) async fn pull(&self) -> Result<ImageManifest, BundleError> {
        let scratch = self.root.path().join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        let (bundle, downloads) = (&self.entry.bundle, downloads());
        let fetched = self
            .place()
            .bundle(bundle, &scratch, &downloads, &silent())
            .await;
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        let cancel = CancellationToken::new();
        let size = self.entry.image_bytes;
        unpack_image(fetched?, size, &self.image(), &cancel, &silent())
    }
}

/// Impatient.
pub(crate) fn downloads() -> Downloads {
    let patience = Patience {
        connect: Duration::from_secs(5),
        headers: Duration::from_millis(300),
        stall: Duration::from_millis(300),
        tries: 3,
        pause: Duration::from_millis(1),
    };
    Downloads::new(patience, Vec::new())
}

/// Publishes an image into `shelf` below a directory.
fn publish(root: &Path) -> (ImageEntry, PublicKey) {
    let rootfs = root.join("rootfs");
    fs::write(&rootfs, disk()).unwrap();
    let key = SecretKey::generate("acme".parse().unwrap());
    let public = key.public();
    let mut publisher = Publisher::open(&root.join("shelf"), key).unwrap();
    let bundle = pack(&manifest(), &rootfs, publisher.directory()).unwrap();
    let entry = ImageEntry {
        name: "web".parse().unwrap(),
        description: "a page".into(),
        arch: Arch::host(),
        bundle,
        image_bytes: SIZE as u64,
    };
    publisher.put_image(entry.clone());
    publisher.publish(SystemTime::now(), None).unwrap();
    (entry, public)
}

pub(crate) fn manifest() -> ImageManifest {
    let mut manifest = ImageManifest::new("web".parse().unwrap(), SIZE as u64);
    manifest.os = Some("Test 1".into());
    manifest.config.cmd = vec!["serve".into()];
    manifest
}

pub(crate) fn pack(
    manifest: &ImageManifest,
    rootfs: &Path,
    into: &Path,
) -> Result<Bundle, BundleError> {
    manifest.pack(rootfs, into, &CancellationToken::new(), &silent())
}

/// An error and all of its causes, as a person sees them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
