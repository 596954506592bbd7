//! Owns what earlier pulls left for later ones as one stock: unpacked layers and whole blobs, what
//! they cost, which of them are needed right now, what goes first. Knows no image and no name.

mod plan;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::blobs::BlobStore;
use crate::digest::Sha256;
use crate::layers::{CacheError, LayerCache};
use plan::{Item, plan};

/// Layers and blobs of one user.
#[derive(Debug, Clone)]
pub struct ImageCache {
    layers: LayerCache,
    blobs: Arc<BlobStore>,
}

/// What a thing in the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// Unpacked; its digest is its diff_id.
    Layer,
    /// As a registry sent it, for a pull that did not come to its end.
    Blob,
}

/// A thing in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheItem {
    pub kept: Kept,
    pub digest: Sha256,
    /// What it takes on the disk, beyond images that are there anyway.
    pub bytes: u64,
    pub last_used: SystemTime,
    /// Running work needs it.
    pub in_use: bool,
}

/// What pruning took away, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    pub items: Vec<CacheItem>,
    pub freed: u64,
    pub left: u64,
}

/// The cache could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StockError {
    #[error(transparent)]
    Layers(#[from] CacheError),
    #[error("cannot list the blobs in {directory:?}")]
    Blobs {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot remove the blob {digest}")]
    Remove {
        digest: Sha256,
        #[source]
        source: io::Error,
    },
}

impl StockError {
    /// What the host's system said.
    #[must_use]
    pub fn io(&self) -> &io::Error {
        match self {
            Self::Layers(error) => error.io(),
            Self::Blobs { source, .. } | Self::Remove { source, .. } => source,
        }
    }
}

/// Everything, and what it costs.
struct Stock {
    found: Vec<CacheItem>,
    items: Vec<Item>,
    images: Vec<u64>,
}

impl ImageCache {
    /// A cache in a directory, which need not be there yet. The only one of its directory: it
    /// knows what is in use.
    #[must_use]
    pub fn new(directory: &std::path::Path) -> Self {
        Self {
            layers: LayerCache::new(directory.join("layers")),
            blobs: Arc::new(BlobStore::new(directory.join("blobs"))),
        }
    }

    #[must_use]
    pub fn layers(&self) -> &LayerCache {
        &self.layers
    }

    #[must_use]
    pub fn blobs(&self) -> &Arc<BlobStore> {
        &self.blobs
    }

    /// Removes what a crash left behind. Whoever calls it knows that nobody pulls.
    pub fn sweep(&self) -> Result<(), StockError> {
        self.blobs.sweep().map_err(|source| self.no_blobs(source))?;
        Ok(self.layers.sweep()?)
    }

    /// All that is kept, the thing that was not used for longest first.
    pub fn list(&self) -> Result<Vec<CacheItem>, StockError> {
        let mut found = self.stock()?.found;
        found.sort_by_key(|item| (item.last_used, item.kept, item.digest));
        Ok(found)
    }

    /// Removes what was not used for longest until the rest takes at most `keep` bytes. What
    /// running work needs stays. A dry run only says what would go.
    pub fn prune(&self, keep: u64, dry_run: bool) -> Result<Pruned, StockError> {
        let stock = self.stock()?;
        let plan = plan(&stock.items, &stock.images, keep);
        let mut pruned = Pruned {
            items: Vec::new(),
            freed: plan.freed,
            left: plan.left,
        };
        for item in plan.goes.iter().map(|at| stock.found[*at]) {
            if dry_run || self.remove(item)? {
                pruned.items.push(item);
            }
        }
        Ok(pruned)
    }

    /// Whether it went: somebody may have come to need it since.
    fn remove(&self, item: CacheItem) -> Result<bool, StockError> {
        let CacheItem { digest, .. } = item;
        match item.kept {
            Kept::Layer => Ok(self.layers.remove_unused(digest)?),
            Kept::Blob => self
                .blobs
                .remove_unused(digest)
                .map_err(|source| StockError::Remove { digest, source }),
        }
    }

    fn stock(&self) -> Result<Stock, StockError> {
        let blobs = self.blobs.list().map_err(|source| self.no_blobs(source))?;
        let layers = self.layers.stock()?;
        let shares = layers.shares();
        let mut stock = Stock {
            found: Vec::new(),
            items: Vec::new(),
            images: layers.images,
        };
        for (layer, share) in layers.layers.iter().zip(shares) {
            stock.add(
                Kept::Layer,
                layer.diff_id,
                share,
                Item {
                    own: layer.own,
                    image: layer.image,
                    last_used: layer.last_used,
                    in_use: self.layers.is_in_use(layer.diff_id),
                },
            );
        }
        for blob in blobs {
            stock.add(
                Kept::Blob,
                blob.digest,
                0,
                Item {
                    own: blob.bytes,
                    image: None,
                    last_used: blob.arrived,
                    in_use: self.blobs.is_in_use(blob.digest),
                },
            );
        }
        Ok(stock)
    }

    fn no_blobs(&self, source: io::Error) -> StockError {
        StockError::Blobs {
            directory: self.blobs.directory().to_owned(),
            source,
        }
    }
}

impl Stock {
    fn add(&mut self, kept: Kept, digest: Sha256, share: u64, item: Item) {
        self.found.push(CacheItem {
            kept,
            digest,
            bytes: item.own + share,
            last_used: item.last_used,
            in_use: item.in_use,
        });
        self.items.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(cache: &ImageCache, bytes: &[u8]) -> Sha256 {
        let digest = Sha256::of(bytes);
        let directory = cache.blobs().directory();
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join(digest.to_hex()), bytes).unwrap();
        digest
    }

    fn digests(items: &[CacheItem]) -> Vec<Sha256> {
        items.iter().map(|item| item.digest).collect()
    }

    #[test]
    fn what_is_in_use_stays_and_a_dry_run_removes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ImageCache::new(&dir.path().join("cache"));
        assert_eq!(cache.list().unwrap(), []);
        assert_eq!(cache.prune(0, false).unwrap(), Pruned::default());
        let (needed, other) = (blob(&cache, b"needed"), blob(&cache, b"other"));
        let pinned = cache.blobs().pin(needed);
        let would = cache.prune(0, true).unwrap();
        assert_eq!(digests(&would.items), [other]);
        assert_eq!(cache.list().unwrap().len(), 2);
        assert_eq!(cache.prune(0, false).unwrap(), would);
        let left = cache.list().unwrap();
        assert_eq!((digests(&left), left[0].in_use), (vec![needed], true));
        drop(pinned);
        assert_eq!(digests(&cache.prune(0, false).unwrap().items), [needed]);
        assert_eq!(cache.list().unwrap(), []);
    }
}
