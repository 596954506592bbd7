//! Owns where a catalog and its bundles lie, and bringing them here: a directory of this host, or
//! one of a web server. Believes nothing that it brings, but the digests that it is told.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use reqwest::Url;

use super::LARGEST;
use crate::blocking;
use crate::bundle::{Bundle, BundleError, OpenBundle};
use crate::decompress;
use crate::fetch::{Expect, FetchError, Fetcher, Patience, Report};
use crate::progress::SharedProgress;

/// A signed catalog's file.
pub const SIGNED: &str = "catalog.signed";
/// A catalog's file where nobody needs a signature.
const PLAIN: &str = "catalog.json";
/// How often a bundle is fetched that is not what it should be.
const TRIES: u32 = 2;

/// Where a catalog is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Directory(PathBuf),
    /// Ends with a slash.
    Web(Url),
}

/// What was refused as a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error(
        "{text:?} is no address of a catalog: http://, https:// or file:///DIRECTORY is needed"
    )]
    Form { text: String },
    #[error("the address of a catalog has no user, no password, no query and no fragment")]
    Extras,
}

/// Why a catalog could not be brought here.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot fetch it")]
    Fetch { source: FetchError },
}

impl SourceError {
    /// Whether there is nothing, rather than nobody to ask.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Fetch { source } => source.is_missing(),
        }
    }
}

/// Whoever fetches, made when there is something to fetch: reading the host's certificates takes a
/// while.
#[derive(Debug, Default)]
pub struct Downloads {
    patience: Patience,
    extra_cas: Vec<PathBuf>,
    fetcher: OnceLock<Fetcher>,
}

impl Downloads {
    #[must_use]
    pub fn new(patience: Patience, extra_cas: Vec<PathBuf>) -> Self {
        Self {
            patience,
            extra_cas,
            fetcher: OnceLock::new(),
        }
    }

    pub fn fetcher(&self) -> Result<&Fetcher, FetchError> {
        if let Some(fetcher) = self.fetcher.get() {
            return Ok(fetcher);
        }
        let fetcher = Fetcher::trusting(self.patience.clone(), &self.extra_cas)?;
        Ok(self.fetcher.get_or_init(|| fetcher))
    }
}

impl Place {
    /// The signed catalog's bytes, which nobody has checked yet.
    pub async fn signed(&self, downloads: &Downloads) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(SIGNED);
                blocking::run(move || {
                    let read = read(&path);
                    read.map_err(|source| SourceError::Read { path, source })
                })
                .await
            }
            Self::Web(base) => {
                let url = below(base, SIGNED);
                let fetch = async { downloads.fetcher()?.to_memory(&url, LARGEST).await };
                fetch.await.map_err(|source| SourceError::Fetch { source })
            }
        }
    }

    /// A bundle, whose digest is checked again while it is read. What is fetched lies in `scratch`,
    /// and has no name there once it is whole.
    pub async fn bundle(
        &self,
        bundle: &Bundle,
        scratch: &Path,
        downloads: &Downloads,
        progress: &SharedProgress,
    ) -> Result<OpenBundle, BundleError> {
        let opened = match self {
            Self::Directory(directory) => File::open(directory.join(bundle.file.as_str())),
            Self::Web(base) => {
                let room = tempfile::tempdir_in(scratch).map_err(|source| BundleError::Write {
                    path: scratch.to_owned(),
                    source,
                })?;
                let fetched = room.path().join(bundle.file.as_str());
                fetch(bundle, base, &fetched, downloads, progress).await?;
                File::open(&fetched)
            }
        };
        let from = self.to_string();
        match opened {
            Ok(file) => Ok(OpenBundle::new(file, bundle.clone(), from)),
            Err(source) => Err(BundleError::Read {
                file: bundle.file.clone(),
                from,
                source,
            }),
        }
    }
}

/// Fetches a bundle, and once more if it turns out to be another.
async fn fetch(
    bundle: &Bundle,
    base: &Url,
    to: &Path,
    downloads: &Downloads,
    progress: &SharedProgress,
) -> Result<(), BundleError> {
    let url = below(base, bundle.file.as_str());
    let expect = Expect::exactly(bundle.bytes, bundle.sha256);
    let report = Report {
        progress: progress.clone(),
        stage: "download",
        detail: bundle.file.to_string(),
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let fetched = async {
            downloads
                .fetcher()?
                .to_file(&url, to, expect, &report)
                .await
        };
        match fetched.await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_a_lie() && tries < TRIES => {}
            Err(source) => {
                return Err(BundleError::Fetch {
                    file: bundle.file.clone(),
                    source,
                });
            }
        }
    }
}

/// The catalog of a directory that is trusted for being where it is; none where it has none.
pub(crate) fn plain(directory: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    let path = directory.join(PLAIN);
    match read(&path) {
        Ok(json) => Ok(Some(json)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SourceError::Read { path, source }),
    }
}

pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    decompress::read_all(File::open(path)?, LARGEST)
}

/// An address below a catalog's; files of catalogs have names that are parts of addresses.
fn below(base: &Url, file: &str) -> Url {
    base.join(file)
        .expect("a file's name is part of an address")
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let form = || PlaceError::Form {
            text: text.chars().take(200).collect(),
        };
        let mut url = Url::parse(text).map_err(|_| form())?;
        let named = !url.username().is_empty() || url.password().is_some();
        if named || url.query().is_some() || url.fragment().is_some() {
            return Err(PlaceError::Extras);
        }
        // Who copies the file's own address means the directory.
        let path = url.path().strip_suffix(SIGNED).unwrap_or(url.path());
        let path = format!("{}/", path.trim_end_matches('/'));
        match url.scheme() {
            "http" | "https" => {
                url.set_path(&path);
                Ok(Self::Web(url))
            }
            "file" => {
                url.set_path(&path);
                let directory = url.to_file_path().map_err(|()| form())?;
                // Without its slash at the end.
                Ok(Self::Directory(directory.components().collect()))
            }
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => match Url::from_file_path(directory) {
                Ok(url) => url.fmt(f),
                // Only of a relative path, which no place is.
                Err(()) => write!(f, "file://{}", directory.display()),
            },
            Self::Web(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_here_or_on_a_web_server() {
        let check = |text: &str, expected: Option<&str>| {
            let place = text.parse::<Place>().ok().map(|place| place.to_string());
            assert_eq!(place.as_deref(), expected, "{text}");
            if let Some(shown) = place {
                assert_eq!(shown.parse::<Place>().unwrap().to_string(), shown);
            }
        };
        let web = Some("https://example.com/images/");
        check("https://example.com/images", web);
        check("https://example.com/images//", web);
        check("https://example.com/images/catalog.signed", web);
        check("http://127.0.0.1:8000", Some("http://127.0.0.1:8000/"));
        check("file:///srv/images", Some("file:///srv/images"));
        check("file:///srv/images/", Some("file:///srv/images"));
        check("file:///a b%2520c", Some("file:///a%20b%2520c"));
        check("file:///", Some("file:///"));
        for wrong in [
            "",
            "/srv/images",
            "ftp://example.com/",
            "https://me:secret@example.com/",
            "https://example.com/?x",
            "https://example.com/#x",
            "file://elsewhere/srv",
        ] {
            check(wrong, None);
        }
    }
}
