//! Owns the directory of unpacked layers, by diff_id: what is there, what it costs, what goes
//! first. Layers appear whole or not at all. Knows no image.

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::entry::{self, BootId, Footer};
use crate::digest::Sha256;
use crate::unpublished::{self, Unpublished};

const SUFFIX: &str = ".layer";

/// Unpacked layers in a directory of the user's.
#[derive(Debug, Clone)]
pub struct LayerCache {
    dir: PathBuf,
}

/// A layer in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedLayer {
    pub diff_id: Sha256,
    /// What it takes on the disk.
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
    pub(super) footer: Footer,
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
            match entry.metadata() {
                Ok(meta) => found.push(CachedLayer {
                    diff_id,
                    bytes: meta.blocks() * 512,
                    last_used: meta.modified().map_err(failed)?,
                }),
                // Somebody else pruned it just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        found.sort_by_key(|layer| (layer.last_used, layer.diff_id));
        Ok(found)
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
        match fs::remove_file(self.path(diff_id)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(CacheError::Remove { diff_id, source }),
        }
    }

    /// Whether a layer is there, whole.
    pub fn contains(&self, diff_id: Sha256) -> bool {
        self.open_entry(diff_id).is_ok_and(|found| found.is_some())
    }

    /// Opens a layer and counts it as used. What is damaged is removed: it will be made anew.
    pub(super) fn hit(&self, diff_id: Sha256) -> io::Result<Option<Hit>> {
        let Some((file, footer)) = self.open_entry(diff_id)? else {
            return Ok(None);
        };
        let Some(headers) = entry::headers(&file, &footer)? else {
            fs::remove_file(self.path(diff_id))?;
            return Ok(None);
        };
        file.set_times(FileTimes::new().set_modified(SystemTime::now()))?;
        Ok(Some(Hit {
            file,
            footer,
            headers,
        }))
    }

    fn open_entry(&self, diff_id: Sha256) -> io::Result<Option<(File, Footer)>> {
        let path = self.path(diff_id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match entry::read_footer(&file, BootId::current()?)? {
            Some(footer) => Ok(Some((file, footer))),
            None => {
                fs::remove_file(&path)?;
                Ok(None)
            }
        }
    }

    /// A file for a layer's data blocks.
    pub(super) fn begin(&self) -> io::Result<Unpublished> {
        Unpublished::create(&self.dir)
    }

    /// Puts a layer whose data blocks are in `file` into the cache. It counts as whole at once, and
    /// as durable after the sync that goes on behind.
    pub(super) fn publish(
        &self,
        file: &Unpublished,
        data_blocks: u64,
        headers: &[u8],
        diff_id: Sha256,
    ) -> io::Result<()> {
        let boot = BootId::current()?;
        entry::complete(file.file(), data_blocks, headers, boot)?;
        match file.name(&self.path(diff_id), 0o600) {
            // Another build was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            named => named?,
        }
        let synced = file.reopen()?;
        // A layer that cannot be synced is only forgotten when the host restarts.
        std::thread::spawn(move || entry::make_durable(&synced).ok());
        Ok(())
    }

    fn path(&self, diff_id: Sha256) -> PathBuf {
        self.dir.join(diff_id.to_hex() + SUFFIX)
    }
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
        cache.publish(&file, 0, &headers, diff_id).unwrap();
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
    fn a_damaged_layer_is_none_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::open(dir.path()).unwrap();
        let id = Sha256::of(b"x");
        fs::write(cache.path(id), b"half a layer").unwrap();
        fs::write(dir.path().join("notes"), b"not ours").unwrap();
        assert_eq!(ids(&cache), [id]);
        assert!(cache.hit(id).unwrap().is_none());
        assert_eq!(ids(&cache), []);
        cache.sweep().unwrap();
        assert!(dir.path().join("notes").exists());
    }
}
