//! Who we are to registries: what a login keeps, and helpers that the host asks for us.

use std::sync::Arc;

use async_trait::async_trait;
use banger_image::{
    auth::{self, AuthError, Credentials, Helpers, Stored},
    reference::RegistryHost,
};

use crate::{
    error::Error,
    host::Host,
    images::{ImageSources, Images},
};

/// Credential helpers of this host.
pub struct HostHelpers(pub Arc<dyn Host>);

impl std::fmt::Debug for HostHelpers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostHelpers")
    }
}

#[async_trait]
impl Helpers for HostHelpers {
    async fn get(
        &self,
        name: &str,
        server: &str,
    ) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.credential(name, server).await?)
    }
}

impl Images {
    /// Keeps credentials for a registry, once it has taken them.
    pub async fn login(
        &self,
        host: &RegistryHost,
        username: &str,
        password: &str,
        insecure: bool,
    ) -> Result<(), Error> {
        let refused = || Error::Username {
            username: username.chars().take(80).collect(),
        };
        let stored = Stored::new(username, password).ok_or_else(refused)?;
        let credentials = Credentials::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        };
        let ImageSources {
            registries,
            auth_file,
            ..
        } = self.sources();
        let failed = |source| Error::Login {
            registry: host.to_string(),
            source,
        };
        let checked = registries.check(host, credentials, insecure).await;
        checked.map_err(failed)?;
        auth::store(auth_file, host, &stored).map_err(|error| failed(error.into()))
    }

    /// Forgets a registry's credentials; whether there were any.
    pub fn logout(&self, host: &RegistryHost) -> Result<bool, Error> {
        let forgotten = auth::forget(&self.sources().auth_file, host);
        forgotten.map_err(|error: AuthError| Error::Login {
            registry: host.to_string(),
            source: error.into(),
        })
    }
}
