//! Owns how a conversation with a registry fails, and which failures pass by themselves.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use crate::auth::AuthError;
use crate::digest::Sha256;
use crate::manifest::ManifestError;

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("cannot set up the HTTP client")]
    Client { source: reqwest::Error },
    #[error("cannot read the CA certificates in {}", path.display())]
    Ca {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot reach {url}")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("{url} did not answer within {after:?}")]
    Silent { url: String, after: Duration },
    #[error("{url} answered {status}{}", detail.as_ref().map(|d| format!(": {d}")).unwrap_or_default())]
    Status {
        url: String,
        status: StatusCode,
        /// What the registry says of it.
        detail: Option<String>,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    #[error("{url} broke off after {done} bytes")]
    BrokenOff {
        url: String,
        done: u64,
        /// Absent where the body simply ended too early.
        source: Option<reqwest::Error>,
    },
    #[error("{url} stalled for {after:?} after {done} bytes")]
    Stalled {
        url: String,
        done: u64,
        after: Duration,
    },
    #[error("{host} has no image {reference}")]
    NotFound { host: String, reference: String },
    #[error("{host} does not let {who} have {what}{}", detail.as_ref().map(|d| format!(": {d}")).unwrap_or_default())]
    Denied {
        host: String,
        /// `anybody`, or the user that we are.
        who: String,
        what: String,
        detail: Option<String>,
    },
    #[error("{host} wants a proof of identity that is neither a password nor a token")]
    Challenge { host: String },
    #[error("{realm} gave no token for {host}")]
    Token {
        host: String,
        realm: String,
        source: Box<RegistryError>,
    },
    #[error("{url} gave an answer that is no token")]
    NoToken { url: String },
    #[error("{host} sends who has credentials for it to {realm}, which is not encrypted")]
    Downgrade { host: String, realm: String },
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("{url} gave other bytes than those of {expected}, twice: they are {found}")]
    Corrupt {
        url: String,
        expected: Sha256,
        found: Sha256,
    },
    #[error("{url} is larger than the {limit} bytes allowed")]
    TooLarge { url: String, limit: u64 },
    #[error("{reference} cannot be used")]
    Manifest {
        reference: String,
        source: ManifestError,
    },
    #[error("cannot {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl RegistryError {
    /// Whether the same request may well succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => {
                !source.is_builder() && !source.is_redirect() && !is_certificate(source)
            }
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Self::Token { source, .. } => source.is_passing(),
            Self::Silent { .. } | Self::BrokenOff { .. } | Self::Stalled { .. } => true,
            Self::Client { .. }
            | Self::Ca { .. }
            | Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::Challenge { .. }
            | Self::NoToken { .. }
            | Self::Downgrade { .. }
            | Self::Auth(_)
            | Self::Corrupt { .. }
            | Self::TooLarge { .. }
            | Self::Manifest { .. }
            | Self::File { .. } => false,
        }
    }

    /// When the server wants to be asked again, if it says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Token { source, .. } => source.retry_after(),
            _ => None,
        }
    }

    /// Whether what came is something else than what was asked for.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::TooLarge { .. })
    }

    /// Whether the server's certificate is what is wrong.
    #[must_use]
    pub fn is_untrusted(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if is_certificate(source))
    }
}

/// A certificate that is refused now is refused a moment later, too.
fn is_certificate(error: &reqwest::Error) -> bool {
    chain(error).any(|cause| {
        matches!(
            cause.downcast_ref::<rustls::Error>(),
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
        )
    })
}

/// An error and all its causes; I/O errors hide theirs from `source`.
pub(super) fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let hidden = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match hidden {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    })
}
