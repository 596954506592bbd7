//! Owns HTTP downloads: bounded, hashed while they stream, resumed and retried, published by rename.
//! Knows no archive, no registry and no meaning of what it fetches.

mod error;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode, Url};
use tempfile::{NamedTempFile, TempPath};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

pub use error::{CaError, FetchError};

use crate::digest::{Hasher, Sha256};
use crate::progress::{SharedProgress, Step};

/// Progress is told at most once per this many bytes.
const REPORT_EVERY: u64 = 512 * 1024;

/// How patient a [`Fetcher`] is.
#[derive(Debug, Clone)]
pub struct Patience {
    /// For the connection.
    pub connect: Duration,
    /// From the request to the response's headers.
    pub headers: Duration,
    /// Between two chunks of the body.
    pub stall: Duration,
    /// How often a request is made before it fails for good.
    pub tries: u32,
    /// The pause before the second try; doubles with each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            headers: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            tries: 4,
            pause: Duration::from_millis(500),
        }
    }
}

/// What a download must turn out to be.
#[derive(Debug, Clone, Copy)]
pub struct Expect {
    /// No more bytes than this are ever taken.
    pub limit: u64,
    /// The exact size, where it is known.
    pub size: Option<u64>,
    /// The digest, where it is known.
    pub digest: Option<Sha256>,
}

impl Expect {
    /// Anything of at most `limit` bytes.
    #[must_use]
    pub fn at_most(limit: u64) -> Self {
        Self {
            limit,
            size: None,
            digest: None,
        }
    }

    /// Exactly these bytes.
    #[must_use]
    pub fn exactly(size: u64, digest: Sha256) -> Self {
        Self {
            limit: size,
            size: Some(size),
            digest: Some(digest),
        }
    }
}

/// Under which name a download reports its progress.
#[derive(Clone)]
pub struct Report {
    pub progress: SharedProgress,
    pub stage: &'static str,
    pub detail: String,
}

impl Report {
    fn tell(&self, done: u64, total: Option<u64>) {
        self.progress.report(Step {
            stage: self.stage,
            detail: self.detail.clone(),
            done,
            total,
        });
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report")
            .field("stage", &self.stage)
            .field("detail", &self.detail)
            .finish()
    }
}

/// What a download was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    pub digest: Sha256,
    pub size: u64,
}

/// An HTTP client with patience. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    patience: Patience,
    extra_cas: Vec<Certificate>,
    /// For servers of this host, which no proxy can reach; made when one is asked.
    direct: Arc<OnceLock<Client>>,
}

impl Fetcher {
    /// A client that honours the proxies of the environment.
    pub fn new(patience: Patience) -> Result<Self, FetchError> {
        Self::trusting(patience, &[])
    }

    /// One that trusts the certificates of these PEM files beside the system's.
    pub fn trusting(patience: Patience, extra_cas: &[PathBuf]) -> Result<Self, FetchError> {
        let extra_cas = certificates(extra_cas)?;
        Ok(Self {
            client: client(&patience, &extra_cas, |builder| builder)?,
            patience,
            extra_cas,
            direct: Arc::default(),
        })
    }

    fn client_for(&self, url: &Url) -> Result<&Client, FetchError> {
        if !is_loopback(url) {
            return Ok(&self.client);
        }
        if let Some(direct) = self.direct.get() {
            return Ok(direct);
        }
        let direct = client(&self.patience, &self.extra_cas, ClientBuilder::no_proxy)?;
        Ok(self.direct.get_or_init(|| direct))
    }

    /// Fetches something small into memory.
    pub async fn to_memory(&self, url: &Url, limit: u64) -> Result<Vec<u8>, FetchError> {
        let expect = Expect::at_most(limit);
        let (sink, _) = self
            .persist(url, expect, None, || Ok(MemorySink(Vec::new())))
            .await?;
        Ok(sink.0)
    }

    /// Fetches into a file, which appears under its name only when it is whole and as expected.
    /// Dropping the future leaves nothing behind.
    pub async fn to_file(
        &self,
        url: &Url,
        destination: &Path,
        expect: Expect,
        report: &Report,
    ) -> Result<Fetched, FetchError> {
        let write_error = |source| FetchError::Write {
            path: destination.to_owned(),
            source,
        };
        let directory = destination.parent().unwrap_or(Path::new("."));
        let make = || FileSink::create(directory).map_err(write_error);
        let (sink, fetched) = self.persist(url, expect, Some(report), make).await?;
        sink.publish(destination).map_err(write_error)?;
        Ok(fetched)
    }

    /// Tries until something final happens. What is known by its digest goes on where it broke off.
    async fn persist<S: Sink>(
        &self,
        url: &Url,
        expect: Expect,
        report: Option<&Report>,
        make: impl Fn() -> Result<S, FetchError> + Send,
    ) -> Result<(S, Fetched), FetchError> {
        let mut pause = self.patience.pause;
        let mut tries_left = self.patience.tries.max(1);
        let mut part = Part::new(make()?);
        loop {
            tries_left -= 1;
            let offset = part.done;
            let attempt = async {
                let response = self.request(url, offset).await?;
                if response.status() == StatusCode::OK && offset > 0 {
                    part = Part::new(make()?);
                }
                self.attempt(response, url, expect, report, &mut part).await
            };
            let attempted = attempt.await;
            match attempted {
                Ok(fetched) => return Ok((part.sink, fetched)),
                Err(error) if tries_left == 0 || !error.is_passing() => return Err(error),
                Err(_) => tokio::time::sleep(pause).await,
            }
            if expect.digest.is_none() {
                // Nobody would notice that the rest belongs to something else.
                part = Part::new(make()?);
            }
            pause *= 2;
        }
    }

    async fn attempt<S: Sink>(
        &self,
        mut response: Response,
        url: &Url,
        expect: Expect,
        report: Option<&Report>,
        part: &mut Part<S>,
    ) -> Result<Fetched, FetchError> {
        let announced = response
            .content_length()
            .map(|rest| rest.saturating_add(part.done));
        let too_large = || FetchError::TooLarge {
            url: shown(url),
            limit: expect.limit,
        };
        if announced.is_some_and(|length| length > expect.limit) {
            return Err(too_large());
        }
        let total = expect.size.or(announced);
        let mut reported = part.done;
        while let Some(chunk) = self.next_chunk(&mut response, url, part.done).await? {
            if part.done + chunk.len() as u64 > expect.limit {
                return Err(too_large());
            }
            part.take(&chunk).await?;
            if part.done - reported >= REPORT_EVERY {
                reported = part.done;
                report.inspect(|report| report.tell(part.done, total));
            }
        }
        part.sink.flush().await?;
        report.inspect(|report| report.tell(part.done, total));
        let fetched = Fetched {
            digest: part.hasher.clone().finish(),
            size: part.done,
        };
        hold_to(expect, fetched, url)?;
        Ok(fetched)
    }

    /// The answer with all bytes, or with those from an offset on.
    async fn request(&self, url: &Url, offset: u64) -> Result<Response, FetchError> {
        let after = self.patience.headers + self.patience.connect;
        let mut request = self.client_for(url)?.get(url.clone());
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        let response = timeout(after, request.send())
            .await
            .map_err(|_| FetchError::Silent {
                url: shown(url),
                after,
            })?
            .map_err(|e| FetchError::Request {
                url: shown(url),
                source: e.without_url(),
            })?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::PARTIAL_CONTENT if begins_at(&response, offset) => Ok(response),
            status => Err(FetchError::Status {
                url: shown(url),
                status,
            }),
        }
    }

    async fn next_chunk(
        &self,
        response: &mut Response,
        url: &Url,
        done: u64,
    ) -> Result<Option<Bytes>, FetchError> {
        let after = self.patience.stall;
        timeout(after, response.chunk())
            .await
            .map_err(|_| FetchError::Stalled {
                url: shown(url),
                done,
                after,
            })?
            .map_err(|e| FetchError::BrokenOff {
                url: shown(url),
                done,
                source: e.without_url(),
            })
    }
}

fn client(
    patience: &Patience,
    extra_cas: &[Certificate],
    adapt: fn(ClientBuilder) -> ClientBuilder,
) -> Result<Client, FetchError> {
    // An error only says that the process has a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("banger/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect);
        adapt(builder)
    };
    // A host without any CA certificates cannot verify https, but mirrors that are verified
    // by signature speak plain http, and those must work there.
    let cas = || extra_cas.to_vec();
    let made = builder().tls_certs_merge(cas()).build();
    made.or_else(|_| builder().tls_certs_only(cas()).build())
        .map_err(|source| FetchError::Client { source })
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The certificates of PEM files.
pub(crate) fn certificates(files: &[PathBuf]) -> Result<Vec<Certificate>, CaError> {
    let mut all = Vec::new();
    for path in files {
        let failed = |source| CaError {
            path: path.clone(),
            source,
        };
        let bytes = std::fs::read(path).map_err(|error| failed(error.into()))?;
        let bundle = Certificate::from_pem_bundle(&bytes);
        all.extend(bundle.map_err(|error| failed(error.into()))?);
    }
    Ok(all)
}

fn hold_to(expect: Expect, found: Fetched, url: &Url) -> Result<(), FetchError> {
    if let Some(expected) = expect.size
        && expected != found.size
    {
        return Err(FetchError::Size {
            url: shown(url),
            expected,
            found: found.size,
        });
    }
    if let Some(expected) = expect.digest
        && expected != found.digest
    {
        return Err(FetchError::Digest {
            url: shown(url),
            expected,
            found: found.digest,
        });
    }
    Ok(())
}

/// The address as messages and manifests may show it: without a user's password.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for addresses that have no host, and those have no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Whether an answer has the bytes from an offset on.
fn begins_at(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE);
    let begin = range.and_then(|range| {
        let (begin, _) = range
            .to_str()
            .ok()?
            .strip_prefix("bytes ")?
            .split_once('-')?;
        begin.parse::<u64>().ok()
    });
    offset > 0 && begin == Some(offset)
}

/// What is there of a download.
struct Part<S> {
    sink: S,
    hasher: Hasher,
    done: u64,
}

impl<S: Sink> Part<S> {
    fn new(sink: S) -> Self {
        Self {
            sink,
            hasher: Hasher::default(),
            done: 0,
        }
    }

    async fn take(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        self.sink.write(chunk).await?;
        self.hasher.update(chunk);
        self.done += chunk.len() as u64;
        Ok(())
    }
}

/// Where the bytes of a download go.
trait Sink: Send {
    fn write(&mut self, chunk: &[u8]) -> impl Future<Output = Result<(), FetchError>> + Send;
    fn flush(&mut self) -> impl Future<Output = Result<(), FetchError>> + Send;
}

struct MemorySink(Vec<u8>);

impl Sink for MemorySink {
    async fn write(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        self.0.extend_from_slice(chunk);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), FetchError> {
        Ok(())
    }
}

/// A temporary file beside the destination; it vanishes with the sink unless published.
struct FileSink {
    file: tokio::fs::File,
    path: TempPath,
}

impl FileSink {
    fn create(directory: &Path) -> io::Result<Self> {
        let (file, path) = NamedTempFile::new_in(directory)?.into_parts();
        Ok(Self {
            file: tokio::fs::File::from_std(file),
            path,
        })
    }

    /// Does not wait for the disk: what must survive a power cut is synced by its owner.
    fn publish(self, destination: &Path) -> io::Result<()> {
        self.path.persist(destination).map_err(|e| e.error)
    }

    fn failed(&self, source: io::Error) -> FetchError {
        FetchError::Write {
            path: self.path.to_path_buf(),
            source,
        }
    }
}

impl Sink for FileSink {
    async fn write(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        self.file.write_all(chunk).await.map_err(|e| self.failed(e))
    }

    async fn flush(&mut self) -> Result<(), FetchError> {
        self.file.flush().await.map_err(|e| self.failed(e))
    }
}
