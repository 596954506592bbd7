//! An image of one layer in a registry, and somebody who pulls it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use banger_image::auth::{Keychain, NoHelpers};
use banger_image::blobs::BlobStore;
use banger_image::digest::Sha256;
use banger_image::fetch::Patience;
use banger_image::manifest::Platform;
use banger_image::pull::{Resolved, of_registry};
use banger_image::registry::{Registries, RegistryError, Settings};
use tempfile::TempDir;

pub(crate) use crate::web::{Answer, Server};

/// An image of one layer in a registry, and somebody who pulls it.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) layer: Vec<u8>,
    pub(crate) layer_path: String,
    pub(crate) manifest_path: String,
    pub(crate) store: Arc<BlobStore>,
    pub(crate) directory: TempDir,
}

pub(crate) const SIZE: usize = 300_000;

impl World {
    pub(crate) async fn new() -> Self {
        let server = Server::start().await;
        server.put_as("/v2/", b"{}".to_vec(), "application/json");
        let layer: Vec<u8> = (0..SIZE).map(|n| (n * n / 7) as u8).collect();
        let digest = Sha256::of(&layer);
        let config = format!(
            r#"{{"os":"linux","architecture":"{}","rootfs":{{"diff_ids":["{digest}"]}}}}"#,
            Platform::host().architecture
        );
        let config_digest = Sha256::of(config.as_bytes());
        let oci = "application/vnd.oci.image";
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{oci}.config.v1+json",
            "digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":
            "{oci}.layer.v1.tar","digest":"{digest}","size":{}}}]}}"#,
            config.len(),
            layer.len()
        );
        let blob = |digest: Sha256| format!("/v2/web/blobs/{digest}");
        let layer_path = blob(digest);
        server.put(&layer_path, layer.clone());
        server.put(&blob(config_digest), config.into_bytes());
        let manifest_path = "/v2/web/manifests/1".to_owned();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        server.put_as(&manifest_path, manifest.into_bytes(), kind);
        let directory = tempfile::tempdir().unwrap();
        Self {
            server,
            layer,
            layer_path,
            manifest_path,
            store: Arc::new(BlobStore::new(directory.path().join("blobs"))),
            directory,
        }
    }

    /// Writes a file of credentials for the registry: `me` and `secret`.
    pub(crate) fn credentials(&self) -> std::path::PathBuf {
        let path = self.directory.path().join("auth.json");
        let host = self.server.address;
        let text = format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) async fn resolve(&self) -> Result<Resolved, RegistryError> {
        self.resolve_with(Vec::new()).await
    }

    pub(crate) async fn resolve_with(
        &self,
        files: Vec<std::path::PathBuf>,
    ) -> Result<Resolved, RegistryError> {
        self.resolve_at(&self.server.address.to_string(), files)
            .await
    }

    /// As a registry of this name is asked.
    pub(crate) async fn resolve_at(
        &self,
        registry: &str,
        files: Vec<std::path::PathBuf>,
    ) -> Result<Resolved, RegistryError> {
        let host = self.server.address.to_string();
        let settings = Settings {
            patience: Patience {
                connect: Duration::from_secs(5),
                headers: Duration::from_millis(300),
                stall: Duration::from_millis(300),
                tries: 4,
                pause: Duration::from_millis(1),
            },
            extra_cas: Vec::new(),
            insecure: BTreeSet::new(),
            mirrors: BTreeMap::from([("mirrored.example".parse().unwrap(), host.parse().unwrap())]),
        };
        let registries = Registries::new(settings, Keychain::new(files, Arc::new(NoHelpers)));
        let reference = format!("{registry}/web:1").parse().unwrap();
        of_registry(
            &registries,
            &self.store,
            &reference,
            &Platform::host(),
            false,
        )
        .await
    }
}
