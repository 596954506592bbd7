//! Owns HTTP towards registries: clients, certificates, time limits. Knows no image.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::SystemTime;

use bytes::Bytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, Response, Url};
use tokio::time::timeout;

use super::error::RegistryError;
use super::pace::retry_after;
use crate::fetch::{CaError, Patience, certificates, shown};

const MOST_REDIRECTS: usize = 10;
/// What is read of a body that explains a failure.
const LONGEST_EXPLANATION: usize = 16 << 10;

/// Which certificates a server may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certificates {
    Trusted,
    Any,
}

/// Whether a server is reached through the environment's proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ThroughProxies,
    /// A server on this host: no proxy would find it.
    Direct,
}

/// How a server is reached, and how much it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Approach {
    pub(super) certificates: Certificates,
    pub(super) way: Way,
}

impl Approach {
    fn index(self) -> usize {
        match (self.certificates, self.way) {
            (Certificates::Trusted, Way::ThroughProxies) => 0,
            (Certificates::Trusted, Way::Direct) => 1,
            (Certificates::Any, Way::ThroughProxies) => 2,
            (Certificates::Any, Way::Direct) => 3,
        }
    }
}

/// Clients, made when they are needed: reading the system's certificates takes a while.
#[derive(Debug)]
pub(super) struct Http {
    patience: Patience,
    extra_cas: Vec<PathBuf>,
    clients: [OnceLock<Client>; 4],
}

impl Http {
    pub(super) fn new(patience: Patience, extra_cas: Vec<PathBuf>) -> Self {
        Self {
            patience,
            extra_cas,
            clients: Default::default(),
        }
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    pub(super) fn client(&self, approach: Approach) -> Result<&Client, RegistryError> {
        let slot = &self.clients[approach.index()];
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = self.make(approach)?;
        Ok(slot.get_or_init(|| client))
    }

    fn make(&self, approach: Approach) -> Result<Client, RegistryError> {
        // An error only says that the process has a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cas = self.cas()?;
        let builder = || -> ClientBuilder {
            let builder = Client::builder()
                .user_agent(concat!("banger/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(self.patience.connect)
                .redirect(Policy::custom(redirect));
            match approach.way {
                Way::ThroughProxies => builder,
                Way::Direct => builder.no_proxy(),
            }
        };
        let made = match approach.certificates {
            Certificates::Trusted => builder().tls_certs_merge(cas.clone()).build(),
            Certificates::Any => builder().tls_danger_accept_invalid_certs(true).build(),
        };
        // A host without any CA certificates of its own still has those that it was given.
        made.or_else(|_| builder().tls_certs_only(cas).build())
            .map_err(|source| RegistryError::Client { source })
    }

    fn cas(&self) -> Result<Vec<Certificate>, RegistryError> {
        let all = certificates(&self.extra_cas);
        all.map_err(|CaError { path, source }| RegistryError::Ca { path, source })
    }

    /// Sends a request once and waits for the headers of its answer, whatever they say.
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        url: &Url,
    ) -> Result<Response, RegistryError> {
        let after = self.patience.headers + self.patience.connect;
        let answer = timeout(after, request.send()).await;
        let answer = answer.map_err(|_| RegistryError::Silent {
            url: shown(url),
            after,
        })?;
        answer.map_err(|error| RegistryError::Unreachable {
            url: shown(url),
            source: error.without_url(),
        })
    }

    /// The next piece of a body.
    pub(super) async fn chunk(
        &self,
        response: &mut Response,
        url: &Url,
        done: u64,
    ) -> Result<Option<Bytes>, RegistryError> {
        let after = self.patience.stall;
        let chunk = timeout(after, response.chunk()).await;
        let chunk = chunk.map_err(|_| RegistryError::Stalled {
            url: shown(url),
            done,
            after,
        })?;
        chunk.map_err(|error| RegistryError::BrokenOff {
            url: shown(url),
            done,
            source: Some(error.without_url()),
        })
    }

    /// A body that fits into memory.
    pub(super) async fn body(
        &self,
        response: &mut Response,
        url: &Url,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(response, url, body.len() as u64).await? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > limit {
                return Err(RegistryError::TooLarge {
                    url: shown(url),
                    limit,
                });
            }
        }
        Ok(body)
    }

    /// What an answer that is a failure says.
    pub(super) async fn failure(&self, mut response: Response, url: &Url) -> RegistryError {
        let status = response.status();
        let retry_after = wait(response.headers());
        let mut body = Vec::new();
        while body.len() < LONGEST_EXPLANATION {
            // The explanation is a courtesy: without it the status says enough.
            match self.chunk(&mut response, url, 0).await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        RegistryError::Status {
            url: shown(url),
            status,
            detail: explanation(&body),
            retry_after,
        }
    }
}

fn wait(headers: &HeaderMap) -> Option<std::time::Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(value, SystemTime::now())
}

/// The HTTP library leaves credentials behind when a redirect leads to another host; what is
/// encrypted stays so.
fn redirect(attempt: Attempt<'_>) -> Action {
    let was_encrypted = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > MOST_REDIRECTS {
        attempt.error("there are too many redirects")
    } else if was_encrypted && attempt.url().scheme() != "https" {
        attempt.error("the redirect leads to a place that is not encrypted")
    } else {
        attempt.follow()
    }
}

/// The message of the distribution API's error document, without control characters.
fn explanation(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Document {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        message: String,
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    let message = document.errors.into_iter().next()?.message;
    let message: String = message
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    Some(message).filter(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_short_and_harmless() {
        let check = |body: &str, expected: Option<&str>| {
            assert_eq!(explanation(body.as_bytes()).as_deref(), expected, "{body}");
        };
        check(
            r#"{"errors":[{"code":"X","message":"no\u001b way"}]}"#,
            Some("no way"),
        );
        check(r#"{"errors":[]}"#, None);
        check("<html>", None);
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(999));
        assert_eq!(
            explanation(long.as_bytes()).map(|text| text.len()),
            Some(200)
        );
    }
}
