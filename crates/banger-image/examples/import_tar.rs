//! Imports a tar by hand: `import_tar TAR IMAGE [--scrub]`, where `-` is standard input.
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::path::Path;
use std::sync::Arc;

use banger_image::progress::{SharedProgress, Silent};
use banger_image::rootfs::{self, ImportOptions, Scrub, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (tar, image, scrub) = match &args[..] {
        [tar, image] => (tar, image, Scrub::No),
        [tar, image, flag] if flag == "--scrub" => (tar, image, Scrub::BuilderTraces),
        _ => return Err("usage: import_tar TAR IMAGE [--scrub]".into()),
    };
    let source = match tar.as_str() {
        "-" => Source::Stream(Box::new(std::io::stdin())),
        path => Source::File(path.into()),
    };
    let options = ImportOptions {
        scrub,
        ..ImportOptions::default()
    };
    let progress: SharedProgress = Arc::new(Silent);
    let report = rootfs::import(source, Path::new(image), &options, &progress)?;
    println!("{report:#?}");
    Ok(())
}
