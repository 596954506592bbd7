//! The client's end of an exec stream.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use super::{Client, ClientError, routes::vm_path};
use crate::{
    error::{ApiError, ErrorCode},
    exec::{ExecControl, ExecEvent, ExecStart, MAX_MESSAGE, STDERR, STDIN, STDIN_WINDOW, STDOUT},
};

type Socket = WebSocketStream<UnixStream>;

/// The longest piece of input that is sent at once.
pub const MAX_STDIN: usize = STDIN_WINDOW / 4;

/// The right to send a piece of input.
#[derive(Debug)]
pub struct Room(OwnedSemaphorePermit);

/// Sends input to a command.
#[derive(Debug)]
pub struct ExecSender {
    sink: SplitSink<Socket, Message>,
    /// A permit per byte of input that may be sent now.
    window: Arc<Semaphore>,
}

/// Receives what a command gives back.
#[derive(Debug)]
pub struct ExecReceiver {
    stream: SplitStream<Socket>,
    window: Arc<Semaphore>,
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
        let window = Arc::new(Semaphore::new(STDIN_WINDOW));
        let sender = ExecSender {
            sink,
            window: window.clone(),
        };
        Ok((sender, ExecReceiver { stream, window }))
    }
}

impl ExecSender {
    /// Waits until the command has room for this much input, [`MAX_STDIN`] at most. The future
    /// does not hold the sender: controls can be sent meanwhile.
    pub fn room(&self, bytes: usize) -> impl Future<Output = Room> + use<> {
        let window = self.window.clone();
        async move {
            let bytes = u32::try_from(bytes.min(MAX_STDIN)).expect("a window is below 4 GiB");
            let permit = window.acquire_many_owned(bytes).await;
            Room(permit.expect("nobody closes the window"))
        }
    }

    /// Sends input for which there is room.
    pub async fn stdin(&mut self, bytes: &[u8], room: Room) -> Result<(), ClientError> {
        room.0.forget();
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(STDIN);
        message.extend_from_slice(bytes);
        self.sink
            .send(Message::binary(message))
            .await
            .map_err(broken)
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
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(ExecEvent::StdinTaken { bytes }) => {
                        self.window.add_permits((bytes as usize).min(STDIN_WINDOW));
                    }
                    Ok(event) => return Ok(Some(Received::Event(event))),
                    Err(source) => return Err(ClientError::broken("exec", source)),
                },
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
