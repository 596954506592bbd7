//! A command's stream between a WebSocket and the guest. Knows messages, not what they mean
//! to the guest.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use banger_api::{
    error::{ApiError, ErrorCode},
    exec::{ExecControl, ExecEvent, ExecStart, STDERR, STDIN, STDOUT},
};
use banger_core::{
    exec::{ExecInput, ExecOutput, ExecStream},
    host_error::GuestError,
    vm::VmHandle,
};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::sync::{Notify, mpsc};

use crate::{classify::classify, convert, wiring::App};

/// How long a client may take to say what to run.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// A command that does not read its input hides whether the client is still there, so the
/// client is asked.
const STUCK_INPUT: Duration = Duration::from_secs(10);

type Sink = SplitSink<WebSocket, Message>;

/// Runs one command for one client.
pub(crate) async fn run(app: Arc<App>, vm: VmHandle, mut socket: WebSocket) {
    let start = match read_start(&mut socket).await {
        Ok(start) => start,
        Err(error) => {
            return finish(&mut socket.split().0, ExecEvent::Failed(error)).await;
        }
    };
    if start.owner {
        vm.owner_came().await;
    }
    let owner = start.owner;
    serve(&app, &vm, socket, start).await;
    if owner {
        vm.owner_went().await;
    }
}

async fn serve(app: &App, vm: &VmHandle, socket: WebSocket, start: ExecStart) {
    let (mut sink, stream) = socket.split();
    let wants_stdin = start.stdin;
    let exec = tokio::select! {
        exec = app.engine.exec(vm, convert::exec_request(start)) => exec,
        () = app.ending.cancelled() => return finish(&mut sink, ending()).await,
    };
    let ExecStream { input, output } = match exec {
        Ok(exec) => exec,
        Err(error) => return finish(&mut sink, ExecEvent::Failed(classify(&error))).await,
    };
    if !wants_stdin {
        // A command that is gone already needs no end of input.
        let _ = input.send(ExecInput::StdinEof).await;
    }
    let stuck = Notify::new();
    tokio::select! {
        () = forward_output(&mut sink, output, &stuck) => {}
        () = forward_input(stream, input, &stuck) => {}
        () = app.ending.cancelled() => finish(&mut sink, ending()).await,
    }
}

async fn read_start(socket: &mut WebSocket) -> Result<ExecStart, ApiError> {
    let refuse = |why: &str| ApiError::new(ErrorCode::InvalidArgument, why);
    match tokio::time::timeout(FIRST_MESSAGE, socket.recv()).await {
        Ok(Some(Ok(Message::Text(text)))) => {
            serde_json::from_str(&text).map_err(|error| {
                refuse("the first message of an exec stream is no ExecStart")
                    .with_hint(error.to_string())
            })
        }
        Ok(_) | Err(_) => Err(refuse("an exec stream begins with an ExecStart as text")),
    }
}

/// Until the command ends or the client is gone.
async fn forward_output(
    sink: &mut Sink,
    mut output: mpsc::Receiver<Result<ExecOutput, GuestError>>,
    stuck: &Notify,
) {
    loop {
        let next = tokio::select! {
            next = output.recv() => next,
            () = stuck.notified() => {
                if sink.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let message = match next {
            Some(Ok(ExecOutput::Started { pid })) => event(&ExecEvent::Started { pid }),
            Some(Ok(ExecOutput::Stdout(bytes))) => channel(STDOUT, &bytes),
            Some(Ok(ExecOutput::Stderr(bytes))) => channel(STDERR, &bytes),
            Some(Ok(ExecOutput::Ended(status))) => {
                return finish(sink, convert::exec_end(status)).await;
            }
            Some(Ok(ExecOutput::Failed { kind, message })) => {
                return finish(sink, convert::not_started(kind, message)).await;
            }
            Some(Err(error)) => {
                return finish(sink, ExecEvent::Failed(classify(&error.into()))).await;
            }
            None => {
                let error = ApiError::new(
                    ErrorCode::GuestFailed,
                    "the VM ended before the command did",
                );
                return finish(sink, ExecEvent::Failed(error)).await;
            }
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

/// Until the client is gone. When the command takes no more input, the rest is read and
/// thrown away: its end comes as output.
async fn forward_input(
    mut stream: SplitStream<WebSocket>,
    input: mpsc::Sender<ExecInput>,
    stuck: &Notify,
) {
    while let Some(Ok(message)) = stream.next().await {
        let Some(wanted) = decode(message) else { continue };
        let mut waiting = Box::pin(input.send(wanted));
        while tokio::time::timeout(STUCK_INPUT, &mut waiting).await.is_err() {
            stuck.notify_one();
        }
    }
}

fn decode(message: Message) -> Option<ExecInput> {
    match message {
        Message::Binary(bytes) if bytes.first() == Some(&STDIN) => {
            Some(ExecInput::Stdin(bytes.slice(1..)))
        }
        Message::Text(text) => match serde_json::from_str(&text) {
            Ok(ExecControl::StdinEof) => Some(ExecInput::StdinEof),
            Ok(ExecControl::Resize(window)) => Some(ExecInput::Resize(convert::window(window))),
            Ok(ExecControl::Signal(signal)) => Some(ExecInput::Signal(signal)),
            Err(_) => None,
        },
        Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_) => None,
    }
}

fn channel(channel: u8, bytes: &Bytes) -> Message {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

fn event(event: &ExecEvent) -> Message {
    Message::Text(serde_json::to_string(event).expect("wire types serialise").into())
}

fn ending() -> ExecEvent {
    let message = "the daemon is ending; the VM goes on, the command was hung up";
    ExecEvent::Failed(ApiError::new(ErrorCode::Cancelled, message))
}

async fn finish(sink: &mut Sink, last: ExecEvent) {
    // The client may be gone; then there is nobody to tell.
    let _ = sink.send(event(&last)).await;
    let _ = sink.close().await;
}
