//! Layers in memory and the images that are made of them.

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use banger_image::cache::ImageCache;
use banger_image::digest::Sha256;
use banger_image::layers::{
    self, BuildOptions, Built, Compression, LayerDescriptor, LayerSource, LayersError,
};

use crate::support::{chain, fsck, silent};

/// A layer in memory that counts how often it is asked for.
pub(crate) struct Layer {
    descriptor: LayerDescriptor,
    bytes: Vec<u8>,
    pub(crate) opened: AtomicU64,
}

impl Layer {
    pub(crate) fn plain(tar: &[u8]) -> Arc<Self> {
        Self::new(tar, tar.to_vec(), Compression::Plain)
    }

    pub(crate) fn new(tar: &[u8], packed: Vec<u8>, compression: Compression) -> Arc<Self> {
        Arc::new(Self {
            descriptor: LayerDescriptor {
                compression,
                digest: Sha256::of(&packed),
                size: Some(packed.len() as u64),
                diff_id: Sha256::of(tar),
            },
            bytes: packed,
            opened: AtomicU64::new(0),
        })
    }
}

impl LayerSource for Layer {
    fn descriptor(&self) -> &LayerDescriptor {
        &self.descriptor
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Cursor::new(self.bytes.clone())))
    }
}

/// A directory with a cache and images.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("images")).expect("a directory");
        Self { dir }
    }

    pub(crate) fn cache(&self) -> ImageCache {
        ImageCache::new(&self.dir.path().join("cache"))
    }

    /// Where the cache has its layers.
    pub(crate) fn cached(&self) -> PathBuf {
        self.dir.path().join("cache/layers")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    pub(crate) fn image(&self, name: &str) -> PathBuf {
        self.images().join(name)
    }

    pub(crate) fn try_build(
        &self,
        name: &str,
        layers: &[Arc<Layer>],
        options: &BuildOptions,
    ) -> Result<Built, LayersError> {
        let layers: Vec<Arc<dyn LayerSource>> =
            layers.iter().map(|layer| layer.clone() as _).collect();
        layers::build(
            &layers,
            self.cache().layers(),
            &self.image(name),
            options,
            &silent(),
        )
    }

    /// An image that a checker finds clean.
    pub(crate) fn build(&self, name: &str, layers: &[Arc<Layer>]) -> Built {
        let built = self
            .try_build(name, layers, &BuildOptions::default())
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        fsck(&self.image(name));
        built
    }
}

/// How many entries a directory has.
pub(crate) fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}
