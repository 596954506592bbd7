//! Owns making a kernel out of a distribution's package: choosing the newest, having it fetched
//! and verified, putting it into the store. Knows no mirror and no signature.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::assemble::{self, Transfer};
use super::catalog::DebianPackage;
use super::error::KernelError;
use super::manifest::{KernelName, Manifest, Origin};
use super::staging::{GiveUpOnDrop, Staging};
use super::store::{IfTaken, KernelStore};
use crate::blocking;
use crate::debian::package::{self, Verdict};
use crate::debian::{Archive, ArchiveConfig, DebError, Keyring, Package, Suite, Unpacked};
use crate::fetch::Fetcher;
use crate::progress::{SharedProgress, Step};

/// What every kernel package's name begins with.
const IMAGE_PREFIX: &str = "linux-image-";
const PACKAGE_FILE: &str = "package.deb";
const UNPACKED: &str = "unpacked";

/// Where kernels are pulled from, and who is trusted about them.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub fetcher: Fetcher,
    pub keyring: Keyring,
    pub config: ArchiveConfig,
}

impl Upstream {
    fn archives(&self) -> Vec<Archive<'_>> {
        let archive = |(mirror, suite)| Archive {
            fetcher: &self.fetcher,
            keyring: &self.keyring,
            mirror,
            suite,
            check_valid_until: self.config.check_valid_until,
        };
        self.config.suites().into_iter().map(archive).collect()
    }
}

impl KernelStore {
    /// Makes a kernel out of a distribution's package. May be dropped at any moment: what it has begun is then
    /// given up and cleared away. Pulls of one name wait for each other.
    pub async fn pull(
        &self,
        name: &KernelName,
        package: &DebianPackage,
        upstream: &Upstream,
        progress: &SharedProgress,
        if_taken: IfTaken,
    ) -> Result<Manifest, KernelError> {
        let lock = self.lock(name).await;
        if let Some(present) = self.check_taken(name, if_taken)? {
            return Ok(present);
        }
        let staging = Arc::new(self.stage(name)?);
        let _give_up = GiveUpOnDrop(staging.clone());
        let (origin, label) = fetch(package, upstream, staging.path(), progress).await?;
        let (store, name, progress) = (self.clone(), name.clone(), progress.clone());
        blocking::run(move || {
            // The name stays locked until this is through, even if nobody waits for it any more.
            let _lock = lock;
            let unpacked = unpack(&staging, &label, &progress)?;
            let assembled = assemble::assemble(&unpacked, staging.path(), Transfer::Move)?;
            let leftovers = staging.path().join(UNPACKED);
            fs::remove_dir_all(&leftovers).map_err(KernelError::io("remove", &leftovers))?;
            if staging.is_given_up() {
                return Err(KernelError::GivenUp { name });
            }
            store.publish(&name, &staging, assembled, origin, if_taken)
        })
        .await
    }
}

/// Fetches the package into the staging directory; tells where it came from, and its name.
async fn fetch(
    wanted: &DebianPackage,
    upstream: &Upstream,
    staging: &Path,
    progress: &SharedProgress,
) -> Result<(Origin, String), KernelError> {
    let DebianPackage {
        package,
        series,
        suite: _,
    } = wanted;
    let archives = upstream.archives();
    let is_image = |name: &str| name.starts_with(IMAGE_PREFIX);
    let searches = archives
        .iter()
        .map(|archive| archive.find(is_image, staging, progress));
    let found = try_join_all(searches).await?;
    let offers = archives
        .iter()
        .map(|a| a.suite.clone())
        .zip(found)
        .collect::<Vec<_>>();
    let (at, chosen) = choose(&offers, package, series, &upstream.config.suite)?;
    let destination = staging.join(PACKAGE_FILE);
    let verified = archives[at].fetch(chosen, &destination, progress).await?;
    let origin = Origin::Debian {
        url: verified.url,
        package: chosen.name.clone(),
        package_version: chosen.version.to_string(),
        sha256: verified.digest,
    };
    Ok((origin, chosen.name.clone()))
}

/// The newest package of the series over all suites, and the index of its suite. A meta package
/// leads to the kernel that it depends on. Of equal versions the first suite's is taken.
fn choose<'a>(
    offers: &'a [(Suite, Vec<Package>)],
    wanted: &str,
    series: &str,
    suite: &Suite,
) -> Result<(usize, &'a Package), KernelError> {
    let named = offers.iter().enumerate().flat_map(|(at, (_, packages))| {
        let named = packages.iter().filter(|package| package.name == wanted);
        named.map(move |package| (at, package))
    });
    let of_series = named.filter(|(_, package)| package.version.is_of_series(series));
    let newest = of_series.reduce(|a, b| if b.1.version > a.1.version { b } else { a });
    let (at, newest) = newest.ok_or_else(|| KernelError::NoPackage {
        package: wanted.to_owned(),
        series: series.to_owned(),
        suite: suite.clone(),
    })?;
    let Some(needed) = newest
        .depends
        .iter()
        .find(|d| d.name.starts_with(IMAGE_PREFIX))
    else {
        return Ok((at, newest));
    };
    let (suite, packages) = &offers[at];
    let fits = |package: &&Package| {
        package.name == needed.name
            && needed
                .exactly
                .as_ref()
                .is_none_or(|version| package.version == *version)
    };
    let found = packages
        .iter()
        .filter(fits)
        .max_by(|a, b| a.version.cmp(&b.version));
    found
        .map(|package| (at, package))
        .ok_or_else(|| KernelError::NoDependency {
            package: wanted.to_owned(),
            dependency: needed.name.clone(),
            suite: suite.clone(),
        })
}

/// Takes the kernel out of the package; returns where it lies, and removes the package.
fn unpack(
    staging: &Staging,
    name: &str,
    progress: &SharedProgress,
) -> Result<PathBuf, KernelError> {
    let path = staging.path().join(PACKAGE_FILE);
    let into = staging.path().join(UNPACKED);
    let go_on = |done: Unpacked| {
        progress.report(Step {
            stage: "unpack",
            detail: name.to_owned(),
            done: done.bytes,
            total: None,
        });
        !staging.is_given_up()
    };
    fs::create_dir(&into).map_err(KernelError::io("create", &into))?;
    let choose = |member: &Path| wanted_member(member, &into);
    let package = File::open(&path).map_err(KernelError::io("open", &path))?;
    package::unpack(package, choose, go_on).map_err(|source: DebError| KernelError::Unpack {
        package: name.to_owned(),
        source,
    })?;
    fs::remove_file(&path).map_err(KernelError::io("remove", &path))?;
    Ok(into)
}

/// Of a kernel package only the kernel, its configuration and its modules are taken.
fn wanted_member(member: &Path, into: &Path) -> Verdict {
    let parts: Vec<&str> = member.iter().filter_map(OsStr::to_str).collect();
    let wanted = match &parts[..] {
        ["boot", file] => file.starts_with("vmlinuz-") || file.starts_with("config-"),
        ["lib", "modules", _version, _, ..] | ["usr", "lib", "modules", _version, _, ..] => true,
        _ => false,
    };
    if wanted {
        Verdict::Place(into.join(member))
    } else {
        Verdict::Skip
    }
}
