//! Reading long answers: steps as they come, the result at the end.

use std::marker::PhantomData;

use bytes::BytesMut;
use futures_util::StreamExt;
use http::{Method, Response};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::{
    Client, ClientError,
    transport::{BodyStream, Payload, chunks},
};
use crate::progress::{Line, Step};

/// The longest line that a daemon sends.
const MAX_LINE: usize = 4 << 20;

impl Client {
    /// A long request. Dropping the future cancels the request.
    pub(super) async fn follow<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
        mut on_step: impl FnMut(Step),
    ) -> Result<T, ClientError> {
        let operation = format!("{method} {path}");
        let response = self.send(method, path, payload).await?;
        let mut lines = Lines::new(chunks(response, operation.clone()), operation.clone());
        while let Some(line) = lines.next().await? {
            match serde_json::from_slice(&line) {
                Ok(Line::Step(step)) => on_step(step),
                Ok(Line::Done(result)) => return Ok(result),
                Ok(Line::Failed(error)) => return Err(ClientError::Api(error)),
                Err(source) => return Err(ClientError::broken(&operation, source)),
            }
        }
        Err(ClientError::Truncated { operation })
    }
}

/// A stream of documents, each on a line of its own. It ends when the daemon ends it.
#[derive(Debug)]
pub struct Documents<T> {
    lines: Lines,
    document: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Documents<T> {
    pub(super) fn new(response: Response<Incoming>, operation: String) -> Self {
        Self {
            lines: Lines::new(chunks(response, operation.clone()), operation),
            document: PhantomData,
        }
    }

    /// The next document; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        let Some(line) = self.lines.next().await? else {
            return Ok(None);
        };
        let document = serde_json::from_slice(&line);
        document
            .map(Some)
            .map_err(|source| ClientError::broken(&self.lines.operation, source))
    }
}

/// Splits a stream of chunks at newlines.
struct Lines {
    chunks: BodyStream,
    buffer: BytesMut,
    operation: String,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

impl Lines {
    fn new(chunks: BodyStream, operation: String) -> Self {
        Self {
            chunks,
            buffer: BytesMut::new(),
            operation,
        }
    }

    async fn next(&mut self) -> Result<Option<BytesMut>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(end + 1);
                line.truncate(end);
                return Ok(Some(line));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(ClientError::broken(
                    &self.operation,
                    "a line of the answer is too long",
                ));
            }
            match self.chunks.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None => return Ok(None),
            }
        }
    }
}
