//! Owns bundles: kernels and images that travel as one file, `NAME-ARCH-DIGEST.tar.zst`. Makes them the
//! same each time and checks them while they are read. Knows no catalog, and not what is in them.

mod image;

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use zstd::stream::write::Encoder;

pub use image::{ImageManifest, unpack_image};

use crate::debian::DebError;
use crate::decompress;
use crate::digest::{Hashing, Sha256};
use crate::fetch::FetchError;
use crate::unpublished::Unpublished;

/// A hundredth larger than what takes more than twice as long: 7 s for 280 MB of a distribution.
const LEVEL: i32 = 9;
/// So many digits of the digest tell files of one name apart.
const DIGITS: usize = 16;

/// A file that is known by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub file: BundleName,
    pub sha256: Sha256,
    pub bytes: u64,
}

/// The name of a bundle's file; never a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BundleName(String);

/// What was refused as a bundle's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name of a bundle: letters, digits and . + - _ are allowed")]
pub struct BundleNameError {
    text: String,
}

/// Why a bundle cannot be used, or not be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot read the bundle {file} of {from}")]
    Read {
        file: BundleName,
        from: String,
        source: io::Error,
    },
    #[error("cannot fetch the bundle {file}")]
    Fetch {
        file: BundleName,
        source: FetchError,
    },
    #[error("the bundle {file} of {from} is {found}, but its catalog promises {promised}")]
    Changed {
        file: BundleName,
        from: String,
        promised: Sha256,
        found: Sha256,
    },
    #[error("cannot unpack the bundle {file}")]
    Unpack { file: BundleName, source: DebError },
    #[error("cannot unpack the bundle {file}")]
    Packing { file: BundleName, source: io::Error },
    #[error("the bundle {file} is none of an image: {why}")]
    NoImage { file: BundleName, why: &'static str },
    #[error("the description in the bundle {file} is not valid")]
    Manifest {
        file: BundleName,
        source: serde_json::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: std::path::PathBuf,
        source: io::Error,
    },
    #[error("cannot pack {what}")]
    Pack { what: String, source: io::Error },
    #[error("the work was given up")]
    GivenUp,
}

impl BundleError {
    /// Whether the next source of the same thing may do better.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Fetch { source, .. } => !source.is_a_lie() && !source.is_of_this_host(),
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Changed { .. }
            | Self::Unpack { .. }
            | Self::Packing { .. }
            | Self::NoImage { .. }
            | Self::Manifest { .. }
            | Self::Write { .. }
            | Self::Pack { .. }
            | Self::GivenUp => false,
        }
    }
}

/// A bundle that is about to be read.
#[derive(Debug)]
pub struct OpenBundle {
    file: File,
    bundle: Bundle,
    from: String,
}

impl OpenBundle {
    pub(crate) fn new(file: File, bundle: Bundle, from: String) -> Self {
        Self { file, bundle, from }
    }

    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The catalog's place, for people.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.from
    }

    /// Lets `work` read what is in it. Whatever comes of that only counts if the bytes turn out to
    /// be the promised ones; if they do not, that is what is said.
    pub(crate) fn read<T>(
        self,
        work: impl FnOnce(&mut dyn Read, &Bundle) -> Result<T, BundleError>,
    ) -> Result<T, BundleError> {
        let Self { file, bundle, from } = self;
        let failed = |source| BundleError::Read {
            file: bundle.file.clone(),
            from: from.clone(),
            source,
        };
        // One byte more than promised makes another digest.
        let mut bytes = Hashing::new(file.take(bundle.bytes.saturating_add(1)));
        let worked = match decompress::reader(&mut bytes) {
            Ok(mut unpacked) => work(&mut unpacked, &bundle),
            Err(source) => Err(BundleError::Packing {
                file: bundle.file.clone(),
                source,
            }),
        };
        io::copy(&mut bytes, &mut io::sink()).map_err(failed)?;
        let (_, found, _) = bytes.finish();
        if found == bundle.sha256 {
            return worked;
        }
        Err(BundleError::Changed {
            promised: bundle.sha256,
            file: bundle.file,
            from,
            found,
        })
    }
}

/// A bundle in the making. Its members carry no times and no owners.
pub(crate) struct Packer {
    tar: tar::Builder<Encoder<'static, Hashing<BufWriter<File>>>>,
    unpublished: Unpublished,
}

impl Packer {
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        let unpublished = Unpublished::create(directory)?;
        let file = Hashing::new(BufWriter::new(unpublished.reopen()?));
        let mut zstd = Encoder::new(file, LEVEL)?;
        zstd.include_checksum(true)?;
        let mut tar = tar::Builder::new(zstd);
        tar.mode(tar::HeaderMode::Deterministic);
        Ok(Self { tar, unpublished })
    }

    /// Adds a plain file of exactly so many bytes.
    pub(crate) fn add(&mut self, name: &str, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size);
        let mut content = content.take(size);
        self.tar.append_data(&mut header, name, &mut content)?;
        match content.limit() {
            0 => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Gives the file the name that its content asks for. The same file may be there already.
    pub(crate) fn finish(self, stem: &str) -> io::Result<Bundle> {
        let file = self.tar.into_inner()?.finish()?;
        let (mut file, sha256, bytes) = file.finish();
        file.flush()?;
        let name = format!("{stem}-{}.tar.zst", &sha256.to_hex()[..DIGITS]);
        let file = BundleName::try_from(name).map_err(io::Error::other)?;
        let directory = self.unpublished.directory().to_owned();
        let path = directory.join(file.as_str());
        match self.unpublished.publish(&path, 0o644) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if Sha256::of_reader(File::open(&path)?)? != sha256 {
                    // It is not what its name says: whoever reads it would refuse it.
                    return Err(error);
                }
            }
            published => published?,
        }
        Ok(Bundle {
            file,
            sha256,
            bytes,
        })
    }
}

impl BundleName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BundleName {
    type Error = BundleNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".+-_".contains(c);
        let good = (1..=200).contains(&text.len())
            && text.chars().all(allowed)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if good {
            Ok(Self(text))
        } else {
            let text = text.chars().take(80).collect();
            Err(BundleNameError { text })
        }
    }
}

impl From<BundleName> for String {
    fn from(name: BundleName) -> Self {
        name.0
    }
}

impl fmt::Display for BundleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
