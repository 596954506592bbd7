//! Sources of images for worlds without a network: there are registries, but nobody asks them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use banger_image::{
    auth::{Keychain, NoHelpers},
    cache::ImageCache,
    fetch::Patience,
    registry::{Registries, Settings},
    rootfs::Limits,
};

use crate::images::ImageSources;

pub(crate) fn image_sources(root: &Path) -> ImageSources {
    let settings = Settings {
        patience: Patience::default(),
        extra_cas: Vec::new(),
        insecure: BTreeSet::new(),
        mirrors: BTreeMap::new(),
    };
    let keychain = Keychain::new(Vec::new(), Arc::new(NoHelpers));
    ImageSources {
        registries: Registries::new(settings, keychain),
        cache: ImageCache::new(&root.join("image-cache")),
        cache_budget: None,
        limits: Limits::default(),
        scratch: root.join("scratch"),
        auth_file: root.join("auth.json"),
    }
}
