//! Owns the chain of trust from a signature to a package's bytes: InRelease, index, package.
//! Every link is checked before the next is asked for. Knows no kernels.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::SystemTime;

use super::index::{self, IndexError, Package};
use super::keyring::{Keyring, SignatureError};
use super::release::{IndexChoice, Release, ReleaseError};
use super::{ArchivePath, Mirror, Suite};
use crate::blocking;
use crate::decompress::{self, Bounded};
use crate::digest::Sha256;
use crate::fetch::{Expect, FetchError, Fetched, Fetcher, Report};
use crate::progress::SharedProgress;

/// Debian's own has 150 KB.
const LARGEST_INRELEASE: u64 = 2 * 1024 * 1024;
/// The largest package that is fetched.
const LARGEST_PACKAGE: u64 = 512 * 1024 * 1024;
const INDEX_DIRECTORY: &str = "main/binary-amd64";

/// One suite on one mirror, and who is trusted about it.
#[derive(Debug, Clone)]
pub struct Archive<'a> {
    pub fetcher: &'a Fetcher,
    pub keyring: &'a Keyring,
    pub mirror: Mirror,
    pub suite: Suite,
    pub check_valid_until: bool,
}

/// A package's file that is what the signed index promised.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Where it came from.
    pub url: String,
    pub digest: Sha256,
}

/// Why a mirror could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("cannot get the release file of {suite} from {mirror}")]
    GetRelease {
        mirror: Mirror,
        suite: Suite,
        source: FetchError,
    },
    #[error("the release file of {suite} from {mirror} is not trusted")]
    Untrusted {
        mirror: Mirror,
        suite: Suite,
        source: SignatureError,
    },
    #[error("the release file of {suite} from {mirror} is not usable")]
    Release {
        mirror: Mirror,
        suite: Suite,
        source: ReleaseError,
    },
    #[error("cannot get the package index of {suite} from {mirror}")]
    GetIndex {
        mirror: Mirror,
        suite: Suite,
        source: FetchError,
    },
    #[error("the package index of {suite} from {mirror} is not usable")]
    Index {
        mirror: Mirror,
        suite: Suite,
        source: IndexError,
    },
    #[error("cannot get the package {package} from {mirror}")]
    GetPackage {
        mirror: Mirror,
        package: String,
        source: FetchError,
    },
    #[error(
        "the package {package} from {mirror} is larger than the {LARGEST_PACKAGE} bytes allowed"
    )]
    LargePackage { mirror: Mirror, package: String },
}

impl ArchiveError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::GetRelease { source, .. } if source.is_missing() => {
                "check debian.mirror and debian.suite: this mirror does not carry the suite"
            }
            Self::Release {
                source: ReleaseError::Expired { .. },
                ..
            } => {
                "the mirror is out of date or this host's clock is wrong; try another \
                 debian.mirror, or set debian.check_valid_until = false for a frozen archive"
            }
            Self::Release {
                source: ReleaseError::FromTheFuture { .. },
                ..
            } => "check this host's clock",
            Self::Untrusted { .. } => {
                "the mirror, or something on the way to it, is not Debian's archive: \
                 try another debian.mirror"
            }
            Self::GetIndex { source, .. } | Self::GetPackage { source, .. }
                if source.is_a_lie() =>
            {
                "the mirror may be in the middle of an update or broken: try again in a few \
                 minutes, or set another debian.mirror"
            }
            Self::GetRelease { source, .. }
            | Self::GetIndex { source, .. }
            | Self::GetPackage { source, .. } => source.hint(),
            Self::Release { .. } | Self::Index { .. } | Self::LargePackage { .. } => {
                "try another debian.mirror"
            }
        }
    }
}

impl Archive<'_> {
    /// The packages of this suite whose name is wanted. `scratch` must exist; nothing stays in it.
    pub async fn find(
        &self,
        wanted: impl Fn(&str) -> bool + Send + 'static,
        scratch: &Path,
        progress: &SharedProgress,
    ) -> Result<Vec<Package>, ArchiveError> {
        let release = self.release().await?;
        let choice = release
            .index(INDEX_DIRECTORY)
            .map_err(|e| self.unusable(e))?;
        let file = tempfile::Builder::new()
            .prefix("index-")
            .tempfile_in(scratch)
            .map_err(|source| {
                self.no_index(FetchError::Write {
                    path: scratch.into(),
                    source,
                })
            })?
            .into_temp_path();
        self.fetch_index(&choice, &file, progress).await?;
        let read = move || read_index(&file, choice.unpacked_size, wanted);
        blocking::run(read)
            .await
            .map_err(|source| ArchiveError::Index {
                mirror: self.mirror.clone(),
                suite: self.suite.clone(),
                source,
            })
    }

    /// Fetches a package that the index of this suite describes.
    pub async fn fetch(
        &self,
        package: &Package,
        destination: &Path,
        progress: &SharedProgress,
    ) -> Result<Verified, ArchiveError> {
        if package.size > LARGEST_PACKAGE {
            return Err(ArchiveError::LargePackage {
                mirror: self.mirror.clone(),
                package: package.name.clone(),
            });
        }
        let url = self.mirror.file(&package.filename);
        let expect = Expect::exactly(package.size, package.digest);
        let report = report(progress, "download", package.name.clone());
        let fetched = self
            .fetcher
            .to_file(&url, destination, expect, &report)
            .await;
        let Fetched { digest, .. } = fetched.map_err(|source| ArchiveError::GetPackage {
            mirror: self.mirror.clone(),
            package: package.name.clone(),
            source,
        })?;
        Ok(Verified {
            url: crate::fetch::shown(&url),
            digest,
        })
    }

    async fn release(&self) -> Result<Release, ArchiveError> {
        let path: ArchivePath = format!("dists/{}/InRelease", self.suite)
            .parse()
            .expect("a suite's name is safe in a path");
        let (mirror, suite) = (self.mirror.clone(), self.suite.clone());
        let signed = self
            .fetcher
            .to_memory(&self.mirror.file(&path), LARGEST_INRELEASE)
            .await
            .map_err(|source| ArchiveError::GetRelease {
                mirror: mirror.clone(),
                suite: suite.clone(),
                source,
            })?;
        let now = SystemTime::now();
        let text = self
            .keyring
            .open(&signed, now)
            .map_err(|source| ArchiveError::Untrusted {
                mirror,
                suite,
                source,
            })?;
        let release = Release::parse(&text).map_err(|e| self.unusable(e))?;
        release
            .check(&self.suite, self.check_valid_until, now)
            .map_err(|e| self.unusable(e))?;
        Ok(release)
    }

    /// Tries the paths of an index in turn; only a missing file leads to the next.
    async fn fetch_index(
        &self,
        choice: &IndexChoice,
        destination: &Path,
        progress: &SharedProgress,
    ) -> Result<(), ArchiveError> {
        let expect = Expect::exactly(choice.file.size, choice.file.digest);
        let report = report(progress, "index", self.suite.to_string());
        let mut paths = choice.paths(&self.suite).into_iter().peekable();
        while let Some(path) = paths.next() {
            let url = self.mirror.file(&path);
            match self
                .fetcher
                .to_file(&url, destination, expect, &report)
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) if error.is_missing() && paths.peek().is_some() => {}
                Err(error) => return Err(self.no_index(error)),
            }
        }
        Err(self.unusable(ReleaseError::NoIndex {
            directory: INDEX_DIRECTORY.to_owned(),
        }))
    }

    fn no_index(&self, source: FetchError) -> ArchiveError {
        let (mirror, suite) = (self.mirror.clone(), self.suite.clone());
        ArchiveError::GetIndex {
            mirror,
            suite,
            source,
        }
    }

    fn unusable(&self, source: ReleaseError) -> ArchiveError {
        let (mirror, suite) = (self.mirror.clone(), self.suite.clone());
        ArchiveError::Release {
            mirror,
            suite,
            source,
        }
    }
}

fn report(progress: &SharedProgress, stage: &'static str, detail: String) -> Report {
    Report {
        progress: progress.clone(),
        stage,
        detail,
    }
}

fn read_index(
    path: &Path,
    unpacked_size: u64,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Package>, IndexError> {
    let read_error = |source| IndexError::Read { source };
    let file = File::open(path).map_err(read_error)?;
    let unpacked = Bounded::new(decompress::reader(file).map_err(read_error)?, unpacked_size);
    index::scan(BufReader::with_capacity(256 * 1024, unpacked), wanted)
}
