//! Fetches one package of Debian's archive, verified from the archive's signature down to its bytes:
//! `fetch_package SUITE PACKAGE VERSION FILE`. Knows no more than the library's chain of trust.
#![allow(
    clippy::print_stderr,
    reason = "a tool for a terminal: what it has to say goes there"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use banger_image::debian::{Archive, ArchiveConfig, Keyring, Package, Suite};
use banger_image::fetch::{Fetcher, Patience};
use banger_image::progress::{SharedProgress, Silent};

const USAGE: &str = "usage: fetch_package SUITE PACKAGE VERSION FILE";

/// What was asked for.
struct Wanted {
    suite: Suite,
    package: String,
    version: String,
    file: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  caused by: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [suite, package, version, file] = &args[..] else {
        return Err(USAGE.into());
    };
    let wanted = Wanted {
        suite: suite.parse()?,
        package: package.clone(),
        version: version.clone(),
        file: file.into(),
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(fetch(&wanted))
}

/// Takes the package from the first suite that has this version of it, security updates first.
async fn fetch(wanted: &Wanted) -> Result<(), Box<dyn Error>> {
    let config = ArchiveConfig::of_host(wanted.suite.clone())?;
    let fetcher = Fetcher::new(Patience::default())?;
    let keyring = Keyring::debian();
    let progress: SharedProgress = Arc::new(Silent);
    let scratch = wanted.file.parent().unwrap_or(Path::new("."));
    let mut others = Vec::new();
    for (mirror, suite) in config.suites() {
        let archive = Archive {
            fetcher: &fetcher,
            keyring: &keyring,
            mirror,
            suite,
            check_valid_until: config.check_valid_until,
        };
        let name = wanted.package.clone();
        let found = archive
            .find(move |other| other == name, scratch, &progress)
            .await?;
        if let Some(package) = found.iter().find(|package| is(package, &wanted.version)) {
            let verified = archive.fetch(package, &wanted.file, &progress).await?;
            eprintln!("{} is {}", verified.url, verified.digest);
            return Ok(());
        }
        others.extend(found.iter().map(|package| package.version.to_string()));
    }
    let Wanted {
        package, version, ..
    } = wanted;
    others.sort();
    Err(format!(
        "the archive has no {package} {version}; it has: {}",
        others.join(", ")
    )
    .into())
}

fn is(package: &Package, version: &str) -> bool {
    package.version.to_string() == version
}
