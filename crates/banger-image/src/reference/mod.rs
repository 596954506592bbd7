//! Owns the notation of where an image comes from: registries, layouts, archives, tars.
//! Parses and prints; opens and asks nothing.

mod registry;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use registry::{DOCKER_HUB, RegistryHost, RegistryRef, Tag};

/// The longest text that can be a reference: paths are bounded by the kernel at 4096 bytes.
const LONGEST: usize = 5000;
/// How much of a refused text a message repeats.
const SHOWN: usize = 120;

/// Where an image comes from, in the notation of containers/image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageRef {
    /// `docker://` and a registry reference, or the bare reference.
    Registry(RegistryRef),
    /// `oci:DIR[:TAG]`: a directory in OCI's layout.
    OciDirectory(LayoutRef),
    /// `oci-archive:FILE[:TAG]`: such a directory as a tar.
    OciArchive(LayoutRef),
    /// `docker-archive:FILE[:REFERENCE]`: what `docker save` writes.
    DockerArchive(LayoutRef),
    /// `tar:FILE`: a root file system without layers.
    Tar(PathBuf),
}

/// An image in a directory or file of this host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LayoutRef {
    pub path: PathBuf,
    /// Which of its images, where it has several.
    pub name: Option<String>,
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("an image reference has 1 to {LONGEST} characters, not {0}")]
    Length(usize),
    #[error("{text:?} names no path after its colon")]
    NoPath { text: String },
    #[error("the registry in {text:?} is no host name with an optional port")]
    Host { text: String },
    #[error(
        "the repository in {text:?} has something else than a-z, 0-9 and single . _ - between them"
    )]
    Repository { text: String },
    #[error("the tag in {text:?} has something else than 1 to 128 letters, digits and . _ -")]
    Tag { text: String },
    #[error("the digest in {text:?} is not sha256 and 64 hexadecimal digits")]
    Digest { text: String },
    #[error("images cannot be taken from {transport}: sources")]
    Transport { transport: String },
}

/// Notations of containers/image that name no source that we can read.
const FOREIGN: [&str; 6] = [
    "containers-storage",
    "dir",
    "docker-daemon",
    "ostree",
    "sif",
    "atomic",
];

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(ReferenceError::Length(text.len()));
        }
        if let Some(bare) = text.strip_prefix("docker://") {
            return bare.parse().map(Self::Registry);
        }
        let Some((transport, rest)) = text.split_once(':') else {
            return text.parse().map(Self::Registry);
        };
        match transport {
            "oci" => layout(text, rest).map(Self::OciDirectory),
            "oci-archive" => layout(text, rest).map(Self::OciArchive),
            "docker-archive" => layout(text, rest).map(Self::DockerArchive),
            "tar" => path(text, rest).map(Self::Tar),
            foreign if FOREIGN.contains(&foreign) => Err(ReferenceError::Transport {
                transport: foreign.to_owned(),
            }),
            _ => text.parse().map(Self::Registry),
        }
    }
}

/// A path has no colon: the first one ends it, as containers/image has it.
fn layout(text: &str, rest: &str) -> Result<LayoutRef, ReferenceError> {
    let (file, name) = match rest.split_once(':') {
        Some((file, name)) => (file, Some(name).filter(|name| !name.is_empty())),
        None => (rest, None),
    };
    Ok(LayoutRef {
        path: path(text, file)?,
        name: name.map(str::to_owned),
    })
}

fn path(text: &str, path: &str) -> Result<PathBuf, ReferenceError> {
    if path.is_empty() || path.contains('\0') {
        Err(ReferenceError::NoPath { text: shown(text) })
    } else {
        Ok(PathBuf::from(path))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

impl ImageRef {
    /// The path that the reference names, if it names one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Registry(_) => None,
            Self::OciDirectory(layout) | Self::OciArchive(layout) | Self::DockerArchive(layout) => {
                Some(&layout.path)
            }
            Self::Tar(path) => Some(path),
        }
    }

    /// A name for the local store: the last word of the repository or path, and the tag.
    #[must_use]
    pub fn suggested_name(&self) -> String {
        let raw = match self {
            Self::Registry(reference) => reference.suggested_name(),
            Self::OciDirectory(layout) | Self::OciArchive(layout) | Self::DockerArchive(layout) => {
                match &layout.name {
                    // A docker archive names whole references.
                    Some(name) => match name.parse::<RegistryRef>() {
                        Ok(reference) if name.contains(['/', ':']) => reference.suggested_name(),
                        Ok(_) | Err(_) => format!("{}-{name}", stem(&layout.path)),
                    },
                    None => stem(&layout.path),
                }
            }
            Self::Tar(path) => stem(path),
        };
        sanitized(&raw)
    }
}

fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut name = name.as_ref();
    for suffix in [".gz", ".xz", ".zst", ".tgz", ".tar"] {
        name = name.strip_suffix(suffix).unwrap_or(name);
    }
    name.to_owned()
}

/// Only what names in the local store may have.
fn sanitized(raw: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_');
    let mapped = raw.to_ascii_lowercase();
    let mapped = mapped.chars().map(|c| if allowed(c) { c } else { '-' });
    let name: String = mapped.take(100).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() {
        "image".to_owned()
    } else {
        name.to_owned()
    }
}

/// What [`FromStr`] takes again; a registry reference in full.
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut layout = |transport: &str, layout: &LayoutRef| {
            write!(f, "{transport}:{}", layout.path.display())?;
            match &layout.name {
                Some(name) => write!(f, ":{name}"),
                None => Ok(()),
            }
        };
        match self {
            Self::OciDirectory(at) => layout("oci", at),
            Self::OciArchive(at) => layout("oci-archive", at),
            Self::DockerArchive(at) => layout("docker-archive", at),
            Self::Registry(reference) => reference.fmt(f),
            Self::Tar(path) => write!(f, "tar:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn transports_are_told_apart() {
        let check = |text: &str, canonical: &str, name: &str| {
            let parsed: ImageRef = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(parsed.to_string(), canonical, "{text}");
            assert_eq!(parsed.suggested_name(), name, "{text}");
            assert_eq!(canonical.parse::<ImageRef>().as_ref(), Ok(&parsed));
        };
        check("alpine", "docker.io/library/alpine:latest", "alpine");
        check(
            "docker://alpine:3",
            "docker.io/library/alpine:3",
            "alpine-3",
        );
        check("oci:/a/b", "oci:/a/b", "b");
        check("oci:b:v1", "oci:b:v1", "b-v1");
        check("oci-archive:x.tar:1", "oci-archive:x.tar:1", "x-1");
        check(
            "docker-archive:x.tar:docker.io/library/web:1",
            "docker-archive:x.tar:docker.io/library/web:1",
            "web-1",
        );
        check("tar:/x/Root FS.tar.gz", "tar:/x/Root FS.tar.gz", "root-fs");
        check("localhost:5000/a", "localhost:5000/a:latest", "a");
        check("oci:..", "oci:..", "image");
    }

    #[test]
    fn what_is_no_reference_is_refused_by_name() {
        let check = |text: &str, why: &str| {
            let error = text.parse::<ImageRef>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        };
        check("", "1 to");
        check("oci:", "no path");
        check("tar:", "no path");
        check("docker-daemon:x", "docker-daemon");
        check("docker://", "repository");
        check("A/b", "repository");
        check("a//b", "repository");
        check("a:b:c", "repository");
        check("a:-", "tag");
        check("a@md5:00", "digest");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_taken_prints_back(text in ".{0,60}") {
            if let Ok(parsed) = text.parse::<ImageRef>() {
                prop_assert_eq!(parsed.to_string().parse::<ImageRef>(), Ok(parsed));
            }
        }

        #[test]
        fn suggested_names_fit_the_store(text in "[a-z]{1,8}(/[a-z0-9._-]{1,12}){0,2}(:[A-Za-z0-9._-]{1,20})?") {
            if let Ok(parsed) = text.parse::<ImageRef>() {
                let name = parsed.suggested_name();
                let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
                prop_assert!(name.starts_with(word));
                prop_assert!(name.chars().all(|c| word(c) || matches!(c, '.' | '_' | '-')));
            }
        }
    }
}
