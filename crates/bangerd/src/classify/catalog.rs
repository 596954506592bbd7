//! Failures of catalogs and bundles: their codes and hints.

use banger_api::error::ErrorCode;
use banger_core::{
    bundle::BundleError,
    catalog::{KeyError, NoteError, PublishError, SignedError, SourceError},
    catalogs::CatalogError,
    debian::DebError,
    fetch::FetchError,
    kernel::ShelfError,
};

use super::{Judged, io, judged, plain};

const SPACE: &str = "free some space on that file system and try again";

pub(super) fn catalog(error: &CatalogError) -> Judged {
    match error {
        CatalogError::Place(_) => judged(
            ErrorCode::InvalidArgument,
            "give the address of the directory that has catalog.signed, as in \
             https://example.com/images or file:///srv/images",
        ),
        CatalogError::Key(error) => key(error),
        CatalogError::Source { source, .. } => source_of(source),
        CatalogError::Refused { name, source, .. } => refused(name.as_str(), source),
        CatalogError::Rollback { name, .. } | CatalogError::Forked { name, .. } => judged(
            ErrorCode::SourceFailed,
            format!(
                "somebody may be showing you an old state: ask who publishes it; to trust it as it \
                 is now, `banger catalog remove {name}` and add it again"
            ),
        ),
        CatalogError::Expired { name, .. } => judged(
            ErrorCode::SourceFailed,
            format!(
                "who publishes it has to publish again; without it: `banger catalog remove {name}`"
            ),
        ),
        CatalogError::NoEntry { .. } => judged(
            ErrorCode::NotFound,
            "see what there is with `banger image list --available` and `banger kernel list \
             --available`",
        ),
        CatalogError::Bundle(error) => bundle(error),
        CatalogError::Publish { source, .. } => publish(source),
    }
}

fn key(error: &KeyError) -> Judged {
    match error {
        KeyError::Public { .. } => judged(
            ErrorCode::InvalidArgument,
            "whoever publishes the catalog has it in the file that ends in .pub",
        ),
        KeyError::Name { .. } => plain(ErrorCode::InvalidArgument),
        KeyError::Secret { .. } => judged(
            ErrorCode::InvalidArgument,
            "make one with `banger catalog key generate FILE`",
        ),
        KeyError::Exposed { path } => judged(
            ErrorCode::InvalidArgument,
            format!(
                "if nobody else has read it: chmod 600 {}; otherwise make another",
                path.display()
            ),
        ),
        KeyError::File { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound => judged(
                ErrorCode::InvalidArgument,
                "make one with `banger catalog key generate FILE`",
            ),
            std::io::ErrorKind::AlreadyExists => judged(
                ErrorCode::AlreadyExists,
                "a key is never overwritten: choose another file",
            ),
            _ => io(source),
        },
    }
}

fn source_of(error: &SourceError) -> Judged {
    match error {
        error if error.is_missing() => judged(
            ErrorCode::NotFound,
            "check the address: there must be a file catalog.signed, which `banger image publish` \
             and `banger kernel publish` make",
        ),
        SourceError::Read { source, .. } => io(source),
        SourceError::Fetch { source } => fetch(source),
    }
}

fn fetch(error: &FetchError) -> Judged {
    let code = match error {
        error if error.is_of_this_host() => ErrorCode::HostUnfit,
        error if error.is_missing() => ErrorCode::NotFound,
        _ => ErrorCode::SourceFailed,
    };
    judged(code, error.hint())
}

fn refused(name: &str, error: &SignedError) -> Judged {
    let hint = match error {
        SignedError::Note {
            source: NoteError::Stranger { .. },
        } => format!(
            "check the key with who publishes it; if it is a new one: `banger catalog remove {name}` \
             and add it again with that key"
        ),
        SignedError::Note {
            source: NoteError::Wrong { .. },
        } => "somebody changed it on its way or where it lies: tell who publishes it".into(),
        SignedError::Note {
            source: NoteError::Form,
        } => "check the address: what is there is no catalog, or not the whole of it".into(),
        SignedError::Document { .. } => "a newer banger may know how to read it".into(),
    };
    judged(ErrorCode::SourceFailed, hint)
}

fn publish(error: &PublishError) -> Judged {
    match error {
        PublishError::File { source, .. } => io(source),
        PublishError::Foreign { .. } => judged(
            ErrorCode::Conflict,
            "publish with the key that it was signed with, or into another directory",
        ),
        PublishError::Damaged { .. } => judged(
            ErrorCode::Conflict,
            "find out who changed it; to begin anew, move it out of the way",
        ),
        PublishError::Forever { .. } => plain(ErrorCode::InvalidArgument),
    }
}

pub(super) fn bundle(error: &BundleError) -> Judged {
    match error {
        BundleError::Fetch { source, .. } if source.is_missing() => missing(),
        BundleError::Fetch { source, .. } => fetch(source),
        BundleError::Read { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound => missing(),
            _ => io(source),
        },
        BundleError::Changed { .. } => judged(
            ErrorCode::SourceFailed,
            "somebody changed it where it lies: tell who publishes it",
        ),
        BundleError::Unpack {
            source: DebError::Write { source, .. },
            ..
        }
        | BundleError::Write { source, .. }
        | BundleError::Pack { source, .. } => match source.kind() {
            std::io::ErrorKind::StorageFull => judged(ErrorCode::HostUnfit, SPACE),
            _ => io(source),
        },
        BundleError::Unpack { .. }
        | BundleError::Packing { .. }
        | BundleError::NoImage { .. }
        | BundleError::Manifest { .. } => judged(
            ErrorCode::SourceFailed,
            "whoever publishes it has to publish it again",
        ),
        BundleError::GivenUp => plain(ErrorCode::Cancelled),
    }
}

fn missing() -> Judged {
    judged(
        ErrorCode::NotFound,
        "the catalog may have been renewed meanwhile: try again; otherwise tell who publishes it",
    )
}

pub(super) fn shelf(error: &ShelfError) -> Judged {
    match error {
        ShelfError::Read { source, .. } => source_of(source),
        ShelfError::Catalog { .. } => judged(
            ErrorCode::SourceFailed,
            "unpack the release again, or have the catalog made again",
        ),
    }
}
