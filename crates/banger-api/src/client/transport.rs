//! HTTP/1.1 over the daemon's unix socket: one request, one answer.

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::{Client, ClientError};
use crate::error::{ApiError, ErrorCode};

/// Answers that are one JSON document end well below this.
const MAX_DOCUMENT: usize = 64 << 20;

/// The bytes of an answer as they come.
pub type BodyStream = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, ClientError>> + Send>>;

type UploadStream = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// What a request carries.
pub(super) enum Payload {
    Empty,
    Json(Vec<u8>),
    Stream(UploadStream),
}

impl Payload {
    pub(super) fn json(value: &impl Serialize) -> Self {
        Self::Json(serde_json::to_vec(value).expect("wire types serialise"))
    }
}

impl Client {
    /// Sends a request and gives back the answer's head; failures are already errors.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
    ) -> Result<Response<Incoming>, ClientError> {
        self.send_preferring(method, path, payload, None).await
    }

    /// The same with a preference of RFC 7240.
    pub(super) async fn send_preferring(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
        preference: Option<&'static str>,
    ) -> Result<Response<Incoming>, ClientError> {
        let operation = format!("{method} {path}");
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ClientError::broken(&operation, source))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "banger");
        let request = match preference {
            None => request,
            Some(preference) => request.header("prefer", preference),
        };
        let request = match payload {
            Payload::Empty => request.body(Either::Left(Full::new(Bytes::new()))),
            Payload::Json(document) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Either::Left(Full::new(Bytes::from(document)))),
            Payload::Stream(stream) => request
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(Either::Right(StreamBody::new(stream.map_ok(Frame::data)))),
        };
        let request = request.map_err(|source| ClientError::broken(&operation, source))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|source| ClientError::broken(&operation, source))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(failure(response, &operation).await)
        }
    }

    /// A request whose answer is one JSON document.
    pub(super) async fn document<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
    ) -> Result<T, ClientError> {
        let operation = format!("{method} {path}");
        let response = self.send(method, path, payload).await?;
        read_document(response, &operation).await
    }

    /// A request whose answer has no content worth reading.
    pub(super) async fn act(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
    ) -> Result<(), ClientError> {
        self.send(method, path, payload).await.map(drop)
    }

    pub(super) async fn connect(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Unreachable {
                socket: self.socket.clone(),
                source,
            })
    }
}

/// An answer that is one JSON document.
pub(super) async fn read_document<T: DeserializeOwned>(
    response: Response<Incoming>,
    operation: &str,
) -> Result<T, ClientError> {
    let bytes = collect(response, operation).await?;
    serde_json::from_slice(&bytes).map_err(|source| ClientError::broken(operation, source))
}

/// The answer's body as a stream of chunks.
pub(super) fn chunks(response: Response<Incoming>, operation: String) -> BodyStream {
    let stream = response.into_body().into_data_stream();
    Box::pin(stream.map_err(move |source| ClientError::broken(&operation, source)))
}

async fn failure(response: Response<Incoming>, operation: &str) -> ClientError {
    let status = response.status();
    let bytes = match collect(response, operation).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    let error = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
        ApiError::new(
            ErrorCode::Internal,
            format!("{operation} was answered with {status}"),
        )
    });
    ClientError::Api(error)
}

async fn collect(response: Response<Incoming>, operation: &str) -> Result<Bytes, ClientError> {
    let limited = http_body_util::Limited::new(response.into_body(), MAX_DOCUMENT);
    let collected = limited.collect().await;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|source| ClientError::broken(operation, source))
}
