//! Makes an image of layers by hand: `build_layers IMAGE CACHE LAYER...`, and says what it took.
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use banger_image::digest::Sha256;
use banger_image::layers::{
    self, BuildOptions, Compression, LayerCache, LayerDescriptor, LayerSource,
};
use banger_image::progress::{SharedProgress, Silent};

/// A layer in a file of the host.
struct FileLayer {
    path: PathBuf,
    descriptor: LayerDescriptor,
}

impl LayerSource for FileLayer {
    fn descriptor(&self) -> &LayerDescriptor {
        &self.descriptor
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(&self.path)?))
    }
}

fn layer(path: &str) -> io::Result<Arc<dyn LayerSource>> {
    let mut magic = [0; 4];
    File::open(path)?.read_exact(&mut magic)?;
    let unpacked: Box<dyn Read> = match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(File::open(path)?)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(File::open(path)?)?),
        _ => Box::new(File::open(path)?),
    };
    let compression = match magic {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        _ => Compression::Plain,
    };
    Ok(Arc::new(FileLayer {
        path: path.into(),
        descriptor: LayerDescriptor {
            compression,
            digest: Sha256::of_reader(File::open(path)?)?,
            size: Some(File::open(path)?.metadata()?.len()),
            diff_id: Sha256::of_reader(unpacked)?,
        },
    }))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [image, cache, files @ ..] = &args[..] else {
        return Err("usage: build_layers IMAGE CACHE LAYER...".into());
    };
    let layers: Vec<_> = files
        .iter()
        .map(|path| layer(path))
        .collect::<Result<_, _>>()?;
    let progress: SharedProgress = Arc::new(Silent);
    let begin = Instant::now();
    let (image, cache) = (Path::new(image), LayerCache::new(cache.into()));
    let built = layers::build(&layers, &cache, image, &BuildOptions::default(), &progress)?;
    println!("{built:#?}\n{:?}", begin.elapsed());
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{}", peak.unwrap_or_default());
    Ok(())
}
