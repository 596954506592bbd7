//! Owns what is asked of one repository: documents, verified and fetched again if need be, and
//! blobs from any byte on.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};

use super::below;
use super::error::RegistryError;
use super::http::Http;
use super::pace::{LONGEST_WAIT, Pace, jitter};
use super::proof::Proof;
use crate::digest::Sha256;
use crate::fetch::shown;
use crate::manifest::{ACCEPTED, LARGEST_DOCUMENT};
use crate::reference::RegistryRef;

/// One repository of one registry, and who we are to it.
#[derive(Debug)]
pub struct Session {
    http: Arc<Http>,
    client: Client,
    base: Url,
    reference: RegistryRef,
    proof: Proof,
}

/// A document whose digest is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub bytes: Vec<u8>,
    pub digest: Sha256,
    pub content_type: Option<String>,
}

impl Session {
    pub(super) fn new(
        http: Arc<Http>,
        client: Client,
        base: Url,
        reference: RegistryRef,
        proof: Proof,
    ) -> Self {
        Self {
            http,
            client,
            base,
            reference,
            proof,
        }
    }

    /// A manifest or an index, by the reference's own tag or digest.
    pub async fn manifest(&self) -> Result<Document, RegistryError> {
        let path = format!("manifests/{}", self.reference.version());
        self.document(&path, self.reference.digest, LARGEST_DOCUMENT)
            .await
    }

    /// A manifest of an index.
    pub async fn manifest_of(&self, digest: Sha256) -> Result<Document, RegistryError> {
        let path = format!("manifests/{digest}");
        self.document(&path, Some(digest), LARGEST_DOCUMENT).await
    }

    /// A small blob, such as a configuration.
    pub async fn small_blob(&self, digest: Sha256) -> Result<Document, RegistryError> {
        let path = format!("blobs/{digest}");
        self.document(&path, Some(digest), LARGEST_DOCUMENT).await
    }

    /// A blob's bytes from an offset on, unverified; tried once.
    pub(crate) async fn blob(
        &self,
        digest: Sha256,
        offset: u64,
    ) -> Result<BlobBody, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"));
        let response = self
            .ask(&url, |request| match offset {
                0 => request,
                _ => request.header(RANGE, format!("bytes={offset}-")),
            })
            .await?;
        let position = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => match begin_of_range(response.headers()) {
                Some(begin) if begin <= offset => begin,
                // A range that was not asked for is as good as none.
                Some(_) | None => {
                    return Err(RegistryError::BrokenOff {
                        url: shown(&url),
                        done: offset,
                        source: None,
                    });
                }
            },
            _ => return Err(self.failure(response, &url).await),
        };
        Ok(BlobBody {
            http: Arc::clone(&self.http),
            response,
            url,
            position,
        })
    }

    pub(crate) fn pace(&self) -> Pace {
        let patience = self.http.patience();
        Pace::new(patience.tries, patience.pause)
    }

    /// The blob's address, for messages.
    pub(crate) fn shown(&self, digest: Sha256) -> String {
        shown(&self.url(&format!("blobs/{digest}")))
    }

    fn url(&self, path: &str) -> Url {
        below(
            &self.base,
            &format!("{}/{path}", self.reference.repository()),
        )
    }

    async fn ask(
        &self,
        url: &Url,
        decorate: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        self.proof
            .ask(&self.http, &self.client, &self.base, url, decorate)
            .await
    }

    /// Tries until the document is there, and once more if it is another one.
    async fn document(
        &self,
        path: &str,
        expected: Option<Sha256>,
        limit: u64,
    ) -> Result<Document, RegistryError> {
        let url = self.url(path);
        let mut pace = self.pace();
        let mut was_wrong = false;
        loop {
            let failed = match self.try_document(&url, expected, limit).await {
                Ok(Ok(document)) => return Ok(document),
                Ok(Err(wrong)) if was_wrong => return Err(wrong),
                Ok(Err(_)) => {
                    was_wrong = true;
                    continue;
                }
                Err(error) => error,
            };
            pause(&mut pace, failed).await?;
        }
    }

    /// The outer failure may pass; the inner one says that the bytes are wrong.
    async fn try_document(
        &self,
        url: &Url,
        expected: Option<Sha256>,
        limit: u64,
    ) -> Result<Result<Document, RegistryError>, RegistryError> {
        let accept = ACCEPTED.join(", ");
        let mut response = self
            .ask(url, |request| request.header(ACCEPT, &accept))
            .await?;
        if response.status() != StatusCode::OK {
            return Err(self.failure(response, url).await);
        }
        let announced = header(response.headers(), "docker-content-digest");
        let expected = expected.or_else(|| announced.and_then(|text| text.parse().ok()));
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let bytes = self.http.body(&mut response, url, limit).await?;
        let digest = Sha256::of(&bytes);
        Ok(match expected {
            Some(expected) if expected != digest => Err(RegistryError::Corrupt {
                url: shown(url),
                expected,
                found: digest,
            }),
            Some(_) | None => Ok(Document {
                bytes,
                digest,
                content_type,
            }),
        })
    }

    async fn failure(&self, response: Response, url: &Url) -> RegistryError {
        match self.http.failure(response, url).await {
            RegistryError::Status {
                status: StatusCode::NOT_FOUND,
                ..
            } => RegistryError::NotFound {
                host: self.reference.host.to_string(),
                reference: match url.path().rsplit_once("/blobs/") {
                    Some((_, digest)) => format!("{} (its blob {digest})", self.reference),
                    None => self.reference.to_string(),
                },
            },
            other => other,
        }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(HeaderValue::to_str)?.ok()
}

/// The first byte of `bytes 5-9/10`.
fn begin_of_range(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let range = value.trim().strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

/// Waits before the next try, or gives the failure back where there is none.
pub(super) async fn pause(pace: &mut Pace, failed: RegistryError) -> Result<(), RegistryError> {
    if !failed.is_passing() {
        return Err(failed);
    }
    match pace.failed(failed.retry_after(), jitter()) {
        Some(pause) => {
            tokio::time::sleep(pause.min(LONGEST_WAIT)).await;
            Ok(())
        }
        None => Err(failed),
    }
}

impl Pace {
    /// See [`pause`].
    pub(crate) async fn pause_after(&mut self, failed: RegistryError) -> Result<(), RegistryError> {
        pause(self, failed).await
    }
}

/// The rest of a blob as it arrives.
#[derive(Debug)]
pub(crate) struct BlobBody {
    http: Arc<Http>,
    response: Response,
    url: Url,
    position: u64,
}

impl BlobBody {
    /// Where in the blob the next chunk begins; not beyond what was asked for.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let chunk = self
            .http
            .chunk(&mut self.response, &self.url, self.position)
            .await?;
        if let Some(chunk) = &chunk {
            self.position += chunk.len() as u64;
        }
        Ok(chunk)
    }
}
