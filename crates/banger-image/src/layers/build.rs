//! Owns the making of one image: layer upon layer, each out of the cache or from its source, and
//! into the cache when the image is there. Knows no order of fetching and no tar.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::cache::{Hit, LayerCache};
use super::copy::{self, Ahead, Stored};
use super::entry::{self, Placing, Recorder};
use super::{BuildOptions, Built, Compression, LayerDescriptor, LayerSource, LayersError};
use crate::decompress::Packing;
use crate::digest::Sha256;
use crate::ext4::{DirectFile, FsUuid, Identification};
use crate::progress::SharedProgress;
use crate::rootfs::{
    self, Archive, Image, ImportError, Input, Loaded, Loading, Markers, Unpack, Watch,
};
use crate::unpublished::Unpublished;

/// The headers of a layer's archive, as they were recorded.
type Headers = Box<dyn io::Read>;

/// The label of every image.
const LABEL: &str = "banger-root";

/// An image under construction.
pub(super) struct Build<'a> {
    cache: &'a LayerCache,
    options: &'a BuildOptions,
    progress: &'a SharedProgress,
    image: Image,
    /// How many layers there are, and how many of them were unpacked.
    layers: usize,
    unpacked: usize,
    loaded: Loaded,
    reused: Vec<Sha256>,
    /// Data that is still in the cache only, but for what is copied ahead of the first of these.
    stored: Vec<Arc<Stored>>,
    ahead: Option<Ahead>,
    /// Layers that are in the image and not yet in the cache.
    fresh: Vec<Fresh>,
}

/// A layer that was unpacked into the image.
struct Fresh {
    diff_id: Sha256,
    first: u64,
    blocks: u64,
    headers: Vec<u8>,
}

impl<'a> Build<'a> {
    pub(super) fn begin(
        cache: &'a LayerCache,
        dest: &Path,
        layers: usize,
        options: &'a BuildOptions,
        progress: &'a SharedProgress,
    ) -> Result<Self, LayersError> {
        Ok(Self {
            cache,
            options,
            progress,
            image: Image::create(dest).map_err(LayersError::Image)?,
            layers,
            unpacked: 0,
            loaded: Loaded::default(),
            reused: Vec::new(),
            stored: Vec::new(),
            ahead: None,
            fresh: Vec::new(),
        })
    }

    /// Adds the next layer on top.
    pub(super) fn add(&mut self, layer: &dyn LayerSource) -> Result<(), LayersError> {
        let LayerDescriptor {
            digest, diff_id, ..
        } = *layer.descriptor();
        if let Some(fresh) = self.fresh.iter().find(|fresh| fresh.diff_id == diff_id) {
            let (stored, headers) = self.again(fresh).map_err(LayersError::Keep)?;
            self.stored.push(Arc::new(stored));
            return self.reuse(diff_id, headers, digest);
        }
        let Some(hit) = self.cache.hit(diff_id).map_err(LayersError::Keep)? else {
            return self.unpack(layer);
        };
        let (stored, headers) = self.stored(hit);
        let stored = Arc::new(stored);
        if self.stored.is_empty() {
            let out = self.image.reopen().map_err(LayersError::Keep)?;
            let (layer, out) = (Arc::clone(&stored), DirectFile::new(out));
            self.ahead = Some(Ahead::begin(layer, out, &self.options.cancel));
        }
        self.stored.push(stored);
        self.reuse(diff_id, headers, digest)
    }

    /// Completes the image.
    pub(super) fn complete(mut self, uuid: FsUuid) -> Result<Built, LayersError> {
        self.image.settle().map_err(LayersError::Image)?;
        copy::live_data(
            &mut self.image,
            &self.loaded.tree,
            &self.stored,
            self.ahead.take(),
            &self.options.cancel,
        )
        .map_err(LayersError::Image)?;
        self.watch(String::from("disk image"))
            .tick("write", 0, None)
            .map_err(LayersError::Image)?;
        let entries = self.entries(uuid).map_err(LayersError::Keep)?;
        let data = self.image.settle().map_err(LayersError::Image)?;
        let facts = rootfs::gather(&self.loaded.tree, &data)
            .map_err(|source| LayersError::Image(ImportError::Read(source)))?;
        let label = LABEL.parse().expect("eleven bytes");
        let dest = self.image.dest().to_owned();
        let written = self
            .image
            .complete(&self.loaded.tree, Identification { uuid, label })
            .map_err(LayersError::Image)?;
        publish(self.cache, &dest, entries);
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

    /// A layer that this image has already, further down.
    fn again(&self, fresh: &Fresh) -> io::Result<(Stored, Headers)> {
        let hit = Hit {
            file: self.image.reopen()?,
            origin: self.image.reopen()?,
            placing: Placing {
                data_blocks: fresh.blocks,
                origin: FsUuid::from_bytes([0; 16]),
                first: fresh.first,
                local: Vec::new(),
            },
            headers: entry::unpack_headers(fresh.headers.clone())?,
        };
        Ok(self.stored(hit))
    }

    /// A layer's data, as it comes next in the image, and its headers.
    fn stored(&self, hit: Hit) -> (Stored, Headers) {
        let stored = Stored {
            file: DirectFile::new(hit.file),
            origin: DirectFile::new(hit.origin),
            placing: hit.placing,
            first: self.image.blocks.position(),
        };
        (stored, hit.headers)
    }

    /// Reads a layer's headers; its data is copied when it is clear what of it is left.
    fn reuse(
        &mut self,
        diff_id: Sha256,
        headers: Headers,
        digest: Sha256,
    ) -> Result<(), LayersError> {
        let failed = |source| LayersError::Layer { digest, source };
        let watch = self.watch(self.place(digest));
        let input = Input::headers(headers, watch, &self.options.limits);
        let input = self.load(input).map_err(failed)?;
        input.finish().map_err(failed)?;
        self.reused.push(diff_id);
        Ok(())
    }

    /// Unpacks a layer into the image.
    fn unpack(&mut self, layer: &dyn LayerSource) -> Result<(), LayersError> {
        let LayerDescriptor {
            compression,
            digest,
            size,
            diff_id: expected,
        } = *layer.descriptor();
        let failed = |source| LayersError::Layer { digest, source };
        let open = |source| LayersError::Open { digest, source };
        let bytes = layer.open().map_err(open)?;
        let first = self.image.blocks.position();
        let recorder = Recorder::new().map_err(LayersError::Keep)?;
        let how = Unpack::As(packing(compression));
        let watch = self.watch(self.place(digest));
        let mut input = Input::archive(bytes, size, how, watch, &self.options.limits);
        input.record(Box::new(recorder.clone()));
        let input = self.load(input).map_err(failed)?;
        let blocks = self.image.blocks.position() - first;
        let found = input.finish().map_err(failed)?;
        let found = found.expect("an archive was read, no headers");
        if found != expected {
            return Err(LayersError::DiffId {
                digest,
                expected,
                found,
            });
        }
        self.unpacked += 1;
        self.fresh.push(Fresh {
            diff_id: expected,
            first,
            blocks,
            headers: recorder.finish().map_err(LayersError::Keep)?,
        });
        Ok(())
    }

    /// Keeps whole layers of a build that has failed, so that the next try has them.
    pub(super) fn salvage(mut self) {
        let mut kept = || -> io::Result<()> {
            self.image.settle().map_err(io::Error::other)?;
            for fresh in &self.fresh {
                let entry = self.entry(fresh, FsUuid::from_bytes([0; 16]), None)?;
                let Entry { file, placing, .. } = &entry;
                let diff_id = fresh.diff_id;
                self.cache
                    .publish(file, placing, &fresh.headers, None, diff_id)?;
            }
            Ok(())
        };
        // The build's own failure is the one to tell; what is not kept is fetched again.
        let _ = kept();
    }

    /// Entries for fresh layers: what the image is not going to keep of them is copied now.
    fn entries(&mut self, uuid: FsUuid) -> io::Result<Vec<Entry>> {
        self.image.settle().map_err(io::Error::other)?;
        let live = match self.cache.shares_file_system(self.image.dir()) {
            true => Some(copy::live_runs(&self.loaded.tree)),
            false => None,
        };
        let fresh = std::mem::take(&mut self.fresh);
        fresh
            .into_iter()
            .map(|fresh| {
                let mut entry = self.entry(&fresh, uuid, live.as_deref())?;
                entry.headers = fresh.headers;
                Ok(entry)
            })
            .collect()
    }

    fn entry(
        &self,
        fresh: &Fresh,
        origin: FsUuid,
        live: Option<&[(u64, u64)]>,
    ) -> io::Result<Entry> {
        let local = match live {
            Some(live) => copy::dead_runs(live, fresh.first, fresh.blocks),
            None if fresh.blocks == 0 => Vec::new(),
            None => vec![(0, fresh.blocks)],
        };
        let file = self.cache.begin()?;
        copy::out_of_image(self.image.file(), fresh.first, &local, file.file())?;
        Ok(Entry {
            file,
            is_in_image: live.is_some(),
            diff_id: fresh.diff_id,
            headers: Vec::new(),
            placing: Placing {
                data_blocks: fresh.blocks,
                origin,
                first: fresh.first,
                local,
            },
        })
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

    /// Which of the layers one is, for people.
    fn place(&self, digest: Sha256) -> String {
        let number = self.reused.len() + self.unpacked + 1;
        format!("{number}/{} {}", self.layers, &digest.to_hex()[..12])
    }

    fn watch(&self, detail: String) -> Watch {
        Watch {
            progress: self.progress.clone(),
            cancel: self.options.cancel.clone(),
            detail,
        }
    }
}

/// A layer on its way into the cache.
struct Entry {
    file: Unpublished,
    /// All that is not in the file is in the image.
    is_in_image: bool,
    diff_id: Sha256,
    headers: Vec<u8>,
    placing: Placing,
}

/// Puts layers into the cache, now that their image is there. The image is what was asked for: a
/// layer that cannot be kept is fetched again when it is needed.
fn publish(cache: &LayerCache, image: &Path, entries: Vec<Entry>) {
    let published = entries.into_iter().map(|entry| {
        let image = entry.is_in_image.then_some(image);
        let Entry {
            file,
            placing,
            headers,
            diff_id,
            ..
        } = &entry;
        cache.publish(file, placing, headers, image, *diff_id)
    });
    let published: Vec<_> = published.filter_map(Result::ok).collect();
    // Nobody waits for this: a layer that was not synced is forgotten when the host restarts.
    thread::spawn(move || published.iter().try_for_each(entry::make_durable));
}

fn packing(compression: Compression) -> Packing {
    match compression {
        Compression::Plain => Packing::Plain,
        Compression::Gzip => Packing::Gzip,
        Compression::Zstd => Packing::Zstd,
    }
}
