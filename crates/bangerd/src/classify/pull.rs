//! Failures on the way of an image from its source: their codes and hints.

use banger_api::error::ErrorCode;
use banger_core::{
    auth::AuthError, error::RegisterError, layers::LayersError, layout::LayoutError,
    manifest::ManifestError, pull::PullError, registry::RegistryError, rootfs::Limit,
};

use super::{Judged, import, io, judged, plain};

const TRY_AGAIN: &str = "what was whole is kept: try again, or use another source";
const NETWORK: &str = "check the name, the network and the proxy settings (HTTPS_PROXY, NO_PROXY)";
const CREDENTIALS: &str = "check the file, or log in again: `banger registry login`";

pub(super) fn pull(error: &PullError) -> Judged {
    match error {
        PullError::Registry(error) => registry(error),
        PullError::Layout(error) => layout(error),
    }
}

pub(super) fn registry(error: &RegistryError) -> Judged {
    match error {
        RegistryError::NotFound { .. } => judged(
            ErrorCode::NotFound,
            "check the name and the tag; a private image needs `banger registry login`",
        ),
        RegistryError::Denied { host, who, .. } if who == "anybody" => judged(
            ErrorCode::SourceFailed,
            format!("check the name, and log in: `banger registry login {host}`"),
        ),
        RegistryError::Denied { host, .. } => judged(
            ErrorCode::SourceFailed,
            format!("check the name and the user's rights, or `banger registry login {host}`"),
        ),
        error if error.is_untrusted() => judged(
            ErrorCode::SourceFailed,
            "name the registry's CA as extra_ca under [registries] in the configuration, or use \
             --insecure",
        ),
        RegistryError::Status { .. }
        | RegistryError::Unreachable { .. }
        | RegistryError::Silent { .. }
        | RegistryError::BrokenOff { .. }
        | RegistryError::Stalled { .. } => judged(ErrorCode::SourceFailed, NETWORK),
        RegistryError::Corrupt { .. } | RegistryError::TooLarge { .. } => judged(
            ErrorCode::SourceFailed,
            "the registry, or something before it, changes what it sends: use another source",
        ),
        RegistryError::Token { source, .. } => registry(source),
        RegistryError::Challenge { .. }
        | RegistryError::NoToken { .. }
        | RegistryError::Downgrade { .. } => plain(ErrorCode::SourceFailed),
        RegistryError::Auth(error) => auth(error),
        RegistryError::Manifest { source, .. } => manifest(source),
        RegistryError::Ca { .. } => judged(
            ErrorCode::HostUnfit,
            "correct extra_ca under [registries] in the configuration",
        ),
        RegistryError::File { source, .. } => io(source),
        RegistryError::Client { .. } => plain(ErrorCode::HostFailed),
    }
}

fn auth(error: &AuthError) -> Judged {
    match error {
        AuthError::File { source, .. } => io(source),
        AuthError::Format { .. } | AuthError::Entry { .. } | AuthError::HelperName { .. } => {
            judged(ErrorCode::HostUnfit, CREDENTIALS)
        }
        AuthError::Helper { .. } | AuthError::HelperAnswer { .. } => judged(
            ErrorCode::HostFailed,
            "try the helper by hand, or log in without it: `banger registry login`",
        ),
    }
}

fn manifest(error: &ManifestError) -> Judged {
    match error {
        ManifestError::NoPlatform { .. } | ManifestError::OtherPlatform { .. } => judged(
            ErrorCode::NotFound,
            "choose one that is there with --platform; only this host's boots here",
        ),
        ManifestError::FirstSchema => judged(
            ErrorCode::SourceFailed,
            "push the image again with a docker of this decade",
        ),
        ManifestError::Artifact { .. } => judged(
            ErrorCode::InvalidArgument,
            "a reference to an image is needed, not to a chart, a signature or the like",
        ),
        ManifestError::Json { .. }
        | ManifestError::Kind { .. }
        | ManifestError::Ambiguous
        | ManifestError::LayerKind { .. }
        | ManifestError::TooMany { .. }
        | ManifestError::Digest { .. }
        | ManifestError::LayerCount { .. }
        | ManifestError::Nested => plain(ErrorCode::SourceFailed),
    }
}

fn layout(error: &LayoutError) -> Judged {
    match error {
        LayoutError::File { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound => judged(
                ErrorCode::InvalidArgument,
                "name a file or directory that this user can read",
            ),
            _ => io(source),
        },
        LayoutError::Other { .. } => judged(
            ErrorCode::InvalidArgument,
            "see which kind it is: oci: is a directory, oci-archive: and docker-archive: are tars",
        ),
        LayoutError::NoName { .. } | LayoutError::Several { .. } => judged(
            ErrorCode::NotFound,
            "name the image behind the path: oci:DIR:TAG, docker-archive:FILE:REFERENCE",
        ),
        LayoutError::Lacks { .. }
        | LayoutError::TooLarge { .. }
        | LayoutError::TooMany { .. }
        | LayoutError::Corrupt { .. } => judged(ErrorCode::SourceFailed, "make it again"),
        LayoutError::Manifest { source, .. } => manifest(source),
    }
}

pub(super) fn layers(error: &LayersError) -> Judged {
    match error {
        LayersError::Layer { source, .. } => import(source),
        LayersError::DiffId { .. } => judged(
            ErrorCode::SourceFailed,
            "the image contradicts itself: whoever made it has to make it again",
        ),
        LayersError::Open { .. } => judged(ErrorCode::SourceFailed, TRY_AGAIN),
        LayersError::Image(source) => import(source),
        LayersError::Keep(source) => io(source),
        LayersError::Cache(error) => io(error.io()),
    }
}

/// The key of the configuration that sets a limit.
pub(super) fn limit_key(limit: Limit) -> &'static str {
    match limit {
        Limit::Entries => "entries",
        Limit::ArchiveBytes => "layer_size",
        Limit::ContentBytes => "content_size",
        Limit::FileBytes => "file_size",
        Limit::Ratio => "ratio",
    }
}

pub(super) fn register(error: &RegisterError) -> Judged {
    match error {
        RegisterError::NotExt4 { .. } => judged(
            ErrorCode::InvalidArgument,
            "make one with mkfs.ext4, or import a tar: `banger image import NAME tar:FILE`",
        ),
        RegisterError::Managed { .. } => plain(ErrorCode::Conflict),
    }
}
