//! Owns the directory of unpacked layers, by diff_id: what is there, what it costs, what goes
//! first. Layers appear whole or not at all. A layer's data stays in the image that it was unpacked
//! into, which the cache holds by a second name: it costs room only once that image is deleted.

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::entry::{self, BootId, Footer, Placing};
use crate::digest::Sha256;
use crate::ext4::{BLOCK_BYTES, FsUuid};
use crate::unpublished::{self, Unpublished};

const SUFFIX: &str = ".layer";
/// The image that has a layer's data.
const ORIGIN: &str = ".origin";

/// Unpacked layers in a directory of the user's.
#[derive(Debug, Clone)]
pub struct LayerCache {
    dir: PathBuf,
}

/// A layer in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedLayer {
    pub diff_id: Sha256,
    /// What it takes on the disk, beyond images that are there anyway.
    pub bytes: u64,
    pub last_used: SystemTime,
}

/// What pruning took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    pub layers: u64,
    pub bytes: u64,
}

/// The cache's directory could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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

/// A layer that is being read from the cache; pruning does not disturb it.
pub(super) struct Hit {
    pub(super) file: File,
    pub(super) origin: File,
    pub(super) placing: Placing,
    pub(super) headers: Box<dyn io::Read>,
}

impl LayerCache {
    /// Opens a cache, which may be empty or not there yet.
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        let failed = |source| CacheError::Open {
            dir: dir.to_owned(),
            source,
        };
        fs::create_dir_all(dir).map_err(failed)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Removes what a crash left behind. Whoever calls it knows that nobody is building.
    pub fn sweep(&self) -> Result<(), CacheError> {
        unpublished::sweep(&self.dir).map_err(|source| CacheError::Open {
            dir: self.dir.clone(),
            source,
        })
    }

    /// All layers, the one that was not used for longest first.
    pub fn list(&self) -> Result<Vec<CachedLayer>, CacheError> {
        let failed = |source| CacheError::List {
            dir: self.dir.clone(),
            source,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            let Some(diff_id) = digits.and_then(|digits| digits.parse().ok()) else {
                continue;
            };
            match self.cost(&entry.path(), diff_id) {
                Ok((bytes, last_used)) => found.push(CachedLayer {
                    diff_id,
                    bytes,
                    last_used,
                }),
                // Somebody else pruned it just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        found.sort_by_key(|layer| (layer.last_used, layer.diff_id));
        Ok(found)
    }

    /// What a layer takes, and when it was used. Its share of an image counts when no image that
    /// anybody knows has it: all names that are left are then the cache's own.
    fn cost(&self, path: &Path, diff_id: Sha256) -> io::Result<(u64, SystemTime)> {
        let meta = path.metadata()?;
        let mut bytes = meta.blocks() * 512;
        if let (Ok(origin), Ok(Some((_, footer)))) =
            (self.origin(diff_id).metadata(), self.open_entry(diff_id))
            && origin.nlink() <= self.names_of(&origin)?
        {
            bytes += footer.data_blocks() * BLOCK_BYTES;
        }
        Ok((bytes, meta.modified()?))
    }

    /// How many names of a file are in the cache.
    fn names_of(&self, file: &fs::Metadata) -> io::Result<u64> {
        let mut names = 0;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let same = entry.metadata().is_ok_and(|meta| meta.ino() == file.ino());
            names += u64::from(same);
        }
        Ok(names)
    }

    /// Removes layers, longest unused first, until all that are left take at most `keep` bytes.
    pub fn prune(&self, keep: u64) -> Result<Pruned, CacheError> {
        let layers = self.list()?;
        let mut total: u64 = layers.iter().map(|layer| layer.bytes).sum();
        let mut pruned = Pruned::default();
        for layer in layers {
            if total <= keep {
                break;
            }
            self.remove(layer.diff_id)?;
            total -= layer.bytes;
            pruned.layers += 1;
            pruned.bytes += layer.bytes;
        }
        Ok(pruned)
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
        let layers = cache.list().unwrap();
        layers.iter().map(|layer| layer.diff_id).collect()
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::open(&dir.path().join("cache")).unwrap();
        let [old, middle, new] = [b"1", b"2", b"3"].map(|raw| Sha256::of(raw));
        for (id, age) in [(new, 10), (old, 30), (middle, 20)] {
            put(&cache, id, age);
        }
        assert_eq!(ids(&cache), [old, middle, new]);
        let mut hit = cache.hit(old).unwrap().unwrap();
        assert_eq!(hit.headers.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert_eq!(ids(&cache), [middle, new, old]);
        let each = cache.list().unwrap()[0].bytes;
        assert_eq!(cache.prune(3 * each).unwrap(), Pruned::default());
        let pruned = cache.prune(each).unwrap();
        assert_eq!((pruned.layers, ids(&cache)), (2, vec![old]));
        cache.prune(0).unwrap();
        assert_eq!(ids(&cache), []);
        assert!(!cache.contains(old));
    }

    #[test]
    fn a_damaged_layer_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::open(dir.path()).unwrap();
        let id = Sha256::of(b"x");
        fs::write(cache.path(id), b"half a layer").unwrap();
        fs::write(dir.path().join("notes"), b"not ours").unwrap();
        assert_eq!(ids(&cache), [id]);
        assert!(cache.hit(id).unwrap().is_none());
        put(&cache, id, 1);
        assert!(cache.hit(id).unwrap().is_some());
        cache.sweep().unwrap();
        assert!(dir.path().join("notes").exists());
    }
}
