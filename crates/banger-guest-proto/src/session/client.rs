//! Owns the host's view of a session: typed requests to one agent. Knows no VMM, no socket and no retry policy.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{PingPong, RecvStream, SendStream};
use http::{Request, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use super::exec::{Exec, Stdin};
use super::{DocumentError, client_handshake, read_document};
use crate::hello::{self, AgentHello, HelloError, HostHello};
use crate::message::{
    AgentLog, Assumed, ClockRequest, ExecId, ExecStart, GrowRequest, Health, IdentityRequest,
    Listeners, MAX_DOCUMENT, Refusal, Route, ShutdownRequest, SignalRequest, WindowSize,
};
use crate::wire::Wire;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    #[error("cannot start a session with the guest's agent")]
    Dial(#[source] std::io::Error),
    #[error("cannot greet the guest's agent")]
    Hello(#[source] HelloError),
    #[error("cannot open a session with the guest's agent")]
    Open(#[source] h2::Error),
    /// The stream or the whole session broke off.
    #[error("lost the guest's agent during {route}")]
    Lost {
        route: Route,
        #[source]
        source: h2::Error,
    },
    #[error("the guest's agent refused {route} with {status}: {reason}")]
    Refused {
        route: Route,
        status: StatusCode,
        reason: String,
    },
    #[error("cannot read the agent's answer to {route}")]
    Answer {
        route: Route,
        #[source]
        source: DocumentError,
    },
    #[error("cannot understand the agent's answer to {route}")]
    Syntax {
        route: Route,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot write the request for {route}")]
    Request {
        route: Route,
        #[source]
        source: serde_json::Error,
    },
    #[error("the command line and environment of {route} have {length} bytes, more than {limit}")]
    StartTooLong {
        route: Route,
        length: usize,
        limit: usize,
    },
    #[error("the guest's agent sent improper output")]
    Output(#[source] super::frames::ReceiveError),
    #[error("the guest's agent ended the output without saying how the process ended")]
    Truncated,
    #[error("the session does not measure round trips")]
    NoPing,
}

/// A session with one agent. Cheap to clone; all clones share the session.
#[derive(Clone)]
pub struct Client {
    requests: SendRequest<Bytes>,
    pings: Arc<Mutex<Option<PingPong>>>,
    next_exec: Arc<AtomicU32>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Moves the session's bytes; must be polled, usually by a task of its own, for as long as the session is used.
/// It resolves when the agent is gone, or when all clients and streams are dropped.
#[must_use = "a session makes progress only while its connection is polled"]
pub struct Connection<IO> {
    inner: h2::client::Connection<Wire<IO>, Bytes>,
}

impl<IO> fmt::Debug for Connection<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
#[error("the session with the guest's agent broke off")]
pub struct SessionLost(#[source] h2::Error);

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Connection<IO> {
    type Output = Result<(), SessionLost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.inner).poll(cx).map_err(SessionLost)
    }
}

impl Client {
    /// Starts a session: a reset, the greeting, HTTP/2. Whatever an earlier host left in the channel is skipped, and
    /// whatever it left running in the agent's session ends. Has no deadline of its own: an agent that has not
    /// booted yet is waited for.
    ///
    /// # Errors
    /// Fails when the channel fails or the agent speaks no common generation.
    pub async fn connect<IO>(
        io: IO,
        hello: HostHello,
    ) -> Result<(Self, AgentHello, Connection<IO>), ClientError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut wire = Wire::dial(io).map_err(ClientError::Dial)?;
        let agent = hello::greet(&mut wire, &hello)
            .await
            .map_err(ClientError::Hello)?;
        let (requests, mut inner) = client_handshake(wire).await.map_err(ClientError::Open)?;
        let client = Self {
            requests,
            pings: Arc::new(Mutex::new(inner.ping_pong())),
            next_exec: Arc::default(),
        };
        Ok((client, agent, Connection { inner }))
    }

    /// Asks how the guest is.
    ///
    /// # Errors
    /// Fails when the agent is gone or answers nonsense.
    pub async fn health(&self) -> Result<Health, ClientError> {
        let route = Route::Health;
        let document = self.call(route, Bytes::new()).await?;
        parse(route, &document)
    }

    /// Asks what listens in the guest.
    ///
    /// # Errors
    /// Fails when the agent is gone, answers nonsense, or is too old to know.
    pub async fn ports(&self) -> Result<Listeners, ClientError> {
        let route = Route::Ports;
        let document = self.call(route, Bytes::new()).await?;
        parse(route, &document)
    }

    /// Asks what the agent did.
    ///
    /// # Errors
    /// Fails when the agent is gone, answers nonsense, or is too old to know.
    pub async fn log(&self) -> Result<AgentLog, ClientError> {
        let route = Route::Log;
        let document = self.call(route, Bytes::new()).await?;
        parse(route, &document)
    }

    /// Has the machine's own file system fill a disk that has grown.
    ///
    /// # Errors
    /// Fails when the agent is gone, too old to know, or the file system does not grow.
    pub async fn grow_disk(&self, request: GrowRequest) -> Result<(), ClientError> {
        self.call_with(Route::GrowDisk, &request).await
    }

    /// Writes all of the guest's file systems out.
    ///
    /// # Errors
    /// Fails when the agent is gone.
    pub async fn sync(&self) -> Result<(), ClientError> {
        self.call(Route::Sync, Bytes::new()).await.map(drop)
    }

    /// Makes the guest somebody. Only agents of [`crate::message::IDENTITY_GENERATION`] can.
    ///
    /// # Errors
    /// Fails when the agent is gone, is older, or answers nonsense.
    pub async fn identify(&self, request: &IdentityRequest) -> Result<Assumed, ClientError> {
        let route = Route::Identity;
        let document =
            serde_json::to_vec(request).map_err(|source| ClientError::Request { route, source })?;
        parse(route, &self.call(route, document.into()).await?)
    }

    /// Sets the guest's clock. Only agents of [`crate::message::IDENTITY_GENERATION`] can.
    ///
    /// # Errors
    /// Fails when the agent is gone or older, or the guest's kernel does not let it.
    pub async fn set_clock(&self, request: ClockRequest) -> Result<(), ClientError> {
        self.call_with(Route::Clock, &request).await
    }

    /// Asks the machine to go down; returns when the agent has accepted, not when the machine is down.
    ///
    /// # Errors
    /// Fails when the agent is gone.
    pub async fn shutdown(&self, request: ShutdownRequest) -> Result<(), ClientError> {
        self.call_with(Route::Shutdown, &request).await
    }

    /// Measures a round trip of the channel and the agent's event loop.
    ///
    /// # Errors
    /// Fails when the agent is gone.
    pub async fn ping(&self) -> Result<Duration, ClientError> {
        let mut pings = self.pings.lock().await;
        let pings = pings.as_mut().ok_or(ClientError::NoPing)?;
        let start = Instant::now();
        pings
            .ping(h2::Ping::opaque())
            .await
            .map_err(ClientError::Open)?;
        Ok(start.elapsed())
    }

    /// Starts a process. Returns as soon as the request is on its way; the outcome is in the output.
    /// Dropping all parts of the exec hangs the process up.
    ///
    /// # Errors
    /// Fails when the agent is gone or the request is too long.
    pub async fn exec(&self, start: &ExecStart, stdin: Stdin) -> Result<Exec, ClientError> {
        let id = ExecId(self.next_exec.fetch_add(1, Ordering::Relaxed));
        Exec::open(self, id, start, stdin).await
    }

    pub(super) async fn signal(&self, id: ExecId, signal: i32) -> Result<(), ClientError> {
        gone_is_fine(
            self.call_with(Route::Signal(id), &SignalRequest { signal })
                .await,
        )
    }

    pub(super) async fn resize(&self, id: ExecId, size: WindowSize) -> Result<(), ClientError> {
        gone_is_fine(self.call_with(Route::Resize(id), &size).await)
    }

    async fn call_with(&self, route: Route, request: &impl Serialize) -> Result<(), ClientError> {
        let document =
            serde_json::to_vec(request).map_err(|source| ClientError::Request { route, source })?;
        self.call(route, document.into()).await.map(drop)
    }

    async fn call(&self, route: Route, document: Bytes) -> Result<Bytes, ClientError> {
        let lost = |source| ClientError::Lost { route, source };
        let (response, mut body) = self.open(route, document.is_empty()).await?;
        if !document.is_empty() {
            body.send_data(document, true).map_err(lost)?;
        }
        let mut body = accepted(route, response.await.map_err(lost)?).await?;
        read_document(&mut body, MAX_DOCUMENT)
            .await
            .map_err(|source| ClientError::Answer { route, source })
    }

    /// Opens a stream, waiting while too many are open.
    pub(super) async fn open(
        &self,
        route: Route,
        ended: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), ClientError> {
        let lost = |source| ClientError::Lost { route, source };
        let request = Request::builder()
            .method(route.method())
            .uri(format!("http://guest{route}"))
            .version(http::Version::HTTP_2)
            .body(())
            .expect("a route is a proper path");
        let mut requests = self.requests.clone().ready().await.map_err(lost)?;
        requests.send_request(request, ended).map_err(lost)
    }
}

/// Returns the body of a success and turns everything else into an error.
pub(super) async fn accepted(
    route: Route,
    response: Response<RecvStream>,
) -> Result<RecvStream, ClientError> {
    let status = response.status();
    let mut body = response.into_body();
    if status.is_success() {
        return Ok(body);
    }
    let document = read_document(&mut body, MAX_DOCUMENT)
        .await
        .map_err(|source| ClientError::Answer { route, source })?;
    let Refusal { error } = parse(route, &document)?;
    // The guest's words may end up on a terminal.
    let reason = error
        .chars()
        .take(500)
        .flat_map(char::escape_debug)
        .collect();
    Err(ClientError::Refused {
        route,
        status,
        reason,
    })
}

/// What is sent to a process that has just ended has no effect, which is no failure.
fn gone_is_fine(result: Result<(), ClientError>) -> Result<(), ClientError> {
    match result {
        Err(ClientError::Refused {
            status: StatusCode::NOT_FOUND,
            ..
        }) => Ok(()),
        other => other,
    }
}

fn parse<T: DeserializeOwned>(route: Route, document: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(document).map_err(|source| ClientError::Syntax { route, source })
}
