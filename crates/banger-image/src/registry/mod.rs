//! Owns the conversation with registries (OCI distribution): who we are, what we ask, and how
//! patiently. Gives verified documents and unverified blobs; stores nothing.

mod challenge;
mod error;
mod http;
mod pace;
mod proof;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::{StatusCode, Url};

pub use error::RegistryError;
pub(crate) use pace::Pace;
pub(crate) use session::BlobBody;
pub use session::{Document, Session};

use crate::auth::{Credentials, Keychain};
use crate::fetch::Patience;
use crate::reference::{RegistryHost, RegistryRef};
use http::{Approach, Certificates, Http, Way};
use proof::Proof;

/// How registries are talked to.
#[derive(Debug, Clone)]
pub struct Settings {
    pub patience: Patience,
    /// PEM files with certificates to trust beside the system's.
    pub extra_cas: Vec<PathBuf>,
    /// Registries that may be plain HTTP or have any certificate.
    pub insecure: BTreeSet<RegistryHost>,
    /// Registries that are asked in the place of others.
    pub mirrors: BTreeMap<RegistryHost, RegistryHost>,
}

/// All registries there are. Opens no connection before it has to.
#[derive(Debug)]
pub struct Registries {
    http: Arc<Http>,
    insecure: BTreeSet<RegistryHost>,
    mirrors: BTreeMap<RegistryHost, RegistryHost>,
    keychain: Keychain,
}

impl Registries {
    #[must_use]
    pub fn new(settings: Settings, keychain: Keychain) -> Self {
        Self {
            http: Arc::new(Http::new(settings.patience, settings.extra_cas)),
            insecure: settings.insecure,
            mirrors: settings.mirrors,
            keychain,
        }
    }

    /// Begins to talk about a repository.
    pub async fn session(
        &self,
        reference: &RegistryRef,
        insecure: bool,
    ) -> Result<Session, RegistryError> {
        let host = self.mirrors.get(&reference.host).unwrap_or(&reference.host);
        let credentials = self.keychain.find(host, reference.repository()).await?;
        let (base, approach) = self.base(host, insecure).await?;
        let client = self.http.client(approach)?.clone();
        let proof = Proof::new(host.clone(), reference.repository(), credentials);
        Ok(Session::new(
            Arc::clone(&self.http),
            client,
            base,
            reference.clone(),
            proof,
        ))
    }

    /// Whether a registry takes these credentials.
    pub async fn check(
        &self,
        host: &RegistryHost,
        credentials: Credentials,
        insecure: bool,
    ) -> Result<(), RegistryError> {
        let (base, approach) = self.base(host, insecure).await?;
        let client = self.http.client(approach)?;
        let proof = Proof::for_login(host.clone(), credentials);
        let url = below(&base, "");
        let mut pace = self.pace();
        loop {
            let asked = proof
                .ask(&self.http, client, &base, &url, |request| request)
                .await;
            let failed = match asked {
                Ok(response) if response.status().is_success() => return Ok(()),
                // A registry without a root route has at least taken the proof.
                Ok(response) if response.status() == StatusCode::NOT_FOUND => return Ok(()),
                Ok(response) => self.http.failure(response, &url).await,
                Err(error) => error,
            };
            session::pause(&mut pace, failed).await?;
        }
    }

    fn pace(&self) -> Pace {
        let patience = self.http.patience();
        Pace::new(patience.tries, patience.pause)
    }

    /// How a registry is reached. Asks only where that is not plain from its name.
    async fn base(
        &self,
        host: &RegistryHost,
        insecure: bool,
    ) -> Result<(Url, Approach), RegistryError> {
        let (encrypted, plain) = (base_url("https", host), base_url("http", host));
        let approach = Approach {
            certificates: match insecure || self.insecure.contains(host) {
                true => Certificates::Any,
                false => Certificates::Trusted,
            },
            way: match host.is_loopback() {
                true => Way::Direct,
                false => Way::ThroughProxies,
            },
        };
        let base = match (approach.certificates, approach.way) {
            (Certificates::Any, _) => match self.speaks(&encrypted, approach).await? {
                true => encrypted,
                false => plain,
            },
            (Certificates::Trusted, Way::Direct) => match self.speaks(&plain, approach).await? {
                true => plain,
                false => encrypted,
            },
            (Certificates::Trusted, Way::ThroughProxies) => encrypted,
        };
        Ok((base, approach))
    }

    /// Whether the protocol of an address is the one that is spoken there. Sends no credentials.
    async fn speaks(&self, base: &Url, approach: Approach) -> Result<bool, RegistryError> {
        let client = self.http.client(approach)?;
        let url = below(base, "");
        let mut pace = self.pace();
        loop {
            let failed = match self.http.send(client.get(url.clone()), &url).await {
                // What servers of HTTPS say to plain HTTP.
                Ok(response) => return Ok(response.status() != StatusCode::BAD_REQUEST),
                Err(error) => error,
            };
            match &failed {
                // Somebody answers, in another language.
                RegistryError::Unreachable { source, .. }
                    if !is_nobody(source) && !source.is_timeout() =>
                {
                    return Ok(false);
                }
                _ => session::pause(&mut pace, failed).await?,
            }
        }
    }
}

/// Whether there was nobody to connect to, rather than somebody who was not understood.
fn is_nobody(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind;
    error::chain(error).any(|cause| {
        let kind = cause
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        matches!(
            kind,
            Some(
                ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::TimedOut
            )
        )
    })
}

fn base_url(scheme: &str, host: &RegistryHost) -> Url {
    let text = format!("{scheme}://{}/v2/", host.authority());
    Url::parse(&text).expect("a registry's host is the host of an address")
}

/// An address below the API's root; `path` has only what references and digests may have.
fn below(base: &Url, path: &str) -> Url {
    base.join(path).expect("references are paths of addresses")
}
