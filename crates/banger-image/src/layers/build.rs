//! Owns the making of one image: layer upon layer, each out of the cache or from its source and
//! into the cache on the way. Knows no order of fetching and no tar.

use std::io;
use std::path::Path;

use super::cache::{Hit, LayerCache};
use super::copy::{self, Stored};
use super::entry::Recorder;
use super::{BuildOptions, Built, Compression, LayerDescriptor, LayerSource, LayersError};
use crate::decompress::Packing;
use crate::digest::Sha256;
use crate::ext4::{DirectFile, FsUuid, Identification, Mirror};
use crate::progress::SharedProgress;
use crate::rootfs::{
    self, Archive, Image, ImportError, Input, Loaded, Loading, Markers, Unpack, Watch,
};
use crate::unpublished::Unpublished;

/// The label of every image.
const LABEL: &str = "banger-root";

/// An image under construction.
pub(super) struct Build<'a> {
    cache: &'a LayerCache,
    options: &'a BuildOptions,
    progress: &'a SharedProgress,
    image: Image,
    loaded: Loaded,
    reused: Vec<Sha256>,
    /// Data that is still in the cache only.
    stored: Vec<Stored>,
}

impl<'a> Build<'a> {
    pub(super) fn begin(
        cache: &'a LayerCache,
        dest: &Path,
        options: &'a BuildOptions,
        progress: &'a SharedProgress,
    ) -> Result<Self, LayersError> {
        Ok(Self {
            cache,
            options,
            progress,
            image: Image::create(dest).map_err(LayersError::Image)?,
            loaded: Loaded::default(),
            reused: Vec::new(),
            stored: Vec::new(),
        })
    }

    /// Adds the next layer on top.
    pub(super) fn add(&mut self, layer: &dyn LayerSource) -> Result<(), LayersError> {
        let LayerDescriptor {
            digest, diff_id, ..
        } = *layer.descriptor();
        let hit = self
            .cache
            .hit(diff_id)
            .map_err(|source| LayersError::Keep { digest, source })?;
        match hit {
            Some(hit) => {
                self.reuse(hit, digest)?;
                self.reused.push(diff_id);
                Ok(())
            }
            None => self.unpack(layer),
        }
    }

    /// Completes the image.
    pub(super) fn complete(mut self, uuid: FsUuid) -> Result<Built, LayersError> {
        copy::live_data(
            &mut self.image,
            &self.loaded.tree,
            &self.stored,
            &self.options.cancel,
        )
        .map_err(LayersError::Image)?;
        self.watch(String::from("disk image"))
            .tick("write", 0, None)
            .map_err(LayersError::Image)?;
        let data = self.image.settle().map_err(LayersError::Image)?;
        let facts = rootfs::gather(&self.loaded.tree, &data)
            .map_err(|source| LayersError::Image(ImportError::Read(source)))?;
        let label = LABEL.parse().expect("eleven bytes");
        let written = self
            .image
            .complete(&self.loaded.tree, Identification { uuid, label })
            .map_err(LayersError::Image)?;
        Ok(Built {
            entries: self.loaded.entries,
            inodes: written.inodes,
            content_bytes: self.loaded.content_bytes,
            image_bytes: written.image_bytes,
            uuid,
            skipped: self.loaded.skipped,
            facts,
            reused: self.reused,
        })
    }

    /// Reads a layer's headers; its data is copied when it is clear what of it is left.
    fn reuse(&mut self, hit: Hit, digest: Sha256) -> Result<(), LayersError> {
        let failed = |source| LayersError::Layer { digest, source };
        let first = self.image.blocks.position();
        let watch = self.watch(digest.to_string());
        let input = Input::headers(hit.headers, watch, &self.options.limits);
        let input = self.load(input).map_err(failed)?;
        input.finish().map_err(failed)?;
        self.stored.push(Stored {
            file: DirectFile::new(hit.file),
            first,
            blocks: hit.footer.data_blocks,
        });
        Ok(())
    }

    /// Unpacks a layer into the image and, beside it, into the cache.
    fn unpack(&mut self, layer: &dyn LayerSource) -> Result<(), LayersError> {
        let LayerDescriptor {
            compression,
            digest,
            size,
            diff_id: expected,
        } = *layer.descriptor();
        let failed = |source| LayersError::Layer { digest, source };
        let kept = |source| LayersError::Keep { digest, source };
        let open = |source| LayersError::Open { digest, source };
        let bytes = layer.open().map_err(open)?;
        let first = self.image.blocks.position();
        let copy = self.mirror(first).map_err(kept)?;
        let recorder = Recorder::new().map_err(kept)?;
        let how = Unpack::As(packing(compression));
        let watch = self.watch(digest.to_string());
        let mut input = Input::archive(bytes, size, how, watch, &self.options.limits);
        input.record(Box::new(recorder.clone()));
        let input = self.load(input).map_err(failed)?;
        let data_blocks = self.image.blocks.position() - first;
        self.image.blocks.set_mirror(None).map_err(kept)?;
        let found = input.finish().map_err(failed)?;
        let found = found.expect("an archive was read, no headers");
        if found != expected {
            return Err(LayersError::DiffId {
                digest,
                expected,
                found,
            });
        }
        self.image.settle().map_err(LayersError::Image)?;
        let headers = recorder.finish().map_err(kept)?;
        self.cache
            .publish(&copy, data_blocks, &headers, expected)
            .map_err(kept)
    }

    fn mirror(&mut self, first: u64) -> io::Result<Unpublished> {
        let copy = self.cache.begin()?;
        let file = DirectFile::new(copy.reopen()?);
        self.image.blocks.set_mirror(Some(Mirror { file, first }))?;
        Ok(copy)
    }

    fn load(&mut self, input: Input) -> Result<Input, ImportError> {
        let limits = &self.options.limits;
        let mut archive = Archive::new(input, limits, self.loaded.headers);
        let dir = self.image.dir().to_owned();
        let loading = Loading {
            limits,
            markers: Markers::Apply,
            dir: &dir,
        };
        self.loaded
            .load(&mut archive, &loading, &mut self.image.blocks)?;
        Ok(archive.into_input())
    }

    fn watch(&self, detail: String) -> Watch {
        Watch {
            progress: self.progress.clone(),
            cancel: self.options.cancel.clone(),
            detail,
        }
    }
}

fn packing(compression: Compression) -> Packing {
    match compression {
        Compression::Plain => Packing::Plain,
        Compression::Gzip => Packing::Gzip,
        Compression::Zstd => Packing::Zstd,
    }
}
