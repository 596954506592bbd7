//! Owns the host's view of one exec: input, output and control, each usable from a task of its own.

use bytes::Bytes;
use h2::client::ResponseFuture;

use super::client::{Client, ClientError, accepted};
use super::frames::{Closed, FrameReceiver, FrameSender, ReceiveError};
use crate::frame::{FrameError, Kind, MAX_START, Piece, Started};
use crate::message::{ExecId, ExecStart, ExitStatus, Failure, Route, WindowSize};

/// Whether a process has anything to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// Input follows through [`ExecInput`].
    Open,
    /// The input is empty, which also saves the process's first read a wait.
    Closed,
}

/// A process that was asked for. The three parts are independent; dropping all of them hangs the process up.
#[derive(Debug)]
pub struct Exec {
    pub input: ExecInput,
    pub output: ExecOutput,
    pub control: ExecControl,
}

impl Exec {
    pub(super) async fn open(
        client: &Client,
        id: ExecId,
        start: &ExecStart,
        stdin: Stdin,
    ) -> Result<Self, ClientError> {
        let route = Route::Exec(id);
        let document =
            serde_json::to_vec(start).map_err(|source| ClientError::Request { route, source })?;
        if document.len() > MAX_START {
            let length = document.len();
            return Err(ClientError::StartTooLong {
                route,
                length,
                limit: MAX_START,
            });
        }
        let (response, body) = client.open(route, false).await?;
        let mut sender = FrameSender::new(body);
        let ended = stdin == Stdin::Closed;
        // A refused start shows in the response, which says more than the closed body.
        let open = sender
            .send_whole(Kind::Start, &document, ended)
            .await
            .is_ok()
            && !ended;
        Ok(Self {
            input: ExecInput { sender, open },
            output: ExecOutput {
                route,
                state: OutputState::Asked(response),
            },
            control: ExecControl {
                client: client.clone(),
                id,
            },
        })
    }
}

/// A process's standard input. Dropping it does not end the input: only [`ExecInput::finish`] does, so that a host
/// that fails half way never makes half an input look like all of it.
#[derive(Debug)]
pub struct ExecInput {
    sender: FrameSender,
    open: bool,
}

impl ExecInput {
    /// Sends input; waits while the process does not read.
    ///
    /// # Errors
    /// Fails when the process takes no more input. That is no failure of the exec: its output says how it ended.
    pub async fn send(&mut self, data: Bytes) -> Result<(), Closed> {
        if !self.open {
            return Err(Closed);
        }
        let sent = self.sender.send(Kind::Stdin, data).await;
        self.open = sent.is_ok();
        sent
    }

    /// Ends the input.
    pub fn finish(&mut self) {
        if std::mem::take(&mut self.open) {
            // An exec that is over needs no end of input.
            let _ = self.sender.finish();
        }
    }
}

/// Sends signals and window sizes, whatever the input and output are doing.
#[derive(Clone, Debug)]
pub struct ExecControl {
    client: Client,
    id: ExecId,
}

impl ExecControl {
    /// Sends a signal to the process's group, or to the foreground group of its terminal. Sending one to a process
    /// that has ended is no failure.
    ///
    /// # Errors
    /// Fails when the agent is gone or refuses the number.
    pub async fn signal(&self, signal: i32) -> Result<(), ClientError> {
        self.client.signal(self.id, signal).await
    }

    /// Changes the size of the process's terminal.
    ///
    /// # Errors
    /// Fails when the agent is gone or the process has no terminal.
    pub async fn resize(&self, size: WindowSize) -> Result<(), ClientError> {
        self.client.resize(self.id, size).await
    }
}

/// Something that an exec did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    Started {
        pid: u32,
    },
    Stdout(Bytes),
    Stderr(Bytes),
    /// The process ended, and all of its output has been delivered. The last event.
    Ended(ExitStatus),
    /// The process could not be started. The last event.
    Failed(Failure),
}

/// What comes back from an exec.
#[derive(Debug)]
pub struct ExecOutput {
    route: Route,
    state: OutputState,
}

#[derive(Debug)]
enum OutputState {
    Asked(ResponseFuture),
    Body(FrameReceiver),
    Done,
}

impl ExecOutput {
    /// Waits for the next event; `None` after the last one. A consumer that stops calling stops the process's output.
    /// Cancelling the call loses nothing of the process's output.
    ///
    /// # Errors
    /// Fails when the agent is gone, refuses, or breaks the protocol.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, ClientError> {
        let route = self.route;
        loop {
            match &mut self.state {
                OutputState::Asked(response) => {
                    let response = response
                        .await
                        .map_err(|source| ClientError::Lost { route, source })?;
                    self.state = OutputState::Done;
                    let body = accepted(route, response).await?;
                    self.state = OutputState::Body(FrameReceiver::new(body));
                }
                OutputState::Body(receiver) => {
                    let piece = receiver
                        .next()
                        .await
                        .map_err(|error| failed(route, error))?;
                    let event = event(piece.ok_or(ClientError::Truncated)?)?;
                    match &event {
                        ExecEvent::Ended(_) | ExecEvent::Failed(_) => {
                            self.state = OutputState::Done;
                        }
                        ExecEvent::Started { .. } | ExecEvent::Stdout(_) | ExecEvent::Stderr(_) => {
                        }
                    }
                    return Ok(Some(event));
                }
                OutputState::Done => return Ok(None),
            }
        }
    }
}

fn failed(route: Route, error: ReceiveError) -> ClientError {
    match error {
        ReceiveError::Stream(source) => ClientError::Lost { route, source },
        frame @ ReceiveError::Frame(_) => ClientError::Output(frame),
    }
}

fn event(Piece { kind, payload }: Piece) -> Result<ExecEvent, ClientError> {
    let syntax = |source| ClientError::Syntax {
        route: Route::Exec(ExecId(0)),
        source,
    };
    let improper = |error| ClientError::Output(ReceiveError::Frame(error));
    let number = || {
        let bytes = payload
            .as_ref()
            .try_into()
            .map_err(|_| improper(FrameError::Truncated))?;
        Ok(i32::from_be_bytes(bytes))
    };
    Ok(match kind {
        Kind::Started => {
            let Started { pid } = serde_json::from_slice(&payload).map_err(syntax)?;
            ExecEvent::Started { pid }
        }
        Kind::Stdout => ExecEvent::Stdout(payload),
        Kind::Stderr => ExecEvent::Stderr(payload),
        Kind::Exited => ExecEvent::Ended(ExitStatus::Exited { code: number()? }),
        Kind::Signaled => ExecEvent::Ended(ExitStatus::Signaled { signal: number()? }),
        Kind::Failed => ExecEvent::Failed(serde_json::from_slice(&payload).map_err(syntax)?),
        Kind::Start | Kind::Stdin => return Err(improper(FrameError::UnknownKind(kind as u8))),
    })
}
