//! Owns images that lie on this host: OCI's layout as a directory or a tar, and what
//! `docker save` writes. Never touches the network, writes nothing but a spool without a name.

mod docker;
mod error;
mod files;
mod oci;
mod tar_index;

use std::path::Path;
use std::sync::Arc;

pub use error::LayoutError;

use crate::digest::Sha256;
use crate::layers::LayerSource;
use crate::manifest::{ImageConfig, Platform};
use crate::reference::LayoutRef;
use files::Files;

/// An image that was found, and where its layers are.
#[derive(Debug)]
pub struct Found {
    /// Of the manifest, or of the configuration where there is none.
    pub digest: Sha256,
    pub platform: Option<Platform>,
    pub config: ImageConfig,
    /// The lowest first.
    pub layers: Vec<Arc<dyn LayerSource>>,
}

/// Which kind of layout it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    OciDirectory,
    OciArchive,
    DockerArchive,
}

/// Finds an image. Blocks. `scratch` takes the spool of an archive that is compressed.
pub fn find(
    kind: Kind,
    at: &LayoutRef,
    wanted: &Platform,
    scratch: &Path,
) -> Result<Found, LayoutError> {
    let name = at.name.as_deref();
    match kind {
        Kind::OciDirectory => oci::find(&Files::directory(&at.path)?, name, wanted),
        Kind::OciArchive => oci::find(&Files::archive(&at.path, scratch)?, name, wanted),
        Kind::DockerArchive => docker::find(&Files::archive(&at.path, scratch)?, name, wanted),
    }
}
