//! Owns how a layout on this host disappoints.

use std::io;
use std::path::PathBuf;

use crate::digest::Sha256;
use crate::manifest::ManifestError;

/// Why a layout gave no image.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("cannot {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no {what}: it has no {file}", path.display())]
    Other {
        path: PathBuf,
        what: &'static str,
        file: &'static str,
    },
    #[error("{} lacks {file}", path.display())]
    Lacks { path: PathBuf, file: String },
    #[error("{file} in {} is larger than the {limit} bytes allowed", path.display())]
    TooLarge {
        path: PathBuf,
        file: String,
        limit: u64,
    },
    #[error("{} has more than {most} files", path.display())]
    TooMany { path: PathBuf, most: usize },
    #[error("{file} in {} has the bytes of {found}", path.display())]
    Corrupt {
        path: PathBuf,
        file: String,
        found: Sha256,
    },
    #[error("{} has no image named {wanted:?}; it has {}", path.display(), list(.available))]
    NoName {
        path: PathBuf,
        wanted: String,
        available: Vec<String>,
    },
    #[error("{} has several images: {}", path.display(), list(.available))]
    Several {
        path: PathBuf,
        available: Vec<String>,
    },
    #[error("the image in {} cannot be used", path.display())]
    Manifest {
        path: PathBuf,
        #[source]
        source: ManifestError,
    },
}

fn list(available: &[String]) -> String {
    if available.is_empty() {
        "none with a name".to_owned()
    } else {
        let shown = available
            .iter()
            .map(|name| name.escape_default().to_string());
        shown.collect::<Vec<_>>().join(", ")
    }
}
