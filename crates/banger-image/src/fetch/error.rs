//! Owns how a download fails, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use crate::digest::Sha256;

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the certificates in {}", path.display())]
pub struct CaError {
    pub path: PathBuf,
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("cannot set up the HTTP client")]
    Client { source: reqwest::Error },
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error("cannot get {url}")]
    Request { url: String, source: reqwest::Error },
    #[error("{url} did not answer within {after:?}")]
    Silent { url: String, after: Duration },
    #[error("{url} answered {status}")]
    Status { url: String, status: StatusCode },
    #[error("{url} broke off after {done} bytes")]
    BrokenOff {
        url: String,
        done: u64,
        source: reqwest::Error,
    },
    #[error("{url} stalled for {after:?} after {done} bytes")]
    Stalled {
        url: String,
        done: u64,
        after: Duration,
    },
    #[error("{url} is larger than the {limit} bytes allowed")]
    TooLarge { url: String, limit: u64 },
    #[error("{url} has {found} bytes where {expected} were promised")]
    Size {
        url: String,
        expected: u64,
        found: u64,
    },
    #[error("{url} has the digest {found} where {expected} was promised")]
    Digest {
        url: String,
        expected: Sha256,
        found: Sha256,
    },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl FetchError {
    /// Whether the same request may well succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Request { source, .. } => !source.is_builder() && !source.is_redirect(),
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Self::Silent { .. } | Self::BrokenOff { .. } | Self::Stalled { .. } => true,
            Self::Client { .. }
            | Self::Ca(_)
            | Self::TooLarge { .. }
            | Self::Size { .. }
            | Self::Digest { .. }
            | Self::Write { .. } => false,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space on that file system and try again"
            }
            Self::Write { .. } => "check that the directory exists and can be written",
            Self::Ca(_) => "correct extra_ca under [registries] in the configuration",
            Self::Client { .. } => "check the proxy settings of the environment",
            Self::Request { .. }
            | Self::Silent { .. }
            | Self::Status { .. }
            | Self::BrokenOff { .. }
            | Self::Stalled { .. } => "check the address, the network and the proxy settings",
            Self::TooLarge { .. } | Self::Size { .. } | Self::Digest { .. } => {
                "the server sent something else than what was promised: try again or use another"
            }
        }
    }

    /// Whether the server says that there is no such thing.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Status { status, .. }
            if matches!(*status, StatusCode::NOT_FOUND | StatusCode::GONE))
    }

    /// Whether this host is to blame, and no server was.
    #[must_use]
    pub fn is_of_this_host(&self) -> bool {
        matches!(self, Self::Client { .. } | Self::Ca(_) | Self::Write { .. })
    }

    /// Whether the server sent something other than what was promised.
    #[must_use]
    pub fn is_a_lie(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::Size { .. } | Self::Digest { .. }
        )
    }
}
