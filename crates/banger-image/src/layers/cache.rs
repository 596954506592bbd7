//! Owns the directory of unpacked layers, by diff_id: what is there, and whether it is whole.
//! Layers appear whole or not at all. A layer's data stays in the image that it was unpacked
//! into, which the cache holds by a second name: it costs room only once that image is deleted.

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::entry::{self, BootId, Footer, Placing};
use super::stock::{Files, Stock};
use crate::digest::Sha256;
use crate::ext4::FsUuid;
use crate::pins::{Pinned, Pins};
use crate::unpublished::{self, Unpublished};

pub(super) const SUFFIX: &str = ".layer";
/// The image that has a layer's data.
pub(super) const ORIGIN: &str = ".origin";

/// Unpacked layers in a directory of the user's, and which of them running work needs.
#[derive(Debug, Clone)]
pub struct LayerCache {
    dir: PathBuf,
    pins: Pins,
}

/// The cache's directory could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cannot open the layer cache {dir:?}")]
    Open {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot list the layer cache {dir:?}")]
    List {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot remove the cached layer {diff_id}")]
    Remove {
        diff_id: Sha256,
        #[source]
        source: io::Error,
    },
}

impl CacheError {
    /// What the host's system said.
    #[must_use]
    pub fn io(&self) -> &io::Error {
        match self {
            Self::Open { source, .. } | Self::List { source, .. } | Self::Remove { source, .. } => {
                source
            }
        }
    }
}

/// A layer that is being read from the cache; pruning does not disturb it.
pub(super) struct Hit {
    pub(super) file: File,
    pub(super) origin: File,
    pub(super) placing: Placing,
    pub(super) headers: Box<dyn io::Read>,
}

impl LayerCache {
    /// A cache, which may be empty or not there yet.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            pins: Pins::default(),
        }
    }

    /// Makes the directory, where it is not there yet.
    pub(super) fn prepare(&self) -> Result<(), CacheError> {
        fs::create_dir_all(&self.dir).map_err(|source| CacheError::Open {
            dir: self.dir.clone(),
            source,
        })
    }

    /// Keeps layers from being pruned, whether they are here yet or not.
    pub fn pin(&self, diff_ids: impl IntoIterator<Item = Sha256>) -> Pinned {
        self.pins.pin(diff_ids)
    }

    pub(crate) fn is_in_use(&self, diff_id: Sha256) -> bool {
        self.pins.holds(diff_id)
    }

    /// Removes what a crash left behind, and what nobody will ever be able to use. Whoever calls
    /// it knows that nobody is building.
    pub fn sweep(&self) -> Result<(), CacheError> {
        let failed = |source| CacheError::Open {
            dir: self.dir.clone(),
            source,
        };
        let files = self.files()?;
        if self.dir.exists() {
            unpublished::sweep(&self.dir).map_err(failed)?;
        }
        // An image without its layer would stay for ever.
        for diff_id in files.layers.keys().chain(files.origins.keys()) {
            if !self.contains(*diff_id) {
                self.remove(*diff_id)?;
            }
        }
        Ok(())
    }

    /// All layers, and what they cost.
    pub(crate) fn stock(&self) -> Result<Stock, CacheError> {
        // What is damaged has no data that anybody would find.
        let data_of = |diff_id| {
            let entry = self.open_entry(diff_id)?;
            Ok(entry.map_or(0, |(_, footer)| footer.data_blocks()))
        };
        let stock = self.files()?.stock(data_of);
        stock.map_err(|source| self.cannot_list(source))
    }

    fn files(&self) -> Result<Files, CacheError> {
        Files::of(&self.dir).map_err(|source| self.cannot_list(source))
    }

    fn cannot_list(&self, source: io::Error) -> CacheError {
        CacheError::List {
            dir: self.dir.clone(),
            source,
        }
    }

    /// Removes a layer that nobody is using; whether it did.
    pub(crate) fn remove_unused(&self, diff_id: Sha256) -> Result<bool, CacheError> {
        let removed = self.pins.unless_held(diff_id, || self.remove(diff_id));
        Ok(removed.transpose()?.is_some())
    }

    /// Removes one layer; it need not be there.
    pub fn remove(&self, diff_id: Sha256) -> Result<(), CacheError> {
        for path in [self.path(diff_id), self.origin(diff_id)] {
            match fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(CacheError::Remove { diff_id, source }),
            }
        }
        Ok(())
    }

    /// Whether a layer is there, whole.
    pub fn contains(&self, diff_id: Sha256) -> bool {
        self.open_entry(diff_id).is_ok_and(|found| found.is_some())
    }

    /// Opens a layer and counts it as used. What is damaged is no hit, and will be made anew.
    pub(super) fn hit(&self, diff_id: Sha256) -> io::Result<Option<Hit>> {
        let Some((file, footer)) = self.open_entry(diff_id)? else {
            return Ok(None);
        };
        let origin = match File::open(self.origin(diff_id)) {
            Ok(origin) => origin,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Two builds at once may have left the layer of one and the image of the other.
        if read_uuid(&origin)? != Some(footer.origin()) {
            return Ok(None);
        }
        let Some((placing, headers)) = entry::read(&file, &footer)? else {
            return Ok(None);
        };
        file.set_times(FileTimes::new().set_modified(SystemTime::now()))?;
        Ok(Some(Hit {
            file,
            origin,
            placing,
            headers,
        }))
    }

    fn open_entry(&self, diff_id: Sha256) -> io::Result<Option<(File, Footer)>> {
        let file = match File::open(self.path(diff_id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let footer = entry::read_footer(&file, BootId::current()?)?;
        Ok(footer.map(|footer| (file, footer)))
    }

    /// A file for those of a layer's data blocks that its image does not keep.
    pub(super) fn begin(&self) -> io::Result<Unpublished> {
        Unpublished::create(&self.dir)
    }

    /// Whether images of a directory can be held by a second name in the cache.
    pub(super) fn shares_file_system(&self, dir: &Path) -> bool {
        let device = |path: &Path| path.metadata().map(|meta| meta.dev()).ok();
        device(&self.dir).is_some_and(|own| device(dir) == Some(own))
    }

    /// Puts a layer into the cache, in the place of one that is damaged. `image` is the image that
    /// has its data; without one, all data is in the file itself. What is given back is to be made
    /// durable when there is time.
    pub(super) fn publish(
        &self,
        file: &Unpublished,
        placing: &Placing,
        headers: &[u8],
        image: Option<&Path>,
        diff_id: Sha256,
    ) -> io::Result<File> {
        entry::complete(file.file(), placing, headers, BootId::current()?)?;
        for path in [self.path(diff_id), self.origin(diff_id)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        match image {
            Some(image) => fs::hard_link(image, self.origin(diff_id))?,
            None => write_stand_in(&self.origin(diff_id), placing.origin)?,
        }
        file.name(&self.path(diff_id), 0o600)?;
        file.reopen()
    }

    fn origin(&self, diff_id: Sha256) -> PathBuf {
        self.dir.join(diff_id.to_hex() + ORIGIN)
    }

    fn path(&self, diff_id: Sha256) -> PathBuf {
        self.dir.join(diff_id.to_hex() + SUFFIX)
    }
}

/// Where an image says who it is.
const UUID_OFFSET: u64 = 1024 + 0x68;

fn read_uuid(image: &File) -> io::Result<Option<FsUuid>> {
    let mut raw = [0; 16];
    match image.read_exact_at(&mut raw, UUID_OFFSET) {
        Ok(()) => Ok(Some(FsUuid::from_bytes(raw))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stands for an image of which nothing is needed but who it would have been.
fn write_stand_in(path: &Path, uuid: FsUuid) -> io::Result<()> {
    File::create(path)?.write_all_at(uuid.as_bytes(), UUID_OFFSET)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

    use super::super::entry::Recorder;
    use super::*;

    fn put(cache: &LayerCache, diff_id: Sha256, age: u64) {
        let file = cache.begin().unwrap();
        let headers = Recorder::new().unwrap().finish().unwrap();
        let placing = Placing {
            data_blocks: 0,
            origin: FsUuid::from_bytes([1; 16]),
            first: 0,
            local: Vec::new(),
        };
        cache
            .publish(&file, &placing, &headers, None, diff_id)
            .unwrap();
        let then = SystemTime::now() - Duration::from_secs(age);
        let opened = File::open(cache.path(diff_id));
        let times = FileTimes::new().set_modified(then);
        opened.unwrap().set_times(times).unwrap();
    }

    fn ids(cache: &LayerCache) -> Vec<Sha256> {
        let mut layers = cache.stock().unwrap().layers;
        layers.sort_by_key(|layer| layer.last_used);
        layers.iter().map(|layer| layer.diff_id).collect()
    }

    #[test]
    fn a_hit_counts_as_use_and_pinned_layers_stay() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(dir.path().join("cache"));
        assert_eq!(ids(&cache), []);
        cache.prepare().unwrap();
        let [old, middle, new] = [b"1", b"2", b"3"].map(|raw| Sha256::of(raw));
        for (id, age) in [(new, 10), (old, 30), (middle, 20)] {
            put(&cache, id, age);
        }
        assert_eq!(ids(&cache), [old, middle, new]);
        let mut hit = cache.hit(old).unwrap().unwrap();
        assert_eq!(hit.headers.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert_eq!(ids(&cache), [middle, new, old]);
        let pinned = cache.pin([new]);
        assert!(!cache.remove_unused(new).unwrap());
        assert!(cache.remove_unused(middle).unwrap());
        drop(pinned);
        assert!(cache.remove_unused(new).unwrap());
        assert_eq!(ids(&cache), [old]);
    }

    #[test]
    fn a_damaged_layer_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(dir.path().to_owned());
        let id = Sha256::of(b"x");
        fs::write(cache.path(id), b"half a layer").unwrap();
        fs::write(dir.path().join("notes"), b"not ours").unwrap();
        assert_eq!(ids(&cache), [id]);
        assert!(cache.hit(id).unwrap().is_none());
        put(&cache, id, 1);
        assert!(cache.hit(id).unwrap().is_some());
        cache.sweep().unwrap();
        assert!(cache.contains(id), "what is whole stays");
    }

    #[test]
    fn what_nobody_can_use_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(dir.path().to_owned());
        cache.sweep().unwrap();
        let [half, lone] = [b"1", b"2"].map(|raw| Sha256::of(raw));
        fs::write(cache.path(half), b"half a layer").unwrap();
        fs::write(cache.origin(lone), b"an image").unwrap();
        fs::write(dir.path().join("notes"), b"not ours").unwrap();
        cache.sweep().unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].file_name(), "notes");
    }
}
