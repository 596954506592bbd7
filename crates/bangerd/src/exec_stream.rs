//! A command's stream between a WebSocket and the guest. Knows messages, not what they mean
//! to the guest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::{Message, WebSocket};
use banger_api::{
    error::{ApiError, ErrorCode},
    exec::{ExecControl, ExecEvent, ExecStart, STDERR, STDIN, STDIN_WINDOW, STDOUT},
};
use banger_core::{
    exec::{ExecControl as Control, ExecOutput, ExecStream, Stdin},
    host_error::GuestError,
    vm::VmHandle,
};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::sync::mpsc;

use crate::{classify::classify, convert, wiring::App};

/// How long a client may take to say what to run.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// Confirmations of input that may wait for a slow client.
const CONFIRMATIONS: usize = 4;

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
    let _in_use = vm.in_use();
    serve(&app, &vm, socket, start).await;
    if owner {
        vm.owner_went().await;
    }
}

async fn serve(app: &App, vm: &VmHandle, socket: WebSocket, start: ExecStart) {
    let (mut sink, stream) = socket.split();
    let wants_stdin = start.stdin;
    let image = convert::image_use(start.image.clone());
    let exec = tokio::select! {
        exec = app.engine.exec(vm, convert::exec_request(start), image) => exec,
        () = app.ending.cancelled() => return finish(&mut sink, ending()).await,
    };
    let ExecStream {
        stdin,
        control,
        output,
    } = match exec {
        Ok(exec) => exec,
        Err(error) => return finish(&mut sink, ExecEvent::Failed(classify(&error))).await,
    };
    if !wants_stdin {
        // A command that is gone already needs no end of input.
        let _ = stdin.send(Stdin::End).await;
    }
    let (queue, queued) = mpsc::unbounded_channel();
    let window = AtomicUsize::new(STDIN_WINDOW);
    let (taken, confirmations) = mpsc::channel(CONFIRMATIONS);
    tokio::select! {
        () = forward_output(vm, &mut sink, output, confirmations) => {}
        () = receive(stream, queue, control, &window) => {}
        () = feed(queued, stdin, taken, &window) => {}
        () = app.ending.cancelled() => finish(&mut sink, ending()).await,
    }
}

async fn read_start(socket: &mut WebSocket) -> Result<ExecStart, ApiError> {
    let refuse = |why: &str| ApiError::new(ErrorCode::InvalidArgument, why);
    match tokio::time::timeout(FIRST_MESSAGE, socket.recv()).await {
        Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str(&text).map_err(|error| {
            refuse("the first message of an exec stream is no ExecStart")
                .with_hint(error.to_string())
        }),
        Ok(_) | Err(_) => Err(refuse("an exec stream begins with an ExecStart as text")),
    }
}

/// Until the command ends or the client is gone.
async fn forward_output(
    vm: &VmHandle,
    sink: &mut Sink,
    mut output: mpsc::Receiver<Result<ExecOutput, GuestError>>,
    mut confirmations: mpsc::Receiver<u32>,
) {
    loop {
        let next = tokio::select! {
            next = output.recv() => next,
            Some(bytes) = confirmations.recv() => {
                if sink.send(event(&ExecEvent::StdinTaken { bytes })).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let message = match next {
            Some(Ok(ExecOutput::Started { pid })) => {
                let boot = vm.command_started().as_ref().map(convert::boot);
                event(&ExecEvent::Started { pid, boot })
            }
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
                let message = "the VM ended before the command did";
                let error = ApiError::new(ErrorCode::GuestFailed, message);
                return finish(sink, ExecEvent::Failed(error)).await;
            }
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

/// Until the client is gone, or sends more input than it was given room for. Never waits for
/// the command, so that signals pass input which it does not read.
async fn receive(
    mut stream: SplitStream<WebSocket>,
    stdin: mpsc::UnboundedSender<Stdin>,
    control: mpsc::Sender<Control>,
    window: &AtomicUsize,
) {
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Binary(bytes) if bytes.first() == Some(&STDIN) => {
                let size = bytes.len() - 1;
                let shrink = |room: usize| room.checked_sub(size);
                if window
                    .fetch_update(Ordering::AcqRel, Ordering::Acquire, shrink)
                    .is_err()
                {
                    return;
                }
                // A command that takes no more input still has its end to come.
                let _ = stdin.send(Stdin::Bytes(bytes.slice(1..)));
            }
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(ExecControl::StdinEof) => drop(stdin.send(Stdin::End)),
                Ok(ExecControl::Resize(window)) => {
                    // Where so many wait already, one more says nothing new.
                    let _ = control.try_send(Control::Resize(convert::window(window)));
                }
                Ok(ExecControl::Signal(signal)) => {
                    let _ = control.try_send(Control::Signal(signal));
                }
                Err(_) => {}
            },
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }
}

/// Hands input to the guest, as fast as the command reads, and confirms what was taken.
async fn feed(
    mut queue: mpsc::UnboundedReceiver<Stdin>,
    stdin: mpsc::Sender<Stdin>,
    taken: mpsc::Sender<u32>,
    window: &AtomicUsize,
) {
    while let Some(part) = queue.recv().await {
        let bytes = match &part {
            Stdin::Bytes(bytes) => u32::try_from(bytes.len()).expect("a message is below 4 GiB"),
            Stdin::End => 0,
        };
        // When the command takes no more, the rest is thrown away: its end comes as output.
        let _ = stdin.send(part).await;
        window.fetch_add(bytes as usize, Ordering::AcqRel);
        if bytes > 0 && taken.send(bytes).await.is_err() {
            break;
        }
    }
    std::future::pending::<()>().await;
}

fn channel(channel: u8, bytes: &Bytes) -> Message {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

fn event(event: &ExecEvent) -> Message {
    Message::Text(
        serde_json::to_string(event)
            .expect("wire types serialise")
            .into(),
    )
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
