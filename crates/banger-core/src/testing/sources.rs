//! Sources of images for worlds without a network: there are registries, but nobody asks them.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use banger_image::{
    auth::{Keychain, NoHelpers},
    blobs::BlobStore,
    fetch::Patience,
    registry::{Registries, Settings},
};

use crate::images::ImageSources;

pub(crate) fn image_sources(root: &Path) -> ImageSources {
    let settings = Settings {
        patience: Patience::default(),
        extra_cas: Vec::new(),
        insecure: BTreeSet::new(),
    };
    let keychain = Keychain::new(Vec::new(), Arc::new(NoHelpers));
    ImageSources {
        registries: Registries::new(settings, keychain),
        blobs: Arc::new(BlobStore::new(root.join("blobs"))),
        layers: root.join("layers"),
        scratch: root.join("scratch"),
        auth_file: root.join("auth.json"),
    }
}
