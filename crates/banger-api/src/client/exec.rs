//! The client's end of an exec stream.

use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::net::UnixStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use super::{Client, ClientError, routes::vm_path};
use crate::{
    error::{ApiError, ErrorCode},
    exec::{ExecControl, ExecEvent, ExecStart, MAX_MESSAGE, STDERR, STDIN, STDOUT},
};

type Socket = WebSocketStream<UnixStream>;

/// Sends input to a command.
#[derive(Debug)]
pub struct ExecSender {
    sink: SplitSink<Socket, Message>,
}

/// Receives what a command gives back.
#[derive(Debug)]
pub struct ExecReceiver {
    stream: SplitStream<Socket>,
}

/// One thing that a command gave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    Stdout(Bytes),
    Stderr(Bytes),
    Event(ExecEvent),
}

impl Client {
    /// Runs a command in a VM. Dropping both ends hangs the command up.
    pub async fn exec(
        &self,
        target: &str,
        start: &ExecStart,
    ) -> Result<(ExecSender, ExecReceiver), ClientError> {
        let stream = self.connect().await?;
        let url = format!("ws://banger{}", vm_path(target, "/exec"));
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let (mut socket, _) =
            tokio_tungstenite::client_async_with_config(url, stream, Some(config))
                .await
                .map_err(refusal)?;
        let start = serde_json::to_string(start).expect("wire types serialise");
        socket.send(Message::text(start)).await.map_err(broken)?;
        let (sink, stream) = socket.split();
        Ok((ExecSender { sink }, ExecReceiver { stream }))
    }
}

impl ExecSender {
    /// Waits until the daemon takes the bytes.
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        for chunk in bytes.chunks(MAX_MESSAGE / 2) {
            let mut message = Vec::with_capacity(chunk.len() + 1);
            message.push(STDIN);
            message.extend_from_slice(chunk);
            self.sink
                .send(Message::binary(message))
                .await
                .map_err(broken)?;
        }
        Ok(())
    }

    pub async fn control(&mut self, control: ExecControl) -> Result<(), ClientError> {
        let text = serde_json::to_string(&control).expect("wire types serialise");
        self.sink.send(Message::text(text)).await.map_err(broken)
    }
}

impl ExecReceiver {
    /// The next thing, or `None` when the stream is over without a last event.
    pub async fn next(&mut self) -> Result<Option<Received>, ClientError> {
        loop {
            let message = match self.stream.next().await {
                None => return Ok(None),
                Some(message) => message.map_err(broken)?,
            };
            match message {
                Message::Binary(bytes) => return decode(&bytes).map(Some),
                Message::Text(text) => {
                    let event = serde_json::from_str(&text)
                        .map_err(|source| ClientError::broken("exec", source))?;
                    return Ok(Some(Received::Event(event)));
                }
                Message::Close(_) => return Ok(None),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

fn decode(message: &Bytes) -> Result<Received, ClientError> {
    match message.first() {
        Some(&STDOUT) => Ok(Received::Stdout(message.slice(1..))),
        Some(&STDERR) => Ok(Received::Stderr(message.slice(1..))),
        Some(_) | None => Err(ClientError::broken("exec", "unknown channel in a message")),
    }
}

fn broken(source: tungstenite::Error) -> ClientError {
    ClientError::broken("exec", source)
}

/// A handshake that the daemon refused carries the same error document as any route.
fn refusal(error: tungstenite::Error) -> ClientError {
    match error {
        tungstenite::Error::Http(response) => {
            let document = response.body().as_deref().unwrap_or_default();
            let parsed = serde_json::from_slice(document);
            ClientError::Api(parsed.unwrap_or_else(|_| {
                let status = response.status();
                ApiError::new(
                    ErrorCode::Internal,
                    format!("exec was answered with {status}"),
                )
            }))
        }
        other => broken(other),
    }
}
