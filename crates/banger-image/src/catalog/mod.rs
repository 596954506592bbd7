//! Owns catalogs: lists of kernels and images in files of their own, and who is believed about
//! them. A catalog and its files are a directory that any web server can serve.
//! Knows no store and remembers nothing.

mod document;
mod key;
mod note;
mod place;
mod publish;

pub use document::{Arch, Catalog, CatalogFault, EntryName, Expiry, ImageEntry};
pub use key::{KeyError, PublicKey, SecretKey, SignerName};
pub use note::NoteError;
pub(crate) use place::plain;
pub use place::{Downloads, Place, PlaceError, SIGNED, SourceError};
pub use publish::{PublishError, Publisher};

/// More than a catalog of ten thousand entries.
pub const LARGEST: u64 = 4 << 20;

/// A catalog whose signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub catalog: Catalog,
    /// The note as it came, to be kept.
    pub note: String,
}

/// Why the bytes of a signed catalog are not believed.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    #[error("cannot trust it")]
    Note { source: NoteError },
    #[error("cannot read it")]
    Document { source: CatalogFault },
}

impl Signed {
    /// Reads a catalog that a key has signed; not before the signature is found good.
    pub fn open(note: &[u8], key: &PublicKey) -> Result<Self, SignedError> {
        let text = note::open(note, key).map_err(|source| SignedError::Note { source })?;
        let catalog = Catalog::parse(text.as_bytes());
        let catalog = catalog.map_err(|source| SignedError::Document { source })?;
        let note = String::from_utf8_lossy(note).into_owned();
        Ok(Self { catalog, note })
    }
}
