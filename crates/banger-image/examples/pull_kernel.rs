//! Pulls a kernel of the catalog into a directory from the mirror that this host's apt uses, and
//! makes the initramfs for it with a given file as the first process.
//!
//!     cargo run -p banger-image --example pull_kernel -- debian-6.1 KERNELS [INIT CACHE]
#![allow(clippy::print_stdout, reason = "an example speaks on standard output")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use banger_image::debian::{ArchiveConfig, Keyring};
use banger_image::digest::Sha256;
use banger_image::fetch::{Fetcher, Patience};
use banger_image::initramfs;
use banger_image::kernel::{Catalog, IfTaken, KernelName, KernelStore, Upstream};
use banger_image::progress::{Progress, SharedProgress, Step};

/// Prints each stage once.
#[derive(Default)]
struct Stages(std::sync::Mutex<Option<(&'static str, String)>>);

impl Progress for Stages {
    fn report(&self, step: Step) {
        let now = (step.stage, step.detail);
        let mut last = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.as_ref() != Some(&now) {
            println!("{}: {}", now.0, now.1);
            *last = Some(now);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, directory, rest @ ..] = &arguments[..] else {
        return Err("usage: pull_kernel NAME KERNELS [INIT CACHE]".into());
    };
    let name: KernelName = name.parse()?;
    let catalog = Catalog::embedded();
    let entry = catalog.get(&name)?;
    let upstream = Upstream {
        fetcher: Fetcher::new(Patience::default())?,
        keyring: Keyring::debian(),
        config: ArchiveConfig::of_host(entry.suite().clone())?,
    };
    let store = KernelStore::new(directory);
    store.sweep()?;
    let progress: SharedProgress = Arc::new(Stages::default());
    let start = Instant::now();
    let manifest = store
        .pull(entry, &upstream, &progress, IfTaken::Replace)
        .await?;
    println!(
        "{} in {:?}",
        serde_json::to_string_pretty(&manifest)?,
        start.elapsed()
    );
    store.verify(&name)?;
    if let [init, cache] = rest {
        make_initramfs(&store, &name, Path::new(init), Path::new(cache))?;
    }
    Ok(())
}

fn make_initramfs(
    store: &KernelStore,
    name: &KernelName,
    init: &Path,
    cache: &Path,
) -> Result<(), Box<dyn Error>> {
    let kernel = store.get(name)?;
    let agent = std::fs::read(init)?;
    let digest = Sha256::of(&agent);
    for _ in 0..2 {
        let start = Instant::now();
        let path = initramfs::ensure(&kernel, &agent, digest, cache)?;
        println!("{} in {:?}", path.display(), start.elapsed());
    }
    Ok(())
}
