//! Owns what the layer cache costs: what each layer takes by itself, and which images are on the
//! disk for the cache's sake alone. Decides nothing.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::cache::{ORIGIN, SUFFIX};
use crate::digest::Sha256;

/// How `stat` counts.
const SECTOR: u64 = 512;

/// A layer, and what it is the reason for.
#[derive(Debug)]
pub(crate) struct StockedLayer {
    pub(crate) diff_id: Sha256,
    /// Bytes of the entry itself.
    pub(crate) own: u64,
    /// Blocks of data, wherever they are.
    pub(crate) data: u64,
    /// The image that has them, where nobody but the cache has it any more.
    pub(crate) image: Option<usize>,
    pub(crate) last_used: SystemTime,
}

/// All layers, and what the images cost that only the cache has.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    pub(crate) layers: Vec<StockedLayer>,
    pub(crate) images: Vec<u64>,
}

impl Stock {
    /// The part of its image that each layer stands for.
    pub(crate) fn shares(&self) -> Vec<u64> {
        let mut totals = vec![(0_u128, 0_u128); self.images.len()];
        for layer in &self.layers {
            if let Some(image) = layer.image {
                totals[image].0 += u128::from(layer.data);
                totals[image].1 += 1;
            }
        }
        let share = |layer: &StockedLayer| {
            let Some(image) = layer.image else {
                return 0;
            };
            let (all, layers) = totals[image];
            let bytes = u128::from(self.images[image]);
            let part = match all {
                0 => bytes / layers,
                _ => bytes * u128::from(layer.data) / all,
            };
            u64::try_from(part).expect("no more than the whole")
        };
        self.layers.iter().map(share).collect()
    }
}

/// The files of a cache, told apart by their names.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) layers: BTreeMap<Sha256, Metadata>,
    pub(super) origins: BTreeMap<Sha256, Metadata>,
}

impl Files {
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            entries => entries?,
        };
        let mut files = Self::default();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let (digits, kind) = match (name.strip_suffix(SUFFIX), name.strip_suffix(ORIGIN)) {
                (Some(digits), _) => (digits, &mut files.layers),
                (None, Some(digits)) => (digits, &mut files.origins),
                (None, None) => continue,
            };
            let Ok(diff_id) = digits.parse() else {
                continue;
            };
            match entry.metadata() {
                Ok(meta) => drop(kind.insert(diff_id, meta)),
                // Somebody else removed it just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    /// Counts; `data_of` says how many blocks a layer's data has.
    pub(super) fn stock(&self, data_of: impl Fn(Sha256) -> io::Result<u64>) -> io::Result<Stock> {
        let mut names = BTreeMap::<u64, u64>::new();
        for origin in self.origins.values() {
            *names.entry(origin.ino()).or_default() += 1;
        }
        let mut stock = Stock::default();
        let mut images = BTreeMap::<u64, usize>::new();
        for (diff_id, layer) in &self.layers {
            // Once all names that are left are the cache's own, it is the cache that pays.
            let orphan = self.origins.get(diff_id);
            let orphan = orphan.filter(|origin| origin.nlink() <= names[&origin.ino()]);
            let image = orphan.map(|origin| {
                *images.entry(origin.ino()).or_insert_with(|| {
                    stock.images.push(origin.blocks() * SECTOR);
                    stock.images.len() - 1
                })
            });
            stock.layers.push(StockedLayer {
                diff_id: *diff_id,
                own: layer.blocks() * SECTOR,
                data: data_of(*diff_id)?,
                image,
                last_used: layer.modified()?,
            });
        }
        Ok(stock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_share_an_image_by_their_data() {
        let layer = |data, image| StockedLayer {
            diff_id: Sha256::of(b""),
            own: 1,
            data,
            image,
            last_used: SystemTime::UNIX_EPOCH,
        };
        let stock = Stock {
            layers: vec![
                layer(30, Some(0)),
                layer(10, Some(0)),
                layer(5, None),
                layer(0, Some(1)),
                layer(0, Some(1)),
            ],
            images: vec![400, 10],
        };
        assert_eq!(stock.shares(), [300, 100, 0, 5, 5]);
    }
}
