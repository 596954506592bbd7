//! Kernels as the engine uses them: the local store, and the catalog behind it.

use std::path::Path;

use banger_image::{
    debian::Keyring,
    fetch::{Fetcher, Patience},
    kernel::{Catalog, IfTaken, Kernel, KernelError, KernelName, KernelStore, Manifest, Upstream},
    progress::SharedProgress,
};
use tracing::{info, warn};

use crate::{debian_settings::DebianSettings, error::Error};

/// The kernels of this user.
#[derive(Debug)]
pub struct Kernels {
    store: KernelStore,
    catalog: Catalog,
    debian: DebianSettings,
}

impl Kernels {
    #[must_use]
    pub fn new(store: KernelStore, debian: DebianSettings) -> Self {
        Self {
            store,
            catalog: Catalog::embedded(),
            debian,
        }
    }

    /// Removes what work that was killed has left behind.
    pub fn sweep(&self) {
        match self.store.sweep() {
            Ok(swept) if swept.is_empty() => {}
            Ok(swept) => info!(?swept, "removed half-made kernels"),
            Err(error) => warn!(%error, "cannot sweep the kernel store"),
        }
    }

    pub fn list(&self) -> Result<Vec<Manifest>, Error> {
        Ok(self.store.list()?)
    }

    pub fn get(&self, name: &KernelName) -> Result<Kernel, Error> {
        Ok(self.store.get(name)?)
    }

    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Makes sure that a kernel is here: pulls it if the catalog has it.
    pub async fn ensure(&self, name: &KernelName, progress: SharedProgress) -> Result<(), Error> {
        match self.store.get(name) {
            Ok(_) => Ok(()),
            Err(KernelError::NotFound { .. }) => {
                self.fetch(name, &progress, IfTaken::Keep).await.map(drop)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Pulls a kernel of the catalog.
    pub async fn pull(
        &self,
        name: &KernelName,
        force: bool,
        progress: SharedProgress,
    ) -> Result<Kernel, Error> {
        self.fetch(name, &progress, if_taken(force)).await?;
        self.get(name)
    }

    /// Copies a kernel out of a directory of this host.
    pub async fn import(
        &self,
        name: &KernelName,
        from: &Path,
        force: bool,
    ) -> Result<Kernel, Error> {
        let (store, name, from) = (self.store.clone(), name.clone(), from.to_owned());
        let kernel = tokio::task::spawn_blocking(move || {
            store.import(&name, &from, if_taken(force))?;
            store.get(&name)
        });
        Ok(kernel.await.map_err(|_| Error::Ending)??)
    }

    pub async fn delete(&self, name: &KernelName) -> Result<(), Error> {
        let (store, name) = (self.store.clone(), name.clone());
        let removed = tokio::task::spawn_blocking(move || store.remove(&name));
        Ok(removed.await.map_err(|_| Error::Ending)??)
    }

    async fn fetch(
        &self,
        name: &KernelName,
        progress: &SharedProgress,
        if_taken: IfTaken,
    ) -> Result<Manifest, Error> {
        let entry = self.catalog.get(name).map_err(KernelError::from)?;
        let upstream = Upstream {
            fetcher: Fetcher::new(Patience::default())?,
            keyring: Keyring::debian(),
            config: self.debian.archive()?,
        };
        Ok(self
            .store
            .pull(entry, &upstream, progress, if_taken)
            .await?)
    }
}

fn if_taken(force: bool) -> IfTaken {
    if force {
        IfTaken::Replace
    } else {
        IfTaken::Refuse
    }
}
